package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const maxSubscriptions = 100 // of one member: each costs a little with every push

// ledger tells senders who subscribed what becomes of their messages. One
// goroutine, Broker.tellLedger, reads what changed and sends it, so that neither
// the store nor a feed ever waits for a subscriber.
type ledger struct {
	bell   chan struct{} // capacity 1: something is dirty
	active atomic.Int64  // subscriptions and watches; 0 spares everybody the lock

	mu   sync.Mutex
	subs map[*subscription]struct{}

	// of watches, see receipts.go
	topics   map[string]*watched // by topic id
	watching map[*conn]string    // topic ids
	ringing  bool                // a timer runs that will make the dirty topics due
	due      bool
	pause    time.Duration // how long to wait after the last round
}

// subscription is one sender's interest in one message.
type subscription struct {
	conn    *conn
	by      *presence // of conn
	reqID   string
	message store.Message
	dirty   bool                 // owned by ledger.mu
	sent    map[string]wire.Copy // by recipient, as last sent; owned by tellLedger
}

func newLedger() *ledger {
	return &ledger{bell: make(chan struct{}, 1), subs: map[*subscription]struct{}{}, topics: map[string]*watched{}, watching: map[*conn]string{}}
}

func (r request) deliverySubscribe(m *wire.DeliverySubscribe) {
	message, ok := r.findMessage(m.MessageID)
	if !ok {
		return
	}
	if message.SenderMemberID != r.presence.member.ID {
		r.fail(wire.Forbidden, "Only the sender of a message may follow it; message_status tells what became of your own copy.")
		return
	}
	if !r.b.ledger.add(&subscription{conn: r.conn, by: r.presence, reqID: r.id, message: message, dirty: true}) {
		r.fail(wire.Capacity, fmt.Sprintf("A member can follow %d messages at a time.", maxSubscriptions))
	}
}

// add reports false if the member has too many already. The first answer
// comes from tellLedger too, so that it and the changes keep their order.
func (l *ledger) add(s *subscription) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for other := range l.subs {
		if other.by.member.ID == s.by.member.ID {
			n++
		}
	}
	if n >= maxSubscriptions {
		return false
	}
	l.subs[s] = struct{}{}
	l.active.Add(1)
	l.ring()
	return true
}

// remove ends the subscriptions that match.
func (l *ledger) remove(matches func(*subscription) bool) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		if matches(s) {
			delete(l.subs, s)
			l.active.Add(-1)
		}
	}
}

// settled says that the store has these settlements.
func (l *ledger) settled(all []settling) {
	for _, s := range all {
		l.changed(func(m store.Message) bool {
			return s.TopicID == "" && m.Seq == s.Seq || s.TopicID != "" && m.TopicID == s.TopicID && m.Seq <= s.Seq
		})
		if s.TopicID != "" {
			l.topicMoved(s.TopicID)
		}
	}
}

// pushed says that a message was handed to a connection.
func (l *ledger) pushed(seq int64) { l.changed(func(m store.Message) bool { return m.Seq == seq }) }

// changed marks the subscriptions that match, and wakes tellLedger. It does not
// block.
func (l *ledger) changed(matches func(store.Message) bool) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		if !s.dirty && matches(s.message) {
			s.dirty = true
			l.ring()
		}
	}
}

func (l *ledger) ring() {
	select {
	case l.bell <- struct{}{}:
	default: // it rings already
	}
}

// takeDirty returns the subscriptions that have something to be told.
func (l *ledger) takeDirty() (all []*subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		if s.dirty {
			s.dirty = false
			all = append(all, s)
		}
	}
	return all
}

// retry leaves s to the next time that anything rings, the sweeper at the latest.
func (l *ledger) retry(s *subscription) {
	l.mu.Lock()
	s.dirty = true
	l.mu.Unlock()
}

// tellLedger serves the subscriptions until ctx ends.
func (b *Broker) tellLedger(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.ledger.bell:
		}
		b.tellSubscribers()
		b.tellWatches(ctx)
	}
}

func (b *Broker) tellSubscribers() {
	for _, s := range b.ledger.takeDirty() {
		b.tellSubscriber(s)
	}
}

// tellSubscriber sends what changed since it was last told, and ends the
// subscription with the last change.
func (b *Broker) tellSubscriber(s *subscription) {
	copies, err := b.copies(s.message)
	if err != nil {
		s.conn.log.Error("the ledger could not be read", "err", err)
		b.ledger.retry(s)
		return
	}
	status := &wire.DeliveryStatus{
		MessageID: s.message.ID, TargetSpec: s.message.TargetSpec, CreatedAt: wire.Time(s.message.CreatedAt),
		Recipients: []wire.Copy{}, Final: true,
	}
	first := s.sent == nil
	if first {
		s.sent = map[string]wire.Copy{}
	}
	for i, described := range b.describe(s.by, copies) {
		key := copies[i].MemberID + copies[i].SessionKey
		if first || s.sent[key].State != described.State {
			status.Recipients = append(status.Recipients, described)
		}
		s.sent[key] = described
		status.Final = status.Final && copies[i].Outcome != ""
	}
	if first || status.Final || len(status.Recipients) > 0 {
		s.conn.send(status, s.reqID)
	}
	if status.Final {
		b.ledger.remove(func(other *subscription) bool { return other == s })
	}
}
