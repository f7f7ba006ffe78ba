package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"time"
)

// Topic is a log of messages that members subscribe to.
type Topic struct {
	ID          string
	MeshID      string
	Name        string
	Description string
	Visibility  string // public, private or dm
	CreatedAt   time.Time
	SealerKey   string // X25519 key (64 hex) of who made the topic's key; "": it is not encrypted
}

// Encrypted reports whether the topic has a key: then it takes no readable messages.
func (t Topic) Encrypted() bool { return t.SealerKey != "" }

// General reports whether this is the room that nobody can leave or close.
func (t Topic) General() bool { return t.Name == "general" }

// TopicView is a topic as one member sees it.
type TopicView struct {
	Topic
	Role          string // the member's: lead, member, observer, or "" outside
	Members       int
	Unread        int       // at most MaxUnread
	Mentions      int       // of them, those that mention the member; at most MaxUnread
	ReadUpTo      string    // id of the newest message that the member has read, "" if there is none
	LastMessageAt time.Time // zero: none yet
	LastEncrypted bool      // the newest message is encrypted to a topic key
}

// MaxUnread bounds what counting unread messages may cost.
const MaxUnread = 1000

// TopicMember is one member of a topic.
type TopicMember struct {
	MemberID    string
	PubKey      string
	DisplayName string
	Role        string
	JoinedAt    time.Time
	LastReadAt  time.Time // zero: never
}

// visible is the condition under which a member may know of a topic t: it is
// public, or they are in it. It takes the alias tm for their topic_member row.
const visible = `(t.visibility = 'public' OR tm.member_id IS NOT NULL)`

// Topics returns the topics of a mesh that a member may see, #general first,
// then by name.
func (db *DB) Topics(ctx context.Context, meshID, memberID string) (all []TopicView, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var v TopicView
		var created int64
		var last sql.NullInt64
		err := rows.Scan(&v.ID, &v.Name, &v.Description, &v.Visibility, &created, &v.SealerKey, &v.Role, &v.Members, &v.Unread, &v.Mentions,
			&v.ReadUpTo, &last, &v.LastEncrypted)
		v.MeshID, v.CreatedAt, v.LastMessageAt = meshID, time.UnixMilli(created), instant(last)
		all = append(all, v)
		return err
	}, `SELECT `+topicColumns+`, coalesce(tm.role, ''),
		(SELECT count(*) FROM topic_member x JOIN member m ON m.id = x.member_id WHERE x.topic_id = t.id AND m.revoked_at IS NULL),
		CASE WHEN tm.member_id IS NULL THEN 0 ELSE (SELECT count(*) FROM
			(SELECT 1 FROM message WHERE topic_id = t.id AND seq > tm.read_seq AND sender_member_id <> tm.member_id LIMIT ?3)) END,
		(SELECT count(*) FROM (SELECT 1 FROM notification n WHERE n.member_id = tm.member_id AND n.topic_id = t.id AND n.read_at IS NULL LIMIT ?3)),
		coalesce((SELECT id FROM message WHERE topic_id = t.id AND seq <= tm.read_seq ORDER BY seq DESC LIMIT 1), ''),
		(SELECT created_at FROM message WHERE topic_id = t.id ORDER BY seq DESC LIMIT 1),
		coalesce((SELECT body_version FROM message WHERE topic_id = t.id ORDER BY seq DESC LIMIT 1), 1) = 2
	FROM topic t LEFT JOIN topic_member tm ON tm.topic_id = t.id AND tm.member_id = ?2
	WHERE t.mesh_id = ?1 AND `+visible+`
	ORDER BY t.name <> 'general', t.name`, meshID, memberID, MaxUnread)
	return all, err
}

const topicColumns = `t.id, t.name, coalesce(t.description, ''), t.visibility, t.created_at, coalesce(t.sealer_pubkey, '')`

// findTopic is how every operation names a topic: by id or by name, within one
// mesh, as one member sees it. The rest of the text may add conditions.
const findTopic = `SELECT ` + topicColumns + `, coalesce(tm.role, '')
	FROM topic t LEFT JOIN topic_member tm ON tm.topic_id = t.id AND tm.member_id = ?2
	WHERE t.mesh_id = ?1 AND (t.id = ?3 OR t.name = ?3) AND ` + visible + `
	ORDER BY t.id = ?3 DESC LIMIT 1`

func scanTopic(meshID string, scan func(...any) error) (t Topic, role string, err error) {
	var created int64
	err = scan(&t.ID, &t.Name, &t.Description, &t.Visibility, &created, &t.SealerKey, &role)
	t.MeshID, t.CreatedAt = meshID, time.UnixMilli(created)
	return t, role, err
}

// Topic returns a topic by id or name and the member's role in it ("" outside).
// ErrNotFound also for a topic of another mesh, or a private one the member is
// not in.
func (db *DB) Topic(ctx context.Context, meshID, memberID, ref string) (Topic, string, error) {
	return scanTopic(meshID, func(dst ...any) error { return db.scan(ctx, dst, findTopic, meshID, memberID, ref) })
}

func (tx *Tx) topic(meshID, memberID, ref string) (Topic, string, error) {
	return scanTopic(meshID, func(dst ...any) error { return tx.scan(dst, findTopic, meshID, memberID, ref) })
}

// CreateTopic adds t with memberID as its lead, or returns the topic of that
// name with created false. ErrForbidden if that one is not the member's to see.
func (db *DB) CreateTopic(t Topic, memberID string) (topic Topic, created bool, err error) {
	return db.createTopic(t, memberID, func(*Tx) error { return nil })
}

// createTopic is CreateTopic that does more with a topic that was created.
func (db *DB) createTopic(t Topic, memberID string, more func(*Tx) error) (topic Topic, created bool, err error) {
	err = db.Update(func(tx *Tx) error {
		added, err := tx.execCount(`INSERT INTO topic (id, mesh_id, name, description, visibility, created_by, created_at, sealer_pubkey)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (mesh_id, name) DO NOTHING`,
			t.ID, t.MeshID, t.Name, orNull(t.Description), t.Visibility, memberID, t.CreatedAt.UnixMilli(), orNull(t.SealerKey))
		if err != nil {
			return err
		}
		if created = added == 1; created {
			topic = t
			if err := tx.subscribe(t.ID, memberID, "lead", t.CreatedAt); err != nil {
				return err
			}
			if err := more(tx); err != nil {
				return err
			}
			return tx.auditTopic(EventTopicCreated, t, memberID, nil)
		}
		topic, _, err = tx.topic(t.MeshID, memberID, t.Name)
		return orElse(err, ErrForbidden)
	})
	return topic, created, err
}

// JoinTopic subscribes a member to a topic it may see. Who is in it already
// keeps its role: otherwise an observer could promote itself.
func (db *DB) JoinTopic(meshID, memberID, ref, role string, now time.Time) (t Topic, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var had string
		if t, had, err = tx.topic(meshID, memberID, ref); err != nil || had != "" {
			return err
		}
		if err := tx.subscribe(t.ID, memberID, role, now); err != nil {
			return err
		}
		return tx.auditTopic(EventTopicJoined, t, memberID, map[string]any{"role": role})
	})
	return t, err
}

// LeaveTopic unsubscribes a member. ErrForbidden for #general.
func (db *DB) LeaveTopic(meshID, memberID, ref string) (t Topic, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		if t, _, err = tx.topic(meshID, memberID, ref); err != nil {
			return err
		}
		if t.General() {
			return ErrForbidden
		}
		delete(tx.audiences, t.ID)
		left, err := tx.execCount(`DELETE FROM topic_member WHERE topic_id = ? AND member_id = ?`, t.ID, memberID)
		if err != nil || left == 0 {
			return err
		}
		if err := tx.dropSeal(t.ID, memberID); err != nil {
			return err
		}
		return tx.auditTopic(EventTopicLeft, t, memberID, nil)
	})
	return t, err
}

// InviteToTopic adds the member named by id or key. ErrForbidden unless by is a
// lead, ErrNotFound if there is no such topic, ErrNoMember no such member.
func (db *DB) InviteToTopic(meshID, by, ref, who, role string, now time.Time) (t Topic, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var own string
		if t, own, err = tx.topic(meshID, by, ref); err != nil {
			return err
		}
		if own != "lead" {
			return ErrForbidden
		}
		var memberID, pubkey, name string
		var within bool
		err = tx.scan([]any{&memberID, &pubkey, &name, &within}, `SELECT m.id, m.pubkey, m.display_name,
			EXISTS (SELECT 1 FROM topic_member tm WHERE tm.topic_id = ?3 AND tm.member_id = m.id)
			FROM member m WHERE m.mesh_id = ?1 AND (m.id = ?2 OR m.pubkey = ?2) AND m.pubkey IS NOT NULL AND m.revoked_at IS NULL`, meshID, who, t.ID)
		if errors.Is(err, ErrNotFound) {
			return ErrNoMember
		}
		if err != nil || within {
			return err
		}
		if err := tx.subscribe(t.ID, memberID, role, now); err != nil {
			return err
		}
		return tx.auditTopic(EventTopicInvited, t, by, map[string]any{"memberId": memberID, "pubkey": pubkey, "name": name, "role": role})
	})
	return t, err
}

// TopicsOf returns the ids of the topics a member is in.
func (db *DB) TopicsOf(ctx context.Context, memberID string) (ids []string, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT topic_id FROM topic_member WHERE member_id = ?`, memberID)
	return ids, err
}

// auditTopic appends what a member did to a topic to the audit chain.
func (tx *Tx) auditTopic(event string, t Topic, by string, more map[string]any) error {
	pubkey, name, err := tx.signature(by)
	if err != nil {
		return err
	}
	payload := map[string]any{"topicId": t.ID, "topic": t.Name, "visibility": t.Visibility, "by": name}
	if t.Encrypted() {
		payload["encrypted"] = true
	}
	maps.Copy(payload, more)
	return tx.audit(t.MeshID, event, pubkey, payload)
}

// subscribe puts a member into a topic, unless it is in it. What was said
// before counts as read and delivered.
func (tx *Tx) subscribe(topicID, memberID, role string, now time.Time) error {
	delete(tx.audiences, topicID)
	if err := tx.readMentions(topicID, memberID, newestPossible, now); err != nil { // of an earlier stay
		return err
	}
	return tx.exec(`INSERT INTO topic_member (topic_id, member_id, role, joined_at, read_seq, delivered_seq, since_seq)
		SELECT ?1, ?2, ?3, ?4, newest, newest, newest FROM (SELECT coalesce((SELECT seq FROM message ORDER BY seq DESC LIMIT 1), 0) AS newest) WHERE true
		ON CONFLICT (topic_id, member_id) DO NOTHING`, topicID, memberID, role, now.UnixMilli())
}

// DescribeTopic says what a topic is for. ErrForbidden unless by is a lead of it
// or, if it acts as one, a moderator of the mesh.
func (db *DB) DescribeTopic(meshID, by, ref, description string, asModerator bool) (t Topic, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var role string
		if t, role, err = tx.topic(meshID, by, ref); err != nil {
			return err
		}
		if role != "lead" {
			if !asModerator {
				return ErrForbidden
			}
			if _, _, err := tx.mayModerate(meshID, by); err != nil {
				return err
			}
		}
		changed, err := tx.execCount(`UPDATE topic SET description = ?1 WHERE id = ?2 AND description IS NOT ?1`, orNull(description), t.ID)
		if err != nil || changed == 0 {
			return err
		}
		return tx.auditTopic(EventTopicDescribed, t, by, nil)
	})
	return t, err
}

// MarkRead moves a member's read mark forward, to the message upTo or, if that
// is "", to the newest of the topic; mentions up to there are read too. It
// returns the topic, and false if the mark was there already. Errors: ErrForbidden
// if the member is not in the topic, ErrNotFound if there is no such topic,
// ErrNoMessage no such message in it.
func (db *DB) MarkRead(meshID, memberID, ref, upTo string, now time.Time) (t Topic, moved bool, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		var role string
		if t, role, err = tx.topic(meshID, memberID, ref); err != nil {
			return err
		}
		if role == "" {
			return ErrForbidden
		}
		seq, err := tx.readUpTo(t.ID, upTo)
		if err != nil {
			return err
		}
		changed, err := tx.execCount(`UPDATE topic_member SET last_read_at = ?1, read_seq = max(read_seq, ?2)
			WHERE topic_id = ?3 AND member_id = ?4 AND (read_seq < ?2 OR last_read_at IS NULL)`, now.UnixMilli(), seq, t.ID, memberID)
		if moved = changed == 1; err != nil || !moved {
			return err
		}
		return tx.readMentions(t.ID, memberID, seq, now)
	})
	return t, moved, err
}

// readUpTo is the seq of a message of a topic, or of its newest one, 0 if it has
// none.
func (tx *Tx) readUpTo(topicID, id string) (seq int64, err error) {
	if id != "" {
		err = tx.row(&seq, `SELECT seq FROM message WHERE id = ? AND topic_id = ?`, id, topicID)
		return seq, orElse(err, ErrNoMessage)
	}
	err = tx.row(&seq, `SELECT coalesce(max(seq), 0) FROM message WHERE topic_id = ?`, topicID)
	return seq, err
}

// readMentions marks a member's mentions in a topic as read up to a message.
func (tx *Tx) readMentions(topicID, memberID string, seq int64, now time.Time) error {
	return tx.exec(`UPDATE notification SET read_at = ?1 WHERE member_id = ?2 AND topic_id = ?3 AND read_at IS NULL
		AND (SELECT seq FROM message m WHERE m.id = message_id) <= ?4`, now.UnixMilli(), memberID, topicID, seq)
}

// TopicMembers returns the active members of a topic in the order they came.
func (db *DB) TopicMembers(ctx context.Context, topicID string) (all []TopicMember, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var m TopicMember
		var joined int64
		var read sql.NullInt64
		err := rows.Scan(&m.MemberID, &m.PubKey, &m.DisplayName, &m.Role, &joined, &read)
		m.JoinedAt, m.LastReadAt = time.UnixMilli(joined), instant(read)
		all = append(all, m)
		return err
	}, `SELECT m.id, coalesce(m.pubkey, ''), m.display_name, tm.role, tm.joined_at, tm.last_read_at
		FROM topic_member tm JOIN member m ON m.id = tm.member_id
		WHERE tm.topic_id = ? AND m.revoked_at IS NULL ORDER BY tm.joined_at, m.id`, topicID)
	return all, err
}

// audience returns the ids of the active members of a topic: who a post to it
// goes to. The slice is shared and never changed. The writer remembers it,
// because reading 500 rows for every post would cost more than the post; it
// forgets it when a subscription changes here, or anything in another process.
func (tx *Tx) audience(topicID string) ([]string, error) {
	if known, ok := tx.audiences[topicID]; ok {
		return known, nil
	}
	var members []string
	err := tx.rows(func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		members = append(members, id)
		return err
	}, `SELECT tm.member_id FROM topic_member tm JOIN member m ON m.id = tm.member_id
		WHERE tm.topic_id = ? AND m.revoked_at IS NULL`, topicID)
	if err != nil {
		return nil, err
	}
	tx.audiences[topicID] = members
	return members, nil
}
