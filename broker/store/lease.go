package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Lease is a presence that outlives its connection, as it is kept for a restart.
type Lease struct {
	ID          string // the presence's
	MeshID      string
	MemberID    string
	SessionKey  string // "" for a member connection without one
	Proven      bool
	Name        string
	Client      string // JSON: what its hello said of the program
	Status      string
	ConnectedAt time.Time
}

// saveLease keeps a lease, in place of an older state of it. In the audit chain
// its peer joins with the first of them, and leaves when the lease ends.
func (tx *Tx) saveLease(l Lease) error {
	var known bool
	if err := tx.row(&known, `SELECT count(*) FROM lease WHERE id = ?`, l.ID); err != nil {
		return err
	}
	err := tx.exec(`INSERT OR REPLACE INTO lease (id, mesh_id, member_id, session_key, proven, name, client, status, connected_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		l.ID, l.MeshID, l.MemberID, l.SessionKey, l.Proven, l.Name, l.Client, l.Status, l.ConnectedAt.UnixMilli())
	if err != nil || known {
		return err
	}
	pubkey, _, err := tx.signature(l.MemberID)
	if err != nil {
		return err
	}
	return tx.audit(l.MeshID, EventPeerJoined, pubkey, peerPayload(l))
}

// KeepEarned keeps, at once, all that a presence earns that is here to stay: its
// session key if it has one, its state, and its lease if leases says so.
// ErrExists if the key is another member's; then nothing is kept.
func (db *DB) KeepEarned(l Lease, s State, leases bool, now time.Time) error {
	return db.Update(func(tx *Tx) error {
		if l.SessionKey != "" {
			if err := tx.rememberSessionKey(l.MeshID, l.SessionKey, l.MemberID, l.Proven, now); err != nil {
				return err
			}
		}
		key := ""
		if l.Proven {
			key = l.SessionKey
		}
		if err := tx.saveState(l.MeshID, l.MemberID, key, s); err != nil || !leases {
			return err
		}
		return tx.saveLease(l)
	})
}

// UpdateLease keeps a newer state of a lease, if that has not ended.
func (db *DB) UpdateLease(l Lease) error {
	return db.Update(func(tx *Tx) error {
		return tx.exec(`UPDATE lease SET session_key = ?, proven = ?, name = ?, client = ?, status = ?, connected_at = ? WHERE id = ?`,
			l.SessionKey, l.Proven, l.Name, l.Client, l.Status, l.ConnectedAt.UnixMilli(), l.ID)
	})
}

// DropLease ends a lease, if there is one.
func (db *DB) DropLease(id string) error {
	return db.Update(func(tx *Tx) error { return tx.endLease(id) })
}

func (tx *Tx) endLease(id string) error {
	l := Lease{ID: id}
	err := tx.scan([]any{&l.MeshID, &l.MemberID, &l.SessionKey, &l.Name},
		`DELETE FROM lease WHERE id = ? RETURNING mesh_id, member_id, session_key, name`, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.audit(l.MeshID, EventPeerLeft, ActorServer, peerPayload(l))
}

// endLeasesOf ends the leases of a member.
func (tx *Tx) endLeasesOf(memberID string) error {
	var ids []string
	err := tx.rows(func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM lease WHERE member_id = ? ORDER BY id`, memberID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := tx.endLease(id); err != nil {
			return err
		}
	}
	return nil
}

// peerPayload is how the presence of a lease stands in the audit chain.
func peerPayload(l Lease) map[string]any {
	payload := map[string]any{"presenceId": l.ID, "memberId": l.MemberID, "name": l.Name}
	if l.SessionKey != "" {
		payload["sessionKey"] = l.SessionKey
	}
	return payload
}

// Leases returns those that were not ended.
func (db *DB) Leases(ctx context.Context) (all []Lease, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var l Lease
		var connected int64
		err := rows.Scan(&l.ID, &l.MeshID, &l.MemberID, &l.SessionKey, &l.Proven, &l.Name, &l.Client, &l.Status, &connected)
		l.ConnectedAt = time.UnixMilli(connected)
		all = append(all, l)
		return err
	}, `SELECT id, mesh_id, member_id, session_key, proven, name, client, status, connected_at FROM lease`)
	return all, err
}
