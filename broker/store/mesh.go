package store

import (
	"context"
	"database/sql"
	"regexp"
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

// RoleOf is what a member is in the mesh: owner, admin or member.
func (m Mesh) RoleOf(member Member) string {
	if member.ID == m.OwnerMemberID {
		return RoleOwner
	}
	return member.Role
}

// meshName is what a mesh may be called.
var meshName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// ValidMeshName reports whether name is 1 to 31 of a-z, 0-9 and -, and starts
// with a letter or digit.
func ValidMeshName(name string) bool { return meshName.MatchString(name) }

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
		if err := tx.insertInvite(invite, ActorOperator, ""); err != nil {
			return err
		}
	}
	return nil
}

// RenameMesh gives a mesh another name. Links made before go on working, under
// the old one. Errors: ErrForbidden unless by ("" is the operator) may moderate,
// ErrExists if the name is taken.
func (db *DB) RenameMesh(meshID, by, slug string) error {
	return db.Update(func(tx *Tx) error {
		actor, name, err := tx.mayModerate(meshID, by)
		if err != nil {
			return err
		}
		var before string
		if err := tx.row(&before, `SELECT slug FROM mesh WHERE id = ?`, meshID); err != nil || before == slug {
			return err
		}
		if err := tx.exec(`UPDATE mesh SET slug = ? WHERE id = ?`, slug, meshID); err != nil {
			return err
		}
		payload := map[string]any{"from": before, "to": slug}
		if name != "" {
			payload["by"] = name
		}
		return tx.audit(meshID, EventMeshRenamed, actor, payload)
	})
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
