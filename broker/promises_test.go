package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// nextID acks the next direct message and returns its id, "" if none comes.
func (g *guest) nextID(within time.Duration) string {
	deadline := time.After(within)
	for {
		select {
		case p := <-g.Pushes():
			if p.Subtype != "system" && p.Topic == "" {
				_ = g.Ack(context.Background(), p)
				return p.MessageID
			}
		case <-deadline:
			return ""
		}
	}
}

// An agent that comes back with a fresh key for the session it had.
func TestNewSessionKeyInTheSamePlaceLosesNothing(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 300 * time.Millisecond })
	ann, bob := h.arrive("ann"), h.join("bob")
	k1, k2 := identity.NewKey(), identity.NewKey()
	s1 := h.dial(bob, peer.Options{Session: k1, Client: wire.Client{SessionID: "agent-1"}})
	s1.say("#general", "earn")
	ask[*wire.Ack](s1, &wire.SetStatus{Status: wire.StatusDND})
	eventually(t, "the sweep of the start is over", func() bool { return !h.reroutes() })
	one := ann.say(k1.Public(), "one") // waits: dnd
	s2 := h.dial(bob, peer.Options{Session: k2, Client: wire.Client{SessionID: "agent-1"}})
	ask[*wire.Ack](s2, &wire.SetStatus{Status: wire.StatusIdle})
	ann.say(k1.Public(), "two")
	if got := s2.nextID(patience); got != one {
		t.Errorf("got %q first, want %s: what was sent later overtook it", got, one)
	}
	if s2.nextID(patience) == "" {
		t.Error("the second message is stuck")
	}
	s2.Close()
	eventually(t, "the lease of the new key is over", func() bool { return h.countPresences() == 1 && !h.isKnown(bob.MemberID, k2.Public()) })
	ack, err := ann.SendText(t.Context(), k2.Public(), "three")
	if err != nil || !ack.Queued {
		t.Errorf("the new key was not remembered: ack %+v, %v", ack, err)
	}
}

func TestLeaseOfANewSessionKeySurvivesARestart(t *testing.T) {
	h := newHouse(t)
	bob := h.join("bob")
	k1, k2 := identity.NewKey(), identity.NewKey()
	s1 := h.dial(bob, peer.Options{Session: k1, Client: wire.Client{SessionID: "agent-1"}})
	s1.say("#general", "earn")
	s2 := h.dial(bob, peer.Options{Session: k2, Client: wire.Client{SessionID: "agent-1"}})
	s2.say("#general", "still")
	h.restart()
	if !h.isKnown(bob.MemberID, k2.Public()) {
		t.Errorf("the lease of k2 did not survive the restart")
	}
}

func TestConnectionsForgetWhatTheySentToThemselves(t *testing.T) {
	h := newHouse(t)
	bob := h.join("bob")
	a := h.dial(bob, peer.Options{Session: identity.NewKey()})
	b := h.dial(bob, peer.Options{Session: identity.NewKey()})
	for i := range 500 {
		id := a.say(b.Key(), fmt.Sprint(i))
		if got := b.nextID(5 * time.Second); got != id {
			t.Fatal(got)
		}
	}
	eventually(t, "settled", func() bool { n, _ := h.db.QueueDepth(t.Context()); return n == 0 })
	for _, c := range h.allConns() {
		if n := len(c.feed.Load().mine); n > 0 {
			t.Errorf("mine holds %d seqs of messages that are settled", n)
		}
	}
}

func TestKeyNamedInAnotherMeshHoldsNothingUp(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 200 * time.Millisecond })
	lab := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(lab); err != nil {
		t.Fatal(err)
	}
	ann, bob := h.arrive("ann"), h.join("bob")
	k := identity.NewKey()
	s := h.dial(bob, peer.Options{Session: k})
	s.say("#general", "earn")
	ask[*wire.Ack](s, &wire.SetStatus{Status: wire.StatusDND})
	one := ann.say(k.Public(), "one")
	// mallory is in another mesh, and only names the key
	raw := h.raw()
	mallory := h.joinBy(lab.Invites[0].Token, "mallory")
	key := k.Public()
	raw.send(memberHello(mallory, time.Now(), func(m *wire.Hello) { m.SessionPubkey = &key }))
	if f := raw.frame(); f["type"] != "hello_ack" {
		t.Fatal(f)
	}
	s.Close()
	daemon := h.dial(bob, peer.Options{Client: wire.Client{SessionID: "daemon-1"}})
	if got := daemon.nextID(9 * time.Second); got != one {
		t.Errorf("bob's daemon got %q within 9 s (sweep is 5 s, lease 0.2 s); want one", got)
	}
}

func TestNameLikeAKeyShieldsNobody(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	bob := h.join("bob")
	h.dial(bob, peer.Options{})
	eve := h.join("eve")
	h.dial(eve, peer.Options{Client: wire.Client{DisplayName: bob.Key.Public()}})
	_, err := ann.Request(t.Context(), &wire.Ban{Target: bob.Key.Public()})
	if err != nil {
		t.Errorf("ban by the full key: %v", err)
	}
}

func TestHiddenMembersGetNoGroupMessagesWhenAway(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.dial(h.join("bob"), peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "core"}}}})
	cat := h.dial(h.join("cat"), peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "core"}}}})
	_ = cat
	ask[*wire.Ack](bob, &wire.SetVisible{Visible: false})
	bob.Close()
	eventually(t, "gone", func() bool { return h.countPresences() == 2 })
	id := ann.say("@core", "x")
	star := ann.say("*", "y")
	for _, r := range ask[*wire.MessageStatusResult](ann, &wire.MessageStatus{MessageID: id}).Recipients {
		if r.Name == "bob" {
			t.Errorf("hidden bob is a recipient of @core")
		}
	}
	for _, r := range ask[*wire.MessageStatusResult](ann, &wire.MessageStatus{MessageID: star}).Recipients {
		if r.Name == "bob" {
			t.Errorf("hidden bob is a recipient of *")
		}
	}
}

func TestGroupsOfAPastSessionHoldBesideTheDaemon(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 200 * time.Millisecond })
	ann, bob := h.arrive("ann"), h.join("bob")
	s := h.dial(bob, peer.Options{Session: identity.NewKey(), Client: wire.Client{Groups: []wire.Group{{Name: "dev"}}}})
	s.say("#general", "earn")
	s.Close()
	eventually(t, "over", func() bool { return !h.isKnown(bob.MemberID, s.Key()) })
	ann.say("@dev", "without the daemon")
	h.dial(bob, peer.Options{Client: wire.Client{SessionID: "daemon-1"}})
	ann.say("@dev", "with the daemon")
}

// Not even when a catch-up reads it before it is announced.
func TestNoteToOneselfNeverComesBack(t *testing.T) {
	h := newHouse(t)
	bob := h.join("bob")
	a := h.dial(bob, peer.Options{})
	b := h.dial(bob, peer.Options{})
	_ = b
	a.say("#general", "earn")
	a.drain()
	hold := make(chan struct{})
	held := make(chan struct{})
	h.db.NotePushes("nobody", nil, func(error) { close(held); <-hold })
	<-held
	// the store's teller is held up; a's message commits, a is woken (a gate that opens, or a pass)
	go a.SendText(context.Background(), bob.Key.Public(), "note")
	eventually(t, "committed", func() bool { n, _ := h.db.QueueDepth(context.Background()); return n == 1 })
	for _, c := range h.allConns() {
		c.wake()
	}
	time.Sleep(300 * time.Millisecond)
	close(hold)
	if got := a.nextID(time.Second); got != "" {
		t.Errorf("the sender was pushed its own message")
	}
}

func TestKickReachesAPeerThatReconnectsMeanwhile(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	ann.say("#general", "x")
	k := identity.NewKey()
	s := h.dial(bob, peer.Options{Session: k, Client: wire.Client{DisplayName: "agent"}})
	s.say("#general", "earn")
	hold, held := make(chan struct{}), make(chan struct{})
	h.db.NotePushes("nobody", nil, func(error) { close(held); <-hold })
	<-held
	answer := make(chan wire.Message, 1)
	go func() { m, _ := ann.Request(context.Background(), &wire.Kick{Target: "agent"}); answer <- m }()
	time.Sleep(200 * time.Millisecond) // the kick waits for its record
	again := h.dial(bob, peer.Options{Session: k, Client: wire.Client{DisplayName: "agent"}})
	close(hold)
	ack := (<-answer).(*wire.KickAck)
	time.Sleep(300 * time.Millisecond)
	select {
	case <-again.Done():
	default:
		t.Errorf("kick_ack says %q were kicked; the session is connected", ack.Kicked)
	}
}

func TestNoteToOneselfIsLeftToTheOtherSessions(t *testing.T) {
	h := newHouse(t)
	bob := h.join("bob")
	key := identity.NewKey()
	sender := h.dial(bob, peer.Options{Session: key})
	id := sender.say(bob.Key.Public(), "for my other session")
	sender.Close()
	sender = h.dial(bob, peer.Options{Session: key})
	sender.wantQuiet()
	other := h.dial(bob, peer.Options{Session: identity.NewKey()})
	if got := other.nextID(patience); got != id {
		t.Errorf("the other session got %q, want %s", got, id)
	}
}

func TestStatusOfAMessageDoesNotTellWhoHides(t *testing.T) {
	h := newHouse(t)
	eve, bob := h.arrive("eve"), h.arrive("bob")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{eve.Key(): {"broadcast"}}})
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusDND})
	id := eve.say("#general", "are you there?")
	for _, r := range eve.status(id).Recipients {
		if r.Name == "bob" && r.Status != wire.StatusDisconnected {
			t.Errorf("bob does not let eve see him, message_status says %s", r.Status)
		}
	}
}

// The audit chain is for ever, so what enters it counts against the rate.
func TestRecordedRequestsAreRateLimited(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 1.0/3600, 2 })
	ann, bob := h.arrive("ann"), h.join("bob")
	grants := &wire.SetGrants{Grants: map[string][]string{bob.Key.Public(): {}}}
	ask[*wire.Ack](ann, grants)
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "one"})
	ann.wantRefused(grants, wire.RateLimit)
	ann.wantRefused(&wire.TopicLeave{Topic: "one"}, wire.RateLimit)
	ask[*wire.TopicListResponse](ann, &wire.TopicList{}) // asking is free
}
