package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"meshbox/broker/identity"
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

// handleSend checks a send and hands it to the store. It waits only while too
// many of this connection are in flight.
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
	refused := c.check(m)
	if refused == nil {
		refused = c.address(m, post)
	}
	if refused == nil && !p.earned.Load() {
		c.b.earn(p)
	}
	c.slots <- struct{}{}
	c.pending.Add(1)
	c.b.db.Append(post, refused, func(posted store.Posted, err error) {
		c.acknowledge(m, r, post, err)
		if err == nil && !posted.Duplicate {
			c.b.metrics.routed.WithLabelValues(post.Priority).Inc()
			c.b.deliver(c, post, posted.Audience)
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

// address finds out whom a send is for.
func (c *conn) address(m *wire.Send, post *store.Post) error {
	spec := m.TargetSpec
	needed := "broadcast"
	if identity.IsPublicKey(spec) {
		needed = "dm"
	}
	if !c.presence.caps.Allows(needed) {
		return &refusal{wire.Forbidden, missingCapability(needed)}
	}
	switch {
	case strings.HasPrefix(spec, "#"):
		return addressTopic(spec[1:], m, post)
	case spec == "*" || spec == "@all":
		return c.addressEveryone(post)
	case strings.HasPrefix(spec, "@"):
		return c.addressGroup(groupName(spec), post)
	case identity.IsPublicKey(spec):
		return c.addressKey(spec, post)
	}
	return notFound(spec)
}

// addressTopic leaves finding the topic to the transaction that stores the
// message.
func addressTopic(ref string, m *wire.Send, post *store.Post) error {
	if ref == "" {
		return notFound("#")
	}
	post.TopicRef = ref
	if post.BodyVersion == 0 {
		post.BodyVersion = 1
	}
	post.Mentions = m.Mentions
	if post.BodyVersion == 1 {
		text, err := base64.StdEncoding.DecodeString(m.Ciphertext)
		if err != nil || !utf8.Valid(text) {
			return &refusal{wire.InvalidPayload, "the ciphertext of a version 1 body must be base64 of UTF-8 text"}
		}
		if m.Mentions == nil {
			post.Mentions = mentionsIn(string(text))
		}
	}
	if len(post.Mentions) > wire.MaxMentions {
		post.Mentions = post.Mentions[:wire.MaxMentions]
	}
	return nil
}

var mention = regexp.MustCompile(`(?:^|[^\pL\pN@])@([\pL\pN][\pL\pN._-]*)`)

// mentionsIn returns the distinct @names of a text, lower-cased.
func mentionsIn(text string) (names []string) {
	for _, match := range mention.FindAllStringSubmatch(text, 4*wire.MaxMentions) {
		name := strings.TrimRight(strings.ToLower(match[1]), "._-")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// addressKey addresses the member or session that holds key: a session as long
// as its presence lasts, later its member.
func (c *conn) addressKey(key string, post *store.Post) error {
	if to, ok := c.b.holder(post.MeshID, key); ok {
		post.Recipients = []store.Recipient{to}
		return nil
	}
	memberID, err := c.b.ownerOf(post.MeshID, key)
	if errors.Is(err, store.ErrNotFound) {
		return notFound(key)
	}
	if err != nil {
		return err
	}
	post.Recipients = []store.Recipient{{MemberID: memberID}}
	return nil
}

// holder returns who among those that are here, or leased, holds key. It spares
// most messages a look into the store.
func (b *Broker) holder(meshID, key string) (to store.Recipient, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil {
		return to, false
	}
	if to.MemberID, ok = r.members[key]; ok {
		return to, true // a member key comes first: a session may only have named it
	}
	if p := r.bySession[key]; p != nil {
		return store.Recipient{MemberID: p.member.ID, SessionKey: key}, true
	}
	return to, false
}

// reroute gives what waits for sessions that are over to their members.
func (b *Broker) reroute(time.Time) error {
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

// ownerOf returns the active member that key is, or that used it for a session.
func (b *Broker) ownerOf(meshID, key string) (memberID string, err error) {
	member, err := b.db.MemberByKey(context.Background(), meshID, key)
	if errors.Is(err, store.ErrNotFound) {
		var known store.SessionKey
		if known, err = b.db.SessionKeyByKey(context.Background(), meshID, key); err == nil {
			member, err = b.db.MemberByID(context.Background(), meshID, known.MemberID)
		}
	}
	if err == nil && !member.RevokedAt.IsZero() {
		err = store.ErrNotFound
	}
	return member.ID, err
}

// addressEveryone addresses the other members that are not hidden.
func (c *conn) addressEveryone(post *store.Post) error {
	known, err := c.b.db.VisibleMembers(context.Background(), post.MeshID)
	if err != nil {
		return err
	}
	c.addressMembers(post, known, func(*presence) bool { return true })
	return nil
}

// addressGroup addresses the other members that are in a group or below it: by
// a presence, or by what they left behind.
func (c *conn) addressGroup(group string, post *store.Post) error {
	if group == "" {
		return notFound("@")
	}
	known, err := c.b.db.GroupMembers(context.Background(), post.MeshID, group)
	if err != nil {
		return err
	}
	if !c.addressMembers(post, known, func(p *presence) bool { return p.inGroup(group) }) {
		return notFound("@" + group)
	}
	return nil
}

// addressMembers addresses, except the sender, the members in known and those
// with a presence that matches; who is here but hidden is left out. It reports
// whether there was anyone, the sender included.
func (c *conn) addressMembers(post *store.Post, known []string, matches func(*presence) bool) bool {
	to := map[string]bool{}
	for _, id := range known {
		to[id] = true
	}
	c.b.mu.RLock()
	if r := c.b.rooms[post.MeshID]; r != nil {
		for memberID, presences := range r.byMember {
			visible, matching, member := false, false, false
			for p := range presences {
				visible = visible || p.visible
				matching = matching || p.visible && matches(p)
				member = member || !p.proven // what it says now replaces what it left
			}
			if matching {
				to[memberID] = true
			} else if !visible || member {
				delete(to, memberID)
			}
		}
	}
	c.b.mu.RUnlock()
	for id := range to {
		if id != post.SenderMemberID {
			post.Recipients = append(post.Recipients, store.Recipient{MemberID: id})
		}
	}
	return len(to) > 0
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
		if memberID != post.SenderMemberID {
			conns = r.appendConns(conns, memberID, false)
		}
	}
	direct := identity.IsPublicKey(post.TargetSpec)
	for _, to := range post.Recipients {
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
	return b.db.ExpireDeliveries(now.Add(-b.cfg.Limits.MessageTTL), now)
}
