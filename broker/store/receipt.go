package store

import (
	"context"
	"database/sql"
)

// Receipt says how far one topic message got, see wire.Receipt.
type Receipt struct {
	Seq        int64
	MessageID  string
	Recipients int
	Acked      int
	Seen       int
}

// cursor is how far one member of a topic is.
type cursor struct {
	memberID               string
	since, delivered, read int64 // message.seq
	revokedAt              int64 // Unix ms, 0: active
	marks                  bool  // it has set a read mark at least once
	gaps                   [][2]int64
}

// receiptsWithin is how many messages of a topic are searched for a sender's
// own: who wrote long ago is not worth a look at everything since.
const receiptsWithin = 1000

// Receipts returns how far a member's newest messages in a topic got, at most
// limit of the last receiptsWithin, newest first. It is the ledger in numbers:
// what Copies tells of one message, for many at once. The cursors are read once
// and compared here; a join of messages and members would look at each pair.
func (db *DB) Receipts(ctx context.Context, topicID, senderID string, limit int) ([]Receipt, error) {
	own, err := db.ownMessages(ctx, topicID, senderID, limit)
	if err != nil || len(own) == 0 {
		return nil, err
	}
	cursors, err := db.cursors(ctx, topicID, senderID)
	if err != nil {
		return nil, err
	}
	dropped, err := db.droppedCopies(ctx, own)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(own))
	for i, m := range own {
		receipts[i] = Receipt{Seq: m.Seq, MessageID: m.ID}
		for _, c := range cursors {
			if c.since < m.Seq && (c.revokedAt == 0 || c.revokedAt > m.CreatedAt.UnixMilli()) {
				receipts[i].count(c, dropped[copyOf{m.Seq, c.memberID}])
			}
		}
	}
	return receipts, nil
}

// count adds one recipient. Who has read further than a message has it, even if
// it came by way of the history.
func (r *Receipt) count(c cursor, dropped bool) {
	r.Recipients++
	if dropped {
		return
	}
	acked := c.delivered >= r.Seq && !c.missed(r.Seq)
	seen := c.marks && c.read >= r.Seq || !c.marks && acked
	if acked || seen {
		r.Acked++
	}
	if seen {
		r.Seen++
	}
}

// missed reports whether a message was left to the history.
func (c cursor) missed(seq int64) bool {
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

// cursors returns how far the members of a topic are, except one.
func (db *DB) cursors(ctx context.Context, topicID, except string) (all []cursor, err error) {
	place := map[string]int{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var c cursor
		err := rows.Scan(&c.memberID, &c.since, &c.delivered, &c.read, &c.marks, &c.revokedAt)
		place[c.memberID] = len(all)
		all = append(all, c)
		return err
	}, `SELECT tm.member_id, tm.since_seq, tm.delivered_seq, tm.read_seq, tm.last_read_at IS NOT NULL, coalesce(m.revoked_at, 0)
		FROM topic_member tm JOIN member m ON m.id = tm.member_id WHERE tm.topic_id = ? AND tm.member_id <> ?`, topicID, except)
	if err != nil {
		return nil, err
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var memberID string
		var gap [2]int64
		err := rows.Scan(&memberID, &gap[0], &gap[1])
		if at, ok := place[memberID]; ok {
			all[at].gaps = append(all[at].gaps, gap)
		}
		return err
	}, `SELECT member_id, after_seq, upto_seq FROM topic_gap WHERE topic_id = ?`, topicID)
	return all, err
}

// copyOf is one recipient's copy of a message.
type copyOf struct {
	seq      int64
	memberID string
}

// droppedCopies returns those copies of messages that grants kept out.
func (db *DB) droppedCopies(ctx context.Context, of []Message) (dropped map[copyOf]bool, err error) {
	seqs := make([]int64, len(of))
	for i, m := range of {
		seqs[i] = m.Seq
	}
	dropped = map[copyOf]bool{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var c copyOf
		err := rows.Scan(&c.seq, &c.memberID)
		dropped[c] = true
		return err
	}, `SELECT seq, member_id FROM delivery WHERE seq IN (SELECT value FROM json_each(?))`, toJSON(seqs))
	return dropped, err
}
