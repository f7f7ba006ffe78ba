package broker

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
)

// InviteTerms are what an invite is worth.
type InviteTerms struct {
	Role  string // member or admin
	Uses  int
	TTL   time.Duration
	Label string // what the inviter calls it
	Owner bool   // the first link of a mesh: who uses it owns the mesh
}

// OwnerTerms are those of a mesh's first link.
var OwnerTerms = InviteTerms{Role: store.RoleAdmin, Uses: 1, TTL: 24 * time.Hour, Label: "first link", Owner: true}

// NewMesh makes a mesh with fresh keys and its first link: a single-use admin
// invite whose user becomes the owner. Nothing is stored.
func NewMesh(slug, publicURL string, now time.Time) store.FirstMesh {
	owner := identity.NewKey()
	root := make([]byte, 32)
	rand.Read(root) // never fails (crypto/rand)
	mesh := store.Mesh{ID: store.NewID(), Slug: slug, OwnerPubKey: owner.Public(), OwnerSeed: owner.Seed(), RootKey: root, CreatedAt: now}
	invite, err := NewInvite(mesh, publicURL, OwnerTerms, now)
	if err != nil {
		panic("broker: " + err.Error()) // the seed is one we just made
	}
	return store.FirstMesh{Mesh: mesh, Invites: []store.Invite{invite}}
}

// NewInvite makes an invite signed by the mesh's key. Nothing is stored.
func NewInvite(mesh store.Mesh, publicURL string, terms InviteTerms, now time.Time) (store.Invite, error) {
	owner, err := identity.KeyFromSeed(mesh.OwnerSeed)
	if err != nil {
		return store.Invite{}, fmt.Errorf("the owner key of mesh %s: %w", mesh.Slug, err)
	}
	// The wire has whole seconds: an invite must not outlive what its link says.
	expires := now.Add(terms.TTL).Truncate(time.Second)
	signed := identity.Invite{
		V: 1, MeshID: mesh.ID, MeshSlug: mesh.Slug, BrokerURL: BrokerURL(publicURL), ExpiresAt: expires.Unix(),
		MeshRootKey: base64.RawURLEncoding.EncodeToString(mesh.RootKey), Role: terms.Role, OwnerPubKey: mesh.OwnerPubKey,
		InviteID: store.NewID(),
	}
	signed.Sign(owner)
	return store.Invite{
		ID: signed.InviteID, MeshID: mesh.ID, Code: store.NewCode(), Token: signed.Token(), Role: terms.Role, Label: terms.Label, GrantsOwner: terms.Owner,
		MaxUses: terms.Uses, CreatedAt: now, ExpiresAt: expires,
	}, nil
}

// basePath is the path of a public URL: what all addresses of the page begin with.
func basePath(publicURL string) string {
	u, err := url.Parse(publicURL)
	if err != nil {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}

// BrokerURL is the WebSocket URL of a broker with that public URL:
// http://host becomes ws://host/ws, https wss.
func BrokerURL(publicURL string) string {
	return "ws" + strings.TrimPrefix(strings.TrimRight(publicURL, "/"), "http") + "/ws"
}
