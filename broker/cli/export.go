package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
)

// A mesh as a text, to move it to another data file or to read it elsewhere.

type exportFlags struct {
	dataFlags
	withoutSecrets bool
	force          bool
}

func (a *app) exportCommand() *cobra.Command {
	f := &exportFlags{}
	c := &cobra.Command{
		Use: "export [FILE]", Short: "Write a whole mesh as JSON lines, beside a running server", Args: arguments(0, 1, "[FILE]"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "" {
				return usagef("FILE is empty; name a file, or leave it out for standard output")
			}
			return a.export(c.Context(), f, args)
		},
	}
	f.addDB(c)
	f.addMesh(c)
	c.Flags().BoolVar(&f.withoutSecrets, "without-secrets", false, "leave out keys, invites' links and API keys' hashes; it is for reading then, not for import")
	c.Flags().BoolVar(&f.force, "force", false, "replace FILE if it is there")
	return c
}

func (a *app) export(ctx context.Context, f *exportFlags, args []string) error {
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		var done store.Exported
		write := func(w io.Writer) (err error) {
			done, err = db.Export(ctx, mesh.ID, !f.withoutSecrets, w)
			return err
		}
		var err error
		if len(args) == 1 {
			err = store.WritePrivately(args[0], f.force, write)
		} else {
			err = write(a.out)
		}
		if err != nil {
			return err
		}
		// Standard output may be the export.
		fmt.Fprintf(a.err, "The mesh %q: %s, %s.\n", mesh.Slug, counted(int64(done.Lines), "line", "lines"), counted(int64(done.Messages), "message", "messages"))
		if !f.withoutSecrets {
			fmt.Fprintf(a.err, "They hold the secret key of the mesh: who has it can make invites. Keep it private%s.\n", privately(args))
		}
		return nil
	})
}

// privately is what to do for that.
func privately(args []string) string {
	if len(args) == 1 {
		return ""
	}
	return " (chmod 600), or use --without-secrets"
}

func (a *app) importCommand() *cobra.Command {
	f := &importFlags{}
	c := &cobra.Command{
		Use: "import FILE", Short: "Add an exported mesh to the data file of a stopped server", Args: arguments(1, 1, "FILE"),
		RunE: func(c *cobra.Command, args []string) error { return a.importMesh(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addJSON(c)
	c.Flags().StringVar(&f.name, "name", "", "call the mesh so (default: as in the export)")
	return c
}

type importFlags struct {
	dataFlags
	name string
}

// importEntry is the object that "import --json" prints.
type importEntry struct {
	Mesh     string `json:"mesh"`
	ID       string `json:"id"`
	Members  int    `json:"members"`
	Messages int64  `json:"messages"`
}

func (a *app) importMesh(ctx context.Context, f *importFlags, source string) error {
	if f.db == "" {
		return errNoDB
	}
	if f.name != "" {
		if err := checkMeshName(f.name); err != nil {
			return err
		}
	}
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("cannot read the export: %w", err)
	}
	defer file.Close()
	log, err := a.logger("", "info")
	if err != nil {
		return err
	}
	done, err := store.ImportInto(ctx, f.db, a.openOptions(nil, log), file, f.name)
	if onLine, ok := errors.AsType[*store.LineError](err); ok {
		return fmt.Errorf("%s, %w; nothing was imported", source, onLine)
	}
	if err != nil {
		return err
	}
	e := importEntry{Mesh: done.Mesh.Slug, ID: done.Mesh.ID, Members: done.Members, Messages: done.Messages}
	if f.json {
		return printJSON(a.out, e)
	}
	fmt.Fprintf(a.out, "The mesh %q is in %s: %s, %s.\nIts members come back with the keys they have, as long as the address of the server stays the same.\n",
		e.Mesh, f.db, counted(int64(e.Members), "member", "members"), counted(e.Messages, "message", "messages"))
	return nil
}

// openOptions are those of who opens the data file as its only server.
func (a *app) openOptions(first *store.FirstMesh, log *slog.Logger) store.Options {
	return store.Options{
		Schema: a.assets.Schema, Server: true, First: first,
		OnMigrate: func(from int, snapshot string) {
			log.Info("data file updated", "from_schema", from, "to_schema", store.SchemaVersion, "snapshot", snapshot)
		},
	}
}
