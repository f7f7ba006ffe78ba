package broker

import (
	"database/sql"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// audit returns the newest entries of the chain, oldest first.
func (g *guest) audit(q wire.AuditQuery) []wire.AuditEntry {
	g.t.Helper()
	entries := ask[*wire.AuditResult](g, &q).Entries
	slices.Reverse(entries)
	return entries
}

func eventsOf(entries []wire.AuditEntry) (events []string) {
	for _, e := range entries {
		events = append(events, e.EventType)
	}
	return events
}

func TestModerationIsInTheAuditChain(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	before := ask[*wire.AuditResult](ann, &wire.AuditQuery{}).Total
	one := h.session(bob, "bob-1")
	ask[*wire.KickAck](ann, &wire.Kick{Target: "bob-1"})
	one.wantClosed(wire.CloseKicked, wire.Kicked)
	two := h.session(bob, "bob-2")
	ask[*wire.DisconnectAck](ann, &wire.Disconnect{Target: "bob"})
	two.wantClosed(wire.CloseNormal, wire.Disconnected)
	ask[*wire.BanAck](ann, &wire.Ban{Target: "bob"})
	ask[*wire.UnbanAck](ann, &wire.Unban{Target: "bob"})
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "ops"})
	entries := ann.audit(wire.AuditQuery{})[before:]
	want := []string{
		store.EventPeerJoined, store.EventMemberKicked, store.EventPeerLeft,
		store.EventPeerJoined, store.EventMemberDisconnected,
		store.EventMemberRevoked, store.EventPeerLeft, store.EventMemberRestored, store.EventTopicCreated,
	}
	if got := eventsOf(entries); !slices.Equal(got, want) {
		t.Fatalf("events %q, want %q", got, want)
	}
	kick := entries[1]
	var payload struct {
		MemberID, Pubkey, Name, By string
		Sessions                   []string
	}
	if err := json.Unmarshal(kick.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	if kick.Actor != ann.Key() || payload.By != "ann" || payload.MemberID != bob.MemberID || payload.Pubkey != bob.Key.Public() ||
		payload.Name != "bob" || !slices.Equal(payload.Sessions, []string{"bob-1"}) {
		t.Errorf("kick by %s: %s", kick.Actor, kick.Payload)
	}
	if at, err := time.Parse(time.RFC3339, kick.CreatedAt); err != nil || time.Since(at).Abs() > time.Hour || len(kick.Hash) != 64 {
		t.Errorf("kick at %q with hash %q", kick.CreatedAt, kick.Hash)
	}
	if verdict := ask[*wire.AuditVerifyResult](ann, &wire.AuditVerify{}); !verdict.Valid || verdict.Entries != before+len(want) || verdict.BrokenAt != "" {
		t.Errorf("verdict %+v", verdict)
	}
}

// Commands that come and go many times a minute are no news.
func TestOneShotConnectionsAreNotInTheAuditChain(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.admin("ann"), h.join("bob")
	before := ask[*wire.AuditResult](ann, &wire.AuditQuery{}).Total
	for range 5 {
		g := h.dial(bob, peer.Options{})
		ask[*wire.PeersList](g, &wire.ListPeers{})
		g.Close()
		quiet := h.dial(bob, peer.Options{Client: wire.Client{Capabilities: []string{wire.CapNoLease}}})
		quiet.say("#general", "a command that sends")
		quiet.Close()
	}
	eventually(t, "bob is gone", func() bool { return h.countPresences() == 1 })
	if after := ask[*wire.AuditResult](ann, &wire.AuditQuery{}); after.Total != before {
		t.Errorf("%d entries after %d: %q", after.Total, before, eventsOf(after.Entries))
	}
}

// A blip, a take-over and a restart are no news either: the peer was there.
func TestPeerIsInTheAuditChainAsLongAsItsLease(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 300 * time.Millisecond })
	ann := h.admin("ann")
	key := identity.NewKey()
	bob := h.talker("bob", key)
	again := h.dial(bob.id, peer.Options{Session: key})
	again.Close()
	h.restart()
	h.dial(bob.id, peer.Options{Session: key}).Close()
	ann = h.dial(ann.id, peer.Options{})
	peers := func() (events []string) {
		for _, e := range ann.audit(wire.AuditQuery{}) {
			if e.EventType == store.EventPeerJoined || e.EventType == store.EventPeerLeft {
				events = append(events, e.EventType)
			}
		}
		return events
	}
	eventually(t, "bob has left the chain", func() bool { return slices.Contains(peers(), store.EventPeerLeft) })
	if got := peers(); !slices.Equal(got, []string{store.EventPeerJoined, store.EventPeerLeft}) {
		t.Errorf("events %q", got)
	}
}

func TestAuditQueryPagesAndFilters(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	for range 60 {
		h.invite(InviteTerms{})
	}
	whole := ask[*wire.AuditResult](ann, &wire.AuditQuery{Limit: 200})
	if len(whole.Entries) != whole.Total || whole.Entries[whole.Total-1].EventType != store.EventMeshCreated {
		t.Fatalf("%d of %d entries", len(whole.Entries), whole.Total)
	}
	if standard := ask[*wire.AuditResult](ann, &wire.AuditQuery{}); len(standard.Entries) != 50 || standard.Total != whole.Total {
		t.Errorf("%d of %d entries", len(standard.Entries), standard.Total)
	}
	page := ask[*wire.AuditResult](ann, &wire.AuditQuery{Limit: 2, Offset: 3}).Entries
	if len(page) != 2 || page[0].ID != whole.Entries[3].ID || page[1].ID != whole.Entries[4].ID {
		t.Errorf("page %+v", page)
	}
	if joins := ask[*wire.AuditResult](ann, &wire.AuditQuery{EventType: store.EventMemberJoined}); joins.Total != 1 || joins.Entries[0].Actor != ann.Key() {
		t.Errorf("joins %+v", joins)
	}
	if none := ask[*wire.AuditResult](ann, &wire.AuditQuery{EventType: "nosuch"}); none.Total != 0 || none.Entries == nil {
		t.Errorf("no such event: %+v", none)
	}
	for _, q := range []wire.AuditQuery{{Limit: -1}, {Limit: 201}, {Offset: -1}} {
		ann.wantRefused(&q, wire.InvalidArgs)
	}
}

func TestAuditVerifyFindsWhatWasTamperedWith(t *testing.T) {
	h := newHouse(t)
	ann := h.admin("ann")
	entries := ann.audit(wire.AuditQuery{})
	raw, err := sql.Open("sqlite", h.db.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`UPDATE audit SET payload = 'no JSON at all' WHERE id = ?`, entries[1].ID); err != nil {
		t.Fatal(err)
	}
	verdict := ask[*wire.AuditVerifyResult](ann, &wire.AuditVerify{})
	if verdict.Valid || verdict.BrokenAt != entries[1].ID || verdict.Entries != len(entries) {
		t.Errorf("verdict %+v, want it broken at %s", verdict, entries[1].ID)
	}
	if shown := ann.audit(wire.AuditQuery{})[1]; string(shown.Payload) != `"no JSON at all"` {
		t.Errorf("it is shown as %s", shown.Payload)
	}
}
