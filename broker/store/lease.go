package store

import (
	"context"
	"database/sql"
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

// SaveLease keeps a lease, in place of an older state of it.
func (db *DB) SaveLease(l Lease) error {
	return db.Update(func(tx *Tx) error {
		return tx.exec(`INSERT OR REPLACE INTO lease (id, mesh_id, member_id, session_key, proven, name, client, status, connected_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			l.ID, l.MeshID, l.MemberID, l.SessionKey, l.Proven, l.Name, l.Client, l.Status, l.ConnectedAt.UnixMilli())
	})
}

// DropLease ends a lease.
func (db *DB) DropLease(id string) error {
	return db.Update(func(tx *Tx) error { return tx.exec(`DELETE FROM lease WHERE id = ?`, id) })
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
