package broker

import (
	"context"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	maxReceipts   = 50                     // messages of one topic_receipts_response
	receiptsDelay = 250 * time.Millisecond // acks of one message come in a bunch: one answer for all of them
)

// receipts is one connection's interest in how far its member's messages in a
// topic got. The ledger keeps it, see follow.go.
type receipts struct {
	conn  *conn
	reqID string
	topic store.Topic
	ref   string                  // what the request called the topic
	dirty bool                    // owned by ledger.mu
	sent  map[string]wire.Receipt // by message id, as last sent; owned by tellLedger
}

func (r request) topicReceipts(m *wire.TopicReceipts) {
	topic, ok := r.findTopic(m.Topic)
	if !ok {
		return
	}
	r.b.ledger.watch(&receipts{conn: r.conn, reqID: r.id, topic: topic, ref: m.Topic, dirty: true})
}

// watch takes the place of what the connection watched before.
func (l *ledger) watch(w *receipts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watched[w.conn] == nil {
		l.active.Add(1)
	}
	l.watched[w.conn] = w
	l.ringSoon()
}

// unwatch ends what a connection watches.
func (l *ledger) unwatch(c *conn) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watched[c] != nil {
		delete(l.watched, c)
		l.active.Add(-1)
	}
}

// topicMoved says that in a topic somebody wrote, got or read something. It does
// not block.
func (l *ledger) topicMoved(topicID string) {
	if l.active.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.watched {
		if w.topic.ID == topicID {
			w.dirty = true
			l.ringSoon()
		}
	}
}

// ringSoon wakes tellLedger after receiptsDelay. mu is held.
func (l *ledger) ringSoon() {
	if l.ringing {
		return
	}
	l.ringing = true
	time.AfterFunc(receiptsDelay, func() {
		l.mu.Lock()
		l.ringing, l.due = false, true
		l.mu.Unlock()
		l.ring()
	})
}

// takeDue returns what is to be told now.
func (l *ledger) takeDue() (all []*receipts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.due {
		return nil
	}
	l.due = false
	for _, w := range l.watched {
		if w.dirty {
			w.dirty = false
			all = append(all, w)
		}
	}
	return all
}

// tellReceipts sends those numbers that changed since they were last told.
func (b *Broker) tellReceipts(w *receipts) {
	found, err := b.db.Receipts(context.Background(), w.topic.ID, w.conn.presence.member.ID, maxReceipts)
	if err != nil {
		w.conn.log.Error("receipts could not be read", "err", err)
		return // the next change, or the next hello, asks again
	}
	response := &wire.TopicReceiptsResponse{Topic: w.ref, Receipts: []wire.Receipt{}}
	now := make(map[string]wire.Receipt, len(found))
	for _, f := range found {
		receipt := wire.Receipt{MessageID: f.MessageID, Recipients: f.Recipients, Acked: f.Acked, Seen: f.Seen}
		now[f.MessageID] = receipt
		if w.sent == nil || w.sent[f.MessageID] != receipt {
			response.Receipts = append(response.Receipts, receipt)
		}
	}
	if w.sent == nil || len(response.Receipts) > 0 {
		w.conn.send(response, w.reqID)
	}
	w.sent = now
}
