package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Settling (protocol section 5, guarantee 3): a push is delivered when the peer
// acks it, or, if it is one that never acks, when it answers a later ping. What
// is not acked in time is pushed again.

// settling is a settlement on its way to the disk. Until it is there, the store
// still calls these messages waiting, and they must not be pushed again.
type settling struct {
	store.Settlement
	seqs []int64
}

// handleClientAck settles a push. It is not waited for: an ack that is lost
// means one more delivery, not one less.
func (c *conn) handleClientAck(m *wire.ClientAck) {
	f := c.feed.Load()
	handedBy := ""
	if slices.Contains(wire.Hearings, m.HandedBy) {
		handedBy = m.HandedBy
	}
	if settled, ours := f.acked(m.BrokerMessageID, m.ClientMessageID, handedBy); ours {
		c.record(f, settled)
		return
	}
	if m.BrokerMessageID == "" {
		return
	}
	c.b.db.SettleByID(f.box, m.BrokerMessageID, handedBy, time.Now(), func(err error) {
		if err != nil {
			c.log.Warn("client_ack not recorded", "err", err)
			return
		}
		c.b.ledger.changed(func(sent store.Message) bool { return sent.ID == m.BrokerMessageID })
	})
}

// acked settles a push by its message id, or else by its sender's id of it. It
// reports whether the push was this connection's.
func (f *feed) acked(messageID, clientID, handedBy string) ([]settling, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks = true
	if seq, ours := f.byID[messageID]; ours {
		f.unsettled[seq].handedBy = handedBy
		return f.settle(seq), true
	}
	if messageID != "" || clientID == "" {
		return nil, false
	}
	for seq, p := range f.unsettled {
		if p.clientID == clientID && !p.settled {
			p.handedBy = handedBy
			return f.settle(seq), true
		}
	}
	return nil, false
}

// answered settles everything that was pushed before a ping that the peer
// answered, if it is one that never acks.
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
	return []settling{{store.Settlement{Seq: seq, SessionKey: p.sessionKey, PushedAt: p.first, HandedBy: p.handedBy}, []int64{seq}}}
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
	step := store.Settlement{Seq: queue[done-1], TopicID: topicID, Floor: f.floors[topicID], Handed: f.handed(queue[:done])}
	return []settling{{step, queue[:done:done]}}
}

// handed returns the stretches of some messages of a topic that an agent was given.
// mu is held.
func (f *feed) handed(seqs []int64) (all []store.Handed) {
	before := "" // how the message before was handed
	for _, seq := range seqs {
		by := f.unsettled[seq].handedBy
		switch {
		case by == "":
		case by == before:
			all[len(all)-1].Upto = seq
		default:
			all = append(all, store.Handed{From: seq, Upto: seq, By: by})
		}
		before = by
	}
	return all
}

// record stores settlements, and goes on with what had no room before.
func (c *conn) record(f *feed, all []settling) {
	if len(all) > 0 {
		c.keep(f, all)
	}
	f.mu.Lock()
	more := f.behind && f.open < feedWindow
	f.mu.Unlock()
	if more {
		c.out.ring()
	}
}

// keep hands settlements to the store and does not wait.
func (c *conn) keep(f *feed, all []settling) {
	settlements := make([]store.Settlement, len(all))
	for i, s := range all {
		settlements[i] = s.Settlement
	}
	c.b.db.Settle(f.box.MemberID, settlements, time.Now(), func(err error) {
		if err != nil {
			c.log.Warn("delivery not recorded", "err", err)
			c.keepLater(f, all, err)
			return
		}
		f.forget(all)
		c.b.ledger.settled(all)
	})
}

// keepLater has settlements stored that the store could not take, also when the
// connection has ended meanwhile: what was acked is not to come again. Those of
// one connection wait together. If the broker ends first, it comes again.
func (c *conn) keepLater(f *feed, all []settling, err error) {
	if errors.Is(err, store.ErrClosed) {
		return
	}
	f.mu.Lock()
	waits := len(f.unkept) > 0
	f.unkept = append(f.unkept, all...)
	f.mu.Unlock()
	if waits {
		return // a timer runs
	}
	time.AfterFunc(retryWrite, func() {
		f.mu.Lock()
		all := f.unkept
		f.unkept = nil
		f.mu.Unlock()
		c.keep(f, all)
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

// checkOverdue has the write loop repeat what was not acked in time. The sweeper
// calls it.
func (c *conn) checkOverdue(now time.Time) {
	f := c.feed.Load()
	if f == nil {
		return
	}
	if seqs, freed := f.takeOverdue(now, c.b.cfg.Limits.AckTimeout); len(seqs) > 0 {
		c.overdue.Store(&seqs)
	} else if !freed {
		return
	}
	c.out.ring()
}

// takeOverdue returns what is to be pushed again. Pushes that were repeated
// often enough it closes, which frees room for others.
func (f *feed) takeOverdue(now time.Time, after time.Duration) (seqs []int64, freed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.acks {
		return nil, false
	}
	for seq, p := range f.unsettled {
		switch {
		case p.settled || p.exhausted || now.Sub(p.at) < after || f.urgent && !p.now:
		case p.tries <= maxRedeliveries:
			seqs = append(seqs, seq)
		default:
			p.exhausted, freed = true, true
			f.open--
		}
	}
	slices.Sort(seqs)
	return seqs[:min(len(seqs), feedPage)], freed
}

// redeliver pushes again what the peer did not ack in time, as far as it still
// waits: another connection of the member may have settled it. It runs on the
// write loop.
func (c *conn) redeliver(seqs []int64) {
	f := c.feed.Load()
	waiting, err := c.b.db.StillPending(context.Background(), f.box, seqs)
	if err != nil {
		c.log.Error("waiting messages could not be read", "err", err)
		return
	}
	c.record(f, c.repeat(f, seqs, waiting))
}

// repeat pushes again those of seqs that still wait; the others were settled
// elsewhere.
func (c *conn) repeat(f *feed, seqs []int64, waiting []store.Pending) (elsewhere []settling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	still := map[int64]bool{}
	for i := range waiting {
		p := &waiting[i]
		still[p.Seq] = true
		if on := f.unsettled[p.Seq]; on != nil && !on.settled && c.out.add(wire.Encode(pushOf(&p.Message, p.SenderMemberPubKey), "")) {
			on.at, on.tries = time.Now(), on.tries+1
		}
	}
	for _, seq := range seqs {
		if on := f.unsettled[seq]; on != nil && !on.settled && !still[seq] {
			elsewhere = append(elsewhere, f.settle(seq)...)
		}
	}
	return elsewhere
}
