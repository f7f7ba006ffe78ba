package peer

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"meshbox/broker/identity"
)

// Keyring is the identities of one user, in one file that only they may read.
type Keyring struct {
	path       string
	identities []Identity // the newest last
}

// keyringFile is its JSON; unknown fields of a newer version would be lost on
// saving, so version guards.
type keyringFile struct {
	Version    int              `json:"version"` // 1
	Identities []storedIdentity `json:"identities"`
}

type storedIdentity struct {
	MeshID      string `json:"mesh_id"`
	MeshSlug    string `json:"mesh_slug"`
	BrokerURL   string `json:"broker_url"`
	MemberID    string `json:"member_id"`
	DisplayName string `json:"display_name"`
	PeerType    string `json:"peer_type,omitempty"`
	CertKey     string `json:"cert_key,omitempty"`
	Seed        string `json:"seed"` // hex of 32 bytes: the secret
}

// DefaultFolder is meshbox in the user's config folder.
func DefaultFolder() (string, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no config folder: %w; name one with --config", err)
	}
	return filepath.Join(base, "meshbox"), nil
}

// KeyringFile is what a keyring is called in its folder.
const KeyringFile = "identities.json"

// OpenKeyring reads the keyring in folder; a missing one is empty.
func OpenKeyring(folder string) (*Keyring, error) {
	k := &Keyring{path: filepath.Join(folder, KeyringFile)}
	if info, err := os.Stat(k.path); err == nil && info.Mode().Perm()&0o077 != 0 {
		_ = os.Chmod(k.path, 0o600) // a restored copy; some file systems know no modes
	}
	text, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read your identities: %w", err)
	}
	var file keyringFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w); restore it, or move it away and join again", k.path, err)
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("%s was written by a newer meshbox; update this one", k.path)
	}
	for _, s := range file.Identities {
		seed, _ := hex.DecodeString(s.Seed)
		key, err := identity.KeyFromSeed(seed)
		if err != nil {
			return nil, fmt.Errorf("%s holds a broken key for mesh %s; restore it, or move it away and join again", k.path, s.MeshSlug)
		}
		k.identities = append(k.identities, Identity{MeshID: s.MeshID, MeshSlug: s.MeshSlug, BrokerURL: s.BrokerURL, MemberID: s.MemberID, DisplayName: s.DisplayName, PeerType: s.PeerType, CertKey: s.CertKey, Key: key})
	}
	return k, nil
}

// Path is where the keyring is kept.
func (k *Keyring) Path() string { return k.path }

// Choose returns the identity for the mesh called mesh, by name or id, or the
// newest one if that is "".
func (k *Keyring) Choose(mesh string) (Identity, error) {
	if len(k.identities) == 0 {
		return Identity{}, errors.New("you are in no mesh yet; join one with: meshbox join <link>")
	}
	if mesh == "" {
		return k.identities[len(k.identities)-1], nil
	}
	var names []string
	for i := len(k.identities) - 1; i >= 0; i-- {
		if id := k.identities[i]; id.MeshSlug == mesh || id.MeshID == mesh {
			return id, nil
		}
		names = append(names, k.identities[i].MeshSlug)
	}
	return Identity{}, fmt.Errorf("you are in no mesh called %q; yours are: %s", mesh, strings.Join(names, ", "))
}

// Meshes returns the names of the meshes with an identity, the newest last.
func (k *Keyring) Meshes() []string {
	names := make([]string, len(k.identities))
	for i, id := range k.identities {
		names[i] = id.MeshSlug
	}
	return names
}

// Find returns the identity in the mesh with that id.
func (k *Keyring) Find(meshID string) (Identity, bool) {
	for _, id := range k.identities {
		if id.MeshID == meshID {
			return id, true
		}
	}
	return Identity{}, false
}

// Add keeps an identity, in place of an older one for the same mesh, and saves
// the file: written beside it first, so that a crash leaves one of the two.
func (k *Keyring) Add(id Identity) error {
	kept := make([]Identity, 0, len(k.identities)+1)
	for _, other := range k.identities {
		if other.MeshID != id.MeshID {
			kept = append(kept, other)
		}
	}
	k.identities = append(kept, id)
	file := keyringFile{Version: 1}
	for _, i := range k.identities {
		file.Identities = append(file.Identities, storedIdentity{MeshID: i.MeshID, MeshSlug: i.MeshSlug, BrokerURL: i.BrokerURL, MemberID: i.MemberID, DisplayName: i.DisplayName, PeerType: i.PeerType, CertKey: i.CertKey, Seed: hex.EncodeToString(i.Key.Seed())})
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return writePrivately(k.path, append(text, '\n'))
}

// writePrivately replaces the file at path, mode 0600 in a folder of 0700.
func writePrivately(path string, content []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot create the config folder: %w", err)
	}
	temporary, err := os.CreateTemp(folder, ".identities-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot save your identity: %w", err)
	}
	defer os.Remove(temporary.Name()) // fails after the rename
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Sync()
	}
	if closing := temporary.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot save your identity: %w", err)
	}
	return nil
}
