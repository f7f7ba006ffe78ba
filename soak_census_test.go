package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// What the soak knows of who is a member and of what was sent, and checks of what
// arrives.

// atHome is the state of a member that is connected.
const atHome = "connected"

// soaker is a member.
type soaker struct {
	peer.Identity

	// owned by census.mu
	state     string // of its connection, for who looks for a lost message
	banned    bool
	bannedAt  time.Time // when a ban was through; zero while it is not
	wasBanned bool
	since     int // the census's clock when its latest ban was lifted
	got       map[string]bool
	first     []*parcel // of this round, in the order of their first arrival
}

// parcel is one message as its sender means it.
type parcel struct {
	text    string
	sender  *soaker
	to      *soaker // nil: to all
	stream  string  // has an order
	number  int     // in that
	kept    bool    // it has a client_message_id: it is sent until it is acked, and stays in the file for a day
	frame   wire.Send
	clock   int
	written time.Time

	// owned by census.mu
	id             string
	acked, arrived bool
}

// census knows what was sent, to whom it is owed, and who got what.
type census struct {
	mu      sync.Mutex
	members []*soaker
	round   int
	clock   int                // counts letters and pardons
	letters map[string]*parcel // of this round, by text
	topic   time.Time          // when the latest was posted
	all     time.Time          // likewise
	found   []string

	sent, acked, arrivals, repeated int
}

func (c *census) newRound(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round, c.letters = number, map[string]*parcel{}
	for _, m := range c.members {
		m.got, m.first = map[string]bool{}, nil
	}
}

func (c *census) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked(format, args...)
}

func (c *census) noteLocked(format string, args ...any) {
	if len(c.found) < 50 {
		c.found = append(c.found, fmt.Sprintf(format, args...))
	}
}

func (c *census) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		last := map[string]*parcel{}
		for _, l := range m.first {
			if !l.acked {
				continue
			}
			if before := last[l.stream]; before != nil && before.number > l.number {
				c.noteLocked("%s got %s after %s", m.DisplayName, l.text, before.text)
			}
			last[l.stream] = l
		}
	}
	return c.found
}

func (c *census) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d messages sent, %d acked, %d arrivals, %d of them repeated", c.sent, c.acked, c.arrivals, c.repeated)
}

// write makes a new letter: now and then to all, else to one.
func (c *census) write(m *soaker, number int) *parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.sent++
	now := time.Now()
	l := &parcel{
		text: fmt.Sprintf("%d/%d/%d", c.round, number, c.sent), sender: m, number: c.sent, kept: c.sent%3 > 0,
		clock: c.clock, written: now, frame: wire.Send{Priority: wire.PriorityNext},
	}
	switch {
	case now.Sub(c.topic) > topicEvery:
		c.topic, l.frame.TargetSpec, l.stream = now, "#general", "topic"
	case now.Sub(c.all) > broadcastEvery:
		c.all, l.frame.TargetSpec, l.stream = now, "*", "all"
	default:
		for l.to == nil || l.to == m || l.to.banned {
			l.to = c.members[rand.IntN(len(c.members))]
		}
		l.frame.TargetSpec, l.stream = l.to.Key.Public(), "direct"
	}
	l.stream += m.DisplayName
	l.frame.Nonce, l.frame.Ciphertext = peer.Plain(l.text)
	if l.kept {
		l.frame.ClientMessageID = l.text
	}
	c.letters[l.text] = l
	return l
}

// answered notes what a sender was told.
func (c *census) answered(l *parcel, ack *wire.Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ack.Queued:
		l.acked = true
		c.acked++
		c.identify(l, ack.MessageID)
	case !l.sender.banned && (l.to == nil || c.owes(l, l.to)):
		c.noteLocked("%s to %s was refused: %s", l.text, l.frame.TargetSpec, ack.Error)
	}
}

func (c *census) identify(l *parcel, id string) {
	if l.id == "" {
		l.id = id
	}
	if l.id != id {
		c.noteLocked("%s is %s, and %s too", l.text, l.id, id)
	}
}

// ackedSoFar returns the messages of this round that a backup made from now on must
// have.
func (c *census) ackedSoFar() []string {
	ids := []string{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.letters {
		if l.acked && (l.kept || strings.HasPrefix(l.stream, "topic")) {
			ids = append(ids, l.id)
		}
	}
	return ids
}

// owes reports whether a member must get a letter: it was a member when that was
// written, and is one still.
func (c *census) owes(l *parcel, m *soaker) bool {
	return m != l.sender && (l.to == nil || l.to == m) && !m.banned && m.since < l.clock
}

// take notes a push and reports whether it was a message.
func (c *census) take(m *soaker, p *wire.Push) bool {
	if p.Subtype == "system" {
		return false
	}
	text, err := peer.Decode(p.Ciphertext, p.BodyVersion)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals++
	l := c.letters[text]
	if l == nil {
		round, _, _ := strings.Cut(text, "/")
		if n, bad := strconv.Atoi(round); err != nil || bad != nil || n >= c.round {
			c.noteLocked("%s got %q, which nobody sent (%v)", m.DisplayName, text, err)
		}
		c.repeated++ // or it waited for one who was banned
		return true
	}
	if l.to != nil && l.to != m || l.sender == m {
		c.noteLocked("%s got %s, which was for %s", m.DisplayName, text, l.frame.TargetSpec)
	}
	if m.banned && !m.bannedAt.IsZero() && l.written.After(m.bannedAt.Add(banTime)) {
		c.noteLocked("%s, who is banned, got %s", m.DisplayName, text)
	}
	c.identify(l, p.MessageID)
	l.arrived = true
	if m.got[text] {
		c.repeated++
		return true
	}
	m.got[text] = true
	m.first = append(m.first, l)
	return true
}

// missing names a message that has not reached everybody it is owed to.
func (c *census) missing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.letters {
		if !l.acked && !l.arrived {
			continue
		}
		to := c.members
		if l.to != nil {
			to = []*soaker{l.to}
		}
		for _, m := range to {
			if c.owes(l, m) && !m.got[l.text] {
				return fmt.Sprintf("%s to %s (%s, acked: %t) has not reached %s (%s)", l.text, l.frame.TargetSpec, l.id, l.acked, m.DisplayName, m.state)
			}
		}
	}
	return ""
}

// nowBanned notes that a member is about to be banned, if it is not already.
func (c *census) nowBanned(m *soaker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.banned {
		return false
	}
	m.banned, m.bannedAt, m.wasBanned = true, time.Time{}, true
	return true
}

func (c *census) setState(m *soaker, state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.state = state
}

// states counts the members by what their connections are at.
func (c *census) states() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for _, m := range c.members {
		counts[m.state]++
	}
	return counts
}

func (c *census) hasBeenBanned(m *soaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.bannedAt = time.Now()
}

func (c *census) isBanned(m *soaker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m.banned
}

func (c *census) nowPardoned(m *soaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	m.banned, m.since = false, c.clock
}

// refused notes why a member could not connect, and reports whether that is for
// good.
func (c *census) refused(m *soaker, err error) bool {
	rejected, ok := errors.AsType[*peer.Rejected](err)
	if !ok || !rejected.Final() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !m.wasBanned { // who was pardoned just now may have been refused just before
		c.noteLocked("%s is refused: %v", m.DisplayName, rejected)
	}
	return m.banned
}
