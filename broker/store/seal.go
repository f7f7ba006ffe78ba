package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// EncryptedBody is the body version of messages under a topic's key.
const EncryptedBody = 2

// Seal is the key of an encrypted topic as one of its members can open it, and
// nobody else.
type Seal struct {
	EncryptedKey string // base64
	Nonce        string // base64
	At           time.Time

	// Proven says that the sealer named in EncryptedKey is the member that brought it.
	// Otherwise it is a key that the store does not know.
	Proven bool
}

// Sealing is a member giving the key of a topic to somebody, maybe to itself.
type Sealing struct {
	MeshID   string
	By       string // member id
	APIKeyID string // the key it came by, "" for none
	TopicRef string // id or name
	Seal
}

// vouched is the condition under which a copy s counts: its member made it itself, or
// who made it is in the topic and not revoked. Others may be nobody that the member
// knows, so that clients do not use such a copy.
const vouched = `(coalesce(s.sealed_by = s.member_id, false) OR EXISTS (SELECT 1 FROM topic_member v JOIN member vm ON vm.id = v.member_id
	WHERE v.topic_id = s.topic_id AND v.member_id = s.sealed_by AND vm.revoked_at IS NULL))`

// CreateEncryptedTopic is CreateTopic of a topic with a SealerKey; own is the copy
// of its key that memberID sealed for itself.
func (db *DB) CreateEncryptedTopic(t Topic, memberID string, own Seal) (topic Topic, created bool, err error) {
	return db.createTopic(t, memberID, func(tx *Tx) error { return tx.putSeal(t.ID, memberID, memberID, own) })
}

// TopicKey returns the topic of a name or id, and a member's copy of its key.
// Errors: ErrNotFound, ErrUnencrypted, ErrForbidden if the member is not in the
// topic, ErrNotSealed if it has no copy, or was revoked.
func (db *DB) TopicKey(ctx context.Context, meshID, memberID, ref string) (t Topic, s Seal, err error) {
	t, role, err := db.Topic(ctx, meshID, memberID, ref)
	if err == nil {
		err = mayHaveKey(t, role)
	}
	if err != nil {
		return t, s, err
	}
	var created int64
	err = db.scan(ctx, []any{&s.EncryptedKey, &s.Nonce, &created}, `SELECT s.encrypted_key, s.nonce, s.created_at
		FROM topic_seal s JOIN topic_member tm ON tm.topic_id = s.topic_id AND tm.member_id = s.member_id JOIN member m ON m.id = s.member_id
		WHERE s.topic_id = ? AND s.member_id = ? AND m.revoked_at IS NULL`, t.ID, memberID)
	s.At = time.UnixMilli(created)
	return t, s, orElse(err, ErrNotSealed)
}

// mayHaveKey says why a member with a role in t does not get its key, nor gives it.
func mayHaveKey(t Topic, role string) error {
	switch {
	case !t.Encrypted():
		return ErrUnencrypted
	case role == "":
		return ErrForbidden
	}
	return nil
}

// ClaimTopic makes an encrypted topic of one that is not, once and for good, with the
// copy of its key that the claimer sealed for itself. Errors: ErrNotFound; ErrEncrypted,
// then t tells by whom; ErrForbidden if s.By does not lead the topic, and for #general.
func (db *DB) ClaimTopic(s Sealing, sealerKey string) (t Topic, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var role string
		if t, role, err = tx.sealing(s); err != nil {
			return err
		}
		switch {
		case t.Encrypted():
			return ErrEncrypted
		case role != "lead" || t.General():
			return ErrForbidden
		}
		t.SealerKey = sealerKey
		if err := tx.exec(`UPDATE topic SET sealer_pubkey = ? WHERE id = ?`, sealerKey, t.ID); err != nil {
			return err
		}
		if err := tx.putSeal(t.ID, s.By, s.By, s.Seal); err != nil {
			return err
		}
		return tx.auditTopic(EventTopicEncrypted, t, s.By, nil)
	})
	return t, err
}

// sealing returns the topic that s is about and the role in it of who does it, if
// that may still do anything.
func (tx *Tx) sealing(s Sealing) (t Topic, role string, err error) {
	if err = tx.mayPost(s.By); err == nil {
		err = tx.mayUse(s.APIKeyID, s.At)
	}
	if err != nil {
		return t, "", err
	}
	return tx.topic(s.MeshID, s.By, s.TopicRef)
}

// PendingSeals returns the members of a topic that have no copy of its key, or none
// that counts, in the order they came; at most limit. Errors: ErrNotFound,
// ErrForbidden if memberID is not in the topic, ErrUnencrypted.
func (db *DB) PendingSeals(ctx context.Context, meshID, memberID, ref string, limit int) (t Topic, pending []TopicMember, err error) {
	t, role, err := db.Topic(ctx, meshID, memberID, ref)
	if err == nil {
		err = mayHaveKey(t, role)
	}
	if err != nil {
		return t, nil, err
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var m TopicMember
		var joined int64
		err := rows.Scan(&m.MemberID, &m.PubKey, &m.DisplayName, &m.Role, &joined)
		m.JoinedAt = time.UnixMilli(joined)
		pending = append(pending, m)
		return err
	}, `SELECT m.id, m.pubkey, m.display_name, tm.role, tm.joined_at
		FROM topic_member tm JOIN member m ON m.id = tm.member_id
		LEFT JOIN topic_seal s ON s.topic_id = tm.topic_id AND s.member_id = tm.member_id
		WHERE tm.topic_id = ? AND m.revoked_at IS NULL AND m.pubkey IS NOT NULL AND (s.member_id IS NULL OR NOT `+vouched+`)
		ORDER BY tm.joined_at, m.id LIMIT ?`, t.ID, limit)
	return t, pending, err
}

// SealTopic keeps a copy of a topic's key for a member. A copy that counts stays, and so
// does one that does not, unless the new one counts: several members may answer the same
// need, and nobody replaces the copy of another one by a worse. One's own anybody may
// replace. It returns since when the member
// has its copy, and whether that is this one. Errors: ErrNotFound, ErrUnencrypted,
// ErrForbidden if s.By is not in the topic, ErrNotSealed if it cannot have the key
// itself, ErrNoMember if the recipient is not in the topic.
func (db *DB) SealTopic(s Sealing, recipient string) (t Topic, since time.Time, fresh bool, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var role string
		if t, role, err = tx.sealing(s); err == nil {
			err = mayHaveKey(t, role)
		}
		if err == nil {
			err = tx.canSeal(t.ID, s.By, recipient)
		}
		if err != nil {
			return err
		}
		since, fresh, err = tx.sealOnce(t.ID, recipient, s)
		if err != nil || !fresh || recipient == s.By {
			return err
		}
		pubkey, name, err := tx.signature(recipient)
		if err != nil {
			return err
		}
		return tx.auditTopic(EventTopicKeySealed, t, s.By, map[string]any{"memberId": recipient, "pubkey": pubkey, "name": name})
	})
	return t, since, fresh, err
}

// canSeal refuses who has no copy itself (ErrNotSealed), and for whom a copy would be
// of no use (ErrNoMember).
func (tx *Tx) canSeal(topicID, by, recipient string) error {
	var has, within bool
	err := tx.scan([]any{&has, &within}, `SELECT EXISTS (SELECT 1 FROM topic_seal WHERE topic_id = ?1 AND member_id = ?2),
		EXISTS (SELECT 1 FROM topic_member tm JOIN member m ON m.id = tm.member_id
			WHERE tm.topic_id = ?1 AND tm.member_id = ?3 AND m.revoked_at IS NULL AND m.pubkey IS NOT NULL)`, topicID, by, recipient)
	switch {
	case err != nil:
		return err
	case !has:
		return ErrNotSealed
	case !within:
		return ErrNoMember
	}
	return nil
}

func (tx *Tx) sealOnce(topicID, recipient string, s Sealing) (since time.Time, fresh bool, err error) {
	if recipient != s.By {
		var created int64
		err := tx.row(&created, `SELECT s.created_at FROM topic_seal s WHERE s.topic_id = ? AND s.member_id = ? AND (NOT ? OR `+vouched+`)`, topicID, recipient, s.Proven)
		if !errors.Is(err, ErrNotFound) {
			return time.UnixMilli(created), false, err
		}
	}
	return s.At, true, tx.putSeal(topicID, recipient, s.By, s.Seal)
}

func (tx *Tx) putSeal(topicID, memberID, by string, s Seal) error {
	if !s.Proven {
		by = ""
	}
	return tx.exec(`INSERT INTO topic_seal (topic_id, member_id, sealed_by, encrypted_key, nonce, created_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (topic_id, member_id) DO UPDATE SET sealed_by = excluded.sealed_by, encrypted_key = excluded.encrypted_key,
			nonce = excluded.nonce, created_at = excluded.created_at`, topicID, memberID, orNull(by), s.EncryptedKey, s.Nonce, s.At.UnixMilli())
}

// dropSeal removes the copy of a member that left a topic, unless it is the last
// one: without it nobody could ever read the topic again.
func (tx *Tx) dropSeal(topicID, memberID string) error {
	return tx.exec(`DELETE FROM topic_seal WHERE topic_id = ?1 AND member_id = ?2 AND EXISTS (SELECT 1 FROM topic_seal s
		JOIN topic_member tm ON tm.topic_id = s.topic_id AND tm.member_id = s.member_id JOIN member m ON m.id = s.member_id
		WHERE s.topic_id = ?1 AND s.member_id <> ?2 AND m.revoked_at IS NULL)`, topicID, memberID)
}

// EncryptedTopicsOf returns the encrypted topics that a member is in, revoked or
// not.
func (db *DB) EncryptedTopicsOf(ctx context.Context, meshID, memberID string) (all []Topic, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		t, _, err := scanTopic(meshID, rows.Scan)
		all = append(all, t)
		return err
	}, `SELECT `+topicColumns+`, tm.role FROM topic t JOIN topic_member tm ON tm.topic_id = t.id
		WHERE t.mesh_id = ? AND tm.member_id = ? AND t.sealer_pubkey IS NOT NULL`, meshID, memberID)
	return all, err
}
