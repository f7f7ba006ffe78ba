package broker

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// send posts a readable text with a priority, without ceremony.
func (g *guest) post(target, text, priority string) {
	g.t.Helper()
	nonce, ciphertext := peer.Plain(text)
	ack, err := g.Send(g.t.Context(), wire.Send{TargetSpec: target, Priority: priority, Nonce: nonce, Ciphertext: ciphertext})
	if err != nil || !ack.Queued {
		g.t.Fatalf("%s → %s: ack %+v, %v", g.id.DisplayName, target, ack, err)
	}
}

// settled waits until nothing waits for anybody.
func (h *house) settled() {
	h.t.Helper()
	eventually(h.t, "everything is settled", func() bool { return h.queueDepth() == 0 })
}

func TestAwayRecipientsGetEverythingInOrderBeforeWhatIsNew(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.dial(h.join("bob"), peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "team"}}}})
	bob.Close()
	eventually(t, "bob is away", func() bool { return h.countPresences() == 1 })
	ann.say(bob.Key(), "direct 1")
	ann.say("#general", "topic 2")
	ann.say("@team", "group 3")
	ann.say("*", "broadcast 4")
	ann.say(bob.Key(), "direct 5")
	back := h.dial(bob.id, peer.Options{})
	ann.say("#general", "new 6")
	for _, text := range []string{"direct 1", "topic 2", "group 3", "broadcast 4", "direct 5", "new 6"} {
		back.wantPush(text)
	}
	back.wantQuiet()
	eventually(t, "bob's acks are on disk", func() bool { return h.waitingFor(bob.id) == 0 })
	h.dial(bob.id, peer.Options{}).wantQuiet() // acked once, delivered once
}

func TestWaitingMessagesSurviveARestart(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "for after the restart")
	h.restart()
	h.dial(bob, peer.Options{}).wantPush("for after the restart")
}

func TestUnackedPushIsRepeatedFiveTimesAndOnTheNextHello(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.AckTimeout = 30 * time.Millisecond })
	ann, bob := h.arrive("ann"), h.arrive("bob") // bob says that it acks, and does not
	id := ann.say(bob.Key(), "are you there?")
	next := func(g *guest, patience time.Duration) *wire.Push {
		for {
			select {
			case push := <-g.Pushes():
				if push.Subtype != "system" {
					return push
				}
			case <-time.After(patience):
				return nil
			}
		}
	}
	for i := range 1 + maxRedeliveries {
		if push := next(bob, patience); push == nil || push.MessageID != id {
			t.Fatalf("push %d = %+v, want %s", i, push, id)
		}
	}
	if push := next(bob, 200*time.Millisecond); push != nil {
		t.Errorf("pushed more than %d times", 1+maxRedeliveries)
	}
	bob.Close()
	h.dial(bob.id, peer.Options{}).wantPush("are you there?")
	h.settled()
}

func TestOneAckSettlesForAllConnectionsOfAMember(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.AckTimeout = 50 * time.Millisecond })
	ann, bob := h.arrive("ann"), h.arrive("bob")
	sibling := h.dial(bob.id, peer.Options{})
	ann.say(bob.Key(), "once")
	if push := sibling.next(); push == nil {
		t.Fatal("the sibling got nothing")
	}
	bob.wantPush("once")
	h.settled()
	time.Sleep(200 * time.Millisecond) // more than the time to repeat
	sibling.wantQuiet()
}

// An older client acks nothing: what it got counts when it answers a ping that
// was sent later.
func TestConnectionWithoutAcksIsSettledByItsPong(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.PingInterval = 50 * time.Millisecond })
	ann, old := h.arrive("ann"), h.join("old")
	socket := h.raw()
	socket.send(memberHello(old, time.Now(), nil))
	socket.frame()
	ann.say(old.Key.Public(), "no ack needed")
	ann.say("#general", "nor here")
	got := 0
	for got < 2 {
		if frame := socket.frame(); frame["type"] == "push" && frame["subtype"] == nil {
			got++
		}
	}
	go socket.Read(t.Context()) // answers pings
	h.settled()
	eventually(t, "the cursor moved", func() bool { return h.waitingFor(old) == 0 })
}

// A command that connects, asks and leaves must not consume anybody's messages.
func TestOneShotConnectionConsumesNothing(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "direct")
	ann.say("#general", "topic")
	for range 3 {
		socket := h.raw()
		socket.send(memberHello(bob, time.Now(), nil))
		socket.frame()
		socket.sendText(`{"type":"list_peers","_reqId":"r"}`)
		for socket.frame()["_reqId"] != "r" {
		}
		socket.CloseNow()
		time.Sleep(2 * time.Millisecond) // two hellos in one millisecond are a replay
	}
	back := h.dial(bob, peer.Options{})
	back.wantPush("direct")
	back.wantPush("topic")
	h.settled()
}

func TestBusyRecipientsGetOnlyWhatIsUrgent(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	for _, status := range []string{wire.StatusWorking, wire.StatusDND} {
		ask[*wire.Ack](bob, &wire.SetStatus{Status: status})
		ann.post("#general", "next 1", wire.PriorityNext)
		ann.post(bob.Key(), "low 2", wire.PriorityLow)
		ann.post("#general", "now 3", wire.PriorityNow)
		ann.post("#general", "next 4", wire.PriorityNext)
		ann.post("*", "now 5", wire.PriorityNow)
		bob.wantPush("now 3")
		bob.wantPush("now 5")
		bob.wantQuiet()
		ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusIdle})
		for _, text := range []string{"next 1", "low 2", "next 4"} {
			bob.wantPush(text)
		}
		bob.wantQuiet()
	}
	h.settled()
	eventually(t, "the cursor moved", func() bool { return h.waitingFor(bob.id) == 0 })
}

func TestWorkingFallsBackToIdle(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.WorkingTTL = 100 * time.Millisecond })
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.Ack](cat, &wire.SetStatus{Status: wire.StatusDND})
	ann.post("#general", "held", wire.PriorityNext)
	bob.wantPush("held")
	if listed := peerOf(t, ann, bob.Key()); listed.Status != wire.StatusIdle {
		t.Errorf("bob is %s, want idle", listed.Status)
	}
	cat.wantQuiet() // dnd is only lifted by set_status
	if listed := peerOf(t, ann, cat.Key()); listed.Status != wire.StatusDND {
		t.Errorf("cat is %s, want dnd", listed.Status)
	}
}

func TestHeldMessagesOfABusyRecipientAreNotSteppedOver(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusDND})
	ann.post("#general", "held", wire.PriorityNext)
	ann.post("#general", "urgent", wire.PriorityNow)
	bob.wantPush("urgent") // and acks it
	ask[*wire.PeersList](bob, &wire.ListPeers{})
	bob.Close()
	h.dial(bob.id, peer.Options{}).wantPush("held")
}

func TestLargeBacklogComesInOrder(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	const n = 3 * feedWindow
	socket := h.raw()
	socket.send(memberHello(ann, time.Now(), nil))
	socket.frame()
	go func() {
		for i := range n {
			socket.sendText(fmt.Sprintf(`{"type":"send","targetSpec":"%s","priority":"next","nonce":"","ciphertext":"%s"}`,
				bob.Key.Public(), base64.StdEncoding.EncodeToString(fmt.Append(nil, i))))
		}
	}()
	for range n {
		if ack := socket.frame(); ack["queued"] != true {
			t.Fatal(ack)
		}
	}
	back := h.dial(bob, peer.Options{})
	for i := range n {
		back.wantPush(fmt.Sprint(i))
	}
	h.settled()
}

func TestOnlyTheNewestOfATopicWait(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	for i := range topicBacklog + 20 {
		ann.post("#general", fmt.Sprint(i), wire.PriorityNext)
	}
	back := h.dial(bob, peer.Options{})
	for i := range topicBacklog {
		back.wantPush(fmt.Sprint(20 + i))
	}
	back.wantQuiet()
}

func TestSlowConsumerLosesNothing(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.OutboxBytes, l.WriteTimeout = 256<<10, 100*time.Millisecond })
	ann, slow := h.arrive("ann"), h.join("slow")
	socket := h.raw()
	socket.send(memberHello(slow, time.Now(), nil))
	socket.frame()
	filler := make([]byte, 20_000)
	sent := 0
	eventually(t, "the slow one is cut off", func() bool {
		ann.post(slow.Key.Public(), fmt.Sprint(sent, string(filler)), wire.PriorityNext)
		sent++
		return h.metric(`broker_connections_dropped_total{reason="slow_consumer"}`) > 0
	})
	back := h.dial(slow, peer.Options{})
	for i := range sent {
		back.wantPush(fmt.Sprint(i, string(filler)))
	}
	h.settled()
}

func TestWhatWaitsForASessionGoesToItsMemberWhenItIsOver(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.Lease = 100 * time.Millisecond })
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(bob, peer.Options{Session: key})
	session.say("#general", "remember my key")
	ann.wantPush("remember my key")
	member := h.dial(bob, peer.Options{})
	session.Close()
	eventually(t, "the session is gone", func() bool { return h.countPresences() == 2 })
	ann.say(key.Public(), "for the session")
	push := member.next()
	if push == nil {
		t.Fatal("the member got nothing")
	}
	if _, err := member.Text(push); err == nil {
		t.Error("what was sealed for the session opened with the member's key")
	}
}

func TestSessionThatComesBackInTimeGetsWhatWaits(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(bob, peer.Options{Session: key})
	session.say("#general", "remember my key")
	member := h.dial(bob, peer.Options{})
	session.Close()
	eventually(t, "the session is gone", func() bool { return h.countPresences() == 2 })
	ann.say(key.Public(), "for the session")
	h.dial(bob, peer.Options{Session: key}).wantPush("for the session")
	member.wantQuiet()
}

// Between the end of a session and the sweep that gives what waited for it to its
// member, a newer message must not overtake.
func TestWhatWaitedForASessionIsNotOvertaken(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(bob, peer.Options{Session: key})
	session.say("#general", "remember my key")
	member := h.dial(bob, peer.Options{})
	session.Close()
	eventually(t, "the session is gone", func() bool { return h.countPresences() == 2 })
	ann.post(key.Public(), "1, while it was leased", wire.PriorityNext)
	ann.post(key.Public(), "2, likewise", wire.PriorityNext)
	member.wantQuiet()
	h.mu.RLock()
	leased := h.rooms[h.mesh.ID].bySession[key.Public()]
	h.mu.RUnlock()
	if !h.end(leased) {
		t.Fatal("the lease was over already")
	}
	ann.post(key.Public(), "3, after its end", wire.PriorityNext)
	for _, text := range []string{"1, while it was leased", "2, likewise", "3, after its end"} {
		member.wantPush(text)
	}
	h.settled()
}

func TestUndeliveredMessagesExpire(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "too late")
	if err := h.expire(time.Now().Add(h.cfg.Limits.MessageTTL-time.Minute), time.Now()); err != nil || h.queueDepth() != 1 {
		t.Errorf("expired early: depth %v, %v", h.queueDepth(), err)
	}
	if err := h.expire(time.Now().Add(h.cfg.Limits.MessageTTL+time.Minute), time.Now()); err != nil || h.queueDepth() != 0 {
		t.Errorf("did not expire: depth %v, %v", h.queueDepth(), err)
	}
	h.dial(bob, peer.Options{}).wantQuiet()
}

// Everybody sends to everybody while connections come and go: every acked
// message reaches each of its recipients, and first arrivals keep their order.
func TestNothingAckedIsLostWhileConnectionsFlap(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.AckTimeout = 300 * time.Millisecond })
	const people, perPerson = 4, 150
	members := make([]peer.Identity, people)
	for i := range members {
		members[i] = h.join(fmt.Sprint("m", i))
	}
	targets := []string{"#general", "*"}
	for _, m := range members {
		targets = append(targets, m.Key.Public())
	}

	stop := make(chan struct{})
	logs := make([]*arrivals, people)
	var receivers, senders sync.WaitGroup
	for i, m := range members {
		logs[i] = &arrivals{seen: map[string]bool{}}
		receivers.Go(func() { h.flap(m, logs[i], stop) })
	}
	var mu sync.Mutex
	expected := make([]map[string][]string, people) // recipient → sender/target → texts in order
	for i := range expected {
		expected[i] = map[string][]string{}
	}
	for i, m := range members {
		senders.Go(func() {
			c, err := peer.Dial(t.Context(), peer.Options{Identity: m})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := range perPerson {
				target := targets[rand.IntN(len(targets))]
				stream := fmt.Sprintf("%d→%.9s", i, target)
				text := fmt.Sprintf("%s %d", stream, n)
				nonce, ciphertext := peer.Plain(text)
				ack, err := c.Send(t.Context(), wire.Send{TargetSpec: target, Priority: wire.PriorityNext, Nonce: nonce, Ciphertext: ciphertext})
				if err != nil || !ack.Queued {
					t.Errorf("ack %+v, %v", ack, err)
					return
				}
				mu.Lock()
				for j, other := range members {
					if (target == other.Key.Public() || len(target) < 20) && j != i {
						expected[j][stream] = append(expected[j][stream], text)
					}
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	for i := range members {
		eventually(t, fmt.Sprintf("m%d has everything", i), func() bool { return logs[i].holds(expected[i]) == "" })
	}
	close(stop)
	receivers.Wait()
	for i := range members {
		if problem := logs[i].disorder(expected[i]); problem != "" {
			t.Errorf("m%d: %s", i, problem)
		}
	}
}

// arrivals is what one member got, over all its connections.
type arrivals struct {
	mu    sync.Mutex
	seen  map[string]bool // by message id
	texts []string        // first arrivals in order
}

func (a *arrivals) add(p *wire.Push) {
	text, _ := peer.Decode(p.Ciphertext, p.BodyVersion)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.seen[p.MessageID] {
		a.seen[p.MessageID] = true
		a.texts = append(a.texts, text)
	}
}

// holds names a text that is missing.
func (a *arrivals) holds(expected map[string][]string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := map[string]bool{}
	for _, text := range a.texts {
		got[text] = true
	}
	for _, texts := range expected {
		for _, text := range texts {
			if !got[text] {
				return text
			}
		}
	}
	return ""
}

// disorder names two texts of one stream that came in the wrong order.
func (a *arrivals) disorder(expected map[string][]string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	position := map[string]int{}
	for i, text := range a.texts {
		position[text] = i
	}
	for _, texts := range expected {
		for i := 1; i < len(texts); i++ {
			if position[texts[i-1]] > position[texts[i]] {
				return fmt.Sprintf("%q came after %q", texts[i-1], texts[i])
			}
		}
	}
	return ""
}

// flap connects as m again and again, reads for a moment, acks most of what it
// gets, and drops the connection.
func (h *house) flap(m peer.Identity, log *arrivals, stop chan struct{}) {
	for {
		c, err := peer.Dial(h.t.Context(), peer.Options{Identity: m})
		if err != nil {
			h.t.Error(err)
			return
		}
		life := time.After(time.Duration(5+rand.IntN(80)) * time.Millisecond)
		for alive := true; alive; {
			select {
			case push := <-c.Pushes():
				if push.Subtype != "system" {
					log.add(push)
					if rand.IntN(10) > 0 {
						_ = c.Ack(h.t.Context(), push)
					}
				}
			case <-life:
				alive = false
			case <-stop:
				c.Close()
				return
			}
		}
		c.Close()
	}
}

// BenchmarkPairs is the durable path under load: 50 pairs, one message in
// flight each, acked to the sender, delivered, and acked by the recipient.
func BenchmarkPairs(b *testing.B) {
	h := newHouse(b)
	const pairs = 50
	senders, recipients := make([]*guest, pairs), make([]*guest, pairs)
	for i := range pairs {
		senders[i], recipients[i] = h.arrive(fmt.Sprint("a", i)), h.arrive(fmt.Sprint("b", i))
	}
	body := base64.StdEncoding.EncodeToString(make([]byte, 300)) // 400 bytes
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() {
			for range b.N/pairs + 1 {
				ack, err := senders[i].Send(b.Context(), wire.Send{TargetSpec: recipients[i].Key(), Priority: wire.PriorityNext, Ciphertext: body})
				if err != nil || !ack.Queued {
					b.Errorf("ack %+v, %v", ack, err)
					return
				}
				for push := recipients[i].next(); push != nil; push = recipients[i].next() {
					if push.MessageID == ack.MessageID {
						_ = recipients[i].Ack(b.Context(), push)
						break
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
