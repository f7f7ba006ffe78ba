package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// The roles of a member in its mesh.
const (
	RoleMember = "member"
	RoleAdmin  = "admin"
	RoleOwner  = "owner" // see Mesh.RoleOf
)

// Member is one key that may say hello to one mesh. JSON fields hold the text
// of the column, "" for NULL.
type Member struct {
	ID            string
	MeshID        string
	PubKey        string // 64 hex; "" until a claimed place is taken
	DisplayName   string
	Role          string // member or admin
	RoleTag       string
	MessageMode   string
	DefaultGroups string // JSON [{name, role?}]
	Profile       string // JSON
	State                // as its member connections left it
	JoinedAt      time.Time
	ClaimUntil    time.Time // zero unless PubKey is ""
	RevokedAt     time.Time // zero: active
}

// Revoked reports whether the member is banned.
func (m Member) Revoked() bool { return !m.RevokedAt.IsZero() }

// State is what a presence leaves behind, and gets back on its next hello. It
// is kept per member for member connections and per session key for sessions,
// so that no session shows what its sibling said.
type State struct {
	Groups     string // JSON [{name, role?}], "" if never set
	Summary    string
	Visible    bool
	Stats      string    // JSON
	LastSeenAt time.Time // zero: never
}

const memberColumns = `id, mesh_id, coalesce(pubkey, ''), display_name, role, coalesce(role_tag, ''), message_mode,
	default_groups, coalesce(profile, ''), coalesce(groups, ''), coalesce(summary, ''), visible, coalesce(stats, ''),
	last_seen_at, joined_at, claim_until, revoked_at`

func scanMember(scan func(...any) error) (m Member, err error) {
	var joined int64
	var seen, claim, revoked sql.NullInt64
	err = scan(&m.ID, &m.MeshID, &m.PubKey, &m.DisplayName, &m.Role, &m.RoleTag, &m.MessageMode,
		&m.DefaultGroups, &m.Profile, &m.Groups, &m.Summary, &m.Visible, &m.Stats,
		&seen, &joined, &claim, &revoked)
	m.JoinedAt = time.UnixMilli(joined)
	m.LastSeenAt, m.ClaimUntil, m.RevokedAt = instant(seen), instant(claim), instant(revoked)
	return m, err
}

// MemberByKey returns the member, active or revoked, that holds pubkey in the
// mesh, or ErrNotFound.
func (db *DB) MemberByKey(ctx context.Context, meshID, pubkey string) (Member, error) {
	return db.member(ctx, `mesh_id = ? AND pubkey = ?`, meshID, pubkey)
}

// MemberByID returns a member of the mesh by its id, or ErrNotFound.
func (db *DB) MemberByID(ctx context.Context, meshID, id string) (Member, error) {
	return db.member(ctx, `mesh_id = ? AND id = ?`, meshID, id)
}

// ParentMember returns the member that holds parentKey, like MemberByKey, and
// whether sessionKey is a member's key too.
func (db *DB) ParentMember(ctx context.Context, meshID, parentKey, sessionKey string) (parent Member, taken bool, err error) {
	const query = `SELECT ` + memberColumns + `, EXISTS (SELECT 1 FROM member x WHERE x.mesh_id = ?1 AND x.pubkey = ?3)
		FROM member WHERE mesh_id = ?1 AND pubkey = ?2`
	parent, err = scanMember(func(dst ...any) error { return db.scan(ctx, append(dst, &taken), query, meshID, parentKey, sessionKey) })
	return parent, taken, err
}

func (db *DB) member(ctx context.Context, where string, args ...any) (Member, error) {
	query := `SELECT ` + memberColumns + ` FROM member WHERE ` + where
	return scanMember(func(dst ...any) error { return db.scan(ctx, dst, query, args...) })
}

// Members returns all members of a mesh, oldest first, revoked ones included.
func (db *DB) Members(ctx context.Context, meshID string) (all []Member, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		m, err := scanMember(rows.Scan)
		all = append(all, m)
		return err
	}, `SELECT `+memberColumns+` FROM member WHERE mesh_id = ? ORDER BY joined_at, id`, meshID)
	return all, err
}

// insertMember adds a member and, in the same transaction, its place in
// #general. It is the only way a member comes to be. A place that was claimed
// without a key enters #general when it is taken: until then nobody may see it,
// because who knows its id can take it.
func (tx *Tx) insertMember(m Member, inviteID string, owner bool) error {
	err := tx.exec(`INSERT INTO member (id, mesh_id, pubkey, display_name, role, invite_id, joined_at, claim_until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID, m.MeshID, orNull(m.PubKey), m.DisplayName, m.Role, orNull(inviteID), m.JoinedAt.UnixMilli(), millis(m.ClaimUntil))
	if err != nil {
		return err
	}
	if owner {
		if err := tx.exec(`UPDATE mesh SET owner_member_id = ? WHERE id = ?`, m.ID, m.MeshID); err != nil {
			return err
		}
	}
	if m.PubKey == "" {
		return nil
	}
	return tx.takePlace(m.MeshID, m.ID, m.JoinedAt)
}

// takePlace makes a member with a key part of its mesh.
func (tx *Tx) takePlace(meshID, memberID string, now time.Time) error {
	if err := tx.enterGeneral(meshID, memberID, now); err != nil {
		return err
	}
	var pubkey, name, role, invite string
	err := tx.scan([]any{&pubkey, &name, &role, &invite}, `SELECT m.pubkey, m.display_name, iif(mesh.owner_member_id = m.id, 'owner', m.role), coalesce(m.invite_id, '')
		FROM member m JOIN mesh ON mesh.id = m.mesh_id WHERE m.id = ?`, memberID)
	if err != nil {
		return err
	}
	return tx.audit(meshID, EventMemberJoined, pubkey, map[string]any{"memberId": memberID, "name": name, "role": role, "inviteId": invite})
}

// enterGeneral subscribes a member to #general, the owner as its lead.
func (tx *Tx) enterGeneral(meshID, memberID string, now time.Time) error {
	if err := tx.ensureGeneral(meshID, now); err != nil {
		return err
	}
	var general, role string
	err := tx.scan([]any{&general, &role}, `SELECT t.id, iif(mesh.owner_member_id = ?2, 'lead', 'member')
		FROM topic t JOIN mesh ON mesh.id = t.mesh_id WHERE t.mesh_id = ?1 AND t.name = 'general'`, meshID, memberID)
	if err != nil {
		return err
	}
	return tx.subscribe(general, memberID, role, now)
}

// freeKey makes sure that pubkey can become a member key: a session of another
// member that proved it keeps it (ErrKeyTaken), a mere label gives way.
func (tx *Tx) freeKey(meshID, pubkey string) error {
	var proven bool
	err := tx.row(&proven, `SELECT proven FROM session_key WHERE mesh_id = ? AND pubkey = ?`, meshID, pubkey)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case proven:
		return ErrKeyTaken
	}
	return tx.exec(`DELETE FROM session_key WHERE mesh_id = ? AND pubkey = ?`, meshID, pubkey)
}

// BindClaim gives the key of a first hello to a place claimed by short code
// (protocol section 8). ErrNotFound if there is no such place, or its ten
// minutes are over; ErrExists if another member has that key.
func (db *DB) BindClaim(meshID, memberID, pubkey string, now time.Time) error {
	return db.Update(func(tx *Tx) error {
		if err := tx.freeKey(meshID, pubkey); err != nil {
			return err
		}
		bound, err := tx.execCount(`UPDATE member SET pubkey = ?, claim_until = NULL
			WHERE id = ? AND mesh_id = ? AND pubkey IS NULL AND revoked_at IS NULL AND claim_until > ?`,
			pubkey, memberID, meshID, now.UnixMilli())
		if err != nil {
			return err
		}
		if bound == 0 {
			return ErrNotFound
		}
		return tx.takePlace(meshID, memberID, now)
	})
}

// DropClaims removes places that were claimed and never taken, and gives their
// uses back to the invites.
func (db *DB) DropClaims(now time.Time) error {
	return db.Update(func(tx *Tx) error { return tx.dropClaims(`claim_until <= ?`, now.UnixMilli()) })
}

// dropClaims removes those claimed places that a condition picks.
func (tx *Tx) dropClaims(where string, args ...any) error {
	var ids []string
	err := tx.rows(func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM member WHERE pubkey IS NULL AND `+where, args...)
	for _, id := range ids {
		if err == nil {
			err = tx.dropClaim(id)
		}
	}
	return err
}

func (tx *Tx) dropClaim(memberID string) error {
	for _, query := range []string{
		`UPDATE invite SET uses = uses - 1 WHERE id = (SELECT invite_id FROM member WHERE id = ?) AND uses > 0`,
		`UPDATE mesh SET owner_member_id = NULL WHERE owner_member_id = ?`,
		`DELETE FROM member WHERE id = ?`,
	} {
		if err := tx.exec(query, memberID); err != nil {
			return err
		}
	}
	return nil
}

// SaveProfile keeps a member's own description of itself, JSON.
func (db *DB) SaveProfile(memberID, profile string) error {
	return db.Update(func(tx *Tx) error {
		return tx.exec(`UPDATE member SET profile = ? WHERE id = ?`, profile, memberID)
	})
}

// SaveState keeps what a presence leaves behind: under its session key if that
// is known to the store, else, when sessionKey is "", under its member.
func (db *DB) SaveState(meshID, memberID, sessionKey string, s State) error {
	return db.Update(func(tx *Tx) error { return tx.saveState(meshID, memberID, sessionKey, s) })
}

// SaveLastSeen keeps when members were seen last, by their ids.
func (db *DB) SaveLastSeen(at map[string]time.Time) error {
	return db.Update(func(tx *Tx) error {
		for memberID, t := range at {
			if err := tx.exec(`UPDATE member SET last_seen_at = ?1 WHERE id = ?2 AND coalesce(last_seen_at < ?1, true)`, t.UnixMilli(), memberID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (tx *Tx) saveState(meshID, memberID, sessionKey string, s State) error {
	if sessionKey == "" {
		return tx.exec(`UPDATE member SET groups = ?, summary = ?, visible = ?, stats = ?, last_seen_at = ? WHERE id = ?`,
			orNull(s.Groups), orNull(s.Summary), s.Visible, orNull(s.Stats), millis(s.LastSeenAt), memberID)
	}
	err := tx.exec(`UPDATE session_key SET groups = ?, summary = ?, visible = ?, stats = ?, last_used_at = ?
		WHERE mesh_id = ? AND pubkey = ? AND member_id = ?`,
		orNull(s.Groups), orNull(s.Summary), s.Visible, orNull(s.Stats), s.LastSeenAt.UnixMilli(), meshID, sessionKey, memberID)
	if err != nil {
		return err
	}
	return tx.exec(`UPDATE member SET last_seen_at = ? WHERE id = ?`, millis(s.LastSeenAt), memberID)
}
