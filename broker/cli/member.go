package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func (a *app) memberCommand() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "List, revoke and restore the members of a mesh", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.memberListCommand(), a.memberRevokeCommand(), a.memberRestoreCommand())
	return c
}

func (a *app) memberListCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List the members of a mesh", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.memberList(c.Context(), f) },
	}
	f.addMember(c)
	return c
}

// addMember adds the flags of commands on the members of a mesh.
func (f *dataFlags) addMember(c *cobra.Command) {
	f.addDB(c)
	f.addMesh(c)
	f.addJSON(c)
}

func (a *app) memberRevokeCommand() *cobra.Command {
	f := &dataFlags{}
	var force bool
	c := &cobra.Command{
		Use: "revoke MEMBER", Short: "Ban a member by its name or key, beside a running server", Args: arguments(1, 1, "MEMBER"),
		RunE: func(c *cobra.Command, args []string) error { return a.memberRevoke(c.Context(), f, args[0], force) },
	}
	f.addMember(c)
	c.Flags().BoolVar(&force, "force", false, "revoke the owner of the mesh too")
	return c
}

func (a *app) memberRestoreCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "restore MEMBER", Short: "Lift the ban of a member", Args: arguments(1, 1, "MEMBER"),
		RunE: func(c *cobra.Command, args []string) error { return a.memberRestore(c.Context(), f, args[0]) },
	}
	f.addMember(c)
	return c
}

func (a *app) memberRevoke(ctx context.Context, f *dataFlags, target string, force bool) error {
	return a.onMember(ctx, f, target, store.OneToRevoke, func(db *store.DB, mesh store.Mesh, m store.Member) (string, error) {
		if m.ID == mesh.OwnerMemberID && !force {
			return "", fmt.Errorf("%s owns the mesh %q; to revoke the owner, add --force", m.DisplayName, mesh.Slug)
		}
		changed, err := db.RevokeMember(store.Moderation{MeshID: mesh.ID, MemberID: m.ID, At: time.Now()})
		if !changed {
			return "was revoked before", err
		}
		return "is revoked: its connections end within 2 seconds", err
	})
}

func (a *app) memberRestore(ctx context.Context, f *dataFlags, target string) error {
	return a.onMember(ctx, f, target, store.OneToRestore, func(db *store.DB, mesh store.Mesh, m store.Member) (string, error) {
		changed, err := db.RestoreMember(store.Moderation{MeshID: mesh.ID, MemberID: m.ID, At: time.Now()})
		if !changed {
			return "is not revoked", err
		}
		return "is restored: it may connect again", err
	})
}

// onMember does something to the one member that target names, and prints what
// became of it.
func (a *app) onMember(ctx context.Context, f *dataFlags, target string, choose func(string, []store.Member) (store.Member, error),
	do func(*store.DB, store.Mesh, store.Member) (string, error)) error {
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		found, err := db.FindMembers(ctx, mesh.ID, target)
		if err != nil {
			return err
		}
		member, err := choose(target, found)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no member called %q in the mesh %q; see: meshbox member list", target, mesh.Slug)
		}
		if err != nil {
			return err
		}
		outcome, err := do(db, mesh, member)
		if err != nil {
			return err
		}
		if !f.json {
			fmt.Fprintf(a.out, "%s (%s) %s.\n", printable(member.DisplayName), shortKey(member.PubKey), outcome)
			return nil
		}
		if member, err = db.MemberByID(ctx, mesh.ID, member.ID); err != nil {
			return err
		}
		return printJSON(a.out, entryOf(member, mesh))
	})
}

// memberEntry is one object of "member list --json", and what "member revoke"
// and "member restore" print.
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
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		members, err := db.Members(ctx, mesh.ID)
		if err != nil {
			return err
		}
		entries := []memberEntry{}
		var rows [][]string
		for _, m := range members {
			e := entryOf(m, mesh)
			entries = append(entries, e)
			state := "active"
			switch {
			case m.Revoked():
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
	})
}

func entryOf(m store.Member, mesh store.Mesh) memberEntry {
	return memberEntry{
		Name: m.DisplayName, ID: m.ID, Pubkey: m.PubKey, Role: mesh.RoleOf(m), JoinedAt: wire.Time(m.JoinedAt),
		LastSeenAt: wire.OptionalTime(m.LastSeenAt), RevokedAt: wire.OptionalTime(m.RevokedAt),
	}
}

// shortKey is enough of a key to tell it from others at a glance.
func shortKey(key string) string {
	if len(key) < 16 {
		return "-"
	}
	return key[:16]
}
