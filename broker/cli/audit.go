package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Show and check what happened in a mesh", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.auditListCommand(), a.auditVerifyCommand())
	return c
}

type auditFlags struct {
	dataFlags
	event string
	limit int
}

func (a *app) auditListCommand() *cobra.Command {
	f := &auditFlags{}
	c := &cobra.Command{
		Use: "list", Short: "Show the audit chain of a mesh, newest first", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.auditList(c.Context(), f) },
	}
	f.addMember(c)
	c.Flags().StringVar(&f.event, "event", "", "show only this event, such as member_revoked")
	c.Flags().IntVar(&f.limit, "limit", 50, "how many to show at most; 0 is all")
	return c
}

func (a *app) auditList(ctx context.Context, f *auditFlags) error {
	if f.limit < 0 {
		return usagef("--limit must not be negative")
	}
	if f.limit == 0 {
		f.limit = -1 // SQLite's own word for all
	}
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		entries, _, err := db.AuditEntries(ctx, mesh.ID, store.AuditQuery{Event: f.event, Limit: f.limit})
		if err != nil {
			return err
		}
		return a.printAudit(entries, f.json)
	})
}

func (a *app) printAudit(entries []store.AuditEntry, asJSON bool) error {
	list := []auditEntry{}
	var rows [][]string
	for _, e := range entries {
		list = append(list, auditEntry{
			ID: e.ID, Event: e.Event, Actor: e.Actor, Payload: e.Payload, Hash: e.Hash, CreatedAt: wire.Time(e.CreatedAt),
		})
		rows = append(rows, []string{moment(e.CreatedAt), e.Event, actorName(e.Actor), readable(e.Payload)})
	}
	if asJSON {
		return printJSON(a.out, list)
	}
	return table(a.out, []string{"TIME", "EVENT", "BY", "WHAT"}, rows)
}

// auditEntry is one object of "audit list --json". The payload is the text of
// its object: that is what the hash is of.
type auditEntry struct {
	ID        string `json:"id"`
	Event     string `json:"event"`
	Actor     string `json:"actor"` // a member's key, operator or server
	Payload   string `json:"payload"`
	Hash      string `json:"hash"`
	CreatedAt string `json:"created_at"`
}

// actorName is a short key, or the actor as it stands.
func actorName(actor string) string {
	if len(actor) == 64 {
		return shortKey(actor)
	}
	return actor
}

// readable is the part of a payload that tells a person something.
func readable(payload string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(payload), &fields) != nil {
		return payload
	}
	var parts []string
	for _, name := range []string{"topic", "name", "label", "role", "by"} {
		if text, ok := fields[name].(string); ok && text != "" {
			parts = append(parts, name+" "+text)
		}
	}
	return strings.Join(parts, ", ")
}

func (a *app) auditVerifyCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "verify", Short: "Check that nobody changed the audit chain of any mesh", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.auditVerify(c.Context(), f) },
	}
	f.addMember(c)
	c.Flags().Lookup("mesh").Usage = "only this mesh, by name (default: all)"
	return c
}

// auditResult is one object of "audit verify --json".
type auditResult struct {
	Mesh     string  `json:"mesh"`
	Valid    bool    `json:"valid"`
	Entries  int     `json:"entries"`
	BrokenAt *string `json:"broken_at"` // id of the first entry that does not fit
	LastHash string  `json:"last_hash"` // "" if there is no entry
}

// auditVerify checks the mesh that the flag names, else all of them.
func (a *app) auditVerify(ctx context.Context, f *dataFlags) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	defer db.Close()
	meshes, err := f.chooseMeshes(ctx, db)
	if err != nil {
		return err
	}
	results := []auditResult{}
	var broken []string
	for _, mesh := range meshes {
		v, err := db.VerifyAudit(ctx, mesh.ID)
		if err != nil {
			return err
		}
		r := auditResult{Mesh: mesh.Slug, Valid: v.Valid(), Entries: v.Entries, LastHash: v.LastHash}
		if !r.Valid {
			e := v.BrokenAt
			r.BrokenAt = &e.ID
			broken = append(broken, fmt.Sprintf("the audit chain of the mesh %q is broken at entry %d (%s, %s, %s): it, or what was before it, was changed",
				mesh.Slug, e.Number, e.ID, e.Event, moment(e.CreatedAt)))
		}
		results = append(results, r)
	}
	if err := a.printVerdicts(results, f.json); err != nil || broken == nil {
		return err
	}
	return fmt.Errorf("%s", strings.Join(broken, "; "))
}

func (a *app) printVerdicts(results []auditResult, asJSON bool) error {
	if asJSON {
		return printJSON(a.out, results)
	}
	for _, r := range results {
		if r.Valid {
			fmt.Fprintf(a.out, "%s: %d entries, unbroken; the last hash is %s\n", r.Mesh, r.Entries, or(r.LastHash, "-"))
		}
	}
	return nil
}
