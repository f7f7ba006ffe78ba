package mcp

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

const (
	maxUnread = 2_000    // messages kept for the agent: more than the broker pushes without an ack
	maxKnown  = 5_000    // ids of messages that were handed over, as pushes may repeat
	maxRecent = 200      // messages that can be answered by their id
	handBytes = 48 << 10 // of text handed over at once: clients cut longer results
)

// inbox is what was pushed and not handed to the agent yet.
type inbox struct {
	mu     sync.Mutex
	unread []*letter
	recent []*letter       // handed over, oldest first
	known  map[string]bool // ids of all that were in unread since the last clearing
	arrive chan struct{}   // rings when something came; capacity 1
}

// letter is a message that was pushed.
type letter struct {
	push *wire.Push
	text string
	err  error // it cannot be read

	sealed bool // encrypted to a key: for this member alone
	forMe  bool // see session.isForMe; of thousands it is not found out with every tool call

	// owned by ring
	admitted  bool // the guard lets it through
	channeled bool // the channel was told of it

	// guarded by inbox.mu
	announced bool      // it was looked at for waking
	heard     wake.Tier // how the agent heard of it, "" for not yet

	handedBy wake.Tier // heard, of one that was taken
}

func newInbox() *inbox {
	return &inbox{known: map[string]bool{}, arrive: make(chan struct{}, 1)}
}

// add takes a push, and reports whether it is new and kept.
func (b *inbox) add(c *peer.Conn, push *wire.Push, isForMe func(*letter) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[push.MessageID] || len(b.unread) >= maxUnread {
		return false // the broker repeats what is not acked
	}
	if len(b.known) >= maxKnown {
		clear(b.known)
		for _, l := range b.unread {
			b.known[l.push.MessageID] = true
		}
	}
	b.known[push.MessageID] = true
	l := &letter{push: push, sealed: isSealed(push)}
	l.text, l.err = c.Text(push)
	l.forMe = isForMe(l)
	b.unread = append(b.unread, l)
	b.ring()
	return true
}

// ring says that something is to be looked at. It does not block.
func (b *inbox) ring() {
	select {
	case b.arrive <- struct{}{}:
	default:
	}
}

// handed reports whether a message was handed over, and how the agent had heard of it:
// its ack may have got lost with the connection, and the broker pushes it again.
func (b *inbox) handed(messageID string) (by wake.Tier, handed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := func(l *letter) bool { return l.push.MessageID == messageID }
	if !b.known[messageID] || slices.ContainsFunc(b.unread, is) {
		return "", false
	}
	if at := slices.IndexFunc(b.recent, is); at >= 0 {
		return b.recent[at].handedBy, true
	}
	return wake.NextToolCall, true
}

// unannounced returns those that wait and are to be announced, each once.
func (b *inbox) unannounced(which func(*letter) bool) (all []*letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.unread {
		if !l.announced && which(l) {
			all = append(all, l)
		}
		l.announced = true
	}
	return all
}

// hear notes how the agent came to hear of letters.
func (b *inbox) hear(letters []*letter, by wake.Tier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range letters {
		l.heard = by
	}
}

// waiting returns those letters that were not taken yet.
func (b *inbox) waiting(letters []*letter) (all []*letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range letters {
		if slices.Contains(b.unread, l) {
			all = append(all, l)
		}
	}
	return all
}

// unannounce has messages announced once more: nobody heard.
func (b *inbox) unannounce(letters []*letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range letters {
		l.announced = false
	}
}

// count returns how many messages wait, and how many of them are for this agent
// in particular.
func (b *inbox) count() (all, mine int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.unread {
		if l.forMe {
			mine++
		}
	}
	return len(b.unread), mine
}

// take hands over the oldest messages that fit, and reports how many stay.
func (b *inbox) take() (handed []*letter, left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, n := 0, 0
	for ; n < len(b.unread); n++ {
		if size += len(b.unread[n].text); n > 0 && size > handBytes {
			break
		}
	}
	handed = slices.Clone(b.unread[:n])
	for _, l := range handed {
		l.handedBy = cmp.Or(l.heard, wake.NextToolCall)
	}
	b.unread = slices.Delete(b.unread, 0, n)
	b.recent = append(b.recent, handed...)
	if surplus := len(b.recent) - maxRecent; surplus > 0 {
		b.recent = slices.Delete(b.recent, 0, surplus)
	}
	return handed, len(b.unread)
}

// find returns the message whose id begins so, if exactly one that came here does.
func (b *inbox) find(prefix string) *letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found *letter
	for _, l := range slices.Concat(b.recent, b.unread) {
		if len(prefix) >= minIDPrefix && len(prefix) <= len(l.push.MessageID) && l.push.MessageID[:len(prefix)] == prefix {
			if found != nil && found != l {
				return nil
			}
			found = l
		}
	}
	return found
}

// minIDPrefix is how much of a message's id names it: ids of one hour begin alike.
const minIDPrefix = 8

// putBack undoes a take: the agent was not given them after all, and is told anew.
func (b *inbox) putBack(letters []*letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range letters {
		l.announced = false
	}
	b.ring()
	b.unread = slices.Concat(letters, b.unread)
	b.recent = b.recent[:len(b.recent)-min(len(b.recent), len(letters))]
}

// readUpTo returns, for each topic of the handed messages, up to which one was read:
// not beyond one of that topic that still waits.
func (b *inbox) readUpTo(handed []*letter) map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	waits := map[string]string{} // topic → the oldest id that waits
	for _, l := range b.unread {
		if oldest := waits[l.push.Topic]; oldest == "" || l.push.MessageID < oldest {
			waits[l.push.Topic] = l.push.MessageID
		}
	}
	marks := map[string]string{}
	for _, l := range handed {
		topic, id := l.push.Topic, l.push.MessageID
		if oldest := waits[topic]; topic != "" && id > marks[topic] && (oldest == "" || id < oldest) {
			marks[topic] = id
		}
	}
	return marks
}

// settle tells the broker that messages were handed over: acks, and the read mark
// of each topic. What fails does not keep the rest from it.
func settle(ctx context.Context, c *peer.Conn, handed []*letter, marks map[string]string) error {
	var all []error
	for _, l := range handed {
		all = append(all, c.AckHanded(ctx, l.push, string(l.handedBy)))
	}
	for topic, id := range marks {
		_, err := c.Request(ctx, &wire.TopicMarkRead{Topic: topic, MessageID: id})
		all = append(all, err)
	}
	return errors.Join(all...)
}
