package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
)

// Grant is what a member lets one peer do to it (protocol section 5).
type Grant struct {
	MemberID string
	PeerKey  string   // the peer's member key
	Caps     []string // of read, dm, broadcast and state-read
}

// Grants returns all grants of the file. They are few: who has none lets
// everybody do everything.
func (db *DB) Grants(ctx context.Context) (all []Grant, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var g Grant
		var caps string
		if err := rows.Scan(&g.MemberID, &g.PeerKey, &caps); err != nil {
			return err
		}
		all = append(all, g)
		return json.Unmarshal([]byte(caps), &all[len(all)-1].Caps)
	}, `SELECT member_id, peer_key, caps FROM peer_grant ORDER BY member_id, peer_key`)
	return all, err
}

// SetGrants changes what a member lets peers do, by their keys; nil caps remove
// the peer's entry. ErrNoMember if a key is no member's of the mesh, ErrTooMany
// if the member would have more than limit entries; then nothing is changed.
// committed is called when it is done, in the order of commits, and must not
// block.
func (db *DB) SetGrants(meshID, memberID string, caps map[string][]string, limit int, committed func()) error {
	return db.updateThen(func(tx *Tx) error {
		for key, allowed := range caps {
			if err := tx.setGrant(meshID, memberID, key, allowed); err != nil {
				return err
			}
		}
		var n int
		if err := tx.row(&n, `SELECT count(*) FROM peer_grant WHERE member_id = ?`, memberID); err != nil {
			return err
		}
		if n > limit {
			return ErrTooMany
		}
		pubkey, name, err := tx.signature(memberID)
		if err != nil {
			return err
		}
		return tx.audit(meshID, EventGrantsChanged, pubkey, map[string]any{"name": name, "grants": caps})
	}, committed)
}

func (tx *Tx) setGrant(meshID, memberID, key string, allowed []string) error {
	if allowed == nil {
		return tx.exec(`DELETE FROM peer_grant WHERE member_id = ? AND peer_key = ?`, memberID, key)
	}
	var peer string
	err := tx.row(&peer, `SELECT id FROM member WHERE mesh_id = ? AND pubkey = ?`, meshID, key)
	if errors.Is(err, ErrNotFound) {
		return ErrNoMember
	}
	if err != nil {
		return err
	}
	return tx.exec(`INSERT INTO peer_grant (member_id, peer_key, caps) VALUES (?, ?, ?)
		ON CONFLICT (member_id, peer_key) DO UPDATE SET caps = excluded.caps`, memberID, key, toJSON(allowed))
}
