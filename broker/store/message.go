package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"
)

// IdempotencyWindow is how long a client_message_id stands for one message
// (protocol section 5, guarantee 4).
const IdempotencyWindow = 24 * time.Hour

// ErrConflict says that a client_message_id was used before for other content.
var ErrConflict = errors.New("idempotency_conflict")

// Message is one stored message.
type Message struct {
	Seq             int64 // the order in which messages were accepted
	ID              string
	MeshID          string
	TopicID         string // "" for direct, group and broadcast messages
	TopicName       string
	SenderMemberID  string
	SenderPubKey    string // the session's key if it had one, else the member's
	SenderName      string
	SenderType      string // ai, human, connector or ""
	TargetSpec      string
	Priority        string
	Nonce           string // base64
	Ciphertext      string // base64
	BodyVersion     int
	ReplyToID       string
	ClientMessageID string
	Fingerprint     string
	CreatedAt       time.Time
}

// Recipient is who a direct, group or broadcast message goes to.
type Recipient struct {
	MemberID   string
	SessionKey string // "" for all connections of the member
	FormerKey  string // a session that is over, whose waiting messages go to the member before this one
}

// Post is a message to be stored, and for whom: a topic, or recipients that the
// broker found.
type Post struct {
	Message
	TopicRef   string      // a topic's id or name; else Recipients count
	APIKeyID   string      // the key it came by, "" for none
	WebhookOf  string      // the member for whom the webhook that is its sender acts, "" for none
	Recipients []Recipient // distinct
	Mentions   []string    // lower-cased display names, for topics

	// Denied are the ids of the members whose grants keep this message out. Where
	// it is for many, the ledger says of them dropped_by_grant.
	Denied map[string]bool
}

// author is the id of the member that must be allowed to post it.
func (p *Post) author() string { return cmp.Or(p.WebhookOf, p.SenderMemberID) }

// Posted is what became of a Post.
type Posted struct {
	Duplicate bool     // Message.ID is that of the first one; nothing was stored
	Rerouted  bool     // what waited for a session that is over goes to its member now, before this message
	Audience  []string // members of the topic, for a topic; shared, never changed
	Dropped   int      // copies that grants kept out
	Notified  int      // members that it mentions
}

// Append stores a post with the next group commit and then calls done, in the
// order of commits, on a goroutine of the store: done must not block, nor call
// a method that writes. On success p.Seq, p.ID, p.TopicID and p.TopicName are
// set. Errors: ErrNotFound (no such topic for this sender), ErrForbidden (may
// not post there), ErrMemberRevoked, ErrKeyDead, ErrNoWebhook, ErrConflict, ErrBusy, ErrFull, ErrClosed
// and the like.
//
// An err that is set already is only passed through, so that refusals keep
// their place among the acks of one connection.
func (db *DB) Append(p *Post, refused error, done func(Posted, error)) {
	var result Posted
	o := &op{plain: true, apply: func(tx *Tx) (err error) {
		if refused == nil {
			result, err = tx.post(p)
		} else {
			err = refused
		}
		if err != nil && p.ClientMessageID != "" && !isDatabaseError(err) {
			return tx.repeated(p, &result, err)
		}
		return err
	}}
	o.done = func(err error) { done(result, err) }
	if err := db.writer.submit(o); err != nil {
		done(Posted{}, err)
	}
}

// repeated turns a refusal into success if the message was stored before: what
// was promised then holds, whatever has changed since.
func (tx *Tx) repeated(p *Post, result *Posted, refusal error) error {
	duplicate, err := tx.findDuplicate(p)
	switch {
	case err == nil && duplicate:
		result.Duplicate = true
		return nil
	case isDatabaseError(err):
		return err
	}
	return refusal
}

// post decides before it writes, so that a refusal leaves nothing behind.
func (tx *Tx) post(p *Post) (result Posted, err error) {
	if err = tx.mayPost(p.author()); err != nil {
		return result, err
	}
	if err = tx.mayUse(p.APIKeyID, p.CreatedAt); err != nil {
		return result, err
	}
	if err = tx.mayHook(p); err != nil {
		return result, err
	}
	if p.TopicRef != "" {
		if result.Audience, err = tx.openTopic(p); err != nil {
			return result, err
		}
	}
	inserted, err := tx.insertMessage(p)
	if err != nil {
		return result, err
	}
	if !inserted {
		result.Duplicate, err = tx.findDuplicate(p)
		if err != nil || result.Duplicate {
			return result, err
		}
		if _, err = tx.insertMessage(p); err != nil {
			return result, err
		}
	}
	if err = tx.index(p); err == nil {
		err = tx.address(p, &result)
	}
	if err != nil && !isDatabaseError(err) {
		err = databaseError{err} // the message is written: only the whole can be undone
	}
	return result, err
}

// openTopic resolves the topic of p, checks that the sender may post there, and
// drops a reply reference that leads out of it.
func (tx *Tx) openTopic(p *Post) ([]string, error) {
	t, role, err := tx.topic(p.MeshID, p.author(), p.TopicRef)
	if err != nil {
		return nil, err
	}
	if role == "" || role == "observer" {
		return nil, ErrForbidden
	}
	p.TopicID, p.TopicName = t.ID, t.Name
	if p.ReplyToID != "" {
		var seq int64
		err := tx.row(&seq, `SELECT seq FROM message WHERE id = ? AND topic_id = ?`, p.ReplyToID, t.ID)
		if errors.Is(err, ErrNotFound) {
			p.ReplyToID = ""
		} else if err != nil {
			return nil, err
		}
	}
	return tx.audience(t.ID)
}

// insertMessage returns false if the sender used this client_message_id before.
func (tx *Tx) insertMessage(p *Post) (bool, error) {
	result, err := tx.execResult(`INSERT INTO message (id, mesh_id, topic_id, sender_member_id, sender_pubkey, sender_name,
		sender_type, target_spec, priority, nonce, ciphertext, body_version, reply_to_id, client_message_id, fingerprint, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (sender_member_id, client_message_id) WHERE client_message_id IS NOT NULL DO NOTHING`,
		p.ID, p.MeshID, orNull(p.TopicID), p.SenderMemberID, p.SenderPubKey, p.SenderName,
		orNull(p.SenderType), p.TargetSpec, p.Priority, p.Nonce, p.Ciphertext, p.BodyVersion,
		orNull(p.ReplyToID), orNull(p.ClientMessageID), orNull(p.Fingerprint), p.CreatedAt.UnixMilli())
	if err != nil {
		return false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	p.Seq, err = result.LastInsertId()
	return true, err
}

// findDuplicate sets p.ID to that of the message first sent with its
// client_message_id, or frees the client_message_id if that was too long ago.
func (tx *Tx) findDuplicate(p *Post) (bool, error) {
	var seq, created int64
	var id, fingerprint string
	err := tx.scan([]any{&seq, &id, &fingerprint, &created},
		`SELECT seq, id, coalesce(fingerprint, ''), created_at FROM message WHERE sender_member_id = ? AND client_message_id = ?`,
		p.SenderMemberID, p.ClientMessageID)
	if err != nil {
		return false, err
	}
	if p.CreatedAt.Sub(time.UnixMilli(created)) > IdempotencyWindow {
		return false, tx.exec(`UPDATE message SET client_message_id = NULL WHERE seq = ?`, seq)
	}
	if fingerprint != p.Fingerprint {
		return false, ErrConflict
	}
	p.Seq, p.ID = seq, id
	return true, nil
}

// address records whom a stored message is for, and whom grants keep it from.
func (tx *Tx) address(p *Post, result *Posted) error {
	result.Dropped, result.Notified = 0, 0 // this may run twice
	for _, r := range p.Recipients {
		if err := tx.addressOne(p, r, result); err != nil {
			return err
		}
	}
	if len(p.Denied) > 0 {
		for _, id := range result.Audience {
			if p.Denied[id] {
				if err := tx.drop(p, id, result); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range p.Mentions {
		n, err := tx.mention(p, name)
		if err != nil {
			return err
		}
		result.Notified += n
	}
	return nil
}

// addressOne records one recipient. What is sent to a session that is over must
// not overtake older messages to it.
func (tx *Tx) addressOne(p *Post, r Recipient, result *Posted) (err error) {
	if p.Denied[r.MemberID] {
		return tx.drop(p, r.MemberID, result)
	}
	if r.FormerKey != "" {
		if result.Rerouted, err = tx.reroute(WaitingSession{r.MemberID, r.FormerKey}); err != nil {
			return err
		}
	}
	return tx.exec(`INSERT INTO delivery (seq, member_id, session_key) VALUES (?, ?, ?)`, p.Seq, r.MemberID, r.SessionKey)
}

// drop records the copy of a recipient whose grants keep it out.
func (tx *Tx) drop(p *Post, memberID string, result *Posted) error {
	result.Dropped++
	return tx.exec(`INSERT INTO delivery (seq, member_id, settled_at, outcome) VALUES (?, ?, ?, 'dropped_by_grant')`,
		p.Seq, memberID, p.CreatedAt.UnixMilli())
}

// newestPossible is a seq that no message reaches.
const newestPossible = int64(1<<63 - 1)

// Page says which messages of a topic are asked for, seen from a message; without
// one the newest.
type Page struct {
	From  string // id of the message, "" for none
	Side  Side
	Limit int
}

// Side is where a page lies, seen from its message.
type Side int

const (
	Before Side = iota // older messages, the newest of them
	After              // newer messages, the oldest of them
	Around             // the message itself, and as many older as newer ones
)

// parts returns how many older messages a page has, whether the message itself,
// and how many newer ones.
func (p Page) parts() (older, itself, newer int) {
	switch p.Side {
	case After:
		return 0, 0, p.Limit
	case Around:
		return p.Limit - p.Limit/2 - 1, 1, p.Limit / 2
	}
	return p.Limit, 0, 0
}

// History returns messages of a topic, newest first. ErrNotFound if the topic
// has no such message as the page names.
func (db *DB) History(ctx context.Context, topicID string, page Page) (all []Message, err error) {
	seq := newestPossible
	if page.From != "" {
		if err := db.row(ctx, &seq, `SELECT seq FROM message WHERE id = ? AND topic_id = ?`, page.From, topicID); err != nil {
			return nil, err
		}
	}
	older, itself, newer := page.parts()
	for _, part := range []struct {
		limit int
		where string
	}{{newer, `x.seq > ?2 ORDER BY x.seq`}, {itself, `x.seq = ?2`}, {older, `x.seq < ?2 ORDER BY x.seq DESC`}} {
		if part.limit == 0 {
			continue
		}
		found, err := db.historyWhere(ctx, `x.topic_id = ?1 AND `+part.where+` LIMIT ?3`, topicID, seq, part.limit)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b Message) int { return cmp.Compare(b.Seq, a.Seq) })
	return all, nil
}

// MessagesByID returns those of the messages ids that are in the topic, newest
// first.
func (db *DB) MessagesByID(ctx context.Context, topicID string, ids []string) ([]Message, error) {
	return db.historyWhere(ctx, `x.topic_id = ?1 AND x.id IN (SELECT value FROM json_each(?2)) ORDER BY x.seq DESC`, topicID, toJSON(ids))
}

func (db *DB) historyWhere(ctx context.Context, where string, args ...any) (all []Message, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		m, err := scanHistory(rows)
		all = append(all, m)
		return err
	}, `SELECT `+historyColumns+` FROM message x JOIN topic t ON t.id = x.topic_id WHERE `+where, args...)
	return all, err
}

// historyColumns are what history shows of a message x of topic t.
const historyColumns = `x.seq, x.id, x.topic_id, t.name, x.sender_member_id, x.sender_pubkey, x.sender_name, coalesce(x.sender_type, ''),
	x.nonce, x.ciphertext, x.body_version, coalesce(x.reply_to_id, ''), coalesce(x.client_message_id, ''), x.created_at`

func scanHistory(rows *sql.Rows) (m Message, err error) {
	var created int64
	err = rows.Scan(&m.Seq, &m.ID, &m.TopicID, &m.TopicName, &m.SenderMemberID, &m.SenderPubKey, &m.SenderName, &m.SenderType,
		&m.Nonce, &m.Ciphertext, &m.BodyVersion, &m.ReplyToID, &m.ClientMessageID, &created)
	m.CreatedAt = time.UnixMilli(created)
	return m, err
}
