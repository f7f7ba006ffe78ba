package store

import (
	"context"
	"database/sql"
)

// Receipt says how far one topic message got, see wire.Receipt.
type Receipt struct {
	MessageID  string
	Recipients int
	Acked      int
	Seen       int
}

// Cursors is how far the members of a topic are.
type Cursors struct {
	topicID string
	all     map[string]*cursor // by member id
}

// cursor is how far one member of a topic is.
type cursor struct {
	since, delivered, read int64 // message.seq
	revokedAt              int64 // Unix ms, 0: active
	gaps                   [][2]int64
}

// Has reports whether a member is in the topic.
func (c *Cursors) Has(memberID string) bool { return c.all[memberID] != nil }

// receiptsWithin is how many messages of a topic are searched for a sender's
// own: who wrote long ago is not worth a look at everything since.
const receiptsWithin = 1000

// Receipts returns how far a member's newest messages in a topic got, at most
// limit of the last receiptsWithin, newest first: what Copies tells of one message,
// in numbers for many. The cursors are read once, for all who ask of the topic, and
// compared here; a join of messages and members would look at each pair.
func (db *DB) Receipts(ctx context.Context, cursors *Cursors, senderID string, limit int) ([]Receipt, error) {
	own, err := db.ownMessages(ctx, cursors.topicID, senderID, limit)
	if err != nil || len(own) == 0 {
		return nil, err
	}
	dropped, err := db.droppedCopies(ctx, own)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(own))
	for i, m := range own {
		receipts[i] = Receipt{MessageID: m.ID, Recipients: len(dropped[m.Seq])}
		for memberID, c := range cursors.all {
			if memberID != senderID && c.wasIn(m) && !dropped[m.Seq][memberID] {
				receipts[i].count(c, m.Seq)
			}
		}
	}
	return receipts, nil
}

// wasIn reports whether a message was for the member.
func (c *cursor) wasIn(m Message) bool {
	return c.since < m.Seq && (c.revokedAt == 0 || c.revokedAt > m.CreatedAt.UnixMilli())
}

// count adds one recipient. Who has read further than a message has it, even if
// it came by way of the history and the ledger says expired.
func (r *Receipt) count(c *cursor, seq int64) {
	acked := c.delivered >= seq && !c.missed(seq)
	seen := c.read >= seq
	r.Recipients++
	if acked || seen {
		r.Acked++
	}
	if seen {
		r.Seen++
	}
}

// missed reports whether a message was left to the history.
func (c *cursor) missed(seq int64) bool {
	for _, gap := range c.gaps {
		if gap[0] < seq && seq <= gap[1] {
			return true
		}
	}
	return false
}

// ownMessages returns seq, id and time of a sender's newest messages in a topic.
func (db *DB) ownMessages(ctx context.Context, topicID, senderID string, limit int) (all []Message, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var m Message
		var created sql.NullInt64
		err := rows.Scan(&m.Seq, &m.ID, &created)
		m.CreatedAt = instant(created)
		all = append(all, m)
		return err
	}, `SELECT seq, id, created_at FROM message WHERE topic_id = ?1 AND sender_member_id = ?2
		AND seq >= coalesce((SELECT seq FROM message WHERE topic_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?3), 0)
		ORDER BY seq DESC LIMIT ?4`, topicID, senderID, receiptsWithin-1, limit)
	return all, err
}

// TopicCursors returns how far the members of a topic are.
func (db *DB) TopicCursors(ctx context.Context, topicID string) (*Cursors, error) {
	cursors := &Cursors{topicID: topicID, all: map[string]*cursor{}}
	err := db.rows(ctx, func(rows *sql.Rows) error {
		var memberID string
		c := &cursor{}
		err := rows.Scan(&memberID, &c.since, &c.delivered, &c.read, &c.revokedAt)
		cursors.all[memberID] = c
		return err
	}, `SELECT tm.member_id, tm.since_seq, tm.delivered_seq, tm.read_seq, coalesce(m.revoked_at, 0)
		FROM topic_member tm JOIN member m ON m.id = tm.member_id WHERE tm.topic_id = ?`, topicID)
	if err != nil {
		return nil, err
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var memberID string
		var gap [2]int64
		err := rows.Scan(&memberID, &gap[0], &gap[1])
		if c := cursors.all[memberID]; c != nil {
			c.gaps = append(c.gaps, gap)
		}
		return err
	}, `SELECT member_id, after_seq, upto_seq FROM topic_gap WHERE topic_id = ?`, topicID)
	return cursors, err
}

// droppedCopies returns whose grants kept messages out, by seq and member id.
func (db *DB) droppedCopies(ctx context.Context, of []Message) (dropped map[int64]map[string]bool, err error) {
	seqs := make([]int64, len(of))
	for i, m := range of {
		seqs[i] = m.Seq
	}
	dropped = map[int64]map[string]bool{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var seq int64
		var memberID string
		err := rows.Scan(&seq, &memberID)
		if dropped[seq] == nil {
			dropped[seq] = map[string]bool{}
		}
		dropped[seq][memberID] = true
		return err
	}, `SELECT seq, member_id FROM delivery WHERE seq IN (SELECT value FROM json_each(?))`, toJSON(seqs))
	return dropped, err
}
