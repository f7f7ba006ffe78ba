package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Moderation. Who may do what to whom is decided inside the transaction that
// does it: an admin who was revoked a moment ago revokes nobody.

// Errors of moderation, beside ErrForbidden for who is no moderator.
var (
	ErrOwner = errors.New("the owner of the mesh can not be removed from it")
	ErrSelf  = errors.New("you can not remove yourself")
)

// Moderation is one act on a member.
type Moderation struct {
	MeshID   string
	MemberID string // whom it is about
	By       string // the id of the member who does it; "" is the operator, who may do all
	At       time.Time
}

// moderates is the condition under which a member m of mesh may moderate.
const moderates = `(m.role = 'admin' OR m.id = mesh.owner_member_id) AND m.revoked_at IS NULL`

// Moderates reports whether a member may moderate its mesh: as its owner or an
// admin.
func (db *DB) Moderates(ctx context.Context, meshID, memberID string) (may bool, err error) {
	err = db.row(ctx, &may, `SELECT count(*) FROM member m JOIN mesh ON mesh.id = m.mesh_id WHERE m.mesh_id = ? AND m.id = ? AND `+moderates, meshID, memberID)
	return may, err
}

// mayModerate returns how who acts stands in the audit chain: a member, or the
// operator if by is "". ErrForbidden unless it may.
func (tx *Tx) mayModerate(meshID, by string) (actor, name string, err error) {
	if by == "" {
		return ActorOperator, "", nil
	}
	err = tx.scan([]any{&actor, &name}, `SELECT m.pubkey, m.display_name FROM member m JOIN mesh ON mesh.id = m.mesh_id
		WHERE m.mesh_id = ? AND m.id = ? AND `+moderates, meshID, by)
	return actor, name, orElse(err, ErrForbidden)
}

// spare refuses what no member may do to the owner, or to itself.
func (tx *Tx) spare(m Moderation) error {
	if m.By == "" {
		return nil
	}
	if m.By == m.MemberID {
		return ErrSelf
	}
	var owner string
	if err := tx.row(&owner, `SELECT coalesce(owner_member_id, '') FROM mesh WHERE id = ?`, m.MeshID); err != nil {
		return err
	}
	if owner == m.MemberID {
		return ErrOwner
	}
	return nil
}

// record appends what was done to a member to the audit chain.
func (tx *Tx) record(m Moderation, event string, more map[string]any) error {
	actor, by, err := tx.mayModerate(m.MeshID, m.By)
	if err != nil {
		return err
	}
	pubkey, name, err := tx.signature(m.MemberID)
	if err != nil {
		return err
	}
	payload := map[string]any{"memberId": m.MemberID, "pubkey": pubkey, "name": name}
	if by != "" {
		payload["by"] = by
	}
	maps.Copy(payload, more)
	return tx.audit(m.MeshID, event, actor, payload)
}

// RevokeMember bans a member: its key may neither say hello nor join, what it
// sends is refused, and it is in no audience. Its leases, API keys and webhooks end,
// and the invites it made are withdrawn: it would come back by one. It reports false
// if the member was revoked before. Errors: ErrForbidden, ErrOwner, ErrSelf.
func (db *DB) RevokeMember(m Moderation) (changed bool, err error) {
	err = db.Update(func(tx *Tx) error {
		changed = false
		if _, _, err := tx.mayModerate(m.MeshID, m.By); err != nil {
			return err
		}
		if err := tx.spare(m); err != nil {
			return err
		}
		revoked, err := tx.execCount(`UPDATE member SET revoked_at = ? WHERE mesh_id = ? AND id = ? AND revoked_at IS NULL`, m.At.UnixMilli(), m.MeshID, m.MemberID)
		if err != nil || revoked == 0 {
			return err
		}
		changed = true
		tx.forget() // it may be a sender and in audiences
		if err := tx.record(m, EventMemberRevoked, nil); err != nil {
			return err
		}
		if err := tx.withdrawInvitesOf(m); err != nil {
			return err
		}
		if err := tx.endKeysOf(m.MemberID, m.At); err != nil {
			return err
		}
		if err := tx.endWebhooksOf(m.MemberID); err != nil {
			return err
		}
		return tx.endLeasesOf(m.MemberID)
	})
	return changed, err
}

// RestoreMember lifts a ban: the member is in #general again, and in the topics
// that it was in. It reports false if the member was not revoked. Errors:
// ErrForbidden.
func (db *DB) RestoreMember(m Moderation) (changed bool, err error) {
	err = db.Update(func(tx *Tx) error {
		changed = false
		if _, _, err := tx.mayModerate(m.MeshID, m.By); err != nil {
			return err
		}
		restored, err := tx.execCount(`UPDATE member SET revoked_at = NULL WHERE mesh_id = ? AND id = ? AND revoked_at IS NOT NULL`, m.MeshID, m.MemberID)
		if err != nil || restored == 0 {
			return err
		}
		changed = true
		tx.forget()
		if err := tx.enterGeneral(m.MeshID, m.MemberID, m.At); err != nil {
			return err
		}
		return tx.record(m, EventMemberRestored, nil)
	})
	return changed, err
}

// RecordKick records that presences of a member are ended; sessions are their
// names. Nothing else is stored, so the caller ends them after it. Without any
// it only says whether that may be. Errors: ErrForbidden, ErrOwner, ErrSelf.
func (db *DB) RecordKick(m Moderation, sessions []string) error {
	return db.Update(func(tx *Tx) error {
		if err := tx.spare(m); err != nil || len(sessions) == 0 {
			return err
		}
		return tx.record(m, EventMemberKicked, map[string]any{"sessions": sessions})
	})
}

// RecordDisconnect records that connections of a member are closed; sessions are
// the names of their presences. Errors: ErrForbidden.
func (db *DB) RecordDisconnect(m Moderation, sessions []string) error {
	if len(sessions) == 0 {
		return nil
	}
	return db.Update(func(tx *Tx) error {
		return tx.record(m, EventMemberDisconnected, map[string]any{"sessions": sessions})
	})
}

// mayPost refuses what a revoked member sends (ErrMemberRevoked): what its
// connection had in hand when the ban was committed. The writer remembers who
// may, as it does audiences.
func (tx *Tx) mayPost(memberID string) error {
	if tx.senders[memberID] {
		return nil
	}
	var revoked bool
	if err := tx.row(&revoked, `SELECT count(*) FROM member WHERE id = ? AND revoked_at IS NOT NULL`, memberID); err != nil {
		return err
	}
	if revoked {
		return ErrMemberRevoked
	}
	tx.senders[memberID] = true
	return nil
}

// RevokedMembers returns the ids of all revoked members by their mesh.
func (db *DB) RevokedMembers(ctx context.Context) (all map[string][]string, err error) {
	all = map[string][]string{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var meshID, id string
		err := rows.Scan(&meshID, &id)
		all[meshID] = append(all[meshID], id)
		return err
	}, revokedMembers)
	return all, err
}

const revokedMembers = `SELECT mesh_id, id FROM member WHERE revoked_at IS NOT NULL`

// MinKeyPrefix is how much of a key may stand for the whole.
const MinKeyPrefix = 8

// KeyMatches reports whether target is key, or begins it with enough digits.
func KeyMatches(target, key string) bool {
	return len(target) >= MinKeyPrefix && strings.HasPrefix(key, strings.ToLower(target))
}

// NameMatches reports whether target is a name, in any case. A whole key is
// never one: nobody can hide behind a peer by calling itself like its key.
func NameMatches(target, name string) bool {
	return strings.EqualFold(name, target) && !wholeKey.MatchString(target)
}

var wholeKey = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

// FindMembers returns the members that target names: by their name in any case,
// their id, their key or the key of one of their sessions, or the beginning of a
// key. Revoked ones are among them; places that wait for their key are not.
func (db *DB) FindMembers(ctx context.Context, meshID, target string) (found []Member, err error) {
	members, err := db.Members(ctx, meshID)
	if err != nil {
		return nil, err
	}
	owners, err := db.sessionOwners(ctx, meshID, target)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.PubKey != "" && (m.ID == target || NameMatches(target, m.DisplayName) || KeyMatches(target, m.PubKey) || owners[m.ID]) {
			found = append(found, m)
		}
	}
	return found, nil
}

// sessionOwners returns whose sessions have a key that target is or begins.
func (db *DB) sessionOwners(ctx context.Context, meshID, target string) (owners map[string]bool, err error) {
	owners = map[string]bool{}
	if len(target) < MinKeyPrefix {
		return owners, nil
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		owners[id] = true
		return err
	}, `SELECT DISTINCT member_id FROM session_key WHERE mesh_id = ?1 AND substr(pubkey, 1, length(?2)) = ?2`, meshID, strings.ToLower(target))
	return owners, err
}

// AmbiguousError says that several members were named at once.
type AmbiguousError struct {
	Target  string
	Members []Member
}

func (e *AmbiguousError) Error() string {
	var keys []string
	for _, m := range e.Members {
		keys = append(keys, m.PubKey+" ("+m.DisplayName+")")
	}
	return fmt.Sprintf("%d members go by %q; name one by its key: %s", len(keys), e.Target, strings.Join(keys, ", "))
}

// OnlyMember returns the one member among those that were found for target:
// ErrNotFound if there is none, *AmbiguousError if there are several.
func OnlyMember(target string, found []Member) (Member, error) {
	switch len(found) {
	case 0:
		return Member{}, ErrNotFound
	case 1:
		return found[0], nil
	}
	return Member{}, &AmbiguousError{Target: target, Members: found}
}

// OneToRevoke returns the one member that target names among those found: an
// active one, or else one that was revoked before. Errors as of OnlyMember.
func OneToRevoke(target string, found []Member) (Member, error) {
	return OnlyMember(target, preferring(found, Member.Revoked))
}

// OneToRestore returns the one member that target names among those found: a
// revoked one, or else an active one. Errors as of OnlyMember.
func OneToRestore(target string, found []Member) (Member, error) {
	return OnlyMember(target, preferring(found, func(m Member) bool { return !m.Revoked() }))
}

// preferring leaves out those who are unwanted, unless all are.
func preferring(found []Member, unwanted func(Member) bool) []Member {
	if wanted := slices.DeleteFunc(slices.Clone(found), unwanted); len(wanted) > 0 {
		return wanted
	}
	return found
}

// Bans returns the revoked members of a mesh in the order of their bans.
func (db *DB) Bans(ctx context.Context, meshID string) (all []Member, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		m, err := scanMember(rows.Scan)
		all = append(all, m)
		return err
	}, `SELECT `+memberColumns+` FROM member WHERE mesh_id = ? AND revoked_at IS NOT NULL ORDER BY revoked_at, id`, meshID)
	return all, err
}
