package store

import (
	"context"
	"database/sql"
	"time"
)

// The ledger says what became of each copy of a message. Rows of the table
// delivery are the copies of direct, group and broadcast messages. Those of a
// topic's messages are derived from the cursors of its members, and from rows
// and gaps only where a copy took another way than the cursor tells.

// Outcomes of a copy.
const (
	OutcomeAcked   = "acked"
	OutcomeExpired = "expired"
	OutcomeDropped = "dropped_by_grant"
)

// Copy is what became of a message for one recipient.
type Copy struct {
	Recipient
	Name      string // the member's
	PubKey    string // the member's
	PushedAt  time.Time
	SettledAt time.Time
	Outcome   string // "" while it waits
	Seen      bool   // the member's read mark in the topic is past it
	HandedBy  string // how the agent that was given it came to hear of it; "": none was, as far as is known
}

// FindMessage returns the message whose id begins with prefix, among those that
// the member sent or was addressed by: its seq, id, sender, topic, target and
// time, not its body. ErrNotFound if there is none, ErrAmbiguous if there are
// several.
func (db *DB) FindMessage(ctx context.Context, meshID, memberID, prefix string) (m Message, err error) {
	found := 0
	err = db.rows(ctx, func(rows *sql.Rows) error {
		found++
		var created int64
		err := rows.Scan(&m.Seq, &m.ID, &m.TopicID, &m.SenderMemberID, &m.TargetSpec, &created)
		m.MeshID, m.CreatedAt = meshID, time.UnixMilli(created)
		return err
	}, `SELECT seq, id, coalesce(topic_id, ''), sender_member_id, target_spec, created_at FROM message m
		WHERE id >= ?1 AND id < ?1 || '~' AND mesh_id = ?2 AND (sender_member_id = ?3
			OR EXISTS (SELECT 1 FROM delivery d WHERE d.seq = m.seq AND d.member_id = ?3)
			OR EXISTS (SELECT 1 FROM topic_member tm WHERE tm.topic_id = m.topic_id AND tm.member_id = ?3 AND tm.since_seq < m.seq))
		ORDER BY id LIMIT 2`, prefix, meshID, memberID)
	switch {
	case err != nil:
		return m, err
	case found == 0:
		return m, ErrNotFound
	case found > 1:
		return m, ErrAmbiguous
	}
	return m, nil
}

// rowCopies are the copies with a row of message ?1.
const rowCopies = `SELECT d.member_id, d.session_key, m.display_name, coalesce(m.pubkey, ''), d.pushed_at, d.settled_at, coalesce(d.outcome, ''), false, coalesce(d.handed_by, '')
	FROM delivery d JOIN member m ON m.id = d.member_id WHERE d.seq = ?1`

// cursorCopies are those that the cursors of topic ?2 tell of: for everybody who
// was in it, and not banned, when the message came.
const cursorCopies = `SELECT m.id, '', m.display_name, coalesce(m.pubkey, ''), NULL,
		iif(tm.delivered_seq < ?1, NULL, coalesce(gap.at, tm.delivered_at)),
		CASE WHEN tm.delivered_seq < ?1 THEN '' WHEN gap.at IS NOT NULL THEN 'expired' ELSE 'acked' END,
		tm.read_seq >= ?1, coalesce((SELECT handed_by FROM topic_handed th WHERE th.topic_id = tm.topic_id AND th.member_id = tm.member_id
			AND th.from_seq <= ?1 AND th.upto_seq >= ?1 LIMIT 1), '')
	FROM topic_member tm JOIN member m ON m.id = tm.member_id
	LEFT JOIN topic_gap gap ON gap.topic_id = tm.topic_id AND gap.member_id = tm.member_id AND gap.after_seq < ?1 AND gap.upto_seq >= ?1
	WHERE tm.topic_id = ?2 AND tm.member_id <> ?3 AND tm.since_seq < ?1 AND coalesce(m.revoked_at > ?4, true)
	AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = ?1 AND d.member_id = tm.member_id)`

// Copies returns what became of a message that FindMessage returned, by name.
func (db *DB) Copies(ctx context.Context, m Message) (all []Copy, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var c Copy
		var pushed, settled sql.NullInt64
		err := rows.Scan(&c.MemberID, &c.SessionKey, &c.Name, &c.PubKey, &pushed, &settled, &c.Outcome, &c.Seen, &c.HandedBy)
		c.PushedAt, c.SettledAt = instant(pushed), instant(settled)
		all = append(all, c)
		return err
	}, rowCopies+` UNION ALL `+cursorCopies+` ORDER BY 3, 1, 2`, m.Seq, m.TopicID, m.SenderMemberID, m.CreatedAt.UnixMilli())
	return all, err
}
