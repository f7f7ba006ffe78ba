package store

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// Notification is one mention of a member in a topic message.
type Notification struct {
	ID        string
	Kind      string // mention
	CreatedAt time.Time
	ReadAt    time.Time // zero: unread
	Message   Message
}

// mention notes a mention for each member of the topic called name, the sender
// excepted, and returns how many. Two mentions of one member make one notification.
func (tx *Tx) mention(p *Post, name string) (n int, err error) {
	var members []string
	err = tx.rows(func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		members = append(members, id)
		return err
	}, `SELECT m.id FROM topic_member tm JOIN member m ON m.id = tm.member_id
		WHERE tm.topic_id = ?1 AND m.revoked_at IS NULL AND lower(m.display_name) = ?2 AND m.id <> ?3
		AND NOT EXISTS (SELECT 1 FROM notification n WHERE n.member_id = m.id AND n.message_id = ?4)`,
		p.TopicID, strings.ToLower(name), p.SenderMemberID, p.ID)
	if err != nil {
		return 0, err
	}
	for _, id := range members {
		if p.Denied[id] {
			continue
		}
		err := tx.exec(`INSERT INTO notification (id, member_id, message_id, topic_id, created_at) VALUES (?, ?, ?, ?, ?)`,
			NewID(), id, p.ID, p.TopicID, p.CreatedAt.UnixMilli())
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// CountNotifications returns how many unread notifications a member has.
func (db *DB) CountNotifications(ctx context.Context, memberID string) (n int, err error) {
	err = db.row(ctx, &n, `SELECT count(*) FROM notification WHERE member_id = ? AND read_at IS NULL`, memberID)
	return n, err
}

// Noted says which notifications of a member are meant.
type Noted struct {
	MemberID string
	Topics   []string  // only those in topics of these names; nil: in all
	IDs      []string  // only these, by their own id or that of their message; nil: all
	Since    time.Time // only later ones; zero: all
	Until    time.Time // only those up to then; zero: all
	Unread   bool      // only those
}

// noted selects the notifications n of ?1 that are meant, of those the ones in
// topics t that the member still may see. ?2 and ?3 are JSON or null, ?4 and ?5
// Unix milliseconds or null.
const noted = `n.member_id = ?1 AND (t.visibility = 'public' OR EXISTS (SELECT 1 FROM topic_member tm WHERE tm.topic_id = t.id AND tm.member_id = ?1))
	AND (?2 = 'null' OR t.name IN (SELECT value FROM json_each(?2)))
	AND (?3 = 'null' OR n.id IN (SELECT value FROM json_each(?3)) OR n.message_id IN (SELECT value FROM json_each(?3)))
	AND (?4 IS NULL OR n.created_at > ?4) AND (?5 IS NULL OR n.created_at <= ?5) AND (n.read_at IS NULL OR NOT ?6)`

func (n Noted) args(more ...any) []any {
	return append([]any{n.MemberID, toJSON(n.Topics), toJSON(n.IDs), millis(n.Since), millis(n.Until), n.Unread}, more...)
}

// Notifications returns notifications, newest first.
func (db *DB) Notifications(ctx context.Context, which Noted, limit int) (all []Notification, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var n Notification
		var created int64
		var read sql.NullInt64
		err := rows.Scan(&n.ID, &n.Kind, &created, &read, &n.Message.ID, &n.Message.TopicID, &n.Message.TopicName,
			&n.Message.SenderName, &n.Message.SenderPubKey, &n.Message.Ciphertext)
		n.CreatedAt, n.ReadAt = time.UnixMilli(created), instant(read)
		all = append(all, n)
		return err
	}, `SELECT n.id, n.kind, n.created_at, n.read_at, x.id, t.id, t.name, x.sender_name, x.sender_pubkey, x.ciphertext
		FROM notification n JOIN topic t ON t.id = n.topic_id JOIN message x ON x.id = n.message_id
		WHERE `+noted+` ORDER BY n.created_at DESC, n.id DESC LIMIT ?7`, which.args(limit)...)
	return all, err
}

// ReadNotifications marks notifications as read and returns how many were not.
func (db *DB) ReadNotifications(which Noted, now time.Time) (marked int64, err error) {
	which.Unread = true
	err = db.Update(func(tx *Tx) (err error) {
		marked, err = tx.execCount(`UPDATE notification SET read_at = ?7 WHERE id IN
			(SELECT n.id FROM notification n JOIN topic t ON t.id = n.topic_id WHERE `+noted+`)`, which.args(now.UnixMilli())...)
		return err
	})
	return marked, err
}
