package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// key mints an API key as a member.
func (g *guest) key(capabilities ...string) *wire.APIKeyCreated {
	g.t.Helper()
	return ask[*wire.APIKeyCreated](g, &wire.APIKeyCreate{Label: "test", Capabilities: capabilities})
}

// scoped mints one that is confined to topics.
func (g *guest) scoped(topics ...string) *wire.APIKeyCreated {
	g.t.Helper()
	return ask[*wire.APIKeyCreated](g, &wire.APIKeyCreate{Capabilities: []string{"read", "send"}, TopicScopes: topics})
}

// rest asks an endpoint below /api/v1; endpoint is "GET /topics", body JSON or "".
func (h *house) rest(secret, endpoint, body string, header ...string) *answer {
	h.t.Helper()
	method, path, _ := strings.Cut(endpoint, " ")
	request, err := http.NewRequestWithContext(h.t.Context(), method, h.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if secret != "" {
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	return newAnswer(h.t, response)
}

// wantOK checks that a request worked and returns its body as T.
func wantOK[T any](a *answer) (body T) {
	a.t.Helper()
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json; charset=utf-8" {
		a.t.Fatalf("answer %d %s %s", a.code, a.header.Get("Content-Type"), a.text)
	}
	if err := json.Unmarshal([]byte(a.text), &body); err != nil {
		a.t.Fatalf("%v in %s", err, a.text)
	}
	return body
}

// wantProblem checks that it was refused with a code or error, and a sentence.
func (a *answer) wantProblem(status int, code string) {
	a.t.Helper()
	sentence, _ := a.body["message"].(string)
	if a.code != status || a.body["code"] != code && a.body["error"] != code || !strings.HasSuffix(sentence, ".") {
		a.t.Errorf("answer %d %s, want %d %s and a sentence", a.code, a.text, status, code)
	}
	if status == http.StatusTooManyRequests && a.header.Get("Retry-After") == "" {
		a.t.Error("no Retry-After")
	}
}

// endpoint is one line of the table that every endpoint is tested by.
type endpoint struct {
	line  string // method and path
	body  string
	topic bool // it is about #deploys
	sends bool // it needs the capability send
}

var endpoints = []endpoint{
	{"POST /messages", `{"topic":"deploys","text":"hi"}`, true, true},
	{"GET /topics", "", false, false},
	{"GET /topics/deploys/messages", "", true, false},
	{"GET /topics/deploys/stream", "", true, false},
	{"PATCH /topics/deploys/read", "", true, false},
	{"GET /members", "", false, false},
	{"GET /peers", "", false, false},
	{"GET /notifications", "", false, false},
	{"POST /notifications/read", `{"all":true}`, false, false},
}

func TestEveryEndpointAsksForTheKey(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	stranger := h.stranger("deploys-of-the-lab")
	elsewhere := ann.scoped("general")
	keys := map[bool]string{true: ann.key("send").Secret, false: ann.key("read").Secret}
	for _, e := range endpoints {
		t.Run(e.line, func(t *testing.T) {
			h.t = t
			h.rest("", e.line, e.body).wantProblem(http.StatusUnauthorized, "error.api_key_missing")
			for _, wrong := range []string{"x", "cm_x", newSecret(), keys[e.sends] + "x", strings.ToUpper(keys[e.sends])} {
				h.rest(wrong, e.line, e.body).wantProblem(http.StatusUnauthorized, "error.api_key_invalid")
			}
			h.rest(keys[!e.sends], e.line, e.body).wantProblem(http.StatusForbidden, "error.api_key_missing_capability")
			if e.topic {
				h.rest(elsewhere.Secret, e.line, e.body).wantProblem(http.StatusForbidden, "error.api_key_topic_out_of_scope")
				h.rest(stranger, e.line, e.body).wantProblem(http.StatusNotFound, wire.TopicNotFound)
			}
			if e.body != "" {
				large := `{"topic":"deploys","text":"` + strings.Repeat("x", 1<<18) + `"}`
				h.rest(keys[e.sends], e.line, large).wantProblem(http.StatusRequestEntityTooLarge, wire.PayloadTooLarge)
				h.rest(keys[e.sends], e.line, `{`).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
				h.rest(keys[e.sends], e.line, e.body, "Sec-Fetch-Site", "cross-site").wantStatus(http.StatusForbidden)
			}
		})
	}
	h.t = t
}

func (a *answer) wantStatus(status int) {
	a.t.Helper()
	if a.code != status {
		a.t.Errorf("answer %d %s, want %d", a.code, a.text, status)
	}
}

// stranger returns a key of a member of another mesh, which has a topic too.
func (h *house) stranger(topic string) string {
	h.t.Helper()
	lab := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(lab); err != nil {
		h.t.Fatal(err)
	}
	id, err := peer.Join(h.t.Context(), h.url+"/join/"+lab.Invites[0].Token, "lena", identity.NewKey())
	if err != nil {
		h.t.Fatal(err)
	}
	lena := h.dial(id, peer.Options{})
	ask[*wire.TopicCreated](lena, &wire.TopicCreate{Name: topic})
	return lena.key("send", "read").Secret
}

func TestAnotherMeshSeesNothingOfThisOne(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("annabel")
	topic := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"}).Topic
	ann.say("#deploys", "hello @lena")
	stranger := h.stranger("their-own")
	for _, path := range []string{"GET /topics/" + topic.ID + "/messages", "GET /topics/" + topic.ID + "/stream", "PATCH /topics/" + topic.ID + "/read"} {
		h.rest(stranger, path, "").wantProblem(http.StatusNotFound, wire.TopicNotFound)
	}
	h.rest(stranger, "POST /messages", `{"topic":"`+topic.ID+`","text":"x"}`).wantProblem(http.StatusNotFound, wire.TopicNotFound)
	for _, path := range []string{"GET /topics", "GET /members", "GET /peers", "GET /notifications"} {
		if a := h.rest(stranger, path, ""); a.code != 200 || strings.Contains(a.text, "annabel") || strings.Contains(a.text, "deploys") {
			t.Errorf("%s: %d %s", path, a.code, a.text)
		}
	}
	if own := wantOK[struct{ Topics []restTopic }](h.rest(stranger, "GET /topics", "")).Topics; len(own) != 2 {
		t.Errorf("their topics: %+v", own)
	}
}

func TestUnknownEndpointsAreJSON(t *testing.T) {
	h := newHouse(t)
	secret := h.arrive("ann").key("read").Secret
	h.rest(secret, "GET /nowhere", "").wantProblem(http.StatusNotFound, wire.NotFound)
	h.rest(secret, "GET /topics/general/key", "").wantProblem(http.StatusNotFound, wire.NotFound)
	a := h.rest(secret, "DELETE /messages", "")
	a.wantProblem(http.StatusMethodNotAllowed, "method_not_allowed")
	if a.header.Get("Allow") != "POST" {
		t.Errorf("Allow: %s", a.header.Get("Allow"))
	}
	for name, value := range documentHeaders {
		if a.header.Get(name) != value {
			t.Errorf("%s: %q", name, a.header.Get(name))
		}
	}
}

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

func TestTopicsAndTheirMessages(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys", Description: "what went out"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	var ids []string
	for i := range 5 {
		ids = append(ids, ann.say("#deploys", fmt.Sprint(i)))
	}
	key := bob.key("read").Secret
	topics := func(key string) []restTopic {
		return wantOK[struct{ Topics []restTopic }](h.rest(key, "GET /topics", "")).Topics
	}
	all := topics(key)
	if len(all) != 2 || all[0].Name != "general" || all[1].Name != "deploys" || all[1].Unread != 5 || *all[1].Description != "what went out" || all[1].Visibility != "public" {
		t.Errorf("topics %+v", all)
	}
	if confined := topics(bob.scoped("deploys").Secret); len(confined) != 1 || confined[0].Name != "deploys" {
		t.Errorf("confined: %+v", confined)
	}
	page := func(query string) (got []string) {
		t.Helper()
		body := wantOK[struct {
			Topic, TopicID string
			Messages       []map[string]any
		}](h.rest(key, "GET /topics/deploys/messages"+query, ""))
		for _, m := range body.Messages {
			keys := slices.Sorted(func(yield func(string) bool) {
				for k := range m {
					if !yield(k) {
						return
					}
				}
			})
			if strings.Join(keys, " ") != "bodyVersion ciphertext createdAt id nonce replyToId senderMemberId senderName senderPubkey" || m["replyToId"] != nil || m["senderName"] != "ann" {
				t.Errorf("message %v", m)
			}
			got = append(got, m["id"].(string))
		}
		if body.Topic != "deploys" || body.TopicID != all[1].ID {
			t.Errorf("topic %s %s", body.Topic, body.TopicID)
		}
		return got
	}
	if got := page(""); len(got) != 5 || got[0] != ids[4] {
		t.Errorf("page %v of %v", got, ids)
	}
	if got := page("?limit=2&before=" + ids[3]); !slices.Equal(got, []string{ids[2], ids[1]}) {
		t.Errorf("page %v of %v", got, ids)
	}
	for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?before=nowhere"} {
		h.rest(key, "GET /topics/deploys/messages"+query, "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	}
	read := wantOK[map[string]string](h.rest(key, "PATCH /topics/deploys/read", ""))
	if read["topic"] != "deploys" || read["topicId"] != all[1].ID || read["readAt"] == "" || topics(key)[1].Unread != 0 {
		t.Errorf("read %v, then %+v", read, topics(key))
	}
	ask[*wire.Ack](bob, &wire.TopicLeave{Topic: "deploys"})
	h.rest(key, "PATCH /topics/deploys/read", "").wantProblem(http.StatusForbidden, wire.Forbidden)
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	h.rest(key, "GET /topics/secret/messages", "").wantProblem(http.StatusNotFound, wire.TopicNotFound)
	h.rest(bob.scoped("general").Secret, "GET /topics/nowhere/messages", "").wantProblem(http.StatusForbidden, "error.api_key_topic_out_of_scope")
}

func TestMembersAndPeers(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	id := h.join("bea")
	bea := h.dial(id, peer.Options{Client: wire.Client{PeerType: wire.PeerHuman, DisplayName: "bea at home"}})
	ask[*wire.Ack](bea, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.Ack](bea, &wire.SetSummary{Summary: "the importer"})
	ask[*wire.Ack](bea, &wire.JoinGroup{Name: "core"})
	carl := h.arrive("carl")
	h.arrive("gone")
	ask[*wire.BanAck](adam, &wire.Ban{Target: "gone"})
	key := adam.key("read").Secret
	carlsKey := carl.key("read").Secret
	carl.Close()
	eventually(t, "carl is gone", func() bool {
		return !wantOK[struct{ Members []restMember }](h.rest(key, "GET /members", "")).Members[2].Online
	})
	members := wantOK[struct{ Members []restMember }](h.rest(key, "GET /members", "")).Members
	if len(members) != 3 {
		t.Fatalf("members %+v", members)
	}
	if m := members[0]; m.DisplayName != "adam" || m.Role != store.RoleAdmin || !m.Online || m.IsHuman || *m.Status != wire.StatusIdle || m.Summary != nil || m.MemberID != adam.id.MemberID {
		t.Errorf("adam is %+v", m)
	}
	if m := members[1]; m.DisplayName != "bea" || m.Role != store.RoleMember || !m.Online || !m.IsHuman || *m.Status != wire.StatusWorking || *m.Summary != "the importer" {
		t.Errorf("bea is %+v", m)
	}
	if m := members[2]; m.DisplayName != "carl" || m.Online || m.Status != nil || m.Pubkey != carl.id.Key.Public() {
		t.Errorf("carl is %+v", m)
	}
	peers := func() (lines []string) {
		for _, p := range wantOK[struct{ Peers []restPeer }](h.rest(key, "GET /peers", "")).Peers {
			lines = append(lines, fmt.Sprint(p.DisplayName, " ", p.Status, " ", p.Groups, " ", p.Via))
		}
		return lines
	}
	want := []string{"adam idle [] ws", "bea working [{core }] ws"}
	if got := peers(); !slices.Equal(got, want) {
		t.Errorf("peers %q, want %q", got, want)
	}
	wantOK[any](h.rest(carlsKey, "GET /topics", ""))
	if got := peers(); !slices.Equal(got, append(want, "carl idle [] rest")) {
		t.Errorf("peers %q after a request of carl", got)
	}
	ask[*wire.Ack](bea, &wire.SetVisible{Visible: false})
	ask[*wire.BanAck](adam, &wire.Ban{Target: "carl"})
	if got := peers(); !slices.Equal(got, want[:1]) {
		t.Errorf("peers %q after a ban and hiding", got)
	}
}

func TestNotificationsOverREST(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	first, second := ann.say("#general", "one @bob"), ann.say("#deploys", "two @bob")
	key, confined := bob.key("read").Secret, bob.scoped("deploys").Secret
	type listed struct {
		Notifications []restNotification
		Since         *string
		MentionedAs   string
	}
	list := func(key, query string) []restNotification {
		t.Helper()
		return wantOK[listed](h.rest(key, "GET /notifications"+query, "")).Notifications
	}
	all := list(key, "")
	if len(all) != 2 || all[0].ID != second || all[1].ID != first || all[1].TopicName != "general" || all[1].SenderName != "ann" ||
		all[1].Ciphertext != base64.StdEncoding.EncodeToString([]byte("one @bob")) || all[1].Kind != "mention" || all[1].ReadAt != nil || all[1].NotificationID == first {
		t.Errorf("all: %+v", all)
	}
	if got := list(confined, ""); len(got) != 1 || got[0].ID != second {
		t.Errorf("confined: %+v", got)
	}
	if got := wantOK[listed](h.rest(key, "GET /notifications?since=2099-01-01T00:00:00Z", "")); len(got.Notifications) != 0 || *got.Since != "2099-01-01T00:00:00.000Z" || got.MentionedAs != "bob" {
		t.Errorf("of the future: %+v", got)
	}
	mark := func(key, body string) map[string]any {
		t.Helper()
		return wantOK[map[string]any](h.rest(key, "POST /notifications/read", body))
	}
	if got := mark(confined, `{"ids":["`+first+`"]}`); got["marked"] != 0.0 {
		t.Errorf("a confined key marks what it does not see: %v", got)
	}
	if got := mark(key, `{"ids":["`+all[1].NotificationID+`"]}`); got["marked"] != 1.0 || got["readAt"] == nil {
		t.Errorf("marked %v", got)
	}
	if got := list(key, "?unread=1"); len(got) != 1 || got[0].ID != second {
		t.Errorf("unread: %+v", got)
	}
	if got := mark(key, `{"all":true,"before":"2020-01-01T00:00:00Z"}`); got["marked"] != "all" || got["before"] != "2020-01-01T00:00:00Z" || len(list(key, "?unread=1")) != 1 {
		t.Errorf("marked %v", got)
	}
	if got := mark(key, `{"all":true}`); got["before"] != nil || len(list(key, "?unread=1")) != 0 {
		t.Errorf("marked %v", got)
	}
	for _, body := range []string{`{}`, `{"ids":["x"],"all":true}`, `{"ids":["x"],"before":"2020-01-01T00:00:00Z"}`, `{"all":true,"before":"x"}`, `{"ids":"x"}`} {
		h.rest(key, "POST /notifications/read", body).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	}
	h.rest(key, "GET /notifications?since=yesterday", "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	h.rest(key, "GET /notifications?unread=x", "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSecretsAreNeitherLoggedNorKept(t *testing.T) {
	h := newHouse(t)
	var logged lockedBuffer
	h.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.restart()
	ann := h.arrive("ann")
	key := ann.key("send", "read")
	const text = "unspeakable"
	wantOK[any](h.rest(key.Secret, "POST /messages", `{"topic":"general","text":"`+text+`"}`))
	h.stream(key.Secret, "general", "").close()
	for _, e := range endpoints {
		if !strings.HasSuffix(e.line, "stream") {
			h.rest(key.Secret, e.line, e.body)
			h.rest(key.Secret+"x", e.line, e.body)
		}
	}
	bad, err := http.NewRequest(http.MethodPost, "/api/v1/messages", io.MultiReader(strings.NewReader(`{"topic":"general","text":"`+text+`"}`)))
	if err != nil {
		t.Fatal(err)
	}
	bad.Header.Set("Authorization", "Bearer "+key.Secret)
	if err := h.db.Close(); err != nil { // what fails is logged
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	h.Handler().ServeHTTP(recorder, bad)
	if recorder.Code < 500 || !strings.Contains(logged.String(), "request failed") {
		t.Errorf("with a closed store: %d %s", recorder.Code, recorder.Body)
	}
	for what, secret := range map[string]string{"the secret": key.Secret, "its hash": store.HashAPIKey(key.Secret), "a text": text, "a ciphertext": base64.StdEncoding.EncodeToString([]byte(text))} {
		if strings.Contains(logged.String(), secret) {
			t.Errorf("the log holds %s", what)
		}
	}
	files, _ := filepath.Glob(h.db.Path() + "*")
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(key.Secret)) {
			t.Errorf("%s holds the secret", file)
		}
	}
}

// Whatever comes as a body is answered, and with JSON.
func FuzzRESTBodies(f *testing.F) {
	h := newHouse(f)
	secret := h.arrive("ann").key("send", "read").Secret
	for _, body := range []string{
		"", "{", "null", "[]", `{"topic":"general","text":"hi"}`, `{"topic":"general","text":"\ud800"}`, `{"topic":"#general","ciphertext":"eA==","nonce":"eA=="}`,
		`{"topic":"general","text":"@ann","mentions":["ann"],"client_message_id":"x","priority":"low","replyToId":"y"}`,
		`{"ids":["x"]}`, `{"all":true,"before":"2020-01-01T00:00:00Z"}`, `{"topic":"nowhere","text":"x"}`, `{"text":{}}`,
	} {
		f.Add("/messages", body)
		f.Add("/notifications/read", body)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/messages" {
			path = "/notifications/read"
		}
		request := httptest.NewRequest(http.MethodPost, "/api/v1"+path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+secret)
		recorder := httptest.NewRecorder()
		h.Handler().ServeHTTP(recorder, request)
		var answer map[string]any
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		if recorder.Code >= 500 || (recorder.Code != 200) != (answer["message"] != nil) {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	})
}
