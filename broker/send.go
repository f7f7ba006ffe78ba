package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Sending (protocol section 5). A message goes to the disk first; the ack to
// its sender and the pushes to its recipients follow the commit.

// refusal is why a send was not accepted; its text is "<code>: <sentence>".
// Daemons decide by words in it whether to retry: final ones contain forbidden,
// not_found or invalid, passing ones none of those, nor unknown, auth, schema
// or signature.
type refusal struct{ code, sentence string }

func (r *refusal) Error() string { return r.code + ": " + r.sentence }

// handleSend checks a send and hands it to the store. It waits while too many of
// this connection are in flight, and once for the lease that a first message
// earns.
func (c *conn) handleSend(m *wire.Send, r request) {
	began := time.Now()
	p := c.presence
	post := &store.Post{Message: store.Message{
		ID: store.NewID(), MeshID: p.meshID, SenderMemberID: p.member.ID, SenderPubKey: p.key(), SenderName: p.name,
		SenderType: p.client.PeerType, TargetSpec: m.TargetSpec, Priority: m.Priority, Nonce: m.Nonce, Ciphertext: m.Ciphertext,
		BodyVersion: m.BodyVersion, ReplyToID: m.ReplyToID, ClientMessageID: m.ClientMessageID, Fingerprint: m.RequestFingerprint,
		CreatedAt: began,
	}}
	if post.Priority == "" {
		post.Priority = wire.PriorityNext
	}
	refused := c.b.rates.take(p.member.ID, began)
	if refused == nil {
		refused = c.check(m)
	}
	if refused == nil {
		refused = c.address(m, post)
	}
	if refused == nil && !p.earned.Load() {
		c.b.earn(p)
	}
	if slices.ContainsFunc(post.Recipients, func(to store.Recipient) bool { return to.MemberID == p.member.ID }) {
		c.sendsToSelf(post.ID)
	}
	c.slots <- struct{}{}
	c.pending.Add(1)
	c.b.db.Append(post, refused, func(posted store.Posted, err error) {
		c.acknowledge(m, r, post, err)
		if err == nil && !posted.Duplicate {
			c.b.metrics.routed.WithLabelValues(post.Priority).Inc()
			if posted.Dropped > 0 {
				c.b.metrics.droppedByGrant.WithLabelValues("broadcast").Add(float64(posted.Dropped))
			}
			c.b.deliver(c, post, posted)
		}
		c.b.metrics.ackSeconds.Observe(time.Since(began).Seconds())
		<-c.slots
		c.pending.Done()
	})
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
	why := explain(err, m.TargetSpec)
	if _, expected := err.(*refusal); !expected && why.code == wire.Busy {
		c.log.Error("message not stored", "err", err)
	}
	c.b.metrics.refused.WithLabelValues(why.code).Inc()
	r.answer(&wire.Ack{ID: m.ID, Queued: false, Error: why.Error()})
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
func (c *conn) check(m *wire.Send) error {
	switch limit := c.b.cfg.Limits.MaxMessage; {
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
