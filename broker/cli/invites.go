package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Invites that were made: which are still good, and taking one back.

func (a *app) inviteListCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List invites, the newest first", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.inviteList(c.Context(), f) },
	}
	f.addDB(c)
	f.addMesh(c)
	f.addJSON(c)
	return c
}

// inviteEntry is one object of "invite list --json".
type inviteEntry struct {
	Code      string   `json:"code"`
	State     string   `json:"state"` // open, used_up, expired or revoked
	Role      string   `json:"role"`
	Label     string   `json:"label"`
	Uses      int      `json:"uses"`
	MaxUses   int      `json:"max_uses"`
	Joined    []string `json:"joined"` // names
	CreatedAt string   `json:"created_at"`
	ExpiresAt string   `json:"expires_at"`
}

func (a *app) inviteList(ctx context.Context, f *dataFlags) error {
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		invites, err := db.Invites(ctx, mesh.ID, wire.MaxInvites, time.Now())
		if err != nil {
			return err
		}
		entries := []inviteEntry{}
		var rows [][]string
		for _, i := range invites {
			e := inviteEntry{
				Code: i.Code, State: i.State(time.Now()), Role: i.Role, Label: i.Label, Uses: i.Uses, MaxUses: i.MaxUses, Joined: []string{},
				CreatedAt: wire.Time(i.CreatedAt), ExpiresAt: wire.Time(i.ExpiresAt),
			}
			for _, m := range i.Joined {
				e.Joined = append(e.Joined, m.DisplayName)
			}
			entries = append(entries, e)
			rows = append(rows, []string{
				e.Code, strings.ReplaceAll(e.State, "_", " "), fmt.Sprintf("%d of %d", e.Uses, e.MaxUses), e.Role, moment(i.ExpiresAt), e.Label, strings.Join(e.Joined, ", "),
			})
		}
		if f.json {
			return printJSON(a.out, entries)
		}
		return table(a.out, []string{"CODE", "STATE", "USED", "ROLE", "UNTIL", "LABEL", "JOINED"}, rows)
	})
}

func (a *app) inviteRevokeCommand() *cobra.Command {
	f := &dataFlags{}
	c := &cobra.Command{
		Use: "revoke INVITE", Short: "Withdraw an invite, named by its code or link: nobody can join by it any more", Args: arguments(1, 1, "INVITE"),
		RunE: func(c *cobra.Command, args []string) error { return a.inviteRevoke(c.Context(), f, args[0]) },
	}
	f.addDB(c)
	f.addMesh(c)
	return c
}

func (a *app) inviteRevoke(ctx context.Context, f *dataFlags, ref string) error {
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		ref = strings.TrimRight(ref, "/")
		invite, changed, err := db.RevokeInvite(mesh.ID, "", ref[strings.LastIndex(ref, "/")+1:], time.Now())
		switch {
		case errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("there is no invite %q in the mesh %q; see: meshbox invite list", ref, mesh.Slug)
		case err != nil:
			return err
		case !changed:
			fmt.Fprintf(a.out, "The invite %s was withdrawn before.\n", invite.Code)
		default:
			fmt.Fprintf(a.out, "The invite %s is withdrawn: nobody can join by it any more. Who joined stays a member.\n", invite.Code)
		}
		return nil
	})
}
