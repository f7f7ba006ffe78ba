package broker

import (
	"encoding/json"
	"testing"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func TestProfileMessages(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusDND})
	ask[*wire.Ack](ann, &wire.SetSummary{Summary: "line one\nline two\x1b[31m"})
	ask[*wire.Ack](ann, &wire.SetStats{Stats: json.RawMessage(`{"toolCalls":3}`)})
	ask[*wire.Ack](ann, &wire.JoinGroup{Name: "team", Role: "lead"})
	ask[*wire.Ack](ann, &wire.JoinGroup{Name: "@team", Role: "member"}) // once, with the newer role
	got := ask[*wire.Ack](ann, &wire.SetProfile{Profile: wire.Profile{Title: "the tester"}})
	if got.Queued || got.MessageID != "" || got.ID == "" {
		t.Errorf("set_profile was answered by %+v", got)
	}
	listed := peerOf(t, bob, ann.Key())
	if listed.Status != wire.StatusDND || listed.Summary == nil || *listed.Summary != "line one line two[31m" || string(listed.Stats) != `{"toolCalls":3}` ||
		len(listed.Groups) != 1 || listed.Groups[0] != (wire.Group{Name: "team", Role: "member"}) || listed.Profile == nil || listed.Profile.Title != "the tester" {
		t.Errorf("listed as %+v", listed)
	}
	ann.wantRefused(&wire.SetStatus{Status: "asleep"}, wire.InvalidArgs)
	ann.wantRefused(&wire.SetStats{Stats: json.RawMessage(`[1]`)}, wire.InvalidArgs)
	ann.wantRefused(&wire.JoinGroup{Name: " @ "}, wire.InvalidArgs)
}

func TestHiddenPeersAreListedToThemselvesOnly(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.Ack](ann, &wire.SetVisible{Visible: false})
	bob.wantEvent(wire.EventPeerHidden, "ann")
	ask[*wire.Ack](ann, &wire.SetVisible{Visible: false}) // said twice, told once
	if n := len(ask[*wire.PeersList](bob, &wire.ListPeers{}).Peers); n != 1 {
		t.Errorf("bob sees %d peers, want himself alone", n)
	}
	if listed := peerOf(t, ann, ann.Key()); listed.Visible {
		t.Error("ann must see herself, hidden")
	}
	ask[*wire.Ack](ann, &wire.SetVisible{Visible: true})
	bob.wantEvent(wire.EventPeerVisible, "ann")
	peerOf(t, bob, ann.Key())
}

func TestPeersComeAndGo(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	bob := h.join("bob")
	first := h.dial(bob, peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "team"}}}})
	if event := ann.wantEvent(wire.EventPeerJoined, "bob"); event.Pubkey != bob.Key.Public() || len(event.Groups) != 1 {
		t.Errorf("event = %+v", event)
	}
	second := h.dial(bob, peer.Options{})
	second.wantNoEvents() // not told about their own
	first.wantNoEvents()
	ann.drain()
	first.Close()
	ann.wantEvent(wire.EventPeerLeft, "bob")
}

// Requests that the reference leaves unanswered are answered only if they carry
// a _reqId: an answer without one would go to some other waiting request.
func TestNothingIsAnsweredUnasked(t *testing.T) {
	h := newHouse(t)
	socket := h.raw()
	socket.send(memberHello(h.join("ann"), time.Now(), nil))
	socket.frame()
	for _, frame := range []string{
		`{"type":"set_status","status":"idle"}`, `{"type":"set_summary","summary":"x"}`, `{"type":"set_stats","stats":{}}`,
		`{"type":"join_group","name":"team"}`, `{"type":"leave_group","name":"team"}`, `{"type":"topic_join","topic":"general"}`,
		`{"type":"topic_mark_read","topic":"general"}`, `{"type":"client_ack","brokerMessageId":"nosuch"}`,
	} {
		socket.sendText(frame)
	}
	socket.sendText(`{"type":"set_visible","visible":true}`)
	if got := socket.frame(); got["type"] != "ack" || got["id"] != "" || got["messageId"] != "" || got["queued"] != false {
		t.Errorf("the first answer is %v, want the ack of set_visible", got)
	}
}
