package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// joinBy makes a new member by that invite.
func (h *house) joinBy(token, name string) peer.Identity {
	h.t.Helper()
	id, err := peer.Join(h.t.Context(), h.url+"/join/"+token, name, identity.NewKey())
	if err != nil {
		h.t.Fatalf("%s can not join: %v", name, err)
	}
	return id
}

// admin joins as an admin and connects.
func (h *house) admin(name string) *guest {
	h.t.Helper()
	return h.dial(h.joinBy(h.invite(InviteTerms{Role: store.RoleAdmin}).Token, name), peer.Options{})
}

// session connects a session of a member that has earned its lease.
func (h *house) session(id peer.Identity, name string) *guest {
	h.t.Helper()
	g := h.dial(id, peer.Options{Session: identity.NewKey(), Client: wire.Client{DisplayName: name}})
	g.say("#general", "here is "+name)
	return g
}

// here returns the keys under which a member's presences are listed.
func (g *guest) here(id peer.Identity) (keys []string) {
	for _, p := range ask[*wire.PeersList](g, &wire.ListPeers{}).Peers {
		if p.MemberPubkey == id.Key.Public() {
			keys = append(keys, p.Pubkey)
		}
	}
	return keys
}

func wantNames(t *testing.T, what string, got, want []string) {
	t.Helper()
	got = slices.Sorted(slices.Values(got))
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestOnlyTheOwnerAndAdminsModerate(t *testing.T) {
	h := newHouse(t)
	owner := h.dial(h.joinBy(h.first, "olga"), peer.Options{})
	ann, bob, eve := h.admin("ann"), h.arrive("bob"), h.arrive("eve")
	for _, m := range []wire.Message{
		&wire.Kick{Target: "eve"}, &wire.Disconnect{Target: "eve"}, &wire.Ban{Target: "eve"}, &wire.Unban{Target: "eve"},
		&wire.ListBans{}, &wire.AuditQuery{}, &wire.AuditVerify{},
	} {
		bob.wantRefused(m, wire.Forbidden)
	}
	eve.say("#general", "still here")
	for _, g := range []*guest{owner, ann} {
		if bans := ask[*wire.ListBansResult](g, &wire.ListBans{}).Bans; len(bans) != 0 {
			t.Errorf("bans %v", bans)
		}
	}
	ask[*wire.BanAck](ann, &wire.Ban{Target: "eve"})
	ask[*wire.UnbanAck](owner, &wire.Unban{Target: "eve"})
}

func TestWhoIsBannedModeratesNoMore(t *testing.T) {
	h := newHouse(t)
	ann, eve, bob := h.admin("ann"), h.admin("eve"), h.arrive("bob")
	if _, err := h.db.RevokeMember(store.Moderation{MeshID: h.mesh.ID, MemberID: eve.id.MemberID, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	// its connection may live for another second
	_, err := eve.Request(t.Context(), &wire.Ban{Target: "bob"})
	if refused, ok := errors.AsType[*wire.Error](err); ok && refused.Code != wire.Forbidden || err == nil {
		t.Errorf("a revoked admin got %v", err)
	}
	eve.wantClosed(wire.CloseBanned, wire.Revoked)
	bob.say("#general", "still here")
	wantNames(t, "bob", ann.here(bob.id), []string{bob.Key()})
}

func TestKickEndsSessionsAndLeavesMemberConnectionsAlone(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	daemon := h.arrive("bob")
	session := h.session(daemon.id, "bob-1")
	ann.drain()
	ack := ask[*wire.KickAck](ann, &wire.Kick{Target: "BOB"})
	wantNames(t, "kicked", ack.Kicked, []string{"bob-1"})
	wantNames(t, "affected", ack.Affected, []string{"bob-1"})
	wantNames(t, "skipped", ack.SkippedControlPlane, []string{"bob"})
	session.wantClosed(wire.CloseKicked, wire.Kicked)
	ann.wantEvent(wire.EventPeerLeft, "bob-1") // at once, not when a lease ends
	wantNames(t, "bob", ann.here(daemon.id), []string{daemon.Key()})
	daemon.say("#general", "not me")
	eventually(t, "1 dropped connections are counted", func() bool {
		return h.metric(`broker_connections_dropped_total{reason="kicked"}`) == 1
	})
	daemon.Close()
	h.restart()
	ann = h.dial(ann.id, peer.Options{})
	if left := ann.here(daemon.id); slices.Contains(left, session.Key()) {
		t.Error("a kicked session is back after a restart")
	}
}

func TestKickEndsALeasedSession(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	session := h.session(bob, "bob-1")
	session.Close()
	eventually(t, "bob is away", func() bool { return h.countPresences() == 1 })
	ann.drain()
	ack := ask[*wire.KickAck](ann, &wire.Kick{Target: session.Key()})
	wantNames(t, "kicked", ack.Kicked, []string{"bob-1"})
	ann.wantEvent(wire.EventPeerLeft, "bob-1")
	wantNames(t, "bob", ann.here(bob), nil)
	ann.wantRefused(&wire.Kick{Target: "bob"}, wire.NotFound) // nothing of it is here
	if leases, err := h.db.Leases(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("leases %v, %v", leases, err)
	}
}

// The first message of a session earns its lease on the way: it must not come
// to be after the kick.
func TestKickDuringTheFirstMessageLeavesNoLease(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	for range 10 {
		session := h.dial(bob, peer.Options{Session: identity.NewKey(), Client: wire.Client{DisplayName: "bob-1"}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = session.SendText(context.Background(), "#general", "first")
		}()
		ask[*wire.KickAck](ann, &wire.Kick{Target: "bob-1"})
		<-done
		session.wantClosed(wire.CloseKicked, wire.Kicked)
		wantNames(t, "bob", ann.here(bob), nil)
	}
	eventually(t, "no lease is left", func() bool {
		leases, err := h.db.Leases(t.Context())
		return err == nil && len(leases) == 0
	})
}

func TestKickNamesASessionOrItsMember(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	one, two, three := h.session(bob, "bob-1"), h.session(bob, "bob-2"), h.session(bob, "bob-3")
	wantNames(t, "by its name", ask[*wire.KickAck](ann, &wire.Kick{Target: "Bob-2"}).Kicked, []string{"bob-2"})
	two.wantClosed(wire.CloseKicked, wire.Kicked)
	wantNames(t, "by the start of its key", ask[*wire.KickAck](ann, &wire.Kick{Target: strings.ToUpper(one.Key()[:8])}).Kicked, []string{"bob-1"})
	one.wantClosed(wire.CloseKicked, wire.Kicked)
	wantNames(t, "by its member's key", ask[*wire.KickAck](ann, &wire.Kick{Target: bob.Key.Public()}).Kicked, []string{"bob-3"})
	three.wantClosed(wire.CloseKicked, wire.Kicked)
	for _, target := range []string{"nobody", one.Key()[:7], two.Key()} {
		ann.wantRefused(&wire.Kick{Target: target}, wire.NotFound)
	}
	ann.wantRefused(&wire.Kick{}, wire.InvalidArgs)
}

func TestDisconnectClosesEverythingAndKeepsTheLease(t *testing.T) {
	h := newHouse(t)
	ann, watcher := h.admin("ann"), h.arrive("eve")
	key := identity.NewKey()
	session := h.talker("bob", key)
	daemon := h.dial(session.id, peer.Options{Client: wire.Client{SessionID: "daemon-1"}})
	daemon.say("#general", "the daemon too")
	watcher.wantPush("here is bob")
	watcher.wantPush("the daemon too")
	watcher.drain()
	ack := ask[*wire.DisconnectAck](ann, &wire.Disconnect{Target: "bob"})
	wantNames(t, "closed", ack.Kicked, []string{"bob", "bob"})
	for _, g := range []*guest{session, daemon} {
		g.wantClosed(wire.CloseNormal, wire.Disconnected)
	}
	eventually(t, "2 dropped connections are counted", func() bool {
		return h.metric(`broker_connections_dropped_total{reason="disconnected"}`) == 2
	})
	eventually(t, "bob is away", func() bool { return h.countPresences() == 2 })
	if n := len(watcher.here(session.id)); n != 2 {
		t.Errorf("%d presences of bob are listed while it is away, want 2", n)
	}
	if again := ask[*wire.DisconnectAck](ann, &wire.Disconnect{Target: "bob"}); again.Kicked == nil || len(again.Kicked) != 0 {
		t.Errorf("nothing was there to be closed, and the answer is %+v", again)
	}
	if back := h.dial(session.id, peer.Options{Session: key}); back.Hello.PresenceID != session.Hello.PresenceID {
		t.Error("it did not come back as the same presence")
	}
	watcher.wantNoEvents()
}

func TestDisconnectingOneselfIsAnsweredFirst(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	wantNames(t, "closed", ask[*wire.DisconnectAck](ann, &wire.Disconnect{Target: "ann"}).Kicked, []string{"ann"})
	ann.wantClosed(wire.CloseNormal, wire.Disconnected)
}

func TestTheOwnerAndOneselfCannotBeRemoved(t *testing.T) {
	h := newHouse(t)
	owner := h.dial(h.joinBy(h.first, "olga"), peer.Options{})
	session := h.session(owner.id, "olga-1")
	ann := h.admin("ann")
	for _, target := range []string{"olga", "olga-1", owner.Key()} {
		ann.wantRefused(&wire.Kick{Target: target}, wire.Forbidden)
		ann.wantRefused(&wire.Ban{Target: target}, wire.Forbidden)
	}
	for _, g := range []*guest{owner, ann} {
		g.wantRefused(&wire.Kick{Target: g.id.DisplayName}, wire.Forbidden)
		g.wantRefused(&wire.Ban{Target: g.id.DisplayName}, wire.Forbidden)
	}
	session.say("#general", "still here")
	ask[*wire.DisconnectAck](ann, &wire.Disconnect{Target: "olga"}) // that is no removal
	owner.wantClosed(wire.CloseNormal, wire.Disconnected)
}

func TestBanEndsAllThatAMemberHas(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	away := h.session(bob, "bob-0")
	away.Close()
	eventually(t, "bob-0 is away", func() bool { return h.countPresences() == 1 })
	session, daemon := h.session(bob, "bob-1"), h.dial(bob, peer.Options{})
	time.Sleep(4 * eventDelay) // events of their arrival may be under way
	ann.drain()
	if ack := ask[*wire.BanAck](ann, &wire.Ban{Target: bob.Key.Public()}); ack.Banned != "bob" {
		t.Errorf("banned %q", ack.Banned)
	}
	for _, g := range []*guest{session, daemon} {
		g.wantClosed(wire.CloseBanned, wire.Revoked)
	}
	left := map[string]bool{}
	for range 3 {
		var data wire.PeerEvent
		push := ann.next()
		if push == nil || push.Event != wire.EventPeerLeft || json.Unmarshal(push.EventData, &data) != nil {
			t.Fatalf("got %+v, want peer_left", push)
		}
		left[data.Pubkey] = true
	}
	if !left[away.Key()] || !left[session.Key()] || !left[daemon.Key()] {
		t.Errorf("left: %v", left)
	}
	wantNames(t, "bob", ann.here(bob), nil)
	if leases, err := h.db.Leases(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("leases %v, %v", leases, err)
	}
	eventually(t, "2 dropped connections are counted", func() bool {
		return h.metric(`broker_connections_dropped_total{reason="banned"}`) == 2
	})
}

// The error frame says what to do, the close why (protocol section 2).
func TestBanIsToldByErrorFrameAndClose(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	socket := h.raw()
	socket.send(memberHello(bob, time.Now(), nil))
	if frame := socket.frame(); frame["type"] != "hello_ack" {
		t.Fatal(frame)
	}
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"})
	socket.wantError(wire.Revoked)
	socket.wantClosed(wire.CloseBanned, wire.Banned)
}

func TestBannedMemberIsAddressedByNobody(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	daemon := h.dial(bob, peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "team"}}}})
	session := h.session(bob, "bob-1")
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob-1"}) // by the name of its session
	before := h.waitingFor(bob)
	for _, target := range []string{bob.Key.Public(), session.Key(), "@team"} {
		ann.wantUnsent(target, "hello?", wire.TargetNotFound)
	}
	ann.say("*", "everybody")
	if now := h.waitingFor(bob); now != before {
		t.Errorf("%d messages wait for a banned member, %d before", now, before)
	}
	for _, m := range ask[*wire.TopicMembersResponse](ann, &wire.TopicMembers{Topic: "general"}).Members {
		if m.MemberID == bob.MemberID {
			t.Error("a banned member is listed in #general")
		}
	}
	daemon.wantClosed(wire.CloseBanned, wire.Revoked)
}

func TestBanLeavesTheKeyNoInvite(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	invite := h.invite(InviteTerms{Uses: 10})
	bob := h.joinBy(invite.Token, "bob")
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"}) // it is away
	for _, token := range []string{invite.Token, h.invite(InviteTerms{}).Token} {
		status, answer := h.post("/join", map[string]any{"invite_token": token, "peer_pubkey": bob.Key.Public(), "display_name": "bobby"})
		if status != 400 || answer["error"] != "member_revoked" {
			t.Errorf("join: %d %v", status, answer)
		}
	}
	if status, answer := h.claim(invite.Code, bob.Key.Public(), nil); status != 410 || answer["error"] != "revoked" {
		t.Errorf("claim: %d %v", status, answer)
	}
	_, place := h.claim(invite.Code, "", nil) // a place for a key to come
	claimed := bob
	claimed.MemberID = place["member_id"].(string)
	h.wantRejected(memberHello(claimed, time.Now(), nil), wire.Revoked, wire.CloseBanned, wire.Banned)
	if after, err := h.db.InviteByCode(t.Context(), invite.Code); err != nil || after.Uses != 2 { // bob's own, and the place
		t.Errorf("the invite has %d uses, %v", after.Uses, err)
	}
}

func TestUnbannedMemberIsBackWithAllItHad(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.arrive("bob")
	ann.say(bob.Key(), "before")
	bob.wantPush("before")
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"})
	bob.wantClosed(wire.CloseBanned, wire.Revoked)
	bans := ask[*wire.ListBansResult](ann, &wire.ListBans{}).Bans
	if len(bans) != 1 || bans[0].Name != "bob" || bans[0].Pubkey != bob.Key() {
		t.Fatalf("bans %+v", bans)
	}
	if at, err := time.Parse(time.RFC3339, bans[0].RevokedAt); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("revokedAt %q", bans[0].RevokedAt)
	}
	if again := ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"}); again.Banned != "bob" {
		t.Errorf("banned again: %+v", again)
	}
	if ack := ask[*wire.UnbanAck](ann, &wire.Unban{Target: bob.Key()[:10]}); ack.Unbanned != "bob" {
		t.Errorf("unbanned %q", ack.Unbanned)
	}
	ann.wantRefused(&wire.Unban{Target: "bob"}, wire.NotFound)
	ann.wantRefused(&wire.Unban{}, wire.InvalidArgs)
	back := h.dial(bob.id, peer.Options{})
	ann.say("#general", "welcome")
	back.wantPush("welcome")
	ann.say(bob.Key(), "you again")
	back.wantPush("you again")
	back.say("#general", "thanks")
	if bans := ask[*wire.ListBansResult](ann, &wire.ListBans{}).Bans; len(bans) != 0 {
		t.Errorf("bans %+v", bans)
	}
}

func TestNamesThatSeveralGoByNameNobody(t *testing.T) {
	h := newHouse(t)
	ann, bob, other := h.admin("ann"), h.arrive("bob"), h.arrive("Bob")
	impostor := h.session(h.join("eve"), "bob") // a session may call itself anything
	for _, m := range []wire.Message{&wire.Kick{Target: "bob"}, &wire.Disconnect{Target: "bob"}, &wire.Ban{Target: "bob"}} {
		_, err := ann.Request(t.Context(), m)
		refused, ok := errors.AsType[*wire.Error](err)
		if !ok || refused.Code != wire.InvalidArgs {
			t.Fatalf("%s: %v", m.Type(), err)
		}
		for _, id := range []peer.Identity{bob.id, other.id, impostor.id} {
			if !strings.Contains(refused.Message, id.Key.Public()) {
				t.Errorf("%s: %q does not name %s", m.Type(), refused.Message, id.Key.Public())
			}
		}
	}
	ask[*wire.BanAck](ann, &wire.Ban{Target: impostor.Key()})
	impostor.wantClosed(wire.CloseBanned, wire.Revoked)
	ask[*wire.BanAck](ann, &wire.Ban{Target: bob.Key()})
	bob.wantClosed(wire.CloseBanned, wire.Revoked)
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"}) // one is left to whom it can apply
	other.wantClosed(wire.CloseBanned, wire.Revoked)
	ann.wantRefused(&wire.Unban{Target: "BOB"}, wire.InvalidArgs)
}

func TestSessionsModerateByTheirCapabilities(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann").id
	h.arrive("bob")
	as := func(caps ...string) *guest {
		return h.dial(ann, peer.Options{Session: identity.NewKey(), AllowedCaps: append([]string{}, caps...)})
	}
	none, kicks, bans := as(), as("kick"), as("ban")
	for _, tt := range []struct {
		m       wire.Message
		may     *guest
		refused []*guest
		missing string
	}{
		{&wire.Kick{Target: "bob"}, kicks, []*guest{none, bans}, "kick"},
		{&wire.Disconnect{Target: "bob"}, kicks, []*guest{none, bans}, "kick"},
		{&wire.Ban{Target: "bob"}, bans, []*guest{none, kicks}, "ban"},
		{&wire.Unban{Target: "bob"}, bans, []*guest{none, kicks}, "ban"},
	} {
		for _, g := range tt.refused {
			_, err := g.Request(t.Context(), tt.m)
			if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.Forbidden || refused.Message != missingCapability(tt.missing) {
				t.Errorf("%s: %v", tt.m.Type(), err)
			}
		}
		if _, err := tt.may.Request(t.Context(), tt.m); err != nil {
			t.Errorf("%s: %v", tt.m.Type(), err)
		}
	}
}

func TestModerationEndsAtTheMesh(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	lab := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(lab); err != nil {
		t.Fatal(err)
	}
	bob := h.dial(h.joinBy(lab.Invites[0].Token, "bob"), peer.Options{})
	for _, m := range []wire.Message{&wire.Kick{Target: "bob"}, &wire.Disconnect{Target: bob.Key()}, &wire.Ban{Target: bob.Key()}} {
		ann.wantRefused(m, wire.NotFound)
	}
	bob.say("#general", "still here")
	if got := ask[*wire.AuditResult](ann, &wire.AuditQuery{EventType: store.EventMemberJoined}); got.Total != 1 {
		t.Errorf("%d joins in the chain, want that of ann alone: %+v", got.Total, got.Entries)
	}
}

// A ban that another process wrote holds for the next send at once, and for live
// connections when the broker looks next, every enforceEvery.
func TestBanBesideTheServerEndsLiveConnections(t *testing.T) {
	if enforceEvery > time.Second {
		t.Errorf("the broker looks every %v: too late for two seconds", enforceEvery)
	}
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	session, daemon := h.session(bob, "bob-1"), h.dial(bob, peer.Options{})
	ann.drain()
	h.revoke(bob)
	began := time.Now()
	if ack, err := daemon.SendText(t.Context(), "#general", "me too"); err == nil && (ack.Queued || !strings.HasPrefix(ack.Error, wire.Forbidden+": ")) {
		t.Errorf("a banned member's send was answered %+v", ack)
	}
	session.wantClosed(wire.CloseBanned, wire.Revoked)
	daemon.wantClosed(wire.CloseBanned, wire.Revoked)
	t.Logf("live connections ended after %v", time.Since(began).Round(time.Millisecond))
	eventually(t, "bob is gone", func() bool { return len(ann.here(bob)) == 0 })
	ann.wantUnsent(bob.Key.Public(), "hello?", wire.TargetNotFound)
	eventually(t, "no lease is left", func() bool {
		leases, err := h.db.Leases(t.Context())
		return err == nil && len(leases) == 0
	})
}

// Nothing that a banned member had in hand is stored after the ban.
func TestSendsInFlightAreStoredBeforeABanOrNotAtAll(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	bob := h.arrive("bob")
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for {
				ack, err := bob.SendText(context.Background(), "#general", "again and again")
				if err != nil || !ack.Queued {
					return
				}
			}
		})
	}
	eventually(t, "bob is talking", func() bool { return len(h.history(t)) > 20 })
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"})
	stored := len(h.history(t))
	senders.Wait()
	if after := len(h.history(t)); after != stored {
		t.Errorf("%d messages are stored, %d were when the ban was acked", after, stored)
	}
}

// history returns all of #general.
func (h *house) history(t *testing.T) []store.Message {
	t.Helper()
	topic, _, err := h.db.Topic(t.Context(), h.mesh.ID, "", "general")
	if err != nil {
		t.Fatal(err)
	}
	all, err := h.db.History(t.Context(), topic.ID, store.Page{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A hello that was checked just before the ban does not stay.
func TestNobodySlipsInDuringABan(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	stop := make(chan struct{})
	var dialers sync.WaitGroup
	for range 8 {
		dialers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := peer.Dial(context.Background(), peer.Options{Identity: bob, Session: identity.NewKey()}); err != nil {
					if rejected, ok := errors.AsType[*peer.Rejected](err); ok && rejected.Code == wire.Revoked {
						return
					}
				}
			}
		})
	}
	eventually(t, "bob is coming in", func() bool { return h.countPresences() > 20 })
	ask[*wire.BanAck](ann, &wire.Ban{Target: bob.Key.Public()})
	dialers.Wait()
	close(stop)
	eventually(t, "nothing of bob is left", func() bool { return len(ann.here(bob)) == 0 && h.countPresences() == 1 })
}

func TestBannedPresenceIsNotTakenUpByARestart(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	h.session(bob, "bob-1")
	h.revoke(bob)
	h.restart()
	ann = h.dial(ann.id, peer.Options{})
	wantNames(t, "bob", ann.here(bob), nil)
	if leases, err := h.db.Leases(t.Context()); err != nil || slices.ContainsFunc(leases, func(l store.Lease) bool { return l.MemberID == bob.MemberID }) {
		t.Errorf("leases %v, %v", leases, err)
	}
}
