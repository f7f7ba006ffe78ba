package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// ClaimTime is how long a place claimed by short code waits for its first hello
// (protocol section 8).
const ClaimTime = 10 * time.Minute

// Invite is the right to become a member.
type Invite struct {
	ID          string
	MeshID      string
	Code        string // 8 base62 characters, see NewCode
	Token       string // base64url of the signed JSON
	Role        string // member or admin
	Label       string
	GrantsOwner bool // the mesh's first link
	MaxUses     int
	Uses        int
	CreatedAt   time.Time
	ExpiresAt   time.Time
	RevokedAt   time.Time // zero: valid
	CreatedBy   string    // id of the member who made it, "" for the operator
}

// CreateInvite adds an invite. by is the id of the member who makes it, "" the
// operator. ErrForbidden unless that one may.
func (db *DB) CreateInvite(i Invite, by string) error {
	return db.Update(func(tx *Tx) error {
		actor, name, err := tx.mayModerate(i.MeshID, by)
		if err != nil {
			return err
		}
		i.CreatedBy = by
		return tx.insertInvite(i, actor, name)
	})
}

// insertInvite adds an invite. The audit chain names it by its id: code and
// token are secrets.
func (tx *Tx) insertInvite(i Invite, actor, by string) error {
	err := tx.exec(`INSERT INTO invite (id, mesh_id, code, token, role, label, grants_owner, max_uses, created_at, expires_at, created_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.ID, i.MeshID, i.Code, i.Token, i.Role, i.Label, i.GrantsOwner, i.MaxUses, i.CreatedAt.UnixMilli(), i.ExpiresAt.UnixMilli(), orNull(i.CreatedBy))
	if err != nil {
		return err
	}
	return tx.auditInvite(EventInviteCreated, i, actor, by)
}

func (tx *Tx) auditInvite(event string, i Invite, actor, by string) error {
	payload := map[string]any{
		"inviteId": i.ID, "label": i.Label, "role": i.Role, "uses": i.MaxUses, "expiresAt": i.ExpiresAt.UTC().Format(time.RFC3339),
	}
	if by != "" {
		payload["by"] = by
	}
	return tx.audit(i.MeshID, event, actor, payload)
}

// InviteUse is an invite and who joined by it.
type InviteUse struct {
	Invite
	Joined []Member // oldest first; places that still wait for their key included
}

// open is the condition under which an invite lets somebody in at the time ?1.
const open = `(revoked_at IS NULL AND uses < max_uses AND expires_at > ?1)`

// Invites returns invites of a mesh, at most limit: first those that still work,
// then the others, each the newest first. The mesh's first link is not among them:
// who uses it owns the mesh, and that is between the operator and the terminal.
func (db *DB) Invites(ctx context.Context, meshID string, limit int, now time.Time) (all []InviteUse, err error) {
	place := map[string]int{} // by invite id
	err = db.rows(ctx, func(rows *sql.Rows) error {
		i, err := scanInvite(rows.Scan)
		place[i.ID] = len(all)
		all = append(all, InviteUse{Invite: i})
		return err
	}, `SELECT `+inviteColumns+` FROM invite WHERE mesh_id = ?2 AND NOT grants_owner
		ORDER BY `+open+` DESC, created_at DESC, id DESC LIMIT ?3`, now.UnixMilli(), meshID, limit)
	if err != nil {
		return nil, err
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var inviteID string
		m, err := scanMember(func(dst ...any) error { return rows.Scan(append(dst, &inviteID)...) })
		if at, ok := place[inviteID]; ok {
			all[at].Joined = append(all[at].Joined, m)
		}
		return err
	}, `SELECT `+memberColumns+`, invite_id FROM member WHERE mesh_id = ? AND invite_id IS NOT NULL ORDER BY joined_at, id`, meshID)
	return all, err
}

// RevokeInvite withdraws the invite named by its id, code or token: nobody can join by
// it any more. It returns the invite, and false if it was withdrawn before.
// Errors: ErrForbidden unless by ("" is the operator) may do it, ErrNotFound.
func (db *DB) RevokeInvite(meshID, by, ref string, now time.Time) (i Invite, changed bool, err error) {
	err = db.Update(func(tx *Tx) error {
		actor, name, err := tx.mayModerate(meshID, by)
		if err != nil {
			return err
		}
		i, err = scanInvite(func(dst ...any) error {
			return tx.scan(dst, `SELECT `+inviteColumns+` FROM invite WHERE mesh_id = ?1 AND ?2 IN (id, code, token) AND (?3 = '' OR NOT grants_owner)`, meshID, ref, by)
		})
		if err != nil {
			return err
		}
		if changed = i.RevokedAt.IsZero(); !changed {
			return nil
		}
		return tx.withdraw(&i, actor, name, now)
	})
	return i, changed, err
}

// withdraw ends an invite, and with it the places that were claimed by it and
// still wait for their key.
func (tx *Tx) withdraw(i *Invite, actor, by string, now time.Time) error {
	if err := tx.exec(`UPDATE invite SET revoked_at = ? WHERE id = ?`, now.UnixMilli(), i.ID); err != nil {
		return err
	}
	if err := tx.dropClaims(`invite_id = ?`, i.ID); err != nil {
		return err
	}
	i.RevokedAt = now
	return tx.auditInvite(EventInviteRevoked, *i, actor, by)
}

// withdrawInvitesOf ends the invites that a member made and that still work.
func (tx *Tx) withdrawInvitesOf(m Moderation) error {
	actor, by, err := tx.mayModerate(m.MeshID, m.By)
	if err != nil {
		return err
	}
	var own []Invite
	err = tx.rows(func(rows *sql.Rows) error {
		i, err := scanInvite(rows.Scan)
		own = append(own, i)
		return err
	}, `SELECT `+inviteColumns+` FROM invite WHERE mesh_id = ?2 AND created_by = ?3 AND `+open, m.At.UnixMilli(), m.MeshID, m.MemberID)
	for i := range own {
		if err == nil {
			err = tx.withdraw(&own[i], actor, by, m.At)
		}
	}
	return err
}

const inviteColumns = `id, mesh_id, code, token, role, label, grants_owner, max_uses, uses, created_at, expires_at, revoked_at, coalesce(created_by, '')`

func scanInvite(scan func(...any) error) (i Invite, err error) {
	var created, expires int64
	var revoked sql.NullInt64
	err = scan(&i.ID, &i.MeshID, &i.Code, &i.Token, &i.Role, &i.Label, &i.GrantsOwner, &i.MaxUses, &i.Uses, &created, &expires, &revoked, &i.CreatedBy)
	i.CreatedAt, i.ExpiresAt, i.RevokedAt = time.UnixMilli(created), time.UnixMilli(expires), instant(revoked)
	return i, err
}

// OwnerInvite returns a still valid first link of a mesh, or ErrNotFound.
func (db *DB) OwnerInvite(ctx context.Context, meshID string, now time.Time) (Invite, error) {
	query := `SELECT ` + inviteColumns + ` FROM invite
		WHERE mesh_id = ? AND grants_owner AND revoked_at IS NULL AND uses < max_uses AND expires_at > ? ORDER BY expires_at DESC, id DESC LIMIT 1`
	return scanInvite(func(dst ...any) error { return db.scan(ctx, dst, query, meshID, now.UnixMilli()) })
}

// InviteByCode returns the invite with that short code, or ErrNotFound.
func (db *DB) InviteByCode(ctx context.Context, code string) (Invite, error) {
	query := `SELECT ` + inviteColumns + ` FROM invite WHERE code = ?`
	return scanInvite(func(dst ...any) error { return db.scan(ctx, dst, query, code) })
}

// Valid returns nil, ErrInviteRevoked, ErrInviteExpired or ErrInviteExhausted.
func (i Invite) Valid(now time.Time) error {
	switch {
	case !i.RevokedAt.IsZero():
		return ErrInviteRevoked
	case !i.ExpiresAt.After(now):
		return ErrInviteExpired
	case i.Uses >= i.MaxUses:
		return ErrInviteExhausted
	}
	return nil
}

// The states of an invite, as people and programs read them.
const (
	InviteOpen    = "open" // it lets somebody in
	InviteUsedUp  = "used_up"
	InviteExpired = "expired"
	InviteRevoked = "revoked"
)

// State is what an invite is worth now: InviteOpen or why it is not.
func (i Invite) State(now time.Time) string {
	switch i.Valid(now) {
	case ErrInviteRevoked:
		return InviteRevoked
	case ErrInviteExpired:
		return InviteExpired
	case ErrInviteExhausted:
		return InviteUsedUp
	}
	return InviteOpen
}

// Joining is somebody using an invite.
type Joining struct {
	MeshID      string // the mesh the presented token names
	OwnerPubKey string // the key the presented token is signed with
	Token       string
	PubKey      string // 64 hex; "" claims a place for a key to come
	DisplayName string
}

// Joined is what became of it.
type Joined struct {
	Member  Member
	Mesh    Mesh
	Invite  Invite
	Already bool // the key was a member before; no use was consumed
}

// Join makes a member of whoever holds a valid invite, in one transaction:
// checks, use, member and its place in #general. Its errors are the protocol's
// (section 8), ErrMemberRevoked for a banned key.
func (db *DB) Join(j Joining, now time.Time) (result Joined, err error) {
	err = db.Update(func(tx *Tx) error {
		result, err = tx.join(j, now)
		return err
	})
	return result, err
}

func (tx *Tx) join(j Joining, now time.Time) (result Joined, err error) {
	if result.Mesh, result.Invite, err = tx.presented(j); err != nil {
		return result, err
	}
	if j.PubKey != "" {
		result.Member, err = tx.memberByKey(j.MeshID, j.PubKey)
		if err == nil {
			result.Already = true
			if !result.Member.RevokedAt.IsZero() {
				err = ErrMemberRevoked
			}
			return result, err
		}
		if !errors.Is(err, ErrNotFound) {
			return result, err
		}
	}
	if err = result.Invite.Valid(now); err != nil {
		return result, err
	}
	if err = tx.freeKey(j.MeshID, j.PubKey); err != nil {
		return result, err
	}
	if err = tx.exec(`UPDATE invite SET uses = uses + 1 WHERE id = ?`, result.Invite.ID); err != nil {
		return result, err
	}
	result.Member = Member{
		ID: newID(now), MeshID: j.MeshID, PubKey: j.PubKey, DisplayName: j.DisplayName,
		Role: result.Invite.Role, JoinedAt: now,
	}
	if j.PubKey == "" {
		result.Member.ClaimUntil = now.Add(ClaimTime)
	}
	owner := result.Invite.GrantsOwner && result.Mesh.OwnerMemberID == ""
	return result, tx.insertMember(result.Member, result.Invite.ID, owner)
}

// presented looks up the mesh and the invite that a token names.
func (tx *Tx) presented(j Joining) (m Mesh, i Invite, err error) {
	m, err = scanMesh(func(dst ...any) error {
		return tx.scan(dst, `SELECT `+meshColumns+` FROM mesh WHERE id = ?`, j.MeshID)
	})
	if err != nil {
		return m, i, orElse(err, ErrMeshNotFound)
	}
	if m.OwnerPubKey != j.OwnerPubKey {
		return m, i, ErrInviteOwnerMismatch
	}
	i, err = scanInvite(func(dst ...any) error {
		return tx.scan(dst, `SELECT `+inviteColumns+` FROM invite WHERE token = ?`, j.Token)
	})
	if err != nil {
		return m, i, orElse(err, ErrInviteNotFound)
	}
	if i.MeshID != m.ID {
		return m, i, ErrInviteMeshMismatch
	}
	return m, i, nil
}

func (tx *Tx) memberByKey(meshID, pubkey string) (Member, error) {
	return scanMember(func(dst ...any) error {
		return tx.scan(dst, `SELECT `+memberColumns+` FROM member WHERE mesh_id = ? AND pubkey = ?`, meshID, pubkey)
	})
}

// orElse replaces ErrNotFound by what was not found.
func orElse(err, missing error) error {
	if errors.Is(err, ErrNotFound) {
		return missing
	}
	return err
}
