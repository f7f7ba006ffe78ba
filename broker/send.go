package broker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Sending (protocol section 5). A message goes to the disk first; the ack to
// its sender and the pushes to its recipients follow the commit. Who sends is a
// presence: that of a connection, or one that no room knows, for an API key.

// refusal is why a send was not accepted; its text is "<code>: <sentence>".
// Daemons decide by words in it whether to retry: final ones contain forbidden,
// not_found or invalid, passing ones none of those, nor unknown, auth, schema
// or signature.
type refusal struct{ code, sentence string }

func (r *refusal) Error() string { return r.code + ": " + r.sentence }

// tooFast is a refusal that passes by itself.
type tooFast struct {
	*refusal
	wait time.Duration // until the next one is accepted
}

func (t *tooFast) Unwrap() error { return t.refusal }

// handleSend checks a send and hands it to the store. It waits while too many of
// this connection are in flight, and once for the lease that a first message
// earns.
func (c *conn) handleSend(m *wire.Send, r request) {
	began := time.Now()
	p := c.presence
	post, refused := c.b.draft(p, m, began)
	if refused == nil && !p.earned.Load() {
		c.b.earn(p)
	}
	if p.mayGet(post) {
		c.sendsToSelf(post.ID, isTopic(post))
	}
	c.slots <- struct{}{}
	c.pending.Add(1)
	c.b.db.Append(post, refused, func(posted store.Posted, err error) {
		c.acknowledge(m, r, post, err)
		if err == nil {
			c.b.committed(p, c, post, posted)
		}
		c.b.metrics.ackSeconds.Observe(time.Since(began).Seconds())
		<-c.slots
		c.pending.Done()
	})
}

// mayGet reports whether a message of p may wait for its own member.
func (p *presence) mayGet(post *store.Post) bool {
	if isTopic(post) {
		return p.wants(wire.CapSiblings)
	}
	return slices.ContainsFunc(post.Recipients, func(to store.Recipient) bool { return to.MemberID == p.member.ID })
}

// isTopic reports whether a message is for a topic, before the store has looked it up.
func isTopic(post *store.Post) bool { return strings.HasPrefix(post.TargetSpec, "#") }

// draft makes of a send what is to be stored, and says why it is refused, if it
// is: the store wants both, as a repetition of what it has is none.
func (b *Broker) draft(p *presence, m *wire.Send, now time.Time) (post *store.Post, refused error) {
	post = &store.Post{Message: store.Message{
		ID: store.NewID(), MeshID: p.meshID, SenderMemberID: p.member.ID, SenderPubKey: p.key(), SenderName: p.name,
		SenderType: p.client.PeerType, TargetSpec: m.TargetSpec, Priority: m.Priority, Nonce: m.Nonce, Ciphertext: m.Ciphertext,
		BodyVersion: m.BodyVersion, ReplyToID: m.ReplyToID, ClientMessageID: m.ClientMessageID, Fingerprint: m.RequestFingerprint,
		CreatedAt: now,
	}}
	if post.Priority == "" {
		post.Priority = wire.PriorityNext
	}
	if refused = b.rates.take(cmp.Or(p.rateKey, p.member.ID), now); refused == nil {
		refused = b.check(m)
	}
	if refused == nil {
		refused = b.address(p, m, post)
	}
	return post, refused
}

// committed counts a stored message and offers it to its recipients, but not to
// the connection that it came by, nil for none. It runs on the store's goroutine.
func (b *Broker) committed(p *presence, by *conn, post *store.Post, posted store.Posted) {
	if posted.Duplicate {
		return
	}
	b.metrics.routed.WithLabelValues(post.Priority).Inc()
	if posted.Dropped > 0 {
		b.metrics.droppedByGrant.WithLabelValues("broadcast").Add(float64(posted.Dropped))
	}
	b.deliver(p, by, post, posted)
}

// acknowledge tells the sender what became of its message. It runs after the
// commit: queued true is a promise.
func (c *conn) acknowledge(m *wire.Send, r request, post *store.Post, err error) {
	if err == nil {
		r.answer(&wire.Ack{ID: m.ID, MessageID: post.ID, Queued: true})
		return
	}
	if missing, ok := errors.AsType[*wire.Error](err); ok { // a capability: protocol section 3
		c.b.metrics.refused.WithLabelValues(missing.Code).Inc()
		r.answer(missing)
		return
	}
	r.answer(&wire.Ack{ID: m.ID, Queued: false, Error: c.b.refuse(err, m.TargetSpec, c.log).Error()})
}

// refuse counts a send that was not accepted and says why; what is no fault of the
// sender's is logged.
func (b *Broker) refuse(err error, target string, log *slog.Logger) *refusal {
	why := explain(err, target)
	if _, expected := err.(*refusal); !expected && why.code == wire.Busy {
		log.Error("message not stored", "err", err)
	}
	b.metrics.refused.WithLabelValues(why.code).Inc()
	return why
}

// explain makes a refusal of what the store said.
func explain(err error, target string) *refusal {
	if own, ok := errors.AsType[*refusal](err); ok {
		return own
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return notFound(target)
	case errors.Is(err, store.ErrMemberRevoked):
		return &refusal{wire.Forbidden, "your key was removed from the mesh; ask an admin to restore it"}
	case errors.Is(err, store.ErrForbidden):
		return &refusal{wire.Forbidden, "you may not post to this topic; join it as a member first"}
	case errors.Is(err, store.ErrPlaintext):
		return &refusal{wire.TopicEncrypted, "invalid body, this topic is encrypted and takes no readable messages; write with a client that has its key, such as meshbox send"}
	case errors.Is(err, store.ErrConflict):
		return &refusal{wire.IdempotencyConflict, "invalid reuse of a client_message_id for another message; make a new one for each message"}
	case errors.Is(err, store.ErrClosed):
		return &refusal{wire.Busy, "meshbox is restarting, nothing was stored; send it again in a moment"}
	case errors.Is(err, store.ErrFull):
		return &refusal{wire.Busy, "the disk of the broker is full, nothing was stored; send it again when there is space"}
	}
	return &refusal{wire.Busy, "the broker could not write to its data file, nothing was stored; send it again later"}
}

func notFound(target string) *refusal {
	return &refusal{wire.TargetNotFound, fmt.Sprintf("there is nobody and nothing here called %q; list_peers and topic_list show who and what is", wire.CleanLine(target, wire.MaxNameLen+4))}
}

// check refuses a send for its form alone.
func (b *Broker) check(m *wire.Send) error {
	switch limit := b.cfg.Limits.MaxMessage; {
	case len(m.Nonce)+len(m.Ciphertext)+len(m.TargetSpec) > limit:
		return &refusal{wire.PayloadTooLarge, fmt.Sprintf("invalid size, at most %d bytes of nonce, ciphertext and target fit; send less, or in parts", limit)}
	case m.Priority != "" && !wire.ValidPriority(m.Priority):
		return &refusal{wire.InvalidPayload, "the priority must be now, next or low"}
	case !wire.IsBase64(m.Nonce) || !wire.IsBase64(m.Ciphertext):
		return &refusal{wire.InvalidPayload, "nonce and ciphertext must be standard base64 with padding"}
	case len(m.ClientMessageID) > wire.MaxIDLen || len(m.RequestFingerprint) > wire.MaxIDLen || len(m.ID) > wire.MaxIDLen:
		return &refusal{wire.InvalidPayload, fmt.Sprintf("ids and fingerprints have at most %d bytes", wire.MaxIDLen)}
	case m.BodyVersion < 0 || m.BodyVersion > 2:
		return &refusal{wire.InvalidPayload, "the bodyVersion must be 1 or 2"}
	}
	return nil
}
