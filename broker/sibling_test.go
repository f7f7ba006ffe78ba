package broker

import (
	"fmt"
	"testing"

	"meshbox/broker/peer"
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
