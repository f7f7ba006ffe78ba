package cli

import (
	"context"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func (a *app) memberCommand() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "List the members of a mesh", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	f := &dataFlags{}
	list := &cobra.Command{
		Use: "list", Short: "List the members of a mesh", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.memberList(c.Context(), f) },
	}
	f.addDB(list)
	f.addMesh(list)
	f.addJSON(list)
	c.AddCommand(list)
	return c
}

// memberEntry is one object of "member list --json".
type memberEntry struct {
	Name       string  `json:"name"`
	ID         string  `json:"id"`
	Pubkey     string  `json:"pubkey"` // "" while a claimed place waits for its key
	Role       string  `json:"role"`   // owner, admin or member
	JoinedAt   string  `json:"joined_at"`
	LastSeenAt *string `json:"last_seen_at"`
	RevokedAt  *string `json:"revoked_at"`
}

func (a *app) memberList(ctx context.Context, f *dataFlags) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	defer db.Close()
	mesh, err := f.chooseMesh(ctx, db)
	if err != nil {
		return err
	}
	members, err := db.Members(ctx, mesh.ID)
	if err != nil {
		return err
	}
	entries := []memberEntry{}
	var rows [][]string
	for _, m := range members {
		e := memberEntry{
			Name: m.DisplayName, ID: m.ID, Pubkey: m.PubKey, Role: memberRole(m, mesh), JoinedAt: wire.Time(m.JoinedAt),
			LastSeenAt: wire.OptionalTime(m.LastSeenAt), RevokedAt: wire.OptionalTime(m.RevokedAt),
		}
		entries = append(entries, e)
		state := "active"
		switch {
		case !m.RevokedAt.IsZero():
			state = "revoked"
		case m.PubKey == "":
			state = "invited"
		}
		rows = append(rows, []string{e.Name, e.Role, state, moment(m.JoinedAt), moment(m.LastSeenAt), shortKey(m.PubKey)})
	}
	if f.json {
		return printJSON(a.out, entries)
	}
	return table(a.out, []string{"NAME", "ROLE", "STATE", "JOINED", "LAST SEEN", "KEY"}, rows)
}

func memberRole(m store.Member, mesh store.Mesh) string {
	if m.ID == mesh.OwnerMemberID {
		return "owner"
	}
	return m.Role
}

// shortKey is enough of a key to tell it from others at a glance.
func shortKey(key string) string {
	if len(key) < 16 {
		return "-"
	}
	return key[:16]
}
