package broker

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// watching connects a new member that wants mesh events.
func (h *house) watching(name string) *guest {
	h.t.Helper()
	return h.dial(h.join(name), peer.Options{Client: wire.Client{PeerType: wire.PeerHuman, SessionID: name, Capabilities: []string{wire.CapMeshEvents}}})
}

// wantChange waits until the guest was told that what changed.
func (g *guest) wantChange(what string) wire.MeshChange {
	g.t.Helper()
	for {
		push := g.next()
		if push == nil {
			g.t.Fatalf("%s was not told that %s changed", g.id.DisplayName, what)
		}
		if push.Event != wire.EventMeshChanged {
			continue
		}
		var change wire.MeshChange
		if err := json.Unmarshal(push.EventData, &change); err != nil {
			g.t.Fatal(err)
		}
		if slices.Contains(change.What, what) {
			return change
		}
	}
}

// wantNoChange checks that the guest is told of none.
func (g *guest) wantNoChange() {
	g.t.Helper()
	time.Sleep(2 * changeDelay)
	ask[*wire.PeersList](g, &wire.ListPeers{})
	for len(g.Pushes()) > 0 {
		if push := <-g.Pushes(); push.Event == wire.EventMeshChanged {
			g.t.Errorf("%s was told %s", g.id.DisplayName, push.EventData)
		}
	}
}

func TestWhoAskedIsToldWhatChanged(t *testing.T) {
	h := newHouse(t)
	olga := h.watching("olga")
	olga.wantChange(wire.ChangedPeers) // herself
	olga.drain()
	bob := h.arrive("bob")
	olga.wantChange(wire.ChangedPeers)
	olga.drain()
	for _, change := range []wire.Message{ // in this order: only who was hidden becomes visible
		&wire.SetStatus{Status: wire.StatusWorking}, &wire.SetSummary{Summary: "tests"}, &wire.JoinGroup{Name: "team"},
		&wire.SetVisible{Visible: false}, &wire.SetVisible{Visible: true},
	} {
		t.Logf("%s %+v", change.Type(), change)
		ask[*wire.Ack](bob, change)
		olga.wantChange(wire.ChangedPeers)
	}
	ask[*wire.TopicCreated](bob, &wire.TopicCreate{Name: "deploys"})
	olga.wantChange(wire.ChangedTopics)
	ask[*wire.Ack](bob, &wire.TopicDescribe{Topic: "deploys", Description: "what went out"})
	olga.wantChange(wire.ChangedTopics)
	h.join("late")
	olga.wantChange(wire.ChangedMembers)
	bob.Close()
	olga.wantChange(wire.ChangedPeers)
}

func TestOthersAreNotToldOfChanges(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	other := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(other); err != nil {
		t.Fatal(err)
	}
	id, err := peer.Join(t.Context(), h.url+"/join/"+other.Invites[0].Token, "outsider", identity.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	outsider := h.dial(id, peer.Options{Client: wire.Client{Capabilities: []string{wire.CapMeshEvents}}})
	outsider.wantChange(wire.ChangedPeers)
	outsider.drain()
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.TopicCreated](bob, &wire.TopicCreate{Name: "deploys"})
	ann.wantNoChange()      // an older client
	outsider.wantNoChange() // of another mesh
}

func TestHelloAckSaysWhereAndAsWhat(t *testing.T) {
	h := newHouse(t)
	owner, err := peer.Join(t.Context(), h.url+"/join/"+h.first, "olga", identity.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	admin, err := peer.Join(t.Context(), h.url+"/join/"+h.invite(InviteTerms{Role: store.RoleAdmin}).Token, "adam", identity.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	asked := wire.Client{Capabilities: []string{wire.CapMeshEvents}}
	for _, c := range []struct {
		id         peer.Identity
		client     wire.Client
		mesh, role string
	}{
		{owner, asked, "home", "owner"}, {admin, asked, "home", "admin"}, {h.join("mia"), asked, "home", "member"}, {owner, wire.Client{}, "", ""},
	} {
		ack := h.dial(c.id, peer.Options{Client: c.client}).Hello
		if ack.MeshName != c.mesh || ack.MemberRole != c.role {
			t.Errorf("%s is told %q %q, want %q %q", c.id.DisplayName, ack.MeshName, ack.MemberRole, c.mesh, c.role)
		}
	}
}

// What one reads here is not unread there.
func TestReadingIsToldToOnesOtherConnections(t *testing.T) {
	h := newHouse(t)
	id := h.join("olga")
	events := []string{wire.CapMeshEvents}
	desk := h.dial(id, peer.Options{Client: wire.Client{SessionID: "desk", Capabilities: events}})
	phone := h.dial(id, peer.Options{Client: wire.Client{SessionID: "phone", Capabilities: events}})
	bob := h.watching("bob")
	first, second := bob.say("#general", "one, @olga"), bob.say("#general", "two, @olga")
	for _, g := range []*guest{desk, phone, bob} {
		g.wantChange(wire.ChangedPeers)
		time.Sleep(2 * changeDelay)
		g.drain()
	}
	general := func(g *guest) wire.TopicInfo { return ask[*wire.TopicListResponse](g, &wire.TopicList{}).Topics[0] }
	if g := general(phone); g.Unread != 2 || g.Mentions != 2 || g.Role != wire.TopicMember || g.ReadUpToID != "" {
		t.Errorf("before: %+v", g)
	}
	ask[*wire.Ack](desk, &wire.TopicMarkRead{Topic: "general", MessageID: first})
	phone.wantChange(wire.ChangedTopics)
	if g := general(phone); g.Unread != 1 || g.Mentions != 1 || g.ReadUpToID != first {
		t.Errorf("after one: %+v", g)
	}
	ask[*wire.Ack](desk, &wire.TopicMarkRead{Topic: "general"})
	phone.wantChange(wire.ChangedTopics)
	ask[*wire.Ack](phone, &wire.TopicMarkRead{Topic: "general", MessageID: first}) // late: a mark never goes back
	if g := general(desk); g.Unread != 0 || g.Mentions != 0 || g.ReadUpToID != second {
		t.Errorf("after all: %+v", g)
	}
	bob.wantNoChange()
	desk.wantRefused(&wire.TopicMarkRead{Topic: "general", MessageID: store.NewID()}, wire.InvalidArgs)
}
