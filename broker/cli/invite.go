package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"meshbox/broker"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

type inviteFlags struct {
	dataFlags
	role string
	uses int
	ttl  time.Duration
	name string
	qr   bool
}

func (a *app) inviteCommand() *cobra.Command {
	f := &inviteFlags{}
	c := &cobra.Command{
		Use: "invite", Short: "Make an invite link, beside a running server", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.invite(c.Context(), f) },
	}
	f.addDB(c)
	f.addMesh(c)
	f.addPublicURL(c)
	f.addJSON(c)
	c.Flags().StringVar(&f.role, "role", store.RoleMember, "what who joins becomes: member or admin")
	c.Flags().IntVar(&f.uses, "uses", 1, "how many may join by it")
	c.Flags().DurationVar(&f.ttl, "ttl", 7*24*time.Hour, "how long it is valid")
	c.Flags().StringVar(&f.name, "name", "", "a label to keep with it")
	c.Flags().BoolVar(&f.qr, "qr", false, "print the link as a QR code too")
	c.AddCommand(a.inviteListCommand(), a.inviteRevokeCommand())
	return c
}

// invitation is what "invite --json" prints; scripts rely on it.
type invitation struct {
	Link      string `json:"link"`    // http(s)://host/join/<token>, for browsers
	ICLink    string `json:"ic_link"` // ic://join/<token>, for agents
	Code      string `json:"code"`
	ShortLink string `json:"short_link"` // http(s)://host/i/<code>, for both
	Token     string `json:"token"`
	Mesh      string `json:"mesh"`
	Role      string `json:"role"`
	Uses      int    `json:"uses"`
	ExpiresAt string `json:"expires_at"` // RFC 3339

	Fingerprint string `json:"fingerprint,omitempty"` // of the server's certificate, if it is self-signed
}

func (a *app) invite(ctx context.Context, f *inviteFlags) error {
	switch {
	case f.role != store.RoleMember && f.role != store.RoleAdmin:
		return usagef("--role %q must be member or admin", f.role)
	case f.uses < 1:
		return usagef("--uses must be at least 1")
	case f.ttl < time.Second:
		return usagef("--ttl must be at least 1s; a week is 168h")
	case f.qr && f.json:
		return usagef("--qr and --json do not go together")
	}
	return f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		publicURL, err := f.url(ctx, db)
		if err != nil {
			return err
		}
		terms := broker.InviteTerms{Role: f.role, Uses: f.uses, TTL: f.ttl, Label: wire.CleanLine(f.name, wire.MaxNameLen)}
		made, err := broker.NewInvite(mesh, publicURL, terms, time.Now())
		if err != nil {
			return err
		}
		if err := db.CreateInvite(made, ""); err != nil {
			return err
		}
		described := describe(made, mesh, publicURL)
		if described.Fingerprint, err = f.fingerprint(ctx, db); err != nil {
			return err
		}
		return a.printInvite(described, f)
	})
}

func describe(i store.Invite, mesh store.Mesh, publicURL string) invitation {
	return invitation{
		Link: publicURL + "/join/" + i.Token, ICLink: "ic://join/" + i.Token, Code: i.Code, ShortLink: publicURL + "/i/" + i.Code,
		Token: i.Token, Mesh: mesh.Slug, Role: i.Role, Uses: i.MaxUses, ExpiresAt: wire.Time(i.ExpiresAt),
	}
}

func (a *app) printInvite(i invitation, f *inviteFlags) error {
	if f.json {
		return printJSON(a.out, i)
	}
	s := styleOf(a.out)
	expires, _ := time.Parse(time.RFC3339, i.ExpiresAt)
	fmt.Fprintf(a.out, "Invite to the mesh %q: %s, %s, until %s\n\n", i.Mesh, i.Role, times(i.Uses), moment(expires))
	fmt.Fprintf(a.out, "A person opens    %s\n", s.link(i.ShortLink))
	fmt.Fprintf(a.out, "An agent runs     meshbox join %s%s\n\n", trusting(i.Fingerprint), i.ShortLink)
	fmt.Fprintf(a.out, "The same in full, for clients that do not know short codes:\n%s\n%s\n", i.Link, i.ICLink)
	if f.qr {
		return printQR(a.out, i.ShortLink)
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "works once"
	}
	return fmt.Sprintf("works %d times", n)
}

// quietZone is the white around a QR code, in modules; the standard asks for 4.
const quietZone = 4

// printQR prints text as a QR code, two modules per character. The blocks are
// the white parts, in white on black if there are colours; without, the code is
// dark on light only on dark terminals, which readers mostly forgive.
func printQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return fmt.Errorf("the link does not fit a QR code: %w", err)
	}
	s := styleOf(w)
	fmt.Fprintln(w)
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		var row strings.Builder
		for x := -quietZone; x < code.Size+quietZone; x++ {
			row.WriteString(glyph(code.Black(x, y), code.Black(x, y+1)))
		}
		fmt.Fprintln(w, s.wrap("97;40", row.String()))
	}
	return nil
}

// glyph is one character with an upper and a lower module.
func glyph(upperBlack, lowerBlack bool) string {
	switch {
	case upperBlack && lowerBlack:
		return " "
	case upperBlack:
		return "▄"
	case lowerBlack:
		return "▀"
	}
	return "█"
}
