package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// API keys (protocol, services, section 1). A key acts as the member that issued
// it, and lives no longer: every look at one asks whether its member is active.

// What a key may be allowed.
const (
	KeySend       = "send"
	KeyRead       = "read"
	KeyStateWrite = "state_write"
	KeyAdmin      = "admin" // implies the others
)

const (
	// MaxLiveKeys is how many keys of one member may work at a time.
	MaxLiveKeys = 1000

	// DeadKeyTTL is how long a key that works no more is listed.
	DeadKeyTTL = 30 * 24 * time.Hour
)

// APIKey is a key without its secret, which nobody but its holder has.
type APIKey struct {
	ID           string
	MeshID       string
	MemberID     string // who issued it
	IssuedBy     string // that member's name
	Label        string
	Prefix       string   // the first characters of the secret
	Hash         string   // see HashAPIKey
	Capabilities []string // of send, read, state_write and admin
	TopicScopes  []string // names of the topics it is confined to; nil: none
	CreatedAt    time.Time
	ExpiresAt    time.Time // zero: never
	LastUsedAt   time.Time // zero: never
	RevokedAt    time.Time // zero: not revoked
}

// Allows reports whether the key has a capability.
func (k APIKey) Allows(capability string) bool {
	return slices.Contains(k.Capabilities, capability) || slices.Contains(k.Capabilities, KeyAdmin)
}

// InScope reports whether the key may touch the topic of that name.
func (k APIKey) InScope(topic string) bool {
	return k.TopicScopes == nil || slices.Contains(k.TopicScopes, topic)
}

// HashAPIKey is what is kept of a secret: its SHA-256 in hex. A secret has 256
// random bits, so nobody finds it by trying, and a slow hash would only slow down
// each request. It is looked up by an index, whose timing tells about hashes and
// not about secrets.
func HashAPIKey(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

const keyColumns = `k.id, k.mesh_id, k.member_id, m.display_name, k.label, k.prefix, k.hash, k.capabilities, coalesce(k.topic_scopes, ''),
	k.created_at, k.expires_at, k.last_used_at, k.revoked_at`

func scanKey(scan func(...any) error) (k APIKey, err error) {
	var capabilities, scopes string
	var created int64
	var expires, used, revoked sql.NullInt64
	err = scan(&k.ID, &k.MeshID, &k.MemberID, &k.IssuedBy, &k.Label, &k.Prefix, &k.Hash, &capabilities, &scopes, &created, &expires, &used, &revoked)
	if err != nil {
		return k, err
	}
	k.CreatedAt = time.UnixMilli(created)
	k.ExpiresAt, k.LastUsedAt, k.RevokedAt = instant(expires), instant(used), instant(revoked)
	if err := json.Unmarshal([]byte(capabilities), &k.Capabilities); err != nil {
		return k, err
	}
	if scopes != "" {
		err = json.Unmarshal([]byte(scopes), &k.TopicScopes)
	}
	return k, err
}

// liveKey is the condition under which a key k of member m works at ?1, in Unix
// milliseconds.
const liveKey = `k.revoked_at IS NULL AND coalesce(k.expires_at > ?1, true) AND m.revoked_at IS NULL AND m.pubkey IS NOT NULL`

// CreateAPIKey keeps a new key of an active member. Errors: ErrMemberRevoked,
// ErrForbidden if it has the capability admin and its member may not moderate,
// ErrTooMany if the member has MaxLiveKeys already.
func (db *DB) CreateAPIKey(k APIKey) error {
	return db.Update(func(tx *Tx) error {
		if err := tx.mayIssue(k); err != nil {
			return err
		}
		var scopes any
		if k.TopicScopes != nil {
			scopes = toJSON(k.TopicScopes)
		}
		err := tx.exec(`INSERT INTO api_key (id, mesh_id, member_id, label, prefix, hash, capabilities, topic_scopes, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, k.ID, k.MeshID, k.MemberID, k.Label, k.Prefix, k.Hash, toJSON(k.Capabilities), scopes,
			k.CreatedAt.UnixMilli(), millis(k.ExpiresAt))
		if err != nil {
			return err
		}
		return tx.auditKey(EventKeyCreated, k, k.MemberID)
	})
}

func (tx *Tx) mayIssue(k APIKey) error {
	if err := tx.mayPost(k.MemberID); err != nil {
		return err
	}
	if slices.Contains(k.Capabilities, KeyAdmin) {
		if _, _, err := tx.mayModerate(k.MeshID, k.MemberID); err != nil {
			return err
		}
	}
	var live int
	err := tx.row(&live, `SELECT count(*) FROM api_key k JOIN member m ON m.id = k.member_id WHERE k.member_id = ?2 AND `+liveKey, k.CreatedAt.UnixMilli(), k.MemberID)
	if err == nil && live >= MaxLiveKeys {
		err = ErrTooMany
	}
	return err
}

// auditKey appends what a member did to a key to the audit chain: nothing in it
// helps to guess the secret.
func (tx *Tx) auditKey(event string, k APIKey, by string) error {
	pubkey, name, err := tx.signature(by)
	if err != nil {
		return err
	}
	return tx.audit(k.MeshID, event, pubkey, map[string]any{
		"keyId": k.ID, "label": k.Label, "memberId": k.MemberID, "capabilities": k.Capabilities, "topicScopes": k.TopicScopes, "by": name,
	})
}

// LiveAPIKey returns the key with a hash, and the member that issued it.
// ErrNotFound unless both are good at now. A key with the capability admin has the
// others instead while its member does not run the mesh.
func (db *DB) LiveAPIKey(ctx context.Context, hash string, now time.Time) (k APIKey, m Member, err error) {
	k, err = scanKey(func(dst ...any) error {
		return db.scan(ctx, dst, `SELECT `+keyColumns+` FROM api_key k JOIN member m ON m.id = k.member_id WHERE k.hash = ?2 AND `+liveKey, now.UnixMilli(), hash)
	})
	if err != nil {
		return k, m, err
	}
	m, err = db.MemberByID(ctx, k.MeshID, k.MemberID)
	if err == nil && m.Revoked() {
		err = ErrNotFound // in between
	}
	if err == nil && slices.Contains(k.Capabilities, KeyAdmin) {
		var may bool
		if may, err = db.Moderates(ctx, k.MeshID, k.MemberID); !may {
			k.Capabilities = []string{KeySend, KeyRead, KeyStateWrite}
		}
	}
	return k, m, err
}

// APIKeys returns the newest keys of a member, or of the whole mesh if memberID is
// "", those that work at now before the others.
func (db *DB) APIKeys(ctx context.Context, meshID, memberID string, limit int, now time.Time) (all []APIKey, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		k, err := scanKey(rows.Scan)
		all = append(all, k)
		return err
	}, `SELECT `+keyColumns+` FROM api_key k JOIN member m ON m.id = k.member_id
		WHERE k.mesh_id = ?2 AND (?3 = '' OR k.member_id = ?3) ORDER BY (`+liveKey+`) DESC, k.created_at DESC, k.id DESC LIMIT ?4`,
		now.UnixMilli(), meshID, memberID, limit)
	return all, err
}

// RevokeAPIKey ends a key that is named by its id, its prefix, or the beginning of
// its id: one of the member by, or if it acts as a moderator any of the mesh. It
// returns that key, and how many are named: the key is only revoked if it is one.
// Errors: ErrForbidden if by may not moderate.
func (db *DB) RevokeAPIKey(meshID, by, ref string, asModerator bool, now time.Time) (key APIKey, named int, err error) {
	err = db.Update(func(tx *Tx) error {
		whose := by
		if asModerator {
			if _, _, err := tx.mayModerate(meshID, by); err != nil {
				return err
			}
			whose = ""
		}
		found, err := tx.findKeys(meshID, whose, ref)
		if named = len(found); err != nil || named != 1 {
			return err
		}
		key = found[0]
		changed, err := tx.execCount(`UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, now.UnixMilli(), key.ID)
		if err != nil || changed == 0 {
			return err
		}
		return tx.auditKey(EventKeyRevoked, key, by)
	})
	return key, named, err
}

// findKeys returns the keys that ref names, of a member or of a whole mesh.
func (tx *Tx) findKeys(meshID, memberID, ref string) (found []APIKey, err error) {
	if ref == "" {
		return nil, nil
	}
	err = tx.rows(func(rows *sql.Rows) error {
		k, err := scanKey(rows.Scan)
		found = append(found, k)
		return err
	}, `SELECT `+keyColumns+` FROM api_key k JOIN member m ON m.id = k.member_id
		WHERE k.mesh_id = ?1 AND (?2 = '' OR k.member_id = ?2) AND (substr(k.id, 1, length(?3)) = ?3 OR k.prefix = ?3)`, meshID, memberID, ref)
	if i := slices.IndexFunc(found, func(k APIKey) bool { return k.ID == ref }); i >= 0 {
		found = found[i : i+1]
	}
	return found, err
}

// endKeysOf revokes the keys of a member: they do not come back with it.
func (tx *Tx) endKeysOf(memberID string, now time.Time) error {
	return tx.exec(`UPDATE api_key SET revoked_at = ? WHERE member_id = ? AND revoked_at IS NULL`, now.UnixMilli(), memberID)
}

// ErrKeyDead says that an API key works no more.
var ErrKeyDead = errors.New("the API key works no more")

// mayUse refuses what came by a key that was revoked since its request was let in
// (ErrKeyDead): once a revocation is answered, nothing is stored by the key.
func (tx *Tx) mayUse(id string, now time.Time) error {
	if id == "" {
		return nil
	}
	var live bool
	err := tx.row(&live, `SELECT count(*) FROM api_key k JOIN member m ON m.id = k.member_id WHERE k.id = ?2 AND `+liveKey, now.UnixMilli(), id)
	if err == nil && !live {
		err = ErrKeyDead
	}
	return err
}

// SaveKeyUses keeps when keys were used last, by their ids.
func (db *DB) SaveKeyUses(at map[string]time.Time) error {
	return db.Update(func(tx *Tx) error {
		for id, t := range at {
			if err := tx.exec(`UPDATE api_key SET last_used_at = ?1 WHERE id = ?2 AND coalesce(last_used_at < ?1, true)`, t.UnixMilli(), id); err != nil {
				return err
			}
		}
		return nil
	})
}

// DropAPIKeys forgets the keys that have not worked for DeadKeyTTL. Existing
// clients make one for each call, so they would pile up.
func (db *DB) DropAPIKeys(now time.Time) error {
	const dead = `(revoked_at < ?1 OR expires_at < ?1)`
	before := now.Add(-DeadKeyTTL).UnixMilli()
	var id string
	err := db.row(context.Background(), &id, `SELECT id FROM api_key WHERE `+dead+` LIMIT 1`, before)
	if errors.Is(err, ErrNotFound) {
		return nil // nearly always: spare the commit
	}
	if err != nil {
		return err
	}
	return db.Update(func(tx *Tx) error { return tx.exec(`DELETE FROM api_key WHERE `+dead, before) })
}
