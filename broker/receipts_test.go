package broker

import (
	"fmt"
	"testing"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// wantReceipt waits until a message of the guest in #general got so far.
func (g *guest) wantReceipt(id string, want wire.Receipt) {
	g.t.Helper()
	want.MessageID = id
	var got wire.Receipt
	eventually(g.t, fmt.Sprintf("receipt %+v", want), func() bool {
		for _, got = range ask[*wire.TopicReceiptsResponse](g, &wire.TopicReceipts{Topic: "general"}).Receipts {
			if got.MessageID == id {
				return got == want
			}
		}
		return false
	})
}

func TestReceiptsCountWhoHasAndWhoSawAMessage(t *testing.T) {
	h := newHouse(t)
	olga, bot, pia, away := h.arrive("olga"), h.arrive("bot"), h.arrive("pia"), h.join("away")
	id := olga.say("#general", "hello")
	olga.wantReceipt(id, wire.Receipt{Recipients: 3})
	bot.wantPush("hello")
	olga.wantReceipt(id, wire.Receipt{Recipients: 3, Acked: 1})
	pia.wantPush("hello")
	olga.wantReceipt(id, wire.Receipt{Recipients: 3, Acked: 2})
	ask[*wire.Ack](pia, &wire.TopicMarkRead{Topic: "general", MessageID: id})
	olga.wantReceipt(id, wire.Receipt{Recipients: 3, Acked: 2, Seen: 1})
	h.join("late") // no recipient of what was said before
	back := h.dial(away, peer.Options{})
	back.wantPush("hello")
	olga.wantReceipt(id, wire.Receipt{Recipients: 3, Acked: 3, Seen: 1})
	for _, c := range olga.status(id).Recipients {
		if c.Seen != (c.Name == "pia") {
			t.Errorf("message_status says of %s seen %t; only pia has said that she read it", c.Name, c.Seen)
		}
	}
	if others := ask[*wire.TopicReceiptsResponse](bot, &wire.TopicReceipts{Topic: "general"}).Receipts; len(others) != 0 {
		t.Errorf("bot is told of messages that are not its own: %+v", others)
	}
}

func TestReceiptsKnowWhoWasBlockedAndWhoWasRevoked(t *testing.T) {
	h := newHouse(t)
	olga, bot := h.arrive("olga"), h.arrive("bot")
	ask[*wire.Ack](bot, &wire.SetGrants{Grants: map[string][]string{olga.id.Key.Public(): {"dm"}}})
	blocked := olga.say("#general", "nobody takes this")
	olga.wantReceipt(blocked, wire.Receipt{Recipients: 1})
	h.revoke(bot.id)
	bot.wantClosed(wire.CloseBanned, wire.Revoked)
	id := olga.say("#general", "nobody is left")
	olga.wantReceipt(id, wire.Receipt{})
}

// One request, and then an answer with each change, under the same _reqId.
func TestReceiptsFollowATopic(t *testing.T) {
	h := newHouse(t)
	id := h.join("olga")
	bot := h.arrive("bot")
	ask[*wire.TopicCreated](bot, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.Ack](h.dial(id, peer.Options{}), &wire.TopicJoin{Topic: "deploys"})
	socket := h.raw()
	socket.send(memberHello(id, time.Now(), nil))
	next := func(kind string) map[string]any {
		t.Helper()
		for {
			if frame := socket.frame(); frame["type"] == kind {
				return frame
			}
		}
	}
	next("hello_ack")
	socket.sendText(`{"type":"topic_receipts","topic":"general","_reqId":"r1"}`)
	if first := next("topic_receipts_response"); first["_reqId"] != "r1" || len(first["receipts"].([]any)) != 0 {
		t.Errorf("first answer: %v", first)
	}
	nonce, text := peer.Plain("hello")
	socket.send(&wire.Send{TargetSpec: "#general", Priority: wire.PriorityNow, Nonce: nonce, Ciphertext: text, ID: "m1"})
	messageID := next("ack")["messageId"]
	want := func(acked float64) {
		t.Helper()
		for {
			frame := next("topic_receipts_response")
			if frame["_reqId"] != "r1" {
				t.Fatalf("answer under %v", frame["_reqId"])
			}
			for _, entry := range frame["receipts"].([]any) {
				if r := entry.(map[string]any); r["messageId"] == messageID && r["acked"] == acked && r["recipients"] == 1.0 {
					return
				}
			}
		}
	}
	want(0)
	bot.wantPush("hello")
	want(1)
	// Another topic takes the place of the first.
	socket.sendText(`{"type":"topic_receipts","topic":"deploys","_reqId":"r2"}`)
	if frame := next("topic_receipts_response"); frame["_reqId"] != "r2" || frame["topic"] != "deploys" {
		t.Errorf("the other topic: %v", frame)
	}
	socket.sendText(`{"type":"topic_receipts","topic":"nowhere","_reqId":"r3"}`)
	if refused := next("error"); refused["code"] != wire.TopicNotFound {
		t.Errorf("an unknown topic: %v", refused)
	}
	// Asked for twice at once, it is answered twice.
	socket.sendText(`{"type":"topic_receipts","topic":"general","_reqId":"r4"}`)
	socket.sendText(`{"type":"topic_receipts","topic":"general","_reqId":"r5"}`)
	for _, id := range []string{"r4", "r5"} {
		if frame := next("topic_receipts_response"); frame["_reqId"] != id {
			t.Errorf("answer under %v, want %s", frame["_reqId"], id)
		}
	}
	socket.CloseNow()
	eventually(t, "the watch ends with its connection", func() bool { return h.ledger.active.Load() == 0 })
}

func TestReceiptsEndWithTheStayInATopic(t *testing.T) {
	h := newHouse(t)
	olga, bot := h.arrive("olga"), h.arrive("bot")
	ask[*wire.TopicCreated](olga, &wire.TopicCreate{Name: "deploys"})
	bot.wantRefused(&wire.TopicReceipts{Topic: "deploys"}, wire.Forbidden)
	ask[*wire.Ack](bot, &wire.TopicJoin{Topic: "deploys"})
	ask[*wire.TopicReceiptsResponse](bot, &wire.TopicReceipts{Topic: "deploys"})
	ask[*wire.Ack](bot, &wire.TopicLeave{Topic: "deploys"})
	eventually(t, "who left is told nothing more", func() bool { return h.ledger.active.Load() == 0 })
}

// 500 members, 50 messages: what one reader of receipts costs with each burst of
// acks.
func BenchmarkReceipts(b *testing.B) {
	h := newHouse(b)
	olga := h.arrive("olga")
	for i := range 500 {
		h.join(fmt.Sprint("m", i))
	}
	for i := range 60 {
		olga.say("#general", fmt.Sprint(i))
	}
	general, _, err := h.db.Topic(b.Context(), h.mesh.ID, olga.id.MemberID, "general")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cursors, err := h.db.TopicCursors(b.Context(), general.ID)
		if err != nil {
			b.Fatal(err)
		}
		if all, err := h.db.Receipts(b.Context(), cursors, olga.id.MemberID, maxReceipts); err != nil || len(all) != 50 || all[0].Recipients != 500 {
			b.Fatal(len(all), err)
		}
	}
}
