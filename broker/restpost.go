package broker

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// postRequest is the body of POST /messages: a readable text (ours), or what a
// client of the protocol makes of one.
type postRequest struct {
	Topic       string   `json:"topic"` // its name
	Text        *string  `json:"text"`
	Ciphertext  *string  `json:"ciphertext"` // base64
	Nonce       string   `json:"nonce"`      // base64
	BodyVersion int      `json:"bodyVersion"`
	Priority    string   `json:"priority"`
	Mentions    []string `json:"mentions"`
	ReplyToID   string   `json:"replyToId"`

	// (ours) as in a send; the header Idempotency-Key is the first one, too
	ClientMessageID    string `json:"client_message_id"`
	RequestFingerprint string `json:"request_fingerprint"`
}

// postResponse answers it. All three ids are the message's in history.
type postResponse struct {
	MessageID     string `json:"messageId"`
	HistoryID     string `json:"historyId"`
	QueueID       string `json:"queueId"`
	Topic         string `json:"topic"`
	TopicID       string `json:"topicId"`
	Notifications int    `json:"notifications"` // members it mentions; 0 of a repetition
	BodyVersion   int    `json:"bodyVersion"`
	ReplyToID     string `json:"replyToId,omitempty"`
}

// postMessage does what a send to a topic does, and answers as its ack: after the
// commit.
func (c *caller) postMessage(r *http.Request) (any, error) {
	began := time.Now()
	var body postRequest
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if body.ClientMessageID != "" && body.ClientMessageID != key {
			return nil, badRequest("The Idempotency-Key and the client_message_id differ; give one of them.")
		}
		body.ClientMessageID = key
	}
	send, err := body.send()
	if err != nil {
		return nil, err
	}
	topic, _, err := c.topic(r.Context(), body.Topic)
	if err != nil {
		return nil, err
	}
	send.TargetSpec = "#" + topic.ID
	if send.RequestFingerprint == "" && send.ClientMessageID != "" {
		send.RequestFingerprint = fingerprint(send)
	}
	post, refused := c.draft(c.as, send, began)
	post.APIKeyID = c.key.ID
	posted, err := c.commit(c.as, post, refused, began)
	if err != nil {
		return nil, c.postFailed(err, topic)
	}
	return postResponse{
		MessageID: post.ID, HistoryID: post.ID, QueueID: post.ID, Topic: topic.Name, TopicID: topic.ID,
		Notifications: posted.Notified, BodyVersion: post.BodyVersion, ReplyToID: post.ReplyToID,
	}, nil
}

// send makes a send without a target of the request.
func (p *postRequest) send() (*wire.Send, error) {
	m := &wire.Send{
		Priority: p.Priority, Nonce: p.Nonce, Mentions: p.Mentions, ReplyToID: p.ReplyToID, BodyVersion: p.BodyVersion,
		ClientMessageID: p.ClientMessageID, RequestFingerprint: p.RequestFingerprint,
	}
	switch {
	case p.Topic == "" || p.Topic == "#":
		return nil, badRequest("The topic is missing; send its name.")
	case (p.Text == nil) == (p.Ciphertext == nil):
		return nil, badRequest("Send either a text, or a ciphertext with its nonce.")
	case p.Text != nil && *p.Text == "" || p.Ciphertext != nil && *p.Ciphertext == "":
		return nil, badRequest("The message is empty.")
	case p.Text != nil && (p.Nonce != "" || p.BodyVersion > 1):
		return nil, badRequest("A text is not encrypted; leave out nonce and bodyVersion.")
	case p.BodyVersion < 0 || p.BodyVersion > 2:
		return nil, badRequest("The bodyVersion must be 1 or 2.")
	case p.BodyVersion == 2 && p.Nonce == "":
		return nil, badRequest("The nonce is missing; nobody could read the message without it.")
	}
	if m.BodyVersion == 0 {
		m.BodyVersion = 1
	}
	if p.Text != nil {
		m.Ciphertext = base64.StdEncoding.EncodeToString([]byte(*p.Text))
	} else {
		m.Ciphertext = *p.Ciphertext
	}
	return m, nil
}

// fingerprint tells whether a repetition means the same message, for callers that
// say nothing of it themselves.
func fingerprint(m *wire.Send) string {
	sum := sha256.Sum256([]byte(toJSON(wire.Send{
		TargetSpec: m.TargetSpec, Priority: m.Priority, Nonce: m.Nonce, Ciphertext: m.Ciphertext, Mentions: m.Mentions,
		ReplyToID: m.ReplyToID, BodyVersion: m.BodyVersion,
	})))
	return hex.EncodeToString(sum[:])
}

// commit stores a post and returns after its commit.
func (b *Broker) commit(from *presence, post *store.Post, refused error, began time.Time) (posted store.Posted, err error) {
	done := make(chan struct{})
	b.db.Append(post, refused, func(p store.Posted, failed error) {
		if posted, err = p, failed; err == nil {
			b.committed(from, nil, post, posted)
		}
		b.metrics.ackSeconds.Observe(time.Since(began).Seconds())
		close(done)
	})
	<-done
	return posted, err
}

// statusOf is the HTTP status of a refused send.
var statusOf = map[string]int{
	wire.Forbidden: http.StatusForbidden, wire.TargetNotFound: http.StatusNotFound, wire.PayloadTooLarge: http.StatusRequestEntityTooLarge,
	wire.InvalidPayload: http.StatusBadRequest, wire.IdempotencyConflict: http.StatusConflict, wire.Busy: http.StatusServiceUnavailable,
	wire.TopicEncrypted: http.StatusConflict,
}

// postFailed makes an answer of a refusal.
func (c *caller) postFailed(err error, topic store.Topic) error {
	if errors.Is(err, store.ErrKeyDead) || errors.Is(err, store.ErrMemberRevoked) {
		return errInvalidKey // since this request began
	}
	why := c.refuse(err, "#"+topic.Name, c.log)
	if fast, ok := errors.AsType[*tooFast](err); ok {
		return tooManyRequests("You send too fast.", fast.wait)
	}
	failed := &restError{status: statusOf[why.code], problem: problem{Error: why.code, Message: sentence(why.sentence)}}
	switch why.code {
	case wire.TargetNotFound: // it was there a moment ago
		failed.problem.Error, failed.problem.Topic = wire.TopicNotFound, topic.Name
	case wire.Busy:
		failed.wait = time.Second
	}
	return failed
}
