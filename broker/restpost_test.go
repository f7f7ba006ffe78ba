package broker

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"meshbox/broker/wire"
)

func TestPostIsASend(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("Bob")
	secret := ann.key("send").Secret
	posted := wantOK[postResponse](h.rest(secret, "POST /messages", `{"topic":"#general","text":"built, @bob \u2705","priority":"now"}`))
	push := bob.wantPush("built, @bob ✅")
	if push.MessageID != posted.MessageID || push.SenderMemberPubkey != ann.id.Key.Public() || push.SenderPubkey != ann.id.Key.Public() ||
		push.SenderName != "ann" || push.Topic != "general" || push.Priority != "now" || push.BodyVersion != 1 {
		t.Errorf("push %+v", push)
	}
	if posted.HistoryID != posted.MessageID || posted.QueueID != posted.MessageID || posted.Topic != "general" || posted.TopicID == "" || posted.Notifications != 1 || posted.BodyVersion != 1 {
		t.Errorf("answer %+v", posted)
	}
	ann.wantQuiet() // never back to its sender
	reply := wantOK[postResponse](h.rest(secret, "POST /messages", fmt.Sprintf(
		`{"topic":"general","ciphertext":"c2VjcmV0","nonce":"bm9uY2U=","bodyVersion":2,"mentions":["bob","nobody"],"replyToId":%q}`, posted.MessageID)))
	if push := bob.next(); push.ReplyToID != posted.MessageID || push.BodyVersion != 2 || push.Nonce != "bm9uY2U=" || push.Ciphertext != "c2VjcmV0" {
		t.Errorf("push %+v", push)
	}
	if reply.ReplyToID != posted.MessageID || reply.BodyVersion != 2 || reply.Notifications != 1 {
		t.Errorf("answer %+v", reply)
	}
	if stored := h.history(t); len(stored) != 2 {
		t.Errorf("%d messages are stored", len(stored))
	}
}

func TestPostRefusesWhatASendRefuses(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	secret := bob.key("send").Secret
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		`{"text":"x"}`:                  {400, wire.InvalidArgs},
		`{"topic":"general"}`:           {400, wire.InvalidArgs},
		`{"topic":"general","text":""}`: {400, wire.InvalidArgs},
		`{"topic":"general","text":7}`:  {400, wire.InvalidArgs},
		`[]`:                            {400, wire.InvalidArgs},
		`{"topic":"general","text":"x","ciphertext":"eA=="}`:               {400, wire.InvalidArgs},
		`{"topic":"general","text":"x","priority":"soon"}`:                 {400, wire.InvalidPayload},
		`{"topic":"general","ciphertext":"!"}`:                             {400, wire.InvalidPayload},
		`{"topic":"general","ciphertext":"/w=="}`:                          {400, wire.InvalidPayload}, // no UTF-8
		`{"topic":"general","ciphertext":"eA==","bodyVersion":3}`:          {400, wire.InvalidArgs},
		`{"topic":"general","ciphertext":"eA==","bodyVersion":2}`:          {400, wire.InvalidArgs},
		`{"topic":"nowhere","text":"x"}`:                                   {404, wire.TopicNotFound},
		`{"topic":"secret","text":"x"}`:                                    {404, wire.TopicNotFound},
		`{"topic":"deploys","text":"x"}`:                                   {403, wire.Forbidden}, // not in it
		`{"topic":"general","text":"` + strings.Repeat("x", 60<<10) + `"}`: {413, wire.PayloadTooLarge},
	} {
		h.rest(secret, "POST /messages", body).wantProblem(want.status, want.code)
	}
	if stored := h.history(t); len(stored) != 0 {
		t.Errorf("%d messages are stored", len(stored))
	}
}

func TestPostHonoursGrants(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.id.Key.Public(): {"dm"}}})
	posted := wantOK[postResponse](h.rest(ann.key("send").Secret, "POST /messages", `{"topic":"general","text":"hey @bob"}`))
	cat.wantPush("hey @bob")
	bob.wantQuiet()
	if posted.Notifications != 0 {
		t.Errorf("%d notifications", posted.Notifications)
	}
	if got := h.metric(`broker_messages_dropped_by_grant_total{cap="broadcast"}`); got != 1 {
		t.Errorf("%v copies were dropped", got)
	}
}

func TestPostTwiceIsOneMessage(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	secret := ann.key("send").Secret
	post := func(body string, header ...string) *answer {
		return h.rest(secret, "POST /messages", body, header...)
	}
	first := wantOK[postResponse](post(`{"topic":"general","text":"once"}`, "Idempotency-Key", "k1"))
	for _, again := range []*answer{
		post(`{"topic":"general","text":"once"}`, "Idempotency-Key", "k1"),
		post(`{"topic":"general","text":"once","client_message_id":"k1"}`),
	} {
		if got := wantOK[postResponse](again); got.MessageID != first.MessageID || got.TopicID != first.TopicID {
			t.Errorf("again: %+v, want %+v", got, first)
		}
	}
	post(`{"topic":"general","text":"other"}`, "Idempotency-Key", "k1").wantProblem(http.StatusConflict, wire.IdempotencyConflict)
	post(`{"topic":"general","text":"once","client_message_id":"k2"}`, "Idempotency-Key", "k1").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	bob.wantPush("once")
	bob.wantQuiet()
}

func TestRequestsAreRateLimited(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 0.01, 5 })
	ann := h.arrive("ann")
	key := ann.key("send", "read") // counts as a send
	for range 4 {
		wantOK[postResponse](h.rest(key.Secret, "POST /messages", `{"topic":"general","text":"x"}`))
	}
	h.rest(key.Secret, "POST /messages", `{"topic":"general","text":"x"}`).wantProblem(http.StatusTooManyRequests, wire.RateLimit)
	ann.wantUnsent("#general", "x", wire.RateLimit) // one bucket for all that the member has
	for range 20 {
		wantOK[any](h.rest(key.Secret, "GET /topics", ""))
	}
	h.rest(key.Secret, "GET /topics", "").wantProblem(http.StatusTooManyRequests, wire.RateLimit)
}
