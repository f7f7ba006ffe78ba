package broker

import (
	"context"
	"slices"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// reroutes reports whether something may still wait for a session that is over.
func (b *Broker) reroutes() bool { return b.sessionsEnded.Load() || b.rerouting.Load() } // in this order

// reroute gives what waits for sessions that are over to their members.
func (b *Broker) reroute() error {
	b.rerouting.Store(true)
	defer b.rerouting.Store(false)
	if !b.sessionsEnded.Swap(false) {
		return nil
	}
	waiting, err := b.db.WaitingSessions(context.Background())
	if err != nil {
		b.sessionsEnded.Store(true)
		return err
	}
	for _, w := range waiting {
		if b.isKnown(w.MemberID, w.SessionKey) {
			continue
		}
		b.db.Reroute(w, func(err error) { b.rerouted(w, err) })
	}
	return nil
}

// rerouted has the connections of a member begin anew, before anything that was
// committed later is offered to them: it must not overtake what was rerouted.
func (b *Broker) rerouted(w store.WaitingSession, err error) {
	if err != nil {
		b.log.Warn("what waits for a session that is over was not given to its member", "member", w.MemberID, "err", err)
		b.sessionsEnded.Store(true) // try again
		return
	}
	for _, c := range b.connsOf(w.MemberID) {
		c.wake()
	}
}

// deliver offers a stored message to the connections of its recipients, except the
// one that it came by. It runs on the store's goroutine, in the order of commits,
// and does not block.
func (b *Broker) deliver(from *presence, by *conn, post *store.Post, posted store.Posted) {
	b.newest.Store(post.Seq)
	if post.TopicID != "" {
		b.ledger.topicMoved(post.TopicID)
		b.streams.ring(func(s *stream) bool { return s.topicID == post.TopicID })
	}
	if by != nil {
		by.sent(post.Seq)
	}
	targets := b.targets(by, post, posted.Audience)
	if len(targets) == 0 {
		return
	}
	frame := wire.Encode(pushOf(&post.Message, from.member.PubKey), "")
	pending := store.Pending{Message: post.Message, SenderMemberPubKey: from.member.PubKey}
	if len(post.Recipients) == 1 {
		pending.SessionKey = post.Recipients[0].SessionKey
	}
	for _, c := range targets {
		if posted.Rerouted {
			c.wake() // what was rerouted comes first
			continue
		}
		c.offer(&pending, frame)
	}
}

// targets returns the connections a stored message goes to.
func (b *Broker) targets(by *conn, post *store.Post, audience []string) (conns []*conn) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[post.MeshID]
	if r == nil {
		return nil
	}
	for _, memberID := range audience { // of a topic
		switch {
		case memberID == post.SenderMemberID:
			conns = r.appendSiblings(conns, memberID)
		case !post.Denied[memberID]:
			conns = r.appendConns(conns, memberID, false)
		}
	}
	direct := identity.IsPublicKey(post.TargetSpec)
	for _, to := range post.Recipients {
		if post.Denied[to.MemberID] {
			continue
		}
		if to.SessionKey == "" {
			conns = r.appendConns(conns, to.MemberID, !direct)
		} else if p := r.bySession[to.SessionKey]; p != nil && p.member.ID == to.MemberID && p.conn != nil {
			conns = append(conns, p.conn)
		}
	}
	return slices.DeleteFunc(conns, func(c *conn) bool { return c == by })
}

// appendConns adds the connections of a member; only visible ones if asked.
// Broker.mu is held.
func (r *room) appendConns(conns []*conn, memberID string, visibleOnly bool) []*conn {
	for p := range r.byMember[memberID] {
		if p.conn != nil && (p.visible || !visibleOnly) {
			conns = append(conns, p.conn)
		}
	}
	return conns
}

// appendSiblings adds the connections of a member that get what it says itself in
// topics. Broker.mu is held.
func (r *room) appendSiblings(conns []*conn, memberID string) []*conn {
	for p := range r.byMember[memberID] {
		if p.conn != nil && p.wants(wire.CapSiblings) {
			conns = append(conns, p.conn)
		}
	}
	return conns
}

func pushOf(m *store.Message, senderMemberKey string) *wire.Push {
	return &wire.Push{
		MessageID: m.ID, MeshID: m.MeshID, SenderPubkey: m.SenderPubKey, SenderMemberPubkey: senderMemberKey,
		SenderMemberID: m.SenderMemberID, SenderName: m.SenderName, SenderPeerType: m.SenderType, Topic: m.TopicName,
		ReplyToID: m.ReplyToID, Priority: m.Priority, Nonce: m.Nonce, Ciphertext: m.Ciphertext,
		CreatedAt: wire.Time(m.CreatedAt), ClientMessageID: m.ClientMessageID, RequestFingerprint: m.Fingerprint,
		BodyVersion: m.BodyVersion,
	}
}

// expire settles, now, what could not be delivered in time, as old as it is by
// aged.
func (b *Broker) expire(aged, now time.Time) error {
	err := b.db.ExpireDeliveries(aged.Add(-b.cfg.Limits.MessageTTL), now)
	b.ledger.changed(func(store.Message) bool { return true })
	return err
}
