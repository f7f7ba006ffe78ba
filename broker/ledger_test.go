package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// status asks what became of a message.
func (g *guest) status(id string) *wire.MessageStatusResult {
	g.t.Helper()
	return ask[*wire.MessageStatusResult](g, &wire.MessageStatus{MessageID: id})
}

// wantState waits until the copy of a message for name is in a state.
func (g *guest) wantState(id, name, state string) wire.Copy {
	g.t.Helper()
	var copy wire.Copy
	eventually(g.t, name+"'s copy is "+state, func() bool {
		for _, copy = range g.status(id).Recipients {
			if copy.Name == name && copy.State == state {
				return true
			}
		}
		return false
	})
	return copy
}

// get is wantPush without the ack.
func (g *guest) get() *wire.Push {
	g.t.Helper()
	for {
		push := g.next()
		if push == nil || push.Subtype != "system" {
			return push
		}
	}
}

func TestLedgerFollowsADirectMessage(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	id := ann.say(bob.Key.Public(), "hello")
	stored := ann.status(id)
	if stored.Delivered || stored.DeliveredAt != nil || stored.TargetSpec != bob.Key.Public() || len(stored.Recipients) != 1 {
		t.Fatalf("stored: %+v", stored)
	}
	if c := stored.Recipients[0]; c.Name != "bob" || c.Pubkey != bob.Key.Public() || c.State != wire.CopyStored || c.Status != wire.StatusDisconnected || c.PushedAt != nil {
		t.Errorf("stored: %+v", c)
	}
	back := h.dial(bob, peer.Options{})
	push := back.get()
	if c := ann.wantState(id, "bob", wire.CopyPushed); c.Status != wire.StatusHeld || c.PushedAt == nil || c.SettledAt != nil {
		t.Errorf("pushed: %+v", c)
	}
	if err := back.Ack(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	c := ann.wantState(id, "bob", wire.CopyAcked)
	if c.Status != wire.StatusDelivered || c.PushedAt == nil || c.SettledAt == nil || *c.SettledAt < *c.PushedAt {
		t.Errorf("acked: %+v", c)
	}
	if s := ann.status(id[:12]); !s.Delivered || s.DeliveredAt == nil || *s.DeliveredAt != *c.SettledAt || s.MessageID != id {
		t.Errorf("by its first characters: %+v", s)
	}
}

func TestLedgerOfAGroupHasACopyForEachMember(t *testing.T) {
	h := newHouse(t)
	team := peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "team/a"}}}}
	ann, bob, cat := h.arrive("ann"), h.dial(h.join("bob"), team), h.dial(h.join("cat"), team)
	h.dial(h.join("dan"), peer.Options{})
	id := ann.say("@team", "stand-up")
	bob.wantPush("stand-up")
	cat.get()
	ann.wantState(id, "bob", wire.CopyAcked)
	ann.wantState(id, "cat", wire.CopyPushed)
	s := ann.status(id)
	if s.Delivered || len(s.Recipients) != 2 {
		t.Errorf("%+v", s)
	}
	if own := bob.status(id); !own.Delivered || len(own.Recipients) != 1 || own.Recipients[0].Name != "bob" {
		t.Errorf("a recipient is shown %+v, want its own copy only", own)
	}
}

func TestLedgerOfATopicComesFromItsCursors(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.join("cat")
	id := ann.say("#general", "all of you")
	late := h.arrive("late")
	bob.wantPush("all of you")
	c := ann.wantState(id, "bob", wire.CopyAcked)
	if c.SettledAt == nil {
		t.Error("no time")
	}
	if c := ann.wantState(id, "cat", wire.CopyStored); c.Status != wire.StatusDisconnected {
		t.Errorf("cat: %+v", c)
	}
	back := h.dial(cat, peer.Options{})
	push := back.get()
	if c := ann.wantState(id, "cat", wire.CopyPushed); c.PushedAt == nil {
		t.Errorf("cat: %+v", c)
	}
	if err := back.Ack(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	ann.wantState(id, "cat", wire.CopyAcked)
	s := ann.status(id)
	if len(s.Recipients) != 2 || !s.Delivered {
		t.Errorf("%+v: ann wrote it, and late came after it", s)
	}
	late.wantRefused(&wire.MessageStatus{MessageID: id}, wire.NotFound)
}

// What was left to the history of a topic was not delivered, whatever the cursor
// says.
// A program that gives messages to an agent says so with its ack, and how the agent
// came to hear of them: of these messages, and of no other.
func TestLedgerKnowsWhatWasHandedToAnAgent(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	page := h.dial(bob, peer.Options{})
	seen := ann.say("#general", "seen by a page")
	page.wantPush("seen by a page")
	page.Close()
	eventually(t, "the page is gone", func() bool { return len(h.connsOf(bob.MemberID)) == 0 })
	agent := h.dial(bob, peer.Options{})
	direct := ann.say(bob.Key.Public(), "hello")
	said := map[string]string{} // id → how it is handed
	var order []string
	for _, by := range []string{wire.Woken, wire.AtTurnEnd, wire.AtTurnEnd, "", wire.NextToolCall, "by a miracle"} {
		id := ann.say("#general", "handed "+by)
		order, said[id] = append(order, id), by
	}
	acks := map[string]string{direct: wire.Woken}
	maps.Copy(acks, said)
	for range len(acks) {
		push := agent.get()
		if err := agent.AckHanded(t.Context(), push, acks[push.MessageID]); err != nil {
			t.Fatal(err)
		}
	}
	said[order[len(order)-1]] = ""
	check := func(ann *guest) {
		t.Helper()
		if c := ann.wantState(direct, "bob", wire.CopyHanded); c.HandedBy != wire.Woken || c.Status != wire.StatusDelivered || c.SettledAt == nil {
			t.Errorf("%+v", c)
		}
		for _, id := range append(order, seen) {
			state := wire.CopyHanded
			if said[id] == "" {
				state = wire.CopyAcked
			}
			if c := ann.wantState(id, "bob", state); c.HandedBy != said[id] || !ann.status(id).Delivered {
				t.Errorf("%+v, want %q", c, said[id])
			}
		}
	}
	check(ann)
	h.restart()
	check(h.dial(ann.id, peer.Options{}))
}

func TestLedgerDoesNotCallHistoryDelivered(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ids := make([]string, topicBacklog+3)
	for i := range ids {
		ids[i] = ann.say("#general", fmt.Sprint(i))
	}
	back := h.dial(bob, peer.Options{})
	for i := 3; i < len(ids); i++ {
		back.wantPush(fmt.Sprint(i))
	}
	ann.wantState(ids[len(ids)-1], "bob", wire.CopyAcked)
	for i, want := range map[int]string{0: wire.CopyExpired, 2: wire.CopyExpired, 3: wire.CopyAcked} {
		if s := ann.status(ids[i]); s.Recipients[0].State != want || s.Delivered != (want == wire.CopyAcked) {
			t.Errorf("message %d: %+v, want %s", i, s, want)
		}
	}
}

func TestLedgerKnowsWhatExpired(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	id := ann.say(bob.Key.Public(), "too late")
	if err := h.expire(time.Now().Add(h.cfg.Limits.MessageTTL+time.Minute), time.Now()); err != nil {
		t.Fatal(err)
	}
	if c := ann.wantState(id, "bob", wire.CopyExpired); c.SettledAt == nil || c.Status != wire.StatusDisconnected {
		t.Errorf("%+v", c)
	}
	if ann.status(id).Delivered {
		t.Error("it counts as delivered")
	}
}

// A push that was not acked stays known when its connection is gone, and after a
// restart.
func TestPushesAreRemembered(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	id := ann.say(bob.Key(), "got it?")
	bob.get()
	before := ann.wantState(id, "bob", wire.CopyPushed)
	bob.Close()
	eventually(t, "bob is away", func() bool { return ann.status(id).Recipients[0].Status == wire.StatusDisconnected })
	h.restart()
	again := h.dial(ann.id, peer.Options{})
	if c := again.wantState(id, "bob", wire.CopyPushed); *c.PushedAt != *before.PushedAt {
		t.Errorf("pushed at %s, then at %s", *before.PushedAt, *c.PushedAt)
	}
}

func TestOnlySenderAndRecipientsMayAsk(t *testing.T) {
	h := newHouse(t)
	ann, bob, eve := h.arrive("ann"), h.arrive("bob"), h.arrive("eve")
	id := ann.say(bob.Key(), "secret")
	bob.status(id)
	eve.wantRefused(&wire.MessageStatus{MessageID: id}, wire.NotFound)
	eve.wantRefused(&wire.DeliverySubscribe{MessageID: id}, wire.NotFound)
	bob.wantRefused(&wire.DeliverySubscribe{MessageID: id}, wire.Forbidden)
	for id, code := range map[string]string{
		"": wire.InvalidArgument, id[:minPrefix-1]: wire.InvalidArgument, "ffffffffffffffffffffffffffffffff": wire.NotFound,
		"%%%%%%%%": wire.NotFound, "________": wire.NotFound,
	} {
		ann.wantRefused(&wire.MessageStatus{MessageID: id}, code)
	}
	private := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	id = ann.say("#"+private.Topic.ID, "in private")
	eve.wantRefused(&wire.MessageStatus{MessageID: id}, wire.NotFound)
}

func TestPrefixOfSeveralMessagesIsAmbiguous(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	for _, id := range []string{"00000000AAAAAAAAAAAAAAAAAAAAAA", "00000000BBBBBBBBBBBBBBBBBBBBBB"} {
		post := store.Post{Recipients: []store.Recipient{{MemberID: bob.id.MemberID}}, Message: store.Message{
			ID: id, MeshID: h.mesh.ID, SenderMemberID: ann.id.MemberID, TargetSpec: bob.Key(), Priority: "next", CreatedAt: time.Now(),
		}}
		stored := make(chan error)
		h.db.Append(&post, nil, func(_ store.Posted, err error) { stored <- err })
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	ann.wantRefused(&wire.MessageStatus{MessageID: "00000000"}, wire.AmbiguousPrefix)
	if s := ann.status("00000000B"); s.MessageID != "00000000BBBBBBBBBBBBBBBBBBBBBB" {
		t.Errorf("%+v", s)
	}
}

func TestSenderFollowsEveryChange(t *testing.T) {
	h := newHouse(t)
	team := []wire.Group{{Name: "team"}}
	bobID := h.join("bob")
	ann, bob, cat := h.arrive("ann"), h.dial(bobID, peer.Options{Client: wire.Client{Groups: team}}), h.dial(h.join("cat"), peer.Options{Client: wire.Client{Groups: team}})
	bob.Close()
	eventually(t, "bob is away", func() bool { return h.countPresences() == 2 })
	id := ann.say("@team", "news")
	told := make(chan string, 100)
	followed := make(chan error)
	go func() {
		followed <- ann.Follow(t.Context(), id, func(s *wire.DeliveryStatus) error {
			for _, c := range s.Recipients {
				told <- c.Name + " " + c.State
			}
			return nil
		})
	}()
	want := func(what string) {
		t.Helper()
		select {
		case got := <-told:
			if got != what {
				t.Fatalf("told %q, want %q", got, what)
			}
		case <-time.After(patience):
			t.Fatalf("told nothing, want %q", what)
		}
	}
	want("bob stored")
	want("cat pushed")
	cat.wantPush("news")
	want("cat acked")
	back := h.dial(bobID, peer.Options{})
	push := back.get()
	want("bob pushed")
	if err := back.Ack(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	want("bob acked")
	if err := <-followed; err != nil {
		t.Errorf("Follow ended with %v", err)
	}
	eventually(t, "the subscription is over", func() bool { return h.ledger.active.Load() == 0 })
}

func TestSenderFollowsATopicMessage(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	id := ann.say("#general", "news")
	bob.wantPush("news")
	var last *wire.DeliveryStatus
	if err := ann.Follow(t.Context(), id, func(s *wire.DeliveryStatus) error { last = s; return nil }); err != nil {
		t.Fatal(err)
	}
	if !last.Final || last.Recipients[0].State != wire.CopyAcked {
		t.Errorf("%+v", last)
	}
}

func TestSubscriptionsEndWithTheirConnectionAndAreBounded(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	id := ann.say(bob.Key.Public(), "waits")
	for range maxSubscriptions {
		ask[*wire.DeliveryStatus](ann, &wire.DeliverySubscribe{MessageID: id})
	}
	ann.wantRefused(&wire.DeliverySubscribe{MessageID: id}, wire.Capacity)
	other := h.dial(ann.id, peer.Options{}) // of the same member
	other.wantRefused(&wire.DeliverySubscribe{MessageID: id}, wire.Capacity)
	ann.Close()
	eventually(t, "the subscriptions are gone", func() bool { return h.ledger.active.Load() == 0 })
	ask[*wire.DeliveryStatus](other, &wire.DeliverySubscribe{MessageID: id})
}

func TestGrantsKeepDirectMessagesOut(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	setGrants := func(caps []string) {
		t.Helper()
		ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.Key(): caps}})
	}
	setGrants([]string{"broadcast", "read"})
	ack, err := ann.SendText(t.Context(), bob.Key(), "psst")
	if err != nil || ack.Queued || ack.Error != "forbidden: blocked by recipient grants; this peer does not take direct messages from you" {
		t.Errorf("ack %+v, %v", ack, err)
	}
	session := h.dial(ann.id, peer.Options{Session: identity.NewKey()}) // no way around it by a session of either side
	session.wantUnsent(bob.Key(), "psst", wire.Forbidden)
	bobs := h.dial(bob.id, peer.Options{Session: identity.NewKey()})
	ann.wantUnsent(bobs.Key(), "psst", wire.Forbidden)
	cat.say(bob.Key(), "from cat")
	bob.wantPush("from cat")
	if n := h.metric(`broker_messages_dropped_by_grant_total{cap="dm"}`); n != 3 {
		t.Errorf("%v drops counted, want 3", n)
	}
	h.restart()
	ann, bob = h.dial(ann.id, peer.Options{}), h.dial(bob.id, peer.Options{})
	ann.wantUnsent(bob.Key(), "still", wire.Forbidden)
	setGrants(nil)
	ann.say(bob.Key(), "friends again")
	bob.wantPush("friends again")
}

func TestGrantsSkipARecipientOfAMulticastSilently(t *testing.T) {
	h := newHouse(t)
	team := peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "team"}}}}
	ann, bob, cat := h.arrive("ann"), h.dial(h.join("bob"), team), h.dial(h.join("cat"), team)
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.id.Key.Public(): {"dm"}}})
	for _, target := range []string{"@team", "*", "#general"} {
		id := ann.say(target, "to "+target)
		cat.wantPush("to " + target)
		cat.wantQuiet()
		ann.wantState(id, "bob", wire.CopyDropped)
		ann.wantState(id, "cat", wire.CopyAcked)
	}
	bob.wantQuiet()
	ann.say(bob.Key(), "direct is allowed")
	bob.wantPush("direct is allowed")
	cat.say("#general", "of cat")
	bob.wantPush("of cat")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.id.Key.Public(): nil}})
	bob.Close()
	h.settled()
	h.dial(bob.id, team).wantQuiet() // what was kept out stays out
	if n := h.metric(`broker_messages_dropped_by_grant_total{cap="broadcast"}`); n != 3 {
		t.Errorf("%v drops counted, want 3", n)
	}
}

func TestGrantsHideAMemberFromAPeer(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.Key(): {"dm", "broadcast"}}})
	names := func(g *guest) (names []string) {
		for _, p := range ask[*wire.PeersList](g, &wire.ListPeers{}).Peers {
			names = append(names, p.DisplayName)
		}
		slices.Sort(names)
		return names
	}
	if got := names(ann); !slices.Equal(got, []string{"ann", "cat"}) {
		t.Errorf("ann sees %q", got)
	}
	for _, g := range []*guest{bob, cat} {
		if got := names(g); !slices.Equal(got, []string{"ann", "bob", "cat"}) {
			t.Errorf("%s sees %q", g.id.DisplayName, got)
		}
	}
	ann.drain()
	cat.drain()
	second := h.dial(bob.id, peer.Options{Client: wire.Client{Capabilities: []string{wire.CapNoLease}}})
	cat.wantEvent(wire.EventPeerJoined, "bob")
	second.Close()
	cat.wantEvent(wire.EventPeerLeft, "bob")
	ann.wantNoEvents()
}

func TestGrantsAreChecked(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	for name, grants := range map[string]map[string][]string{
		"none": nil, "no key": {"bob": {"dm"}}, "oneself": {ann.Key(): {}}, "unknown word": {bob.Key(): {"fly"}},
		"no member": {identity.NewKey().Public(): {"dm"}}, "one bad of two": {bob.Key(): {"dm"}, identity.NewKey().Public(): {"dm"}},
	} {
		t.Run(name, func(t *testing.T) {
			ann.wantRefused(&wire.SetGrants{Grants: grants}, wire.InvalidArgs)
			if got := ask[*wire.Grants](ann, &wire.GetGrants{}).Grants; len(got) != 0 {
				t.Errorf("and yet: %v", got)
			}
		})
	}
	ask[*wire.Ack](ann, &wire.SetGrants{Grants: map[string][]string{bob.Key(): {"read", "dm", "dm"}}})
	if got := ask[*wire.Grants](ann, &wire.GetGrants{}).Grants; len(got) != 1 || !slices.Equal(got[bob.Key()], []string{"dm", "read"}) {
		t.Errorf("grants = %v", got)
	}
	if got := ask[*wire.Grants](bob, &wire.GetGrants{}).Grants; len(got) != 0 {
		t.Errorf("bob has %v", got)
	}
	if entries, _, err := h.db.AuditEntries(t.Context(), h.mesh.ID, store.AuditQuery{Event: store.EventGrantsChanged, Limit: 10}); err != nil || len(entries) != 1 || entries[0].Actor != ann.Key() {
		t.Errorf("audit has %+v, %v", entries, err)
	}
	limited := h.dial(ann.id, peer.Options{Session: identity.NewKey(), AllowedCaps: []string{"dm"}})
	limited.wantRefused(&wire.SetGrants{Grants: map[string][]string{bob.Key(): {}}}, wire.Forbidden)
	ask[*wire.Ack](ann, &wire.SetGrants{Grants: map[string][]string{bob.Key(): {}}})
	bob.wantUnsent(ann.Key(), "nothing is allowed", wire.Forbidden)
}

func TestTooManyGrantsAreRefusedWhole(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	err := h.db.SetGrants(h.mesh.ID, ann.id.MemberID, map[string][]string{bob.Key(): {}, cat.Key(): {}}, 1, func() { t.Error("committed") })
	if !errors.Is(err, store.ErrTooMany) {
		t.Errorf("err = %v", err)
	}
	if all, err := h.db.Grants(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("grants %v, %v", all, err)
	}
}
