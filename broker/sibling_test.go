package broker

import (
	"fmt"
	"testing"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// A page in a second tab, or a second "tail", asks the history when it is greeted
// and then relies on pushes: it misses nothing of a topic, although another
// connection of the same member is faster and acks everything first.
func TestNothingIsMissedBesideASibling(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	fast, slow := h.dial(bob, peer.Options{}), h.dial(bob, peer.Options{})
	const messages = feedWindow + 50 // more than are pushed before the first is acked
	last := ""
	for n := range messages {
		last = ann.say("#general", fmt.Sprint("message ", n))
		fast.wantPush(fmt.Sprint("message ", n))
	}
	eventually(t, "all is acked", func() bool { return ann.status(last).Delivered })
	for n := range messages {
		slow.wantPush(fmt.Sprint("message ", n))
	}
	slow.wantQuiet()
	fast.wantQuiet()
	// Who comes later gets nothing again, and who was there does not after a pass
	// from the start.
	late := h.dial(bob, peer.Options{})
	for _, c := range h.connsOf(bob.MemberID) {
		c.wake()
	}
	ann.say("#general", "one more")
	for _, g := range []*guest{fast, slow, late} {
		g.wantPush("one more")
	}
}

// Sessions of one member are agents of their own: in a topic they hear each other,
// if they ask for it. Nobody hears what they said themselves, and nothing waits for
// the member that said it.
func TestSessionsOfOneMemberHearEachOther(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	hears := wire.Client{Capabilities: []string{wire.CapSiblings}}
	one := h.dial(ann, peer.Options{Session: identity.NewKey(), Client: hears})
	two := h.dial(ann, peer.Options{Session: identity.NewKey(), Client: hears})
	page := h.dial(ann, peer.Options{Client: hears})
	plain := h.dial(ann, peer.Options{})
	id := one.say("#general", "to the room")
	two.wantPush("to the room")
	page.wantPush("to the room")
	page.say("#general", "from the page")
	one.wantPush("from the page")
	two.wantPush("from the page")
	for _, g := range []*guest{one, page, plain} {
		g.wantQuiet()
	}
	if status := one.status(id); len(status.Recipients) != 0 {
		t.Errorf("the ledger has recipients for what no other member could get: %+v", status.Recipients)
	}
	// A pass from the start, and a later connection, bring nothing again.
	for _, c := range h.connsOf(ann.MemberID) {
		c.wake()
	}
	late := h.dial(ann, peer.Options{Session: identity.NewKey(), Client: hears})
	one.say("@all", "broadcasts are for others")
	for _, g := range []*guest{one, two, page, late} {
		g.wantQuiet()
	}
}

// What a busy connection was not pushed, it gets when it is idle, also if another one
// of its member was not busy and has acked it.
func TestWhatIsHeldIsNotLostToASibling(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	busy, idle := h.dial(bob, peer.Options{Session: identity.NewKey()}), h.dial(bob, peer.Options{Session: identity.NewKey()})
	ask[*wire.Ack](busy, &wire.SetStatus{Status: wire.StatusDND})
	ann.say("#general", "held")
	idle.wantPush("held")
	ann.post("#general", "urgent", wire.PriorityNow)
	busy.wantPush("urgent")
	idle.wantPush("urgent")
	last := ann.say("#general", "held, too")
	idle.wantPush("held, too")
	eventually(t, "all is acked", func() bool { return ann.status(last).Delivered })
	busy.wantQuiet()
	ask[*wire.Ack](busy, &wire.SetStatus{Status: wire.StatusIdle})
	busy.wantPush("held")
	busy.wantPush("held, too")
	busy.wantQuiet()
}

// Whose connection broke gets what was said meanwhile when it comes back, also if
// another one of its member has acked that.
func TestWhatWasSaidDuringACutIsNotLostToASibling(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	session := identity.NewKey()
	cut, stays := h.dial(bob, peer.Options{Session: session}), h.dial(bob, peer.Options{Session: identity.NewKey()})
	cut.say("#general", "I am here to stay") // which earns the lease
	ann.wantPush("I am here to stay")
	ann.say("#general", "before")
	cut.wantPush("before")
	stays.wantPush("before")
	cut.Close()
	eventually(t, "the presence is leased", func() bool { return len(h.connsOf(bob.MemberID)) == 1 })
	last := ann.say("#general", "meanwhile")
	stays.wantPush("meanwhile")
	eventually(t, "all is acked", func() bool { return ann.status(last).Delivered })
	back := h.dial(bob, peer.Options{Session: session})
	back.wantPush("meanwhile")
	back.wantQuiet()
}

// The same after the broker itself was away, and in a mesh in which nothing had been
// said before.
func TestWhatWasSaidBeforeOneIsBackIsNotLostToASibling(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	session, other := identity.NewKey(), identity.NewKey()
	cut := h.dial(bob, peer.Options{Session: session})
	stays := h.dial(bob, peer.Options{Session: other})
	cut.say(ann.id.Key.Public(), "not in a topic")
	cut.Close()
	eventually(t, "the presence is leased", func() bool { return len(h.connsOf(bob.MemberID)) == 1 })
	acked := func(ann, stays *guest, text string) {
		t.Helper()
		id := ann.say("#general", text)
		stays.wantPush(text)
		eventually(t, "it is acked", func() bool { return ann.status(id).Delivered })
	}
	acked(ann, stays, "the first ever")
	back := h.dial(bob, peer.Options{Session: session})
	back.wantPush("the first ever")
	back.wantQuiet()
	h.restart()
	ann = h.dial(ann.id, peer.Options{})
	stays = h.dial(bob, peer.Options{Session: other})
	acked(ann, stays, "while one is not back")
	again := h.dial(bob, peer.Options{Session: session})
	again.wantPush("while one is not back")
	again.wantQuiet()
}

// Who comes back gets neither its own words nor what it had, whatever else waits.
func TestComingBackRepeatsNothing(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	page := wire.Client{SessionID: "page", Capabilities: []string{wire.CapSiblings}}
	cut := h.dial(bob, peer.Options{Client: page})
	stays := h.dial(bob, peer.Options{})
	for n := range 3 {
		cut.say("#general", fmt.Sprint("mine ", n))
		ann.say("#general", fmt.Sprint("for all ", n))
		cut.wantPush(fmt.Sprint("for all ", n))
		stays.wantPush(fmt.Sprint("for all ", n))
	}
	ann.say(bob.Key.Public(), "not acked")
	for push := cut.next(); push.Topic != "" || push.Subtype != ""; push = cut.next() {
	}
	for _, c := range h.connsOf(bob.MemberID) {
		c.wake()
	}
	cut.Close()
	eventually(t, "the presence is leased", func() bool { return len(h.connsOf(bob.MemberID)) == 1 })
	back := h.dial(bob, peer.Options{Client: page})
	back.wantPush("not acked")
	back.wantQuiet()
}
