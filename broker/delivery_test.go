package broker

import (
	"testing"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func TestPostToGeneralReachesEveryOtherMember(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	cat := h.arriveAs("cat", wire.Client{PeerType: wire.PeerAI})
	second := h.dial(ann.id, peer.Options{})
	ann.drain()
	id := ann.say("#general", "hello")
	for _, g := range []*guest{bob, cat} {
		push := g.wantPush("hello")
		if push.MessageID != id || push.Topic != "general" || push.SenderName != "ann" || push.SenderMemberPubkey != ann.Key() {
			t.Errorf("push = %+v", push)
		}
	}
	second.wantQuiet()
	ann.wantQuiet()
}
