package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// Delivery. A direct, group or broadcast message has a row per recipient in the
// table delivery, which waits until it is settled. A topic is a log: each of its
// members has a cursor up to which everything was delivered. Who asks what waits
// for a connection gets both, in the order in which the messages were accepted.

// Mailbox is whose messages a connection gets.
type Mailbox struct {
	MemberID   string
	SessionKey string // "" for a member connection
}

// Pending is a message that waits for a mailbox.
type Pending struct {
	Message
	SenderMemberPubKey string
	SessionKey         string // the session it was addressed to, "" for the member
}

// Waiting says which of the waiting messages of a mailbox are asked for.
type Waiting struct {
	After  int64            // only those with a greater Seq
	Floors map[string]int64 // by topic id: only those of the topic with a greater Seq
	Urgent bool             // only those of priority now
	Limit  int

	// Since is the Seq from which on a topic's messages come even if another
	// connection of the member has got them; 0: they do not. Own: also those that the
	// member sent itself. Earlier: by topic id, where Since is another one.
	Since   int64
	Own     bool
	Earlier map[string]int64
}

// waiting selects the seqs that wait for member ?1 and session ?2 after ?3, in
// order; ?4: urgent ones only, ?5: JSON of floors, ?6: how many, ?7: since, ?8: own ones too, ?9: JSON of
// topics with an earlier since. The limit is in here, because joining and sorting all that waits for every page would make
// catching up quadratic.
const waiting = `SELECT seq, session_key FROM (
		SELECT d.seq AS seq, d.session_key AS session_key FROM delivery d JOIN message x ON x.seq = d.seq
		WHERE d.member_id = ?1 AND d.settled_at IS NULL AND d.seq > ?3 AND d.session_key IN ('', ?2) AND (x.priority = 'now' OR NOT ?4)
		UNION ALL
		SELECT x.seq, '' FROM topic_member tm JOIN message x ON x.topic_id = tm.topic_id
			AND x.seq > max(iif(?7 > 0, min(tm.delivered_seq, ` + anew + ` - 1), tm.delivered_seq), tm.since_seq, ?3, coalesce((SELECT value FROM json_each(?5) WHERE key = tm.topic_id), 0))
		WHERE tm.member_id = ?1 AND (x.sender_member_id <> ?1 OR ?8 AND x.seq >= ` + anew + `) AND (x.priority = 'now' OR NOT ?4) AND ` + notDropped + `
	) ORDER BY seq LIMIT ?6`

// anew is since for one topic.
const anew = `coalesce((SELECT value FROM json_each(?9) WHERE key = tm.topic_id), ?7)`

// notDropped: member ?1 let the topic message x in when it was posted.
const notDropped = `NOT EXISTS (SELECT 1 FROM delivery dropped WHERE dropped.seq = x.seq AND dropped.member_id = ?1)`

// still selects those of the seqs in JSON ?3 that wait for member ?1 and
// session ?2.
const still = `SELECT d.seq AS seq, d.session_key AS session_key FROM delivery d
	WHERE d.seq IN (SELECT value FROM json_each(?3)) AND d.member_id = ?1 AND d.settled_at IS NULL AND d.session_key IN ('', ?2)
	UNION ALL
	SELECT x.seq, '' FROM message x JOIN topic_member tm ON tm.topic_id = x.topic_id AND tm.member_id = ?1
	WHERE x.seq IN (SELECT value FROM json_each(?3)) AND x.seq > tm.delivered_seq AND ` + notDropped

// Pending returns messages that wait for a mailbox, in the order in which they
// were accepted.
func (db *DB) Pending(ctx context.Context, box Mailbox, w Waiting) ([]Pending, error) {
	return db.pending(ctx, waiting, box.MemberID, box.SessionKey, w.After, w.Urgent, toJSON(w.Floors), w.Limit, w.Since, w.Own, toJSON(w.Earlier))
}

// StillPending returns those of the messages seqs that still wait for a mailbox.
func (db *DB) StillPending(ctx context.Context, box Mailbox, seqs []int64) ([]Pending, error) {
	return db.pending(ctx, still, box.MemberID, box.SessionKey, toJSON(seqs))
}

// pending reads the messages that the query selected selects.
func (db *DB) pending(ctx context.Context, selected string, args ...any) (all []Pending, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var p Pending
		var created int64
		err := rows.Scan(&p.Seq, &p.ID, &p.MeshID, &p.TopicID, &p.TopicName, &p.SenderMemberID, &p.SenderPubKey, &p.SenderMemberPubKey,
			&p.SenderName, &p.SenderType, &p.TargetSpec, &p.Priority, &p.Nonce, &p.Ciphertext, &p.BodyVersion, &p.ReplyToID,
			&p.ClientMessageID, &p.Fingerprint, &created, &p.SessionKey)
		p.CreatedAt = time.UnixMilli(created)
		all = append(all, p)
		return err
	}, `SELECT m.seq, m.id, m.mesh_id, coalesce(m.topic_id, ''), coalesce(t.name, ''), m.sender_member_id, m.sender_pubkey, coalesce(s.pubkey, ''),
		m.sender_name, coalesce(m.sender_type, ''), m.target_spec, m.priority, m.nonce, m.ciphertext, m.body_version, coalesce(m.reply_to_id, ''),
		coalesce(m.client_message_id, ''), coalesce(m.fingerprint, ''), m.created_at, p.session_key
	FROM (`+selected+`) p
	JOIN message m ON m.seq = p.seq
	LEFT JOIN topic t ON t.id = m.topic_id
	LEFT JOIN member s ON s.id = m.sender_member_id
	ORDER BY m.seq`, args...)
	return all, err
}

// NewestSeq returns the seq of the newest message, 0 if there is none.
func (db *DB) NewestSeq(ctx context.Context) (seq int64, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error { return rows.Scan(&seq) }, `SELECT coalesce(max(seq), 0) FROM message`)
	return seq, err
}

// toJSON is the text of a list or map of numbers or words.
func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("store: " + err.Error()) // only numbers and words come here
	}
	return string(text)
}

// Floors returns, for each topic of a member where more than limit messages
// wait, the seq below which they are left to history.
func (db *DB) Floors(ctx context.Context, memberID string, limit int) (floors map[string]int64, err error) {
	floors = map[string]int64{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var topicID string
		var seq int64
		err := rows.Scan(&topicID, &seq)
		floors[topicID] = seq
		return err
	}, `SELECT topic_id, floor FROM (SELECT topic_id, delivered_seq,
			(SELECT seq FROM message x WHERE x.topic_id = tm.topic_id ORDER BY seq DESC LIMIT 1 OFFSET ?2) AS floor
		FROM topic_member tm WHERE member_id = ?1) WHERE floor > delivered_seq`, memberID, limit)
	return floors, err
}

// Settlement is one delivery that is done: a row, or a step of a topic's cursor.
type Settlement struct {
	Seq        int64
	SessionKey string    // of the row
	PushedAt   time.Time // of the row: when it was first handed to a connection
	TopicID    string    // not "": everything up to Seq was delivered from this topic
	HandedBy   string    // of the row: an agent was given it, and heard of it so
	Handed     []Handed  // of the topic's
	Floor      int64     // of the topic: what is not newer was not pushed but left to history
}

// Handed is a stretch of a topic that an agent was given.
type Handed struct {
	From, Upto int64
	By         string // how it came to hear of it
}

// Settle records deliveries to a member. It does not wait for the commit; done
// is told of it on a goroutine of the store and must not block.
func (db *DB) Settle(memberID string, all []Settlement, now time.Time, done func(error)) {
	err := db.writer.submit(&op{plain: true, done: done, apply: func(tx *Tx) error {
		for _, s := range all {
			if err := tx.settle(memberID, s, now); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		done(err)
	}
}

func (tx *Tx) settle(memberID string, s Settlement, now time.Time) error {
	if s.TopicID != "" {
		return tx.moveCursor(memberID, s, now)
	}
	return tx.exec(`UPDATE delivery SET settled_at = ?1, outcome = 'acked', pushed_at = coalesce(pushed_at, ?2), handed_by = ?6
		WHERE seq = ?3 AND member_id = ?4 AND session_key IN ('', ?5) AND settled_at IS NULL`,
		now.UnixMilli(), s.PushedAt.UnixMilli(), s.Seq, memberID, s.SessionKey, orNull(s.HandedBy))
}

// moveCursor notes that a member got a topic up to s.Seq, and what of that it
// was never pushed: the ledger must not call that delivered.
func (tx *Tx) moveCursor(memberID string, s Settlement, now time.Time) error {
	if s.Floor > 0 {
		err := tx.exec(`INSERT INTO topic_gap (topic_id, member_id, after_seq, upto_seq, at)
			SELECT topic_id, member_id, delivered_seq, ?3, ?4 FROM topic_member
			WHERE topic_id = ?1 AND member_id = ?2 AND delivered_seq < ?3`, s.TopicID, memberID, s.Floor, now.UnixMilli())
		if err != nil {
			return err
		}
	}
	for _, h := range s.Handed {
		if err := tx.noteHanded(memberID, s.TopicID, h); err != nil {
			return err
		}
	}
	return tx.exec(`UPDATE topic_member SET delivered_seq = ?1, delivered_at = ?2 WHERE topic_id = ?3 AND member_id = ?4 AND delivered_seq < ?1`,
		s.Seq, now.UnixMilli(), s.TopicID, memberID)
}

// noteHanded adds a stretch, to the one before it if nothing of the topic lies between.
func (tx *Tx) noteHanded(memberID, topicID string, h Handed) error {
	n, err := tx.execCount(`UPDATE topic_handed SET upto_seq = ?4 WHERE topic_id = ?1 AND member_id = ?2 AND handed_by = ?5
		AND from_seq = (SELECT max(from_seq) FROM topic_handed WHERE topic_id = ?1 AND member_id = ?2 AND from_seq <= ?3) AND upto_seq < ?4
		AND NOT EXISTS (SELECT 1 FROM message x WHERE x.topic_id = ?1 AND x.seq > upto_seq AND x.seq < ?3)`, topicID, memberID, h.From, h.Upto, h.By)
	if err != nil || n > 0 {
		return err
	}
	return tx.exec(`INSERT INTO topic_handed (topic_id, member_id, from_seq, upto_seq, handed_by) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET upto_seq = max(upto_seq, excluded.upto_seq)`, topicID, memberID, h.From, h.Upto, h.By)
}

// Push is one handing of a message to a connection.
type Push struct {
	Seq        int64
	SessionKey string // of the delivery's row
	At         time.Time
}

// NotePushes records the first pushes of messages to a member that are not
// settled yet. It does not wait for the commit: a push that is forgotten is made
// again.
func (db *DB) NotePushes(memberID string, all []Push, done func(error)) {
	err := db.writer.submit(&op{plain: true, done: done, apply: func(tx *Tx) error {
		for _, p := range all {
			err := tx.exec(`UPDATE delivery SET pushed_at = ?1 WHERE seq = ?2 AND member_id = ?3 AND session_key = ?4 AND pushed_at IS NULL`,
				p.At.UnixMilli(), p.Seq, memberID, p.SessionKey)
			if err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		done(err)
	}
}

// SettleByID records that a mailbox acked a message that its connection was not
// pushed: by an ack that comes after a reconnect. One who was not addressed
// settles nothing.
func (db *DB) SettleByID(box Mailbox, messageID, handedBy string, now time.Time, done func(error)) {
	err := db.writer.submit(&op{plain: true, done: done, apply: func(tx *Tx) error {
		return tx.exec(`UPDATE delivery SET settled_at = ?1, outcome = 'acked', pushed_at = coalesce(pushed_at, ?1), handed_by = ?5
			WHERE seq = (SELECT seq FROM message WHERE id = ?2) AND member_id = ?3 AND session_key IN ('', ?4) AND settled_at IS NULL`,
			now.UnixMilli(), messageID, box.MemberID, box.SessionKey, orNull(handedBy))
	}})
	if err != nil {
		done(err)
	}
}

// WaitingSession is a session key that messages wait for.
type WaitingSession struct{ MemberID, SessionKey string }

// WaitingSessions returns the session keys that messages wait for.
func (db *DB) WaitingSessions(ctx context.Context) (all []WaitingSession, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var w WaitingSession
		err := rows.Scan(&w.MemberID, &w.SessionKey)
		all = append(all, w)
		return err
	}, `SELECT DISTINCT member_id, session_key FROM delivery WHERE settled_at IS NULL AND session_key <> ''`)
	return all, err
}

// Reroute gives what waits for a session that is over to its member (protocol
// section 5, guarantee 6). It does not wait for the commit; done is told of it on
// a goroutine of the store, in the order of commits, and must not block.
func (db *DB) Reroute(w WaitingSession, done func(error)) {
	err := db.writer.submit(&op{plain: true, done: done, apply: func(tx *Tx) error {
		_, err := tx.reroute(w)
		return err
	}})
	if err != nil {
		done(err)
	}
}

// reroute reports whether anything waited.
func (tx *Tx) reroute(w WaitingSession) (bool, error) {
	n, err := tx.execCount(`UPDATE OR IGNORE delivery SET session_key = '' WHERE member_id = ? AND session_key = ? AND settled_at IS NULL`, w.MemberID, w.SessionKey)
	return n > 0, err
}

// ExpireDeliveries settles what has waited since before cutoff as expired. It
// looks at the time of each message too: one from before the clock was set right
// must not take its elders with it. One with a time yet to come goes by its place.
func (db *DB) ExpireDeliveries(cutoff, now time.Time) error {
	last, err := db.newestBefore(context.Background(), cutoff)
	if err != nil || last == 0 {
		return err
	}
	return db.Update(func(tx *Tx) error {
		return tx.exec(`UPDATE delivery SET settled_at = ?1, outcome = 'expired' WHERE settled_at IS NULL AND seq <= ?2
			AND (SELECT created_at <= ?3 OR created_at > ?1 FROM message m WHERE m.seq = delivery.seq)`, now.UnixMilli(), last, cutoff.UnixMilli())
	})
}

// QueueDepth returns how many deliveries wait.
func (db *DB) QueueDepth(ctx context.Context) (n int, err error) {
	err = db.row(ctx, &n, `SELECT count(*) FROM delivery WHERE settled_at IS NULL`)
	return n, err
}

// GroupMembers returns the active members that are in a group, or in one below
// it, and did not hide: by their stored groups (false), or by those of one of
// their sessions (true).
func (db *DB) GroupMembers(ctx context.Context, meshID, group string) (bySession map[string]bool, err error) {
	const within = `(g.value ->> 'name' = ?2 OR substr(g.value ->> 'name', 1, length(?2) + 1) = ?2 || '/')`
	bySession = map[string]bool{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var id string
		var session bool
		err := rows.Scan(&id, &session)
		bySession[id] = bySession[id] || session
		return err
	}, `SELECT m.id, 0 FROM member m, json_each(coalesce(m.groups, m.default_groups)) g
		WHERE m.mesh_id = ?1 AND m.pubkey IS NOT NULL AND m.revoked_at IS NULL AND m.visible AND `+within+`
		UNION
		SELECT m.id, 1 FROM session_key s JOIN member m ON m.id = s.member_id, json_each(s.groups) g
		WHERE s.mesh_id = ?1 AND s.groups > '[]' AND s.visible AND m.revoked_at IS NULL AND `+within, meshID, group)
	return bySession, err
}

// VisibleMembers returns the active members of a mesh that did not hide, each
// with false, as GroupMembers does.
func (db *DB) VisibleMembers(ctx context.Context, meshID string) (bySession map[string]bool, err error) {
	bySession = map[string]bool{}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		bySession[id] = false
		return err
	}, `SELECT id FROM member WHERE mesh_id = ? AND pubkey IS NOT NULL AND revoked_at IS NULL AND visible`, meshID)
	return bySession, err
}
