package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Copies of the data file: making, putting back, checking.

type backupFlags struct {
	dataFlags
	force bool
}

func (a *app) backupCommand() *cobra.Command {
	f := &backupFlags{}
	c := &cobra.Command{
		Use: "backup FILE", Short: "Copy the data file, beside a running server, and check the copy", Args: arguments(1, 1, "FILE"),
		RunE: func(c *cobra.Command, args []string) error { return a.backup(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addJSON(c)
	c.Flags().BoolVar(&f.force, "force", false, "replace FILE if it is there")
	return c
}

// copyEntry is the object that "backup --json" and "restore --json" print.
type copyEntry struct {
	File    string  `json:"file"`
	Former  *string `json:"former,omitempty"` // restore only
	Seconds float64 `json:"seconds"`
	contents
}

// contents are what is in a data file.
type contents struct {
	Size     int64   `json:"size_bytes"`
	Schema   int     `json:"schema"`
	Meshes   int     `json:"meshes"`
	Members  int     `json:"members"`
	Messages int64   `json:"messages"`
	Newest   *string `json:"newest_at"` // null: no message
}

func contentsOf(r *store.Report) contents {
	c := contents{Size: r.Size, Schema: r.Schema, Meshes: r.Meshes, Members: r.Members, Messages: r.Messages}
	if !r.Newest.IsZero() {
		newest := wire.Time(r.Newest)
		c.Newest = &newest
	}
	return c
}

func (c contents) String() string {
	return fmt.Sprintf("%s, %s, %s, %s", inMiB(c.Size), counted(int64(c.Meshes), "mesh", "meshes"), counted(int64(c.Members), "member", "members"), counted(c.Messages, "message", "messages"))
}

func inMiB(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// counted is "1 mesh" or "2 meshes".
func counted(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func (a *app) backup(ctx context.Context, f *backupFlags, target string) error {
	if f.db == "" {
		return errNoDB
	}
	if target == "" {
		return usagef("FILE is empty; name a file for the backup")
	}
	began := time.Now()
	report, err := store.Backup(ctx, f.db, target, a.assets.Schema, f.force)
	if err != nil {
		return err
	}
	e := copyEntry{File: target, Seconds: time.Since(began).Seconds(), contents: contentsOf(report)}
	if f.json {
		return printJSON(a.out, e)
	}
	fmt.Fprintf(a.out, "%s holds %s; copied and checked in %.1f s.\nIt holds the keys of the meshes too: keep it private.\n", target, e.contents, e.Seconds)
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in the place of the data file of a stopped server", Args: arguments(1, 1, "FILE"),
		RunE: func(c *cobra.Command, args []string) error { return a.restore(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addJSON(c)
	return c
}

func (a *app) restore(ctx context.Context, f *dataFlags, source string) error {
	if f.db == "" {
		return errNoDB
	}
	if source == "" {
		return usagef("FILE is empty; name the backup")
	}
	began := time.Now()
	restored, err := store.Restore(ctx, source, f.db, a.assets.Schema)
	if err != nil {
		return err
	}
	e := copyEntry{File: f.db, Former: &restored.Former, Seconds: time.Since(began).Seconds(), contents: contentsOf(restored.Report)}
	if f.json {
		return printJSON(a.out, e)
	}
	fmt.Fprintf(a.out, "%s is restored from %s: %s, the newest of %s.\n", f.db, source, e.contents, moment(restored.Newest))
	if restored.Former != "" {
		fmt.Fprintf(a.out, "What was there before is kept as %s.\nWhat happened since the backup is undone, bans and withdrawn invites and keys too: look through them.\n", restored.Former)
	}
	if !restored.Current() {
		fmt.Fprintf(a.out, "It is from an older meshbox; the next start of the server updates it.\n")
	}
	return nil
}

func (a *app) verifyCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "verify [FILE]", Short: "Check the data file or a backup, beside a running server", Args: arguments(0, 1, "[FILE]"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.db = args[0]
			}
			return a.verify(c.Context(), f)
		},
	}
	f.addDB(c)
	f.addJSON(c)
	return c
}

// fileVerdict is the object that "verify --json" prints.
type fileVerdict struct {
	File  string `json:"file"`
	Valid bool   `json:"valid"`
	contents
	Findings []finding `json:"findings"`
}

type finding struct {
	Check string `json:"check"`
	Text  string `json:"text"`
}

func (a *app) verify(ctx context.Context, f *dataFlags) error {
	if f.db == "" {
		return errNoDB
	}
	report, err := store.Check(ctx, f.db, a.assets.Schema)
	if err != nil {
		return err
	}
	v := fileVerdict{File: f.db, Valid: report.Valid(), contents: contentsOf(report), Findings: []finding{}}
	for _, found := range report.Findings {
		v.Findings = append(v.Findings, finding(found))
	}
	if err := a.printVerdict(v, report.Current(), f.json); err != nil || v.Valid {
		return err
	}
	return fmt.Errorf("%s is not in order (%s); restore a backup, see: meshbox restore --help", f.db, counted(int64(len(v.Findings)), "finding", "findings"))
}

// printVerdict prints a line per finding, or one that says what is there.
func (a *app) printVerdict(v fileVerdict, current, asJSON bool) error {
	if asJSON {
		return printJSON(a.out, v)
	}
	for _, f := range v.Findings {
		fmt.Fprintf(a.out, "%s: %s\n", f.Check, printable(f.Text))
	}
	if !v.Valid {
		return nil
	}
	older := ""
	if !current {
		older = ", which the next start of the server updates"
	}
	fmt.Fprintf(a.out, "%s is in order: %s, schema %d%s\n", v.File, v.contents, v.Schema, older)
	return nil
}
