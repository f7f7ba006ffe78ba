package broker

import (
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// talker is a session that has earned its lease by a message.
func (h *house) talker(name string, key identity.Key) *guest {
	h.t.Helper()
	g := h.dial(h.join(name), peer.Options{Session: key, Client: wire.Client{SessionID: "s-" + name, CWD: "/work"}})
	g.say("#general", "here is "+name)
	return g
}

func TestABlipIsInvisibleToTheOthers(t *testing.T) {
	h := newHouse(t)
	bob := h.arrive("bob")
	key := identity.NewKey()
	ann := h.talker("ann", key)
	bob.wantPush("here is ann")
	ask[*wire.Ack](ann, &wire.SetSummary{Summary: "mending"})
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusDND})
	bob.drain()
	ann.Close()
	eventually(t, "ann is away", func() bool { return h.countPresences() == 1 })
	if listed := peerOf(t, bob, key.Public()); listed.Summary == nil || *listed.Summary != "mending" || listed.CWD != "/work" {
		t.Errorf("while away ann is listed as %+v", listed)
	}
	back := h.dial(ann.id, peer.Options{Session: key})
	if back.Hello.PresenceID != ann.Hello.PresenceID {
		t.Errorf("presence %s, want the same as before: %s", back.Hello.PresenceID, ann.Hello.PresenceID)
	}
	if listed := peerOf(t, bob, key.Public()); listed.Status != wire.StatusDND || *listed.Summary != "mending" {
		t.Errorf("ann came back as %+v", listed)
	}
	bob.wantNoEvents()
	bob.post(key.Public(), "later", wire.PriorityNext) // the gate came back with the status
	bob.post(key.Public(), "urgent", wire.PriorityNow)
	back.wantPush("urgent")
	back.wantQuiet()
}

func TestLeaseEndsOnce(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 100 * time.Millisecond })
	bob := h.arrive("bob")
	ann := h.talker("ann", identity.NewKey())
	bob.wantPush("here is ann")
	bob.drain()
	ann.Close()
	bob.wantEvent(wire.EventPeerLeft, "ann")
	bob.wantNoEvents()
	if n := len(ask[*wire.PeersList](bob, &wire.ListPeers{}).Peers); n != 1 {
		t.Errorf("%d peers are listed, want bob alone", n)
	}
}

func TestMemberConnectionComesBackByItsSessionID(t *testing.T) {
	h := newHouse(t)
	bob := h.arrive("bob")
	ann := h.dial(h.join("ann"), peer.Options{Client: wire.Client{SessionID: "daemon-7"}})
	ann.say("#general", "hi")
	bob.wantPush("hi")
	bob.drain()
	ann.Close()
	eventually(t, "ann is away", func() bool { return h.countPresences() == 1 })
	h.dial(ann.id, peer.Options{Client: wire.Client{SessionID: "daemon-7"}})
	bob.wantNoEvents()
}

func TestOneShotConnectionsGetNoLease(t *testing.T) {
	h := newHouse(t)
	bob, ann := h.arrive("bob"), h.arrive("ann")
	bob.wantEvent(wire.EventPeerJoined, "ann")
	ann.Close()
	bob.wantEvent(wire.EventPeerLeft, "ann")
}

func TestLeasesSurviveARestart(t *testing.T) {
	h := newHouse(t)
	bob := h.arrive("bob")
	key := identity.NewKey()
	ann := h.talker("ann", key)
	bob.wantPush("here is ann")
	ask[*wire.Ack](ann, &wire.SetSummary{Summary: "mending"})
	eve := h.talker("eve", identity.NewKey())
	h.revoke(eve.id)
	h.restart()
	again := h.dial(bob.id, peer.Options{})
	listed := peerOf(t, again, key.Public())
	if listed.Summary == nil || *listed.Summary != "mending" || listed.PeerRole != wire.RoleSession || listed.CWD != "/work" {
		t.Errorf("after the restart ann is listed as %+v", listed)
	}
	if n := len(ask[*wire.PeersList](again, &wire.ListPeers{}).Peers); n != 2 {
		t.Errorf("%d peers are listed, want ann and bob", n)
	}
	back := h.dial(ann.id, peer.Options{Session: key})
	if back.Hello.PresenceID != ann.Hello.PresenceID {
		t.Errorf("presence %s, want %s", back.Hello.PresenceID, ann.Hello.PresenceID)
	}
	again.wantNoEvents()
}

func TestLeasedPresencesDoNotCountAsConnections(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.MaxConnections = 2 })
	key := identity.NewKey()
	ann := h.talker("ann", key)
	ann.Close()
	eventually(t, "ann is away", func() bool { return h.countPresences() == 0 })
	h.arrive("bob")
	h.arrive("cat")
	h.wantRejected(sessionHello(sessionParts{parent: ann.id, session: key}), wire.Capacity, 1008, wire.Capacity)
}

// A session that is here for more than a month keeps its key; who wrote to a
// forgotten one would be told that there is nobody.
func TestOldSessionKeysAreForgottenUnlessInUse(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	here, gone := h.dial(bob, peer.Options{Session: identity.NewKey()}), h.dial(bob, peer.Options{Session: identity.NewKey()})
	for _, g := range []*guest{here, gone} {
		g.say("#general", "earns a lease, and its key a place in the store")
	}
	gone.Close()
	later := time.Now().Add(store.SessionKeyTTL + time.Hour)
	eventually(t, "one is gone", func() bool { return h.countPresences() == 2 })
	if err := h.endLeases(later); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is not old any more
		if err := h.db.DropSessionKeys(later, h.isKnown); err != nil {
			t.Fatal(err)
		}
	}
	ann.say(here.Key(), "still known")
	here.wantPush("still known")
	ann.wantUnsent(gone.Key(), "forgotten", wire.TargetNotFound)
	if _, err := h.db.SessionKeyByKey(t.Context(), h.mesh.ID, here.Key()); err != nil {
		t.Error(err)
	}
}
