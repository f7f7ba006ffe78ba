package store

import (
	"context"
	"database/sql"
	"time"
)

// Mesh is a closed room of members.
type Mesh struct {
	ID            string
	Slug          string // its name, [a-z0-9-]
	OwnerPubKey   string // 64 hex: signs this mesh's invites
	OwnerSeed     []byte // 32 bytes: the seed of that key
	RootKey       []byte // 32 bytes
	OwnerMemberID string // "" until the mesh's first link was used
	CreatedAt     time.Time
}

// FirstMesh is what a new data file begins with: a mesh and its invites.
type FirstMesh struct {
	Mesh    Mesh
	Invites []Invite
}

// GeneralDescription is what #general says of itself (protocol section 7).
const GeneralDescription = "Default mesh-wide channel. Every member can read and post."

// CreateMesh adds a mesh, its #general and its first invites, at once.
// ErrExists if the slug is taken.
func (db *DB) CreateMesh(first FirstMesh) error {
	return db.Update(func(tx *Tx) error { return tx.createMesh(first) })
}

func (tx *Tx) createMesh(first FirstMesh) error {
	m := first.Mesh
	err := tx.exec(`INSERT INTO mesh (id, slug, owner_pubkey, owner_seed, root_key, created_at) VALUES (?, ?, ?, ?, ?, ?)`,
		m.ID, m.Slug, m.OwnerPubKey, m.OwnerSeed, m.RootKey, m.CreatedAt.UnixMilli())
	if err != nil {
		return err
	}
	if err := tx.ensureGeneral(m.ID, m.CreatedAt); err != nil {
		return err
	}
	if err := tx.audit(m.ID, EventMeshCreated, ActorOperator, map[string]any{"name": m.Slug}); err != nil {
		return err
	}
	for _, invite := range first.Invites {
		if err := tx.insertInvite(invite); err != nil {
			return err
		}
	}
	return nil
}

// ensureGeneral makes sure that the mesh has #general; it is idempotent through
// the unique (mesh, name).
func (tx *Tx) ensureGeneral(meshID string, now time.Time) error {
	return tx.exec(`INSERT INTO topic (id, mesh_id, name, description, visibility, created_at)
		VALUES (?, ?, 'general', ?, 'public', ?) ON CONFLICT (mesh_id, name) DO NOTHING`,
		newID(now), meshID, GeneralDescription, now.UnixMilli())
}

const meshColumns = `id, slug, owner_pubkey, owner_seed, root_key, coalesce(owner_member_id, ''), created_at`

func scanMesh(scan func(...any) error) (m Mesh, err error) {
	var created int64
	err = scan(&m.ID, &m.Slug, &m.OwnerPubKey, &m.OwnerSeed, &m.RootKey, &m.OwnerMemberID, &created)
	m.CreatedAt = time.UnixMilli(created)
	return m, err
}

// Meshes returns all meshes, oldest first.
func (db *DB) Meshes(ctx context.Context) (all []Mesh, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		m, err := scanMesh(rows.Scan)
		all = append(all, m)
		return err
	}, `SELECT `+meshColumns+` FROM mesh ORDER BY created_at, id`)
	return all, err
}

// MeshBySlug returns the mesh of that name, or ErrNotFound.
func (db *DB) MeshBySlug(ctx context.Context, slug string) (Mesh, error) {
	return db.mesh(ctx, "slug", slug)
}

// MeshByID returns the mesh with that id, or ErrNotFound.
func (db *DB) MeshByID(ctx context.Context, id string) (Mesh, error) {
	return db.mesh(ctx, "id", id)
}

func (db *DB) mesh(ctx context.Context, column, value string) (Mesh, error) {
	query := `SELECT ` + meshColumns + ` FROM mesh WHERE ` + column + ` = ?`
	return scanMesh(func(dst ...any) error { return db.scan(ctx, dst, query, value) })
}
