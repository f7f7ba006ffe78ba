package broker

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// posts posts to a webhook; header are names and values.
func (h *house) posts(address, body string, header ...string) *answer {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
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

const asJSON = "application/json"

// payload is a sample of what services post.
func payload(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata/webhook", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantDelivered checks that a delivery was taken and returns the message's id.
func (a *answer) wantDelivered() string {
	a.t.Helper()
	answer := wantOK[delivered](a)
	if !answer.OK || answer.MessageID == "" || answer.Ignored != "" {
		a.t.Errorf("answer %s", a.text)
	}
	return answer.MessageID
}

// wantUndelivered checks that it was refused.
func (a *answer) wantUndelivered(status int, code string) {
	a.t.Helper()
	a.wantProblem(status, code)
	if a.body["ok"] != false {
		a.t.Errorf("answer %s, want ok: false", a.text)
	}
}

func TestWebhookSaysWhatIsPosted(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "alerts"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "alerts"})
	hook := ann.hook("disk", "alerts")
	id := h.posts(hook.URL, "nas is full, @bob", "Content-Type", "text/plain").wantDelivered()
	for _, g := range []*guest{bob, ann} { // who made it gets it, too
		push := g.wantPush("nas is full, @bob")
		if push.MessageID != id || push.Topic != "alerts" || push.SenderName != "disk (webhook)" || push.SenderPeerType != wire.PeerConnector ||
			push.SenderMemberPubkey != "" || push.SenderMemberID == ann.id.MemberID || push.SenderPubkey == ann.id.Key.Public() || !identity.IsPublicKey(push.SenderPubkey) || push.Priority != wire.PriorityNext {
			t.Errorf("%s got %+v", g.id.DisplayName, push)
		}
	}
	notes := wantOK[struct{ Notifications []restNotification }](h.rest(bob.key("read").Secret, "GET /notifications", "")).Notifications
	if len(notes) != 1 || notes[0].ID != id {
		t.Errorf("notifications %+v", notes)
	}
	h.settled()
	back := ask[*wire.TopicHistoryResponse](bob, &wire.TopicHistory{Topic: "alerts"}).Messages
	if len(back) != 1 || back[0].SenderName != "disk (webhook)" || back[0].SenderPeerType != wire.PeerConnector {
		t.Errorf("history %+v", back)
	}
	h.restart()
	h.posts(hook.URL, `{"text":"again"}`).wantDelivered() // as curl -d does
	again := h.dial(bob.id, peer.Options{})
	again.wantPush("again")
	again.wantQuiet()
}

// The wrong secret, the wrong mesh and no secret at all are answered alike.
func TestWebhookAsksForItsSecret(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	hook := ann.hook("disk", "")
	lab := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(lab); err != nil {
		t.Fatal(err)
	}
	here, there := h.url+"/hook/"+h.mesh.ID+"/", h.url+"/hook/"+lab.Mesh.ID+"/"
	answers := map[string]bool{}
	for _, address := range []string{
		here + newRandom(), here + "x", here + "%E2%80%A6", here + hook.Secret + "x", here + strings.ToUpper(hook.Secret), here + ann.key("send").Secret,
		there + hook.Secret, h.url + "/hook/nowhere/" + hook.Secret,
	} {
		for _, body := range []string{"hi", strings.Repeat("x", 200<<10)} {
			a := h.posts(address, body)
			a.wantUndelivered(http.StatusNotFound, wire.NotFound)
			answers[a.text] = true
		}
	}
	if len(answers) != 1 {
		t.Errorf("they are told apart: %v", answers)
	}
	h.posts(hook.URL, "hi", "Sec-Fetch-Site", "cross-site").wantStatus(http.StatusForbidden) // a page elsewhere
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		request, err := http.NewRequestWithContext(t.Context(), method, hook.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, response.StatusCode)
		}
	}
	if stored := h.history(t); len(stored) != 0 {
		t.Errorf("%d messages are stored", len(stored))
	}
}

func TestWhatAWebhookRefuses(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "alerts"})
	hook := ann.hook("disk", "alerts")
	h.posts(hook.URL, strings.Repeat("x", maxDelivery+1)).wantUndelivered(http.StatusRequestEntityTooLarge, wire.PayloadTooLarge)
	h.posts(hook.URL, strings.Repeat("x", 60<<10)).wantUndelivered(http.StatusRequestEntityTooLarge, wire.PayloadTooLarge)
	h.posts(hook.URL, "{", "Content-Type", asJSON).wantUndelivered(http.StatusBadRequest, wire.InvalidArgs)
	h.posts(hook.URL, " ").wantUndelivered(http.StatusBadRequest, wire.InvalidArgs)
	h.posts(hook.URL, "hi", "Idempotency-Key", strings.Repeat("x", wire.MaxIDLen+1)).wantUndelivered(http.StatusBadRequest, wire.InvalidArgs)
	h.posts(hook.URL, strings.Repeat("x", 48_000)).wantDelivered()
	large := strings.Replace(payload(t, "github.push.json"), `"before"`, `"filler": "`+strings.Repeat("x", 900<<10)+`", "before"`, 1)
	h.posts(hook.URL, large, "Content-Type", asJSON, "X-GitHub-Event", "push").wantDelivered() // only a line is kept of it

	ask[*wire.Ack](ann, &wire.TopicLeave{Topic: "alerts"})
	h.posts(hook.URL, "hi").wantUndelivered(http.StatusForbidden, wire.Forbidden)
	if listed := ann.hooks(); listed[0].Active {
		t.Errorf("listed %+v", listed)
	}
	ask[*wire.Ack](ann, &wire.TopicJoin{Topic: "alerts"})
	h.posts(hook.URL, "hi").wantDelivered()
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "plans"})
	locked := ann.hook("plans", "plans")
	ask[*wire.TopicClaimKeyResponse](ann, &wire.TopicClaimKey{Topic: "plans", OwnSeal: ann.ownSeal(identity.NewTopicKey())})
	h.posts(locked.URL, "hi").wantUndelivered(http.StatusConflict, wire.TopicEncrypted)
	ask[*wire.WebhookAck](ann, &wire.DeleteWebhook{Name: "disk"})
	h.posts(hook.URL, "hi").wantUndelivered(http.StatusNotFound, wire.NotFound)
}

func TestWebhookDiesWithItsMember(t *testing.T) {
	h := newHouse(t)
	ann, adam := h.arrive("ann"), h.arriveAdmin("adam")
	hook := ann.hook("disk", "")
	h.posts(hook.URL, "hi").wantDelivered()
	ask[*wire.BanAck](adam, &wire.Ban{Target: "ann"})
	h.posts(hook.URL, "hi").wantUndelivered(http.StatusNotFound, wire.NotFound)
	ask[*wire.UnbanAck](adam, &wire.Unban{Target: "ann"})
	h.posts(hook.URL, "hi").wantUndelivered(http.StatusNotFound, wire.NotFound)
	if listed := adam.hooks(); len(listed) != 0 {
		t.Errorf("listed %+v", listed)
	}
}

// Who blocks a member is not reached by its webhooks either.
func TestWebhookHonoursGrants(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.id.Key.Public(): {"dm"}}})
	h.posts(ann.hook("disk", "").URL, "hey @bob").wantDelivered()
	cat.wantPush("hey @bob")
	ann.wantPush("hey @bob")
	bob.wantQuiet()
}

// A stranger's title wakes nobody: agents look for @name in the text (broker/mcp).
func TestWhatStrangersWroteMentionsNobody(t *testing.T) {
	h := newHouse(t)
	claude := h.arrive("claude")
	hook := h.arrive("ann").hook("github", "")
	h.posts(hook.URL, payload(t, "github.issues.hostile.json"), "Content-Type", asJSON, "X-GitHub-Event", "issues").wantDelivered()
	push := claude.next()
	for push != nil && push.Subtype == "system" {
		push = claude.next()
	}
	text, err := claude.Text(push)
	if err != nil || !strings.Contains(text, "@\u2060claude delete") || len(wire.MentionsIn(text)) != 0 {
		t.Errorf("%q mentions %q, %v", text, wire.MentionsIn(text), err)
	}
	if notes := wantOK[struct{ Notifications []restNotification }](h.rest(claude.key("read").Secret, "GET /notifications", "")).Notifications; len(notes) != 0 {
		t.Errorf("notifications %+v", notes)
	}
}

func TestDeliveryTwiceIsOneMessage(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	hook, other := ann.hook("github", ""), ann.hook("other", "")
	push := func(address string) *answer {
		return h.posts(address, "payload="+url.QueryEscape(payload(t, "github.push.json")), "Content-Type", "application/x-www-form-urlencoded",
			"X-GitHub-Event", "push", "X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	}
	first := push(hook.URL).wantDelivered()
	if again := push(hook.URL).wantDelivered(); again != first {
		t.Errorf("again it is %s, not %s", again, first)
	}
	if elsewhere := push(other.URL).wantDelivered(); elsewhere == first {
		t.Error("another webhook has the same delivery")
	}
	h.posts(hook.URL, "one", "Idempotency-Key", "k").wantDelivered()
	h.posts(hook.URL, "two", "Idempotency-Key", "k").wantUndelivered(http.StatusConflict, wire.IdempotencyConflict)
	if stored := h.history(t); len(stored) != 3 {
		t.Errorf("%d messages are stored", len(stored))
	}
	ignored := wantOK[delivered](h.posts(hook.URL, payload(t, "github.workflow_run.requested.json"), "Content-Type", asJSON, "X-GitHub-Event", "workflow_run"))
	if !ignored.OK || ignored.MessageID != "" || !strings.HasSuffix(ignored.Ignored, ".") {
		t.Errorf("a run that begins: %+v", ignored)
	}
}

func TestWebhooksAreRateLimited(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 0.01, 5 })
	ann := h.arrive("ann")
	hook, other := ann.hook("disk", ""), ann.hook("cpu", "") // each counts as a send
	for range 5 {
		h.posts(hook.URL, "x").wantDelivered()
	}
	h.posts(hook.URL, "x").wantUndelivered(http.StatusTooManyRequests, wire.RateLimit)
	h.posts(other.URL, "x").wantUndelivered(http.StatusTooManyRequests, wire.RateLimit) // one bucket for all that the member has
	for range 3 {
		ann.say("#general", "and one for what it says itself")
	}
	ann.wantUnsent("#general", "x", wire.RateLimit)
	for range 18 {
		h.posts(hook.URL, " ").wantStatus(http.StatusBadRequest)
	}
	h.posts(hook.URL, " ").wantUndelivered(http.StatusTooManyRequests, wire.RateLimit)
}

func TestWebhookSecretsAreNeitherLoggedNorKept(t *testing.T) {
	h := newHouse(t)
	var logged lockedBuffer
	h.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.restart()
	hook := h.arrive("ann").hook("disk", "")
	const text = "unspeakable"
	h.posts(hook.URL, text).wantDelivered()
	h.posts(hook.URL, "{", "Content-Type", asJSON)
	h.posts(hook.URL+"x", text)
	if err := h.db.Close(); err != nil { // what fails is logged
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	h.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, hook.URL, strings.NewReader(text)))
	if recorder.Code < 500 || !strings.Contains(logged.String(), "request failed") {
		t.Errorf("with a closed store: %d %s", recorder.Code, recorder.Body)
	}
	for what, secret := range map[string]string{"the secret": hook.Secret, "its hash": store.HashAPIKey(hook.Secret), "a text": text, "a ciphertext": base64.StdEncoding.EncodeToString([]byte(text))} {
		if strings.Contains(logged.String(), secret) {
			t.Errorf("the log holds %s", what)
		}
	}
	files, _ := filepath.Glob(h.db.Path() + "*")
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && strings.Contains(string(content), hook.Secret) {
			t.Errorf("%s holds the secret", file)
		}
	}
}

// Whatever comes as a body is answered, and with JSON.
func FuzzWebhookBodies(f *testing.F) {
	h := newHouse(f)
	address := h.arrive("ann").hook("disk", "").URL
	f.Add("text/plain", "", "hi")
	f.Add(asJSON, "push", payload(f, "github.push.json"))
	f.Add(asJSON, "", `{"text":"\ud800"}`)
	f.Add("application/x-www-form-urlencoded", "", "payload=%7B%7D")
	f.Fuzz(func(t *testing.T, kind, event, body string) {
		request := httptest.NewRequest(http.MethodPost, address, strings.NewReader(body))
		request.Header.Set("Content-Type", kind)
		request.Header.Set("X-GitHub-Event", event)
		recorder := httptest.NewRecorder()
		h.Handler().ServeHTTP(recorder, request)
		var answer map[string]any
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		if recorder.Code >= 500 || answer["ok"] != (recorder.Code == 200) {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	})
}
