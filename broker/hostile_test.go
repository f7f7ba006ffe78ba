package broker

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// What a member, or somebody with an invite, could try on the others.

func TestClaimedPlaceIsShownToNobody(t *testing.T) {
	h := newHouse(t)
	mallory := h.arrive("mallory")
	_, answer := h.claim(h.invite(InviteTerms{Role: store.RoleAdmin}).Code, "", nil)
	place := answer["member_id"].(string)
	mallory.say("#general", "hello @claimer") // nor does a mention keep the place
	members := ask[*wire.TopicMembersResponse](mallory, &wire.TopicMembers{Topic: "general"}).Members
	for _, m := range members {
		if m.MemberID == place {
			t.Fatalf("the claimed place is listed: %+v", m)
		}
	}
	mallory.wantRefused(&wire.TopicInvite{Topic: "general", Member: place}, wire.Forbidden)
	if err := h.db.DropClaims(time.Now().Add(store.ClaimTime)); err != nil {
		t.Fatal(err)
	}
	all, _ := h.db.Members(t.Context(), h.mesh.ID)
	if len(all) != 1 {
		t.Errorf("%d members, want mallory alone", len(all))
	}
}

func TestBoundPlaceIsInGeneral(t *testing.T) {
	h := newHouse(t)
	_, answer := h.claim(h.invite(InviteTerms{}).Code, "", nil)
	place := peer.Identity{MeshID: h.mesh.ID, BrokerURL: BrokerURL(h.url), MemberID: answer["member_id"].(string), DisplayName: "later", Key: identity.NewKey()}
	bob := h.arrive("bob")
	g := h.dial(place, peer.Options{})
	bob.say("#general", "welcome")
	g.wantPush("welcome")
}

func TestLabelYieldsToTheMemberWhoseKeyItIs(t *testing.T) {
	h := newHouse(t)
	ann, mallory := h.arrive("ann"), h.join("mallory")
	victim := identity.NewKey()
	label := victim.Public()
	squatter := h.raw()
	squatter.send(memberHello(mallory, time.Now(), func(m *wire.Hello) { m.SessionPubkey = &label }))
	squatter.frame()
	squatter.sendText(`{"type":"send","id":"1","targetSpec":"#general","nonce":"","ciphertext":"aGk="}`) // earns a lease
	for squatter.frame()["type"] != "ack" {
	}
	id, err := peer.Join(t.Context(), h.invite(InviteTerms{}).Token, "victim", victim)
	if err != nil {
		t.Fatal(err)
	}
	squatter.wantClosed(1008, wire.BadSessionPubkey)
	ann.say(label, "for the victim")
	h.dial(id, peer.Options{}).wantPush("for the victim")
}

func TestSessionKeyCannotBeJoinedAway(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(bob, peer.Options{Session: key})
	session.say("#general", "mine")
	ann.wantPush("mine")
	status, answer := h.post("/join", map[string]any{"invite_token": h.invite(InviteTerms{}).Token, "peer_pubkey": key.Public(), "display_name": "mallory"})
	if status != 400 || answer["ok"] != false {
		t.Errorf("joining with a session's key: %d %v", status, answer)
	}
	ann.say(key.Public(), "for the session")
	session.wantPush("for the session")
}

func TestLabelReadsNothingOfItsSession(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(bob, peer.Options{Session: key})
	ask[*wire.Ack](session, &wire.SetStatus{Status: wire.StatusDND})
	ann.say(key.Public(), "held for the session")
	label := key.Public()
	socket := h.raw()
	socket.send(memberHello(bob, time.Now(), func(m *wire.Hello) { m.SessionPubkey = &label }))
	socket.frame()
	socket.sendText(`{"type":"list_peers","_reqId":"r"}`)
	for frame := socket.frame(); frame["_reqId"] != "r"; frame = socket.frame() {
		if frame["type"] == "push" && frame["subtype"] == nil {
			t.Fatalf("the label was pushed %v", frame)
		}
	}
	ask[*wire.Ack](session, &wire.SetStatus{Status: wire.StatusIdle})
	session.wantPush("held for the session")
}

func TestNothingPrecedesTheHelloAck(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "waiting")
	for range 20 {
		socket := h.raw()
		socket.sendText(`{"type":"list_peers"}`) // wakes the write loop
		socket.send(memberHello(bob, time.Now(), nil))
		socket.wantError(wire.NoHello)
		if frame := socket.frame(); frame["type"] != "hello_ack" {
			t.Fatalf("got %v before the hello_ack", frame)
		}
		socket.CloseNow()
		time.Sleep(2 * time.Millisecond)
	}
}

func TestTakeoverKeepsTheGate(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	first := h.dial(bob, peer.Options{Session: key})
	ask[*wire.Ack](first, &wire.SetStatus{Status: wire.StatusDND})
	second := h.dial(bob, peer.Options{Session: key})
	ann.post(key.Public(), "held", wire.PriorityNext)
	second.wantQuiet()
	ask[*wire.Ack](second, &wire.SetStatus{Status: wire.StatusIdle})
	second.wantPush("held")
}

func TestReplacedSocketSendsNothingMore(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	bob := h.arrive("bob")
	key := identity.NewKey()
	socket := h.raw()
	socket.send(sessionHello(sessionParts{parent: ann, session: key}))
	socket.frame()
	h.dial(ann, peer.Options{Session: key})
	time.Sleep(20 * time.Millisecond) // the socket does not answer the close
	socket.sendText(`{"type":"send","id":"1","targetSpec":"#general","nonce":"","ciphertext":"aGk="}`)
	bob.wantQuiet()
	socket.wantClosed(1000, wire.SessionReplaced)
	bob.wantQuiet()
}

func TestSessionCannotReplaceTheDaemonOfItsMember(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	daemon := h.dial(ann, peer.Options{Client: wire.Client{SessionID: "daemon-7"}})
	h.dial(ann, peer.Options{Session: identity.NewKey(), AllowedCaps: []string{}, Client: wire.Client{SessionID: "daemon-7"}})
	ask[*wire.PeersList](daemon, &wire.ListPeers{})
}

func TestHiddenConnectionGetsNoBroadcastLater(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	hidden, shown := h.dial(bob, peer.Options{Session: identity.NewKey()}), h.dial(bob, peer.Options{Session: identity.NewKey()})
	ask[*wire.Ack](hidden, &wire.SetVisible{Visible: false})
	ann.say("*", "to all")
	ask[*wire.Ack](hidden, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.Ack](hidden, &wire.SetStatus{Status: wire.StatusIdle}) // a pass from the start
	hidden.wantQuiet()
	shown.wantPush("to all")
}

func TestGroupsOfTheHelloReplaceWhatWasStored(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	h.dial(bob, peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "a"}}}}).Close()
	eventually(t, "bob is gone", func() bool { return h.countPresences() == 1 })
	b := h.dial(bob, peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "b"}}}})
	ann.say("@b", "to b")
	b.wantPush("to b")
	ann.wantUnsent("@a", "x", wire.TargetNotFound)
}

func TestNoteToSelfReachesTheOtherConnectionLater(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	desk, laptop := h.dial(ann, peer.Options{}), h.dial(ann, peer.Options{})
	ask[*wire.Ack](laptop, &wire.SetStatus{Status: wire.StatusWorking})
	desk.post(ann.Key.Public(), "note", wire.PriorityNext)
	ask[*wire.Ack](laptop, &wire.SetStatus{Status: wire.StatusIdle})
	laptop.wantPush("note")
	desk.wantQuiet()
	h.settled()
}

func TestAckByTheSendersIDAlone(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ack, err := ann.Send(t.Context(), wire.Send{TargetSpec: bob.Key(), Priority: "next", Ciphertext: "aGk=", ClientMessageID: "mine"})
	if err != nil || !ack.Queued {
		t.Fatalf("ack %+v, %v", ack, err)
	}
	for push := bob.next(); push.ClientMessageID != "mine"; push = bob.next() {
	}
	if err := bob.Tell(t.Context(), &wire.ClientAck{ClientMessageID: "mine"}); err != nil {
		t.Fatal(err)
	}
	h.settled()
}

func TestOneShotConnectionDoesNotTrimABacklog(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	daemon := h.dial(bob, peer.Options{Client: wire.Client{SessionID: "daemon-1"}})
	ask[*wire.Ack](daemon, &wire.SetStatus{Status: wire.StatusDND})
	const n = topicBacklog + 50
	for range n {
		ann.post("#general", "held", wire.PriorityNext)
	}
	h.dial(bob, peer.Options{}).Close()
	ask[*wire.Ack](daemon, &wire.SetStatus{Status: wire.StatusIdle})
	for range n { // it was connected all the time
		daemon.wantPush("held")
	}
	eventually(t, "the cursor is at the end", func() bool { return h.waitingFor(bob) == 0 })
}

func TestRetryOfAStoredMessageIsToldTheTruth(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	m := wire.Send{TargetSpec: "#deploys", Priority: "next", Ciphertext: "aGk=", ClientMessageID: "c1"}
	first, err := ann.Send(t.Context(), m)
	if err != nil || !first.Queued {
		t.Fatalf("ack %+v, %v", first, err)
	}
	ask[*wire.Ack](ann, &wire.TopicLeave{Topic: "deploys"})
	second, err := ann.Send(t.Context(), m)
	if err != nil || !second.Queued || second.MessageID != first.MessageID {
		t.Errorf("the retry got %+v, %v; want the first id %s", second, err, first.MessageID)
	}
}

func TestMalformedSendIsAnsweredUnderItsID(t *testing.T) {
	h := newHouse(t)
	socket := h.raw()
	socket.send(memberHello(h.join("ann"), time.Now(), nil))
	socket.frame()
	socket.sendText(`{"type":"send","id":"s1","priority":5}`)
	if got := socket.wantError(wire.Malformed); got["id"] != "s1" {
		t.Errorf("got %v, want id s1", got)
	}
}

// No secret of the file, of an invite or of a key is in an error.
func TestErrorsLeakNothing(t *testing.T) {
	h := newHouse(t)
	stranger := peer.Identity{MeshID: h.mesh.ID, MemberID: store.NewID(), DisplayName: "x", Key: identity.NewKey()}
	socket := h.raw()
	socket.send(memberHello(stranger, time.Now(), nil))
	text, _ := json.Marshal(socket.frame())
	response, err := http.Post(h.url+"/join", "application/json", strings.NewReader(`{"invite_token":"`+h.first+`","peer_pubkey":"x","display_name":"y"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, answer := answerOf(t, response)
	more, _ := json.Marshal(answer)
	for _, secret := range []string{h.mesh.Slug, h.mesh.ID, h.mesh.OwnerPubKey, h.first, h.db.Path()} {
		if strings.Contains(string(text)+string(more), secret) {
			t.Errorf("an error holds %q: %s %s", secret, text, more)
		}
	}
}
