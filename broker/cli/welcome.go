package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshbox/broker"
	"meshbox/broker/identity"
	"meshbox/broker/store"
)

// agentTerms are those of the invite a new data file has for agents.
var agentTerms = broker.InviteTerms{Role: store.RoleMember, Uses: 10, TTL: 24 * time.Hour, Label: "first agents"}

// welcome prints the one screen of a start: where to go and how to let others
// in.
func (a *app) welcome(ctx context.Context, db *store.DB, site *site, first *store.FirstMesh) error {
	s, publicURL := styleOf(a.out), site.url
	var text strings.Builder
	line := func(format string, args ...any) {
		text.WriteString(strings.TrimRight("  "+fmt.Sprintf(format, args...), " ") + "\n")
	}
	fmt.Fprintf(&text, "\n")
	line("%s", s.bold("meshbox is running."))
	line("")
	owned, err := a.ownerLinks(ctx, db, publicURL, s, line)
	if err != nil {
		return err
	}
	if owned {
		line("The chat         %s", s.link(publicURL))
	}
	if first != nil {
		line("Let agents join  %s join %s%s/i/%s", self(), trusting(site.secured.fingerprint), publicURL, first.Invites[1].Code)
		line("                 %s", s.dim("(for 10 of them, within 24 hours)"))
	}
	line("More invites     %s", inviteLine(db))
	if site.secured.fingerprint != "" {
		line("Certificate      its own, which a browser asks about once; its SHA-256 fingerprint is")
		line("                 %s", colons(site.secured.fingerprint))
	}
	site.warnOfPlainHTTP(s, line)
	site.hintAtPublicURL(line)
	line("Data file        %s %s", db.Path(), s.dim("(private: it holds the keys)"))
	line("Stop             Ctrl-C")
	fmt.Fprintln(&text)
	_, err = fmt.Fprint(a.out, text.String())
	return err
}

// warnOfPlainHTTP says what it means that others reach this server without HTTPS.
func (s *site) warnOfPlainHTTP(style style, line func(string, ...any)) {
	if s.secured.config != nil || strings.HasPrefix(s.url, "https://") || !isOpen(s.sockets.main) {
		return
	}
	port := s.sockets.main[0].Addr().(*net.TCPAddr).Port
	line("")
	line("%s", style.bold("Open to the network, without HTTPS:"))
	line("browsers on other machines refuse to make keys for this page, so only agents can")
	line("join from there; and what is not end-to-end encrypted can be read on the way.")
	line("Three ways out:")
	line("  HTTPS here       --tls-self-signed, --tls-cert with --tls-key, or --acme-domain")
	line("  a reverse proxy  with a certificate, and --public-url https://its.name")
	line("  a tunnel         --listen 127.0.0.1:%d, and on the other machine", port)
	line("                   ssh -L %d:localhost:%d %s, or here: tailscale serve %d", port, port, hostOr("this-machine"), port)
	line("")
}

// hintAtPublicURL says that links lead to this machine alone although others can reach
// the server.
func (s *site) hintAtPublicURL(line func(string, ...any)) {
	const here = "https://localhost"
	if rest, ok := strings.CutPrefix(s.url, here); ok && isOpen(s.sockets.main) {
		line("On others        these links do not work; begin them with a name or address of this")
		line("                 machine by --public-url, such as https://%s%s", hostOr("192.168.1.5"), rest)
	}
}

// hostOr is what this machine is called.
func hostOr(otherwise string) string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return shellWord(name)
	}
	return otherwise
}

// trusting is what a join needs besides when a certificate is self-signed.
func trusting(fingerprint string) string {
	if fingerprint == "" {
		return ""
	}
	return "--fingerprint " + fingerprint + " "
}

// ownerLinks prints, for each mesh that nobody owns yet, the link that makes
// its user the owner: the one made with the mesh, or a new one if that has
// expired. It reports whether some mesh has its owner.
func (a *app) ownerLinks(ctx context.Context, db *store.DB, publicURL string, s style, line func(string, ...any)) (owned bool, err error) {
	meshes, err := db.Meshes(ctx)
	if err != nil {
		return false, err
	}
	for _, mesh := range meshes {
		if mesh.OwnerMemberID != "" {
			owned = true
			continue
		}
		invite, err := ownerInvite(ctx, db, mesh, publicURL)
		if err != nil {
			return false, err
		}
		line("Open this link to enter the chat. It works once, until %s,", moment(invite.ExpiresAt))
		line("and makes you the owner of the mesh %q:", mesh.Slug)
		line("")
		line("  %s", s.link(publicURL+"/join/"+invite.Token))
		line("")
	}
	return owned, nil
}

// ownerInvite returns a valid first link of a mesh without an owner: the last
// one, unless it leads to where the server was before.
func ownerInvite(ctx context.Context, db *store.DB, mesh store.Mesh, publicURL string) (store.Invite, error) {
	invite, err := db.OwnerInvite(ctx, mesh.ID, time.Now())
	if err == nil {
		if inside, bad := identity.ParseToken(invite.Token); bad == nil && inside.BrokerURL == broker.BrokerURL(publicURL) {
			return invite, nil
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return invite, err
	}
	if invite, err = broker.NewInvite(mesh, publicURL, broker.OwnerTerms, time.Now()); err != nil {
		return invite, err
	}
	return invite, db.CreateInvite(invite, "")
}

// inviteLine is the command that makes an invite from where the person is.
func inviteLine(db *store.DB) string {
	if here, err := filepath.Abs(defaultDB); err == nil && here == db.Path() {
		return self() + " invite"
	}
	return self() + " invite --db " + shellWord(db.Path())
}
