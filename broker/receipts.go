package broker

import (
	"context"
	"maps"
	"slices"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	maxReceipts   = 50                     // messages of one topic_receipts_response
	receiptsDelay = 250 * time.Millisecond // acks of one message come in a bunch: one answer for all of them
	receiptsPause = 10                     // times as long as a round took, until the next one
)

// watch is one connection's interest in how far its member's messages in a topic
// got. A connection has one at most.
type watch struct {
	conn    *conn
	reqID   string
	topicID string
	ref     string                  // what the request called the topic
	sent    map[string]wire.Receipt // by message id, as last sent; owned by tellLedger once it is listed
}

// topicReceipts answers what is known now, and then leaves it to the ledger.
func (r request) topicReceipts(m *wire.TopicReceipts) {
	p := r.presence
	topic, role, err := r.b.db.Topic(context.Background(), p.meshID, p.member.ID, m.Topic)
	if err == nil && role == "" {
		err = store.ErrForbidden
	}
	if err != nil {
		r.topicFailed(err, m.Topic, "You are not in this topic. Join it first.")
		return
	}
	cursors, err := r.b.db.TopicCursors(context.Background(), topic.ID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	w := &watch{conn: r.conn, reqID: r.id, topicID: topic.ID, ref: m.Topic}
	if err := r.b.tellWatch(w, cursors); err != nil {
		r.storeFailed(err)
		return
	}
	r.b.ledger.watch(w)
}

// tellWatch sends those numbers that changed since they were last sent, the first
// time all.
func (b *Broker) tellWatch(w *watch, cursors *store.Cursors) error {
	found, err := b.db.Receipts(context.Background(), cursors, w.conn.presence.member.ID, maxReceipts)
	if err != nil {
		return err
	}
	response := &wire.TopicReceiptsResponse{Topic: w.ref, Receipts: []wire.Receipt{}}
	now := make(map[string]wire.Receipt, len(found))
	for _, f := range found {
		receipt := wire.Receipt{MessageID: f.MessageID, Recipients: f.Recipients, Acked: f.Acked, Seen: f.Seen}
		now[f.MessageID] = receipt
		if w.sent[f.MessageID] != receipt {
			response.Receipts = append(response.Receipts, receipt)
		}
	}
	if w.sent == nil || len(response.Receipts) > 0 {
		w.conn.send(response, w.reqID)
	}
	w.sent = now
	return nil
}

// watched are the watches of one topic.
type watched struct {
	dirty bool
	by    map[*conn]*watch
}

// watch lists w, in the place of what its connection watched before. What changed
// since its first answer the next round tells.
func (l *ledger) watch(w *watch) {
	l.unwatch(w.conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	topic := l.topics[w.topicID]
	if topic == nil {
		topic = &watched{by: map[*conn]*watch{}}
		l.topics[w.topicID] = topic
	}
	topic.by[w.conn], l.watching[w.conn] = w, w.topicID
	l.active.Add(1)
	topic.dirty = true
	l.ringSoon()
}

// unwatch ends what a connection watches.
func (l *ledger) unwatch(c *conn) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	topicID, ok := l.watching[c]
	if !ok {
		return
	}
	delete(l.watching, c)
	if delete(l.topics[topicID].by, c); len(l.topics[topicID].by) == 0 {
		delete(l.topics, topicID)
	}
	l.active.Add(-1)
}

// topicMoved says that in a topic somebody wrote, got or read something, came or
// left. It does not block.
func (l *ledger) topicMoved(topicID string) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if topic := l.topics[topicID]; topic != nil {
		topic.dirty = true
		l.ringSoon()
	}
}

// ringSoon wakes tellLedger for the watches, not at once. mu is held.
func (l *ledger) ringSoon() {
	if l.ringing {
		return
	}
	l.ringing = true
	time.AfterFunc(max(receiptsDelay, l.pause), func() {
		l.mu.Lock()
		l.ringing, l.due = false, true
		l.mu.Unlock()
		l.ring()
	})
}

// takeDue returns the watches of topics in which something moved, by topic id, if
// it is time to tell them.
func (l *ledger) takeDue() map[string][]*watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.due {
		return nil
	}
	l.due = false
	due := map[string][]*watch{}
	for topicID, topic := range l.topics {
		if topic.dirty {
			topic.dirty = false
			due[topicID] = slices.Collect(maps.Values(topic.by))
		}
	}
	return due
}

// tellWatches tells all watches that are due. Between two of them it serves who
// follows a single message, and it ends with ctx.
func (b *Broker) tellWatches(ctx context.Context) {
	began := time.Now()
	for topicID, watches := range b.ledger.takeDue() {
		cursors, err := b.db.TopicCursors(ctx, topicID)
		for _, w := range watches {
			if ctx.Err() != nil {
				return
			}
			if err == nil && !cursors.Has(w.conn.presence.member.ID) {
				b.ledger.unwatch(w.conn) // it left
				continue
			}
			if err == nil {
				err = b.tellWatch(w, cursors)
			}
			if err != nil {
				w.conn.log.Error("receipts could not be read", "err", err)
				b.ledger.topicMoved(topicID) // again with the next round
				break
			}
			b.tellSubscribers()
		}
	}
	b.ledger.mu.Lock()
	b.ledger.pause = receiptsPause * time.Since(began)
	b.ledger.mu.Unlock()
}
