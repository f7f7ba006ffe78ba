package broker

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
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
	second.wantQuiet() // never back to the sender
	ann.wantQuiet()
}

func TestEveryReaderGetsATopicMessage(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	var readers []*guest
	for i := range 5 {
		readers = append(readers, h.arrive(fmt.Sprint("reader", i)))
	}
	ann.say("#general", "for all")
	for _, r := range readers {
		push := r.wantPush("for all")
		if err := r.Ack(t.Context(), push); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAckMeansStored(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	general, _, err := h.db.Topic(t.Context(), h.mesh.ID, ann.id.MemberID, "general")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		id := ann.say("#general", fmt.Sprint("message ", i))
		stored, err := h.db.History(t.Context(), general.ID, store.Page{Limit: 1})
		if err != nil || len(stored) != 1 || stored[0].ID != id {
			t.Fatalf("acked %s, but the newest stored is %v, %v", id, stored, err)
		}
	}
}

func TestDirectMessages(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	bob := h.join("bob")
	member := h.dial(bob, peer.Options{})
	session := h.dial(bob, peer.Options{Session: identity.NewKey()})

	push := func() *wire.Push {
		ann.say(session.Key(), "for one session")
		return session.wantPush("for one session")
	}()
	if push.SenderPubkey != ann.Key() || push.Topic != "" || push.Nonce == "" {
		t.Errorf("push = %+v", push)
	}
	member.wantQuiet()

	// To the member key: all its connections get it, and its sessions, which have
	// its key as well, can open it.
	ann.say(member.Key(), "for the member")
	member.wantPush("for the member")
	for got := session.next(); ; got = session.next() {
		if got == nil {
			t.Fatal("the session of the member got nothing")
		}
		if got.Subtype == "system" {
			continue
		}
		if text, err := session.Text(got); err != nil || text != "for the member" {
			t.Errorf("the session reads %q, %v", text, err)
		}
		break
	}

	// To one's own member key: one's other connections get it, not the sender.
	member.drain()
	session.drain()
	member.say(member.Key(), "note to self")
	if got := session.next(); got == nil || got.SenderMemberPubkey != member.Key() {
		t.Errorf("the other session got %+v", got)
	}
	member.wantQuiet()
}

func TestUnknownTargetsAreRefused(t *testing.T) {
	h := newHouse(t)
	ann, eve := h.arrive("ann"), h.join("eve")
	h.revoke(eve)
	for _, target := range []string{identity.NewKey().Public(), eve.Key.Public(), "@nobody", "@", "#nosuch", "#", "eve"} {
		ann.wantUnsent(target, "x", wire.TargetNotFound)
	}
}

// Refusals are final or passing by the words in them (protocol section 5).
func TestRefusalsSayWhetherToRetry(t *testing.T) {
	final := []string{"forbidden", "target_not_found", "invalid"}
	never := []string{"unknown", "invalid", "forbidden", "not_found", "auth", "schema", "signature"}
	h := newHouse(t)
	ann := h.arrive("ann")
	send := func(m wire.Send) string {
		ack, err := ann.Send(t.Context(), m)
		if err != nil || ack.Queued {
			t.Fatalf("ack %+v, %v; want a refusal", ack, err)
		}
		return ack.Error
	}
	general := func(change func(*wire.Send)) string {
		m := wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Ciphertext: "aGk="}
		change(&m)
		return send(m)
	}
	for _, text := range []string{
		general(func(m *wire.Send) { m.Ciphertext = "not base64" }),
		general(func(m *wire.Send) { m.Nonce = "aGk" }),
		general(func(m *wire.Send) { m.Priority = "soon" }),
		general(func(m *wire.Send) { m.BodyVersion = 3 }),
		general(func(m *wire.Send) { m.Ciphertext = base64.StdEncoding.EncodeToString([]byte{0xff, 0xfe}) }),
		general(func(m *wire.Send) { m.Ciphertext = strings.Repeat("A", wire.DefaultMaxMessage) }),
		general(func(m *wire.Send) { m.TargetSpec = "#nosuch" }),
		general(func(m *wire.Send) { m.TargetSpec = "@nosuch" }),
	} {
		if !containsAny(text, final) {
			t.Errorf("%q would be retried", text)
		}
	}
	for _, err := range []error{store.ErrBusy, store.ErrClosed, store.ErrFull} {
		if text := explain(err, "#general").Error(); containsAny(text, never) {
			t.Errorf("%q would not be retried", text)
		}
	}
}

func containsAny(text string, words []string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func TestGroupsAreHierarchical(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	groups := func(names ...string) wire.Client {
		var list []wire.Group
		for _, name := range names {
			list = append(list, wire.Group{Name: name})
		}
		return wire.Client{Groups: list}
	}
	core := h.dial(h.join("core"), peer.Options{Client: groups("core")})
	backend := h.dial(h.join("backend"), peer.Options{Client: groups("core/backend")})
	corella := h.arriveAs("corella", groups("corella"))
	for _, g := range []*guest{core, backend, corella} {
		g.drain()
	}
	ann.say("@core", "to all of core")
	core.wantPush("to all of core")
	backend.wantPush("to all of core")
	ann.say("@core/backend", "to the backend")
	backend.wantPush("to the backend")
	core.wantQuiet()
	corella.wantQuiet()

	// What was left behind counts while its owner is away.
	backend.Close()
	eventually(t, "backend is gone", func() bool { return h.countPresences() == 3 })
	ann.say("@core", "for later")
	core.wantPush("for later")
	h.dial(backend.id, peer.Options{}).wantPush("for later")
}

// In the reference a group called x')) OR (('1'='1 drained every mesh's queue.
func TestHostileGroupNamesAreNames(t *testing.T) {
	h := newHouse(t)
	name := "x')) OR (('1'='1"
	ann, bob := h.arrive("ann"), h.arriveAs("bob", wire.Client{Groups: []wire.Group{{Name: name}}})
	cat := h.arrive("cat")
	bob.drain()
	ann.say("@"+name, "only bob")
	bob.wantPush("only bob")
	cat.wantQuiet()
	ann.wantUnsent("@%", "x", wire.TargetNotFound)
	ann.wantUnsent("@x", "x", wire.TargetNotFound)
}

func TestBroadcastGoesToTheOthersAndNotToTheHidden(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	sibling := h.dial(ann.id, peer.Options{})
	ask[*wire.Ack](cat, &wire.SetVisible{Visible: false})
	cat.drain()
	bob.drain()
	for _, target := range []string{"*", "@all"} {
		ack, err := ann.Send(t.Context(), wire.Send{TargetSpec: target, Priority: wire.PriorityLow, Ciphertext: "aGk=", ClientMessageID: "c" + target})
		if err != nil || !ack.Queued {
			t.Fatalf("%s: ack %+v, %v", target, ack, err)
		}
		if push := bob.wantPush("hi"); push.ClientMessageID != "c"+target || push.Priority != wire.PriorityLow {
			t.Errorf("push = %+v", push)
		}
	}
	sibling.wantQuiet()
	cat.wantQuiet()
}

func TestBroadcastRightAfterTheHelloIsNotEchoed(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	for range 20 {
		g := h.dial(ann, peer.Options{})
		g.say("*", "hello")
		g.wantQuiet()
		g.Close()
	}
}

func TestRepeatedSendIsAnsweredWithTheFirstID(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	m := wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Ciphertext: "aGk=", ClientMessageID: "c1", RequestFingerprint: "f1"}
	first, err := ann.Send(t.Context(), m)
	if err != nil || !first.Queued {
		t.Fatalf("ack %+v, %v", first, err)
	}
	bob.wantPush("hi")
	second, err := ann.Send(t.Context(), m)
	if err != nil || !second.Queued || second.MessageID != first.MessageID {
		t.Errorf("repeated: ack %+v, %v; want id %s", second, err, first.MessageID)
	}
	bob.wantQuiet()
	m.RequestFingerprint = "f2"
	third, err := ann.Send(t.Context(), m)
	if err != nil || third.Queued || !strings.HasPrefix(third.Error, "idempotency_conflict: invalid reuse") {
		t.Errorf("other content: ack %+v, %v", third, err)
	}
}

func TestPipelinedSendsKeepTheirOrder(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.arrive("bob")
	socket := h.raw()
	socket.send(memberHello(ann, time.Now(), nil))
	socket.frame()
	const n = 300
	for i := range n {
		target := "#general"
		if i%10 == 9 {
			target = "#nosuch" // refusals keep their place too
		}
		socket.sendText(fmt.Sprintf(`{"type":"send","id":"s%d","targetSpec":"%s","priority":"next","nonce":"","ciphertext":"%s"}`,
			i, target, base64.StdEncoding.EncodeToString(fmt.Append(nil, i))))
	}
	socket.sendText(`{"type":"topic_history","topic":"general","limit":1,"_reqId":"after"}`)
	for i := range n {
		ack := socket.frame()
		if ack["id"] != fmt.Sprint("s", i) || ack["queued"] != (i%10 != 9) {
			t.Fatalf("ack %d = %v", i, ack)
		}
	}
	history := socket.frame()
	newest := history["messages"].([]any)[0].(map[string]any)["ciphertext"]
	if history["_reqId"] != "after" || newest != base64.StdEncoding.EncodeToString(fmt.Append(nil, n-2)) {
		t.Errorf("a request after the sends was answered before them: %v", history)
	}
	for i := range n {
		if i%10 != 9 {
			bob.wantPush(fmt.Sprint(i))
		}
	}
}

func TestSlowConsumerIsCutOff(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.OutboxBytes, l.WriteTimeout = 256<<10, 200*time.Millisecond })
	ann, slow := h.arrive("ann"), h.join("slow")
	socket := h.raw()
	socket.send(memberHello(slow, time.Now(), nil))
	socket.frame() // and reads no more
	body := strings.Repeat("x", 30_000)
	eventually(t, "the slow one is cut off", func() bool {
		ann.say("#general", body)
		return h.metric(`broker_connections_dropped_total{reason="slow_consumer"}`) == 1
	})
	socket.wantClosed(1013, wire.SlowConsumer) // it wakes up in time and learns why
	eventually(t, "it is gone", func() bool { return h.countPresences() == 1 })
}

func TestSilentSocketIsDropped(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.PingInterval, l.PongTimeout = 20*time.Millisecond, 100*time.Millisecond })
	ann := h.join("ann")
	socket := h.raw()
	socket.send(memberHello(ann, time.Now(), nil))
	socket.frame() // and answers no ping, because it does not read
	live := h.arrive("bob")
	live.wantEvent(wire.EventPeerLeft, "ann")
	ask[*wire.PeersList](live, &wire.ListPeers{}) // one that answers stays
}

// BenchmarkPostToPush is from one peer's send to the other's push, commit
// included, one message in flight.
func BenchmarkPostToPush(b *testing.B) {
	h := newHouse(b)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	text := strings.Repeat("x", 400)
	bob.drain()
	for b.Loop() {
		ann.say("#general", text)
		bob.wantPush(text)
	}
}

// BenchmarkHandshake is a whole connection: TCP, upgrade, session hello with its
// two signatures, hello_ack, close.
func BenchmarkHandshake(b *testing.B) {
	h := newHouse(b)
	ann := h.join("ann")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := peer.Dial(b.Context(), peer.Options{Identity: ann, Session: identity.NewKey()})
			if err != nil {
				b.Error(err)
				return
			}
			c.Close()
		}
	})
}
