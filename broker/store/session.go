package store

import (
	"context"
	"database/sql"
	"time"
)

// SessionKeyTTL is how long an unused session key is remembered.
const SessionKeyTTL = 30 * 24 * time.Hour

// SessionKey is a session key that a member used.
type SessionKey struct {
	PubKey   string // 64 hex
	MemberID string
	Proven   bool // by session_hello; else a plain hello's label
	State         // LastSeenAt is when it was last used
}

// SessionKeyByKey returns what is known of a session key, or ErrNotFound.
func (db *DB) SessionKeyByKey(ctx context.Context, meshID, pubkey string) (SessionKey, error) {
	k := SessionKey{PubKey: pubkey}
	var used int64
	err := db.scan(ctx, []any{&k.MemberID, &k.Proven, &k.Groups, &k.Summary, &k.Visible, &k.Stats, &used},
		`SELECT member_id, proven, coalesce(groups, ''), coalesce(summary, ''), visible, coalesce(stats, ''), last_used_at
		FROM session_key WHERE mesh_id = ? AND pubkey = ?`, meshID, pubkey)
	k.LastSeenAt = time.UnixMilli(used)
	return k, err
}

// rememberSessionKey keeps a session key as memberID's. A proof outranks
// another member's mere label; any other key of another member stays its own,
// and then ErrExists is returned.
func (tx *Tx) rememberSessionKey(meshID, pubkey, memberID string, proven bool, now time.Time) error {
	kept, err := tx.execCount(`INSERT INTO session_key (mesh_id, pubkey, member_id, proven, created_at, last_used_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?5)
		ON CONFLICT (mesh_id, pubkey) DO UPDATE SET
			member_id = excluded.member_id, proven = max(proven, excluded.proven), last_used_at = excluded.last_used_at
		WHERE member_id = excluded.member_id OR (excluded.proven AND NOT proven)`,
		meshID, pubkey, memberID, proven, now.UnixMilli())
	if err == nil && kept == 0 {
		return ErrExists
	}
	return err
}

// DropSessionKeys forgets the session keys that were not used for
// SessionKeyTTL. inUse tells those that are used right now, by a connection that
// is older than that; it must not block.
func (db *DB) DropSessionKeys(now time.Time, inUse func(memberID, pubkey string) bool) error {
	return db.Update(func(tx *Tx) error {
		type key struct{ meshID, memberID, pubkey string }
		var old []key
		err := tx.rows(func(rows *sql.Rows) error {
			var k key
			err := rows.Scan(&k.meshID, &k.memberID, &k.pubkey)
			old = append(old, k)
			return err
		}, `SELECT mesh_id, member_id, pubkey FROM session_key WHERE last_used_at < ?`, now.Add(-SessionKeyTTL).UnixMilli())
		if err != nil {
			return err
		}
		for _, k := range old {
			if inUse(k.memberID, k.pubkey) {
				err = tx.exec(`UPDATE session_key SET last_used_at = ? WHERE mesh_id = ? AND pubkey = ?`, now.UnixMilli(), k.meshID, k.pubkey)
			} else {
				err = tx.exec(`DELETE FROM session_key WHERE mesh_id = ? AND pubkey = ?`, k.meshID, k.pubkey)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
