package main

import (
	"errors"
	"fmt"
	"sync"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// What the crash suite knows of what was sent, and checks of what arrives.

// letter is one message as its sender means it.
type letter struct {
	text   string
	stream string // of its sender, priority and kind of addressee: has an order
	number int    // in the order of sending
	to     map[string]bool
	frame  wire.Send

	// owned by book.mu
	id      string // its messageId, as far as anybody saw it
	acked   bool
	arrived bool // somebody got it
}

// book knows what was sent, and who got what.
type book struct {
	mu       sync.Mutex
	letters  map[string]*letter // by text
	texts    map[string]string  // by messageId
	current  []*letter          // of this round
	posts    map[string]int     // by topic, in this round
	desks    []*desk
	found    []string
	arrivals int // all, repeated ones too
	repeated int
	unknown  int // letters that were stored and not acked, as far as their sender knows
}

// desk is where what one connection, or a line of them, is pushed arrives.
type desk struct {
	book   *book
	name   string
	member *villager
	counts bool // what arrives here has reached the member

	seen  map[string]bool
	first []*letter // of this round, in the order of their first arrival
}

func newBook() *book {
	return &book{letters: map[string]*letter{}, texts: map[string]string{}}
}

func (b *book) desk(name string, m *villager, counts bool) *desk {
	d := &desk{book: b, name: name, member: m, counts: counts, seen: map[string]bool{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.desks = append(b.desks, d)
	return d
}

// newRound forgets the order of what has arrived everywhere.
func (b *book) newRound() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current, b.posts = nil, map[string]int{}
	lasting := b.desks[:0]
	for _, d := range b.desks {
		d.first = nil
		if d.counts {
			lasting = append(lasting, d)
		}
	}
	b.desks = lasting
}

func (b *book) add(l *letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.letters[l.text] = l
	b.current = append(b.current, l)
}

func (b *book) mayPost(topic string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.posts[topic]++
	return b.posts[topic] <= perTopicRound
}

func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noteLocked(format, args...)
}

func (b *book) noteLocked(format string, args ...any) {
	if b.found = append(b.found, fmt.Sprintf(format, args...)); len(b.found) > 50 {
		b.found = b.found[:50]
	}
}

// noteRefusal notes a hello that was refused for good: that is no broken link.
func (b *book) noteRefusal(who string, err error) {
	if rejected, ok := errors.AsType[*peer.Rejected](err); ok && rejected.Final() {
		b.note("%s is refused: %v", who, rejected)
	}
}

// acked notes what a sender was told.
func (b *book) acked(l *letter, ack *wire.Ack) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ack.Queued {
		b.noteLocked("%s to %s was refused: %s", l.text, l.frame.TargetSpec, ack.Error)
		return
	}
	l.acked = true
	b.identify(l, ack.MessageID, "acked")
}

// identify notes that l has this messageId; b.mu is held.
func (b *book) identify(l *letter, id, how string) {
	if l.id == "" && b.texts[id] == "" {
		l.id, b.texts[id] = id, l.text
	}
	if l.id != id || b.texts[id] != l.text {
		b.noteLocked("%s was %s as %s, and is %s, which is %s", l.text, how, id, l.id, b.texts[id])
	}
}

// take notes a push and reports whether it was a message.
func (d *desk) take(p *wire.Push) bool {
	if p.Subtype == "system" {
		return false
	}
	text, err := peer.Decode(p.Ciphertext, p.BodyVersion)
	if err != nil || text == "remember my key" {
		return true
	}
	d.book.mu.Lock()
	defer d.book.mu.Unlock()
	l := d.book.letters[text]
	switch {
	case l == nil:
		d.book.noteLocked("%s got %q, which nobody sent", d.member.DisplayName, text)
		return true
	case !l.to[d.member.DisplayName]:
		d.book.noteLocked("%s got %s, which was for %s", d.member.DisplayName, text, l.frame.TargetSpec)
	}
	d.book.identify(l, p.MessageID, "pushed")
	d.book.arrivals++
	l.arrived = true
	if d.seen[text] {
		d.book.repeated++
		return true
	}
	d.seen[text] = true
	d.first = append(d.first, l)
	return true
}

// missing names a message that has not reached everybody it is for.
func (b *book) missing() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.current {
		for name := range l.to {
			if (l.acked || l.arrived) && !b.reached(name, l.text) {
				return fmt.Sprintf("%s to %s (acked: %t) has not reached %s", l.text, l.frame.TargetSpec, l.acked, name)
			}
		}
	}
	return ""
}

func (b *book) reached(name, text string) bool {
	for _, d := range b.desks {
		if d.counts && d.member.DisplayName == name && d.seen[text] {
			return true
		}
	}
	return false
}

// problems returns what was noted in this round, and what came out of order.
func (b *book) problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.desks {
		last := map[string]*letter{}
		for _, l := range d.first {
			if !l.acked {
				continue
			}
			if before := last[l.stream]; before != nil && before.number > l.number {
				b.noteLocked("%s got %s after %s (%s, to %s)", d.name, l.text, before.text, l.stream, l.frame.TargetSpec)
			}
			last[l.stream] = l
		}
	}
	for _, l := range b.current {
		if l.arrived && !l.acked {
			b.unknown++
		}
	}
	return b.found
}

func (b *book) summary() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	acked := 0
	for _, l := range b.letters {
		if l.acked {
			acked++
		}
	}
	return fmt.Sprintf("%d sends, %d acked, %d stored without their sender knowing, %d arrivals, %d of them repeated",
		len(b.letters), acked, b.unknown, b.arrivals, b.repeated)
}
