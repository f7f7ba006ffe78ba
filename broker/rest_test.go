package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
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
	{"GET /topics/deploys/key", "", true, false},
	{"POST /topics/deploys/claim-key", `{"encryptedKeyPubkey":"","encryptedKey":"","nonce":""}`, true, true},
	{"GET /topics/deploys/pending-seals", "", true, false},
	{"POST /topics/deploys/seal", `{"memberId":"x","encryptedKey":"","nonce":""}`, true, true},
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
	h.rest(secret, "GET /topics/general/lock", "").wantProblem(http.StatusNotFound, wire.NotFound)
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
	ann := h.arrive("ann")
	secret := ann.key("send", "read").Secret
	own := ann.ownSeal(identity.NewTopicKey())
	ann.encrypts("plans", wire.VisibilityPublic)
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "open"})
	paths := []string{"/messages", "/notifications/read", "/topics/open/claim-key", "/topics/plans/seal"}
	for _, body := range []string{
		toJSON(own), toJSON(wire.TopicSeal{MemberID: ann.id.MemberID, EncryptedKey: own.EncryptedKey, Nonce: own.Nonce}), `{"memberId":"x","encryptedKey":"AAAA\n","nonce":{}}`,
		"", "{", "null", "[]", `{"topic":"general","text":"hi"}`, `{"topic":"general","text":"\ud800"}`, `{"topic":"#general","ciphertext":"eA==","nonce":"eA=="}`,
		`{"topic":"general","text":"@ann","mentions":["ann"],"client_message_id":"x","priority":"low","replyToId":"y"}`,
		`{"ids":["x"]}`, `{"all":true,"before":"2020-01-01T00:00:00Z"}`, `{"topic":"nowhere","text":"x"}`, `{"text":{}}`,
	} {
		for _, path := range paths {
			f.Add(path, body)
		}
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if !slices.Contains(paths, path) {
			path = paths[1]
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
