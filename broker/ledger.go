package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// The ledger (protocol section 5): what became of each copy of a message.
//
//	stored ──▶ pushed ──▶ acked, or handed by who says so with the ack
//	   └──────────┴─────▶ expired          dropped_by_grant
//
// The store has it all but the pushes of the last seconds, which live
// connections know: writing each of them down would double the writes of a
// message that is acked a moment later.

const (
	minPrefix = 8               // characters of a message id that may stand for it
	noteAfter = 5 * time.Second // a push that is not acked for so long is written down
)

// findMessage returns a message that the member of r may ask about, or answers
// why not.
func (r request) findMessage(id string) (store.Message, bool) {
	if len(id) < minPrefix || len(id) > wire.MaxIDLen {
		r.fail(wire.InvalidArgument, fmt.Sprintf("The messageId must be a message's id, or its first %d or more characters.", minPrefix))
		return store.Message{}, false
	}
	_ = r.b.db.Update(func(*store.Tx) error { return nil }) // acks that came before are on disk now
	m, err := r.b.db.FindMessage(context.Background(), r.presence.meshID, r.presence.member.ID, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.NotFound, "There is no message with this id that you sent or that was for you; delivered ones are removed after a while.")
	case errors.Is(err, store.ErrAmbiguous):
		r.fail(wire.AmbiguousPrefix, "Several messages have an id that begins so; give more of it.")
	case err != nil:
		r.storeFailed(err)
	}
	return m, err == nil
}

func (r request) messageStatus(m *wire.MessageStatus) {
	message, ok := r.findMessage(m.MessageID)
	if !ok {
		return
	}
	copies, err := r.b.copies(message)
	if err != nil {
		r.storeFailed(err)
		return
	}
	if own := r.presence.member.ID; message.SenderMemberID != own { // whom others block is not a recipient's business
		copies = slices.DeleteFunc(copies, func(c store.Copy) bool { return c.MemberID != own })
	}
	result := &wire.MessageStatusResult{
		MessageID: message.ID, TargetSpec: message.TargetSpec, CreatedAt: wire.Time(message.CreatedAt),
		Delivered: len(copies) > 0, Recipients: r.b.describe(r.presence, copies),
	}
	var last time.Time
	for _, c := range copies {
		result.Delivered = result.Delivered && c.Outcome == store.OutcomeAcked
		if c.SettledAt.After(last) {
			last = c.SettledAt
		}
	}
	if result.Delivered {
		result.DeliveredAt = wire.OptionalTime(last)
	}
	r.answer(result)
}

// copies returns what became of a message, with what only live connections know.
func (b *Broker) copies(m store.Message) ([]store.Copy, error) {
	copies, err := b.db.Copies(context.Background(), m)
	if err != nil {
		return nil, err
	}
	for i := range copies {
		c := &copies[i]
		if c.Outcome != "" || !c.PushedAt.IsZero() {
			continue
		}
		for _, conn := range b.connsOf(c.MemberID) {
			if at := conn.feed.Load().pushedAt(m.Seq); c.PushedAt.IsZero() || !at.IsZero() && at.Before(c.PushedAt) {
				c.PushedAt = at
			}
		}
	}
	return copies, nil
}

// pushedAt is when a message that is not settled was first pushed on this
// connection, zero if it was not.
func (f *feed) pushedAt(seq int64) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.unsettled[seq]; p != nil {
		return p.first
	}
	return time.Time{}
}

// describe is copies as the wire has them for who asks: a member that does not
// let the asker see it is away.
func (b *Broker) describe(asking *presence, copies []store.Copy) []wire.Copy {
	hiding := b.grants.deny(asking.member.PubKey, "read")
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]wire.Copy, len(copies))
	for i, c := range copies {
		list[i] = wire.Copy{
			Name: c.Name, Pubkey: cmp.Or(c.SessionKey, c.PubKey), State: stateOf(c),
			PushedAt: wire.OptionalTime(c.PushedAt), SettledAt: wire.OptionalTime(c.SettledAt), Seen: c.Seen, HandedBy: c.HandedBy,
		}
		switch {
		case c.Outcome == store.OutcomeAcked:
			list[i].Status = wire.StatusDelivered
		case c.Outcome == "" && !hiding[c.MemberID] && b.rooms[asking.meshID].isConnected(c.Recipient):
			list[i].Status = wire.StatusHeld
		default:
			list[i].Status = wire.StatusDisconnected
		}
	}
	return list
}

// isConnected reports whether a recipient has a live connection. Broker.mu is
// held.
func (r *room) isConnected(to store.Recipient) bool {
	if r == nil {
		return false
	}
	for p := range r.byMember[to.MemberID] {
		if p.conn != nil && (to.SessionKey == "" || p.sessionKey == to.SessionKey) {
			return true
		}
	}
	return false
}

func stateOf(c store.Copy) string {
	switch {
	case c.Outcome == store.OutcomeAcked && c.HandedBy != "":
		return wire.CopyHanded
	case c.Outcome != "":
		return c.Outcome
	case !c.PushedAt.IsZero():
		return wire.CopyPushed
	}
	return wire.CopyStored
}

// notePushes has the store remember pushes that were not acked soon: all of
// them when the connection ends, else those older than noteAfter.
func (c *conn) notePushes(before time.Time) {
	f := c.feed.Load()
	if f == nil {
		return
	}
	pushes := f.takeUnnoted(before)
	if len(pushes) == 0 {
		return
	}
	c.b.db.NotePushes(f.box.MemberID, pushes, func(err error) {
		if err != nil {
			c.log.Warn("pushes not recorded", "err", err)
		}
	})
}

// takeUnnoted returns the pushes made before a time that the store does not know
// of. Those of topics it never does.
func (f *feed) takeUnnoted(before time.Time) (all []store.Push) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for seq, p := range f.unsettled {
		if !p.noted && !p.settled && p.topicID == "" && p.first.Before(before) {
			p.noted = true
			all = append(all, store.Push{Seq: seq, SessionKey: p.sessionKey, At: p.first})
		}
	}
	return all
}
