package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// feed is how messages get from the store to one connection. There is one way,
// for what was stored long ago and for what was committed just now: everything
// that waits, in the order in which it was accepted. As long as the connection
// keeps up, each message is offered to it right after its commit. When it does
// not, it is behind: then its write loop reads from the store until it has
// caught up. What does not fit stays on disk, so slow means late and never lost.
type feed struct {
	box store.Mailbox
	own string // the key this connection sends under: nobody gets their own message

	mu        sync.Mutex
	behind    bool               // the store may hold more than was pushed
	declined  int                // offers not taken so far: a catch-up sees that more came
	resume    int64              // the next catch-up asks for what comes after this
	high      int64              // the newest message pushed
	urgent    bool               // the recipient is busy: only priority now passes
	acks      bool               // the peer acks what it gets
	reading   map[int64]bool     // settled on disk while a page is read; nil: none is
	trimmed   bool               // the backlog of topics was cut to its limit
	open      int                // pushes that may still be acked: at most feedWindow
	unsettled map[int64]*pushed  // by seq
	byID      map[string]int64   // message id → seq
	topics    map[string][]int64 // by topic id: seqs in unsettled, ascending
}

// pushed is a message on its way: pushed on this connection, not settled yet.
type pushed struct {
	id         string
	sessionKey string // of the delivery's row
	topicID    string // "" for a row
	at         time.Time
	tries      int
	settled    bool // but not yet on disk
	exhausted  bool // pushed often enough: it no longer counts as open
}

// settling is a settlement on its way to the disk. Until it is there, the store
// still calls these messages waiting, and they must not be pushed again.
type settling struct {
	store.Settlement
	seqs []int64
}

func newFeed(box store.Mailbox, own string, acks bool) *feed {
	return &feed{
		box: box, own: own, acks: acks, behind: true, // what came before is waiting
		unsettled: map[int64]*pushed{}, byID: map[string]int64{}, topics: map[string][]int64{},
	}
}

// offer pushes a message that was just committed, unless the connection is
// behind or busy. It runs on the store's goroutine and does not block.
func (c *conn) offer(p *store.Pending, frame []byte) {
	f := c.feed.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Seq <= f.high {
		return // a catch-up was faster
	}
	if f.urgent && p.Priority != wire.PriorityNow {
		return // held: it waits in the store until the recipient is idle
	}
	if f.behind || f.open >= feedWindow || !c.out.add(frame) {
		if !f.behind {
			f.behind, f.resume = true, f.high
		}
		f.declined++
		c.out.ring()
		return
	}
	f.add(p)
}

// add notes that a message was pushed. mu is held.
func (f *feed) add(p *store.Pending) {
	f.high = max(f.high, p.Seq)
	f.open++
	f.unsettled[p.Seq] = &pushed{id: p.ID, sessionKey: p.SessionKey, topicID: p.TopicID, at: time.Now(), tries: 1}
	f.byID[p.ID] = p.Seq
	if p.TopicID != "" {
		queue := f.topics[p.TopicID]
		at, _ := slices.BinarySearch(queue, p.Seq)
		f.topics[p.TopicID] = slices.Insert(queue, at, p.Seq)
	}
}

// catchUp pushes a page of what waits in the store. It runs on the write loop
// and reports whether it queued something, or should be called again.
func (c *conn) catchUp() bool {
	f := c.feed.Load()
	if f == nil {
		return false
	}
	f.mu.Lock()
	room, trimmed := feedWindow-f.open, f.trimmed
	if !f.behind || room <= 0 {
		f.mu.Unlock()
		return false
	}
	ask := store.Waiting{After: f.resume, Urgent: f.urgent, Limit: min(room, feedPage)}
	declined := f.declined
	f.trimmed, f.reading = true, map[int64]bool{}
	f.mu.Unlock()

	page, err := c.readPage(f, ask, trimmed)
	if err != nil {
		c.log.Error("waiting messages could not be read", "err", err)
		time.AfterFunc(retryRead, c.out.ring)
		return false
	}
	more, advanced := c.pushPage(f, page, ask, declined)
	c.record(f, advanced)
	return more
}

// readPage reads what waits. When that is much for the first time, older
// messages of topics than the newest topicBacklog are left to history.
func (c *conn) readPage(f *feed, ask store.Waiting, trimmed bool) ([]store.Pending, error) {
	page, err := c.b.db.Pending(context.Background(), f.box, ask)
	if err != nil || trimmed || len(page) < ask.Limit {
		return page, err
	}
	if err := c.b.db.TrimBacklog(context.Background(), f.box.MemberID, topicBacklog); err != nil {
		return nil, err
	}
	return c.b.db.Pending(context.Background(), f.box, ask)
}

// pushPage pushes what catchUp read, and returns whether to go on and which
// cursors can move.
func (c *conn) pushPage(f *feed, page []store.Pending, ask store.Waiting, declined int) (more bool, advanced []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := f.reading
	f.reading = nil
	if ask.After != f.resume || ask.Urgent != f.urgent {
		return true, nil // a new pass was started meanwhile
	}
	for i := range page {
		p := &page[i]
		if f.unsettled[p.Seq] == nil && !gone[p.Seq] && p.SenderPubKey != f.own {
			if !c.out.add(wire.Encode(pushOf(&p.Message, p.SenderMemberPubKey), "")) {
				return true, nil // full: write it out first
			}
			f.add(p)
		}
		f.resume = p.Seq
	}
	f.behind = len(page) == ask.Limit || f.declined != declined
	for topicID := range f.topics {
		advanced = append(advanced, f.advance(topicID)...)
	}
	return f.behind || len(page) > 0, advanced
}

// acked settles a push by its message id. It reports whether the push was this
// connection's.
func (f *feed) acked(messageID string) ([]settling, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks = true
	seq, ours := f.byID[messageID]
	if !ours {
		return nil, false
	}
	return f.settle(seq), true
}

// settle ends the way of a message and returns what to record. mu is held.
func (f *feed) settle(seq int64) []settling {
	p := f.unsettled[seq]
	delete(f.byID, p.id)
	if !p.exhausted {
		f.open--
	}
	p.settled = true
	if p.topicID != "" {
		return f.advance(p.topicID)
	}
	return []settling{{store.Settlement{Seq: seq, SessionKey: p.sessionKey}, []int64{seq}}}
}

// advance returns the step that the cursor of a topic can make: over all settled
// pushes at the start of its queue, as far as nothing older can still be in the
// store. While the recipient is busy something may be held anywhere. mu is held.
func (f *feed) advance(topicID string) []settling {
	queue, safe := f.topics[topicID], f.high
	if f.behind {
		safe = f.resume
	}
	if f.urgent {
		return nil
	}
	done := 0
	for done < len(queue) && queue[done] <= safe && f.unsettled[queue[done]].settled {
		done++
	}
	if done == 0 {
		return nil
	}
	if f.topics[topicID] = queue[done:]; done == len(queue) {
		delete(f.topics, topicID)
	}
	return []settling{{store.Settlement{Seq: queue[done-1], TopicID: topicID}, queue[:done:done]}}
}

// answered settles everything that was pushed before a ping that the peer
// answered, if it is one that never acks (protocol section 5, guarantee 3).
func (f *feed) answered(pinged time.Time) (all []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.acks {
		return nil
	}
	var seqs []int64
	for seq, p := range f.unsettled {
		if !p.settled && !p.at.After(pinged) {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		all = append(all, f.settle(seq)...)
	}
	return all
}

// overdue returns what was pushed and not acked for so long that it is to be
// pushed again.
func (f *feed) overdue(now time.Time, after time.Duration) (seqs []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.acks {
		return nil
	}
	for seq, p := range f.unsettled {
		switch {
		case p.settled || p.exhausted || now.Sub(p.at) < after:
		case p.tries <= maxRedeliveries:
			seqs = append(seqs, seq)
		default:
			p.exhausted = true
			f.open--
		}
	}
	slices.Sort(seqs)
	return seqs[:min(len(seqs), feedPage)]
}

// redeliver pushes again what the peer did not ack in time, as far as it still
// waits: another connection of the member may have settled it. It runs on the
// write loop.
func (c *conn) redeliver(now time.Time) {
	f := c.feed.Load()
	if f == nil {
		return
	}
	seqs := f.overdue(now, c.b.cfg.Limits.AckTimeout)
	if len(seqs) == 0 {
		return
	}
	waiting, err := c.b.db.Pending(context.Background(), f.box, store.Waiting{Only: seqs, Limit: len(seqs)})
	if err != nil {
		c.log.Error("waiting messages could not be read", "err", err)
		return
	}
	c.record(f, c.repeat(f, seqs, waiting, now))
}

// repeat pushes again those of seqs that still wait; the others were settled
// elsewhere.
func (c *conn) repeat(f *feed, seqs []int64, waiting []store.Pending, now time.Time) (elsewhere []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	still := map[int64]bool{}
	for i := range waiting {
		p := &waiting[i]
		still[p.Seq] = true
		if on := f.unsettled[p.Seq]; on != nil && !on.settled && c.out.add(wire.Encode(pushOf(&p.Message, p.SenderMemberPubKey), "")) {
			on.at, on.tries = now, on.tries+1
		}
	}
	for _, seq := range seqs {
		if on := f.unsettled[seq]; on != nil && !still[seq] {
			elsewhere = append(elsewhere, f.settle(seq)...)
		}
	}
	return elsewhere
}

// gate opens or closes the feed to what is not urgent. Opening it starts a pass
// over everything that waits, for what was held.
func (c *conn) gate(urgent bool) {
	f := c.feed.Load()
	f.mu.Lock()
	opens := f.urgent && !urgent
	f.urgent = urgent
	if opens {
		f.behind, f.resume = true, 0
		f.declined++
	}
	f.mu.Unlock()
	if opens {
		c.out.ring()
	}
}

// wake starts a pass over everything that waits.
func (c *conn) wake() {
	f := c.feed.Load()
	f.mu.Lock()
	f.behind, f.resume = true, 0
	f.declined++
	f.mu.Unlock()
	c.out.ring()
}

// record stores settlements, and goes on with what had no room before.
func (c *conn) record(f *feed, all []settling) {
	if len(all) > 0 {
		c.store(f, all)
	}
	f.mu.Lock()
	more := f.behind && f.open < feedWindow
	f.mu.Unlock()
	if more {
		c.out.ring()
	}
}

// store hands settlements to the store and does not wait.
func (c *conn) store(f *feed, all []settling) {
	settlements := make([]store.Settlement, len(all))
	for i, s := range all {
		settlements[i] = s.Settlement
	}
	c.b.db.Settle(f.box.MemberID, settlements, time.Now(), func(err error) {
		if err != nil { // it will be delivered once more, on the next hello
			c.log.Warn("delivery not recorded", "err", err)
			return
		}
		f.forget(all)
	})
}

// forget drops what is settled on disk.
func (f *feed) forget(all []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range all {
		for _, seq := range s.seqs {
			delete(f.unsettled, seq)
			if f.reading != nil {
				f.reading[seq] = true // the page may be older than the commit
			}
		}
	}
}
