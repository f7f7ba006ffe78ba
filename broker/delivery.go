package broker

import (
	"context"
	"slices"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// reroute gives what waits for sessions that are over to their members.
func (b *Broker) reroute() error {
	waiting, err := b.db.WaitingSessions(context.Background())
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if b.isKnown(w.SessionKey) {
			continue
		}
		if err := b.db.Reroute(w); err != nil {
			return err
		}
		for _, c := range b.connsOf(w.MemberID) {
			c.wake()
		}
	}
	return nil
}

// deliver offers a stored message to the connections of its recipients. It runs
// on the store's goroutine, in the order of commits, and does not block.
func (b *Broker) deliver(from *conn, post *store.Post, audience []string) {
	for _, to := range post.Recipients {
		if to.MemberID == post.SenderMemberID {
			from.sentToSelf(post.Seq)
		}
	}
	targets := b.targets(from, post, audience)
	if len(targets) == 0 {
		return
	}
	frame := wire.Encode(pushOf(&post.Message, from.presence.member.PubKey), "")
	pending := store.Pending{Message: post.Message, SenderMemberPubKey: from.presence.member.PubKey}
	if len(post.Recipients) == 1 {
		pending.SessionKey = post.Recipients[0].SessionKey
	}
	for _, c := range targets {
		c.offer(&pending, frame)
	}
}

// targets returns the connections a stored message goes to.
func (b *Broker) targets(from *conn, post *store.Post, audience []string) (conns []*conn) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[post.MeshID]
	if r == nil {
		return nil
	}
	for _, memberID := range audience { // a topic: never back to its sender
		if memberID != post.SenderMemberID && !post.Denied[memberID] {
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
	return slices.DeleteFunc(conns, func(c *conn) bool { return c == from })
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

func pushOf(m *store.Message, senderMemberKey string) *wire.Push {
	return &wire.Push{
		MessageID: m.ID, MeshID: m.MeshID, SenderPubkey: m.SenderPubKey, SenderMemberPubkey: senderMemberKey,
		SenderMemberID: m.SenderMemberID, SenderName: m.SenderName, SenderPeerType: m.SenderType, Topic: m.TopicName,
		ReplyToID: m.ReplyToID, Priority: m.Priority, Nonce: m.Nonce, Ciphertext: m.Ciphertext,
		CreatedAt: wire.Time(m.CreatedAt), ClientMessageID: m.ClientMessageID, RequestFingerprint: m.Fingerprint,
		BodyVersion: m.BodyVersion,
	}
}

// expire settles what could not be delivered in time.
func (b *Broker) expire(now time.Time) error {
	err := b.db.ExpireDeliveries(now.Add(-b.cfg.Limits.MessageTTL), now)
	b.ledger.changed(func(store.Message) bool { return true })
	return err
}
