package peer

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"meshbox/broker/identity"
)

// keptSessions is how long the key of a session is kept: longer than what is sealed
// for it can wait at the broker.
const keptSessions = 30 * 24 * time.Hour

// NewSession makes a key for a session of an identity and keeps it, with mode 0600
// beside the identities, as long as messages that were sealed for it may come: the
// next sessions can open them. It returns those of earlier ones, too.
func (k *Keyring) NewSession(id Identity, now time.Time) (session identity.Key, former []identity.Key, err error) {
	folder := filepath.Join(filepath.Dir(k.path), "sessions", id.MeshID)
	files, err := filepath.Glob(filepath.Join(folder, "*.key"))
	if err != nil {
		return session, nil, err
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // another process has just removed it
		}
		if now.Sub(info.ModTime()) > keptSessions {
			_ = os.Remove(file) // if that fails, the next session tries again
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		seed, _ := hex.DecodeString(string(text))
		if key, err := identity.KeyFromSeed(seed); err == nil {
			former = append(former, key)
		}
	}
	session = identity.NewKey()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return session, nil, fmt.Errorf("cannot keep the key of the session: %w", err)
	}
	if err := writePrivately(filepath.Join(folder, session.Public()[:16]+".key"), []byte(hex.EncodeToString(session.Seed()))); err != nil {
		return session, nil, fmt.Errorf("cannot keep the key of the session: %w", err)
	}
	return session, former, nil
}
