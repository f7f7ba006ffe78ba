package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// feed is how messages get from the store to one connection. There is one way,
// for what was stored long ago and for what was committed just now: everything
// that waits, in the order in which it was accepted.
//
//	          offer: no room                      ┌────────┐ page after page
//	┌─────────┐ ───────────────────▶ ┌──────────┐ │        │
//	│ caught  │                      │  behind  │ ┘ catchUp
//	│   up    │ ◀─────────────────── │          │ ◀─ hello, wake, gate opens:
//	└─────────┘ a short page, and    └──────────┘    a pass from the start
//	 offer pushes   nothing declined
//
// Caught up, each message is offered to it right after its commit, and pushed.
// Behind, its write loop reads what comes after resume from the store. What is
// not pushed stays on disk, so slow means late and never lost.
//
// Siblings: the cursor of a topic is the member's, and another connection of it
// may ack what this one has not read yet, being behind, or has held, being busy. What
// was said in a topic since the hello is pushed all the same: a peer that asked the
// history when it was greeted would miss it otherwise. Who comes back to its presence
// goes on where it was. What its own member said by another connection is pushed to
// one that asks for it (wire.CapSiblings), and waits for nobody.
//
// Invariants: everything that waits and may pass, up to resume while behind and
// up to high else, was pushed on this connection. A message is pushed at most
// once per pass, because it is in unsettled until the disk says that it is
// settled; only redelivery repeats it, and a pass for what was held may.
type feed struct {
	box   store.Mailbox
	since int64 // what was stored before, the peer asks the history for; see the note on siblings
	own   bool  // it gets what other connections of its member say in topics

	mu        sync.Mutex
	behind    bool              // the store may hold more than was pushed
	resume    int64             // the next catch-up asks for what comes after this seq
	high      int64             // the newest seq that was pushed, or sent by this connection
	passed    int64             // up to this seq everything was pushed that may be; it only grows
	held      int64             // from this seq on messages may have been held; 0: none was
	declined  int               // counts offers not taken, for a catch-up to see that more came
	reading   map[int64]bool    // seqs settled on disk while a page is read; nil: none is
	floors    map[string]int64  // by topic id: older messages are left to history
	trimmed   bool              // floors were looked up, or need not be
	urgent    bool              // the recipient is busy: only priority now passes
	hidden    bool              // the recipient is hidden: no broadcasts and group messages
	mine      map[string]bool   // ids of messages this connection sent to its own member: for its siblings
	acks      bool              // the peer acks what it gets
	open      int               // pushes that may still be acked: at most feedWindow
	unsettled map[int64]*pushed // by seq
	byID      map[string]int64  // message id → seq, of those not settled
	topics    map[string][]int64
	unkept    []settling // the store could not take them: see keepLater
}

// pushed is a message that was pushed on this connection and is not settled on
// disk.
type pushed struct {
	id         string
	clientID   string // the sender's client_message_id
	now        bool   // of priority now
	sessionKey string // of the delivery's row
	topicID    string // "" for a row; else its seq is in topics, ascending
	first      time.Time
	at         time.Time // the latest time
	tries      int
	noted      bool // the store knows that it was pushed
	settled    bool // but not yet on disk
	handedBy   string
	exhausted  bool // pushed often enough: it no longer counts as open
}

// newFeed is that of a presence which just arrived and has what was stored before
// since, or asks the history for it. Broker.mu is held.
func newFeed(p *presence, since int64) *feed {
	f := &feed{
		box:    store.Mailbox{MemberID: p.member.ID, SessionKey: p.sessionKey},
		since:  since,
		own:    p.wants(wire.CapSiblings),
		passed: since - 1,
		acks:   slices.Contains(p.client.Capabilities, wire.CapClientAck),
		urgent: p.status != wire.StatusIdle && !p.wants(wire.CapUnheld),
		hidden: !p.visible,
		behind: true, // what came before is waiting
		mine:   map[string]bool{}, unsettled: map[int64]*pushed{}, byID: map[string]int64{}, topics: map[string][]int64{},
	}
	if f.urgent {
		f.held = since
	}
	return f
}

// offer pushes a message that was just committed, unless the connection is
// behind or busy. It runs on the store's goroutine and does not block.
func (c *conn) offer(p *store.Pending, frame []byte) {
	f := c.feed.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Seq <= f.high || f.isOwn(p) {
		return // a catch-up was faster, or it was sent before a reconnect
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
	f.passed = max(f.passed, f.high)
	c.b.ledger.pushed(p.Seq)
}

// sent notes that a message of this connection was committed: it has that.
func (c *conn) sent(seq int64) {
	f := c.feed.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.behind && !f.urgent { // else what came before is to be pushed yet
		f.high = max(f.high, seq)
		f.passed = max(f.passed, f.high)
	}
}

// add notes that a message was pushed. mu is held.
func (f *feed) add(p *store.Pending) {
	f.high = max(f.high, p.Seq)
	f.open++
	now := time.Now()
	f.unsettled[p.Seq] = &pushed{
		id: p.ID, clientID: p.ClientMessageID, now: p.Priority == wire.PriorityNow,
		sessionKey: p.SessionKey, topicID: p.TopicID, first: now, at: now, tries: 1,
	}
	f.byID[p.ID] = p.Seq
	if p.TopicID != "" {
		queue := f.topics[p.TopicID]
		at, _ := slices.BinarySearch(queue, p.Seq)
		f.topics[p.TopicID] = slices.Insert(queue, at, p.Seq)
	}
}

// takes reports whether a message that waits may be pushed on this connection
// now. What is not taken waits on. mu is held.
func (f *feed) takes(p *store.Pending) bool {
	toMany := p.TopicID == "" && !identity.IsPublicKey(p.TargetSpec)
	return f.unsettled[p.Seq] == nil && !f.isOwn(p) && !(f.hidden && toMany)
}

// catchUp pushes a page of what waits in the store. It runs on the write loop
// and reports whether it queued something, or should be called again.
func (c *conn) catchUp() bool {
	f := c.feed.Load()
	if f == nil {
		return false
	}
	f.mu.Lock()
	room, trimmed, declined := feedWindow-f.open, f.trimmed, f.declined
	if !f.behind || room <= 0 {
		f.mu.Unlock()
		return false
	}
	ask := store.Waiting{After: f.resume, Floors: f.floors, Urgent: f.urgent, Limit: min(room, feedPage), Since: f.anew(), Own: f.own}
	f.reading = map[int64]bool{}
	f.mu.Unlock()

	page, floors, err := c.readPage(f.box, ask, trimmed)
	if err != nil {
		c.log.Error("waiting messages could not be read", "err", err)
		time.AfterFunc(retryRead, c.out.ring)
		return false
	}
	more, advanced := c.pushPage(f, page, floors, ask, declined)
	c.record(f, advanced)
	return more
}

// readPage reads what waits. When that is much for the first time, older
// messages of topics than the newest topicBacklog are left to history.
func (c *conn) readPage(box store.Mailbox, ask store.Waiting, trimmed bool) (page []store.Pending, floors map[string]int64, err error) {
	page, err = c.b.db.Pending(context.Background(), box, ask)
	if err != nil || trimmed || len(page) < ask.Limit {
		return page, ask.Floors, err
	}
	if ask.Floors, err = c.b.db.Floors(context.Background(), box.MemberID, topicBacklog); err != nil {
		return nil, nil, err
	}
	page, err = c.b.db.Pending(context.Background(), box, ask)
	return page, ask.Floors, err
}

// pushPage pushes what catchUp read, and returns whether to go on and which
// cursors can move.
func (c *conn) pushPage(f *feed, page []store.Pending, floors map[string]int64, ask store.Waiting, declined int) (more bool, advanced []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := f.reading
	f.reading, f.floors, f.trimmed = nil, floors, true
	if ask.After != f.resume || ask.Urgent != f.urgent {
		return true, nil // a new pass was started meanwhile
	}
	for i := range page {
		p := &page[i]
		if !gone[p.Seq] && f.takes(p) {
			if !c.out.add(wire.Encode(pushOf(&p.Message, p.SenderMemberPubKey), "")) {
				return true, nil // full: write it out first
			}
			f.add(p)
			c.b.ledger.pushed(p.Seq)
		}
		f.resume = p.Seq
		f.passed = max(f.passed, f.resume)
	}
	f.behind = len(page) == ask.Limit || f.declined != declined
	if !f.behind && !f.urgent {
		f.held = 0
	}
	for topicID := range f.topics {
		advanced = append(advanced, f.advance(topicID)...)
	}
	return f.behind || len(page) > 0, advanced
}

// isCaughtUp reports whether the connection was greeted and has what waited.
func (c *conn) isCaughtUp() bool {
	f := c.feed.Load()
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.behind
}

// gate opens or closes the feed to what is not urgent. Opening it starts a pass
// from the start, for what was held.
func (c *conn) gate(urgent bool) {
	if urgent && c.presence.wants(wire.CapUnheld) {
		return
	}
	f := c.feed.Load()
	f.mu.Lock()
	opens := f.urgent && !urgent
	if urgent && f.held == 0 {
		f.held = f.passed + 1
	}
	f.urgent = urgent
	f.mu.Unlock()
	if opens {
		c.wake()
	}
}

// hide closes or opens the feed to broadcasts and group messages.
func (c *conn) hide(hidden bool) {
	f := c.feed.Load()
	f.mu.Lock()
	opens := f.hidden && !hidden
	f.hidden = hidden
	f.mu.Unlock()
	if opens {
		c.wake()
	}
}

// wake starts a pass from the start.
func (c *conn) wake() {
	f := c.feed.Load()
	f.mu.Lock()
	f.behind, f.resume = true, 0
	f.declined++
	f.mu.Unlock()
	c.out.ring()
}

// anew is the seq from which on messages of topics are pushed even if another
// connection has acked them. mu is held.
func (f *feed) anew() int64 {
	if f.held > 0 {
		return max(f.since, min(f.held, f.passed+1))
	}
	return max(f.since, f.passed+1)
}

// remains is what a connection that takes the place of an ended one goes on from.
type remains struct {
	since int64           // of topics, nothing before this seq is owed; 0: not known
	mine  map[string]bool // see feed
}

// remains of a feed whose connection has ended. What waits in rows of its own comes
// again by itself.
func (f *feed) remains() remains {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := remains{since: f.passed + 1, mine: maps.Clone(f.mine)}
	if f.held > 0 {
		left.since = min(left.since, f.held)
	}
	for seq, p := range f.unsettled {
		if !p.settled && p.topicID != "" {
			left.since = min(left.since, seq)
		}
	}
	return left
}

// isOwn reports whether a message that waits for this member was sent by this
// connection itself, or by an earlier one of the same session. mu is held.
func (f *feed) isOwn(p *store.Pending) bool {
	return f.mine[p.ID] || f.box.SessionKey != "" && f.box.SessionKey == p.SenderPubKey
}

// sendsToSelf leaves a message of this connection to the other ones of its member.
// It is called before the message is stored, because from then on a catch-up finds
// it.
func (c *conn) sendsToSelf(messageID string) {
	f := c.feed.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.box.SessionKey != "" {
		return // isOwn knows by the key
	}
	if len(f.mine) >= feedWindow {
		delete(f.mine, slices.Min(slices.Collect(maps.Keys(f.mine)))) // ids sort by time
	}
	f.mine[messageID] = true
}
