package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// eventStream is an open stream that a test reads.
type eventStream struct {
	t      testing.TB
	cancel context.CancelFunc
	body   *bufio.Reader
	lastID string
}

// stream opens one and waits until it is ready.
func (h *house) stream(secret, topic, lastID string) *eventStream {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/api/v1/topics/"+topic+"/stream", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Content-Security-Policy") == "" {
		h.t.Fatalf("stream: %d %v", response.StatusCode, response.Header)
	}
	s := &eventStream{t: h.t, cancel: cancel, body: bufio.NewReader(response.Body), lastID: lastID}
	h.t.Cleanup(func() { cancel(); response.Body.Close() })
	if name, data, err := s.next(); err != nil || name != "ready" || data["topic"] != topic || data["topicId"] == "" || data["connectedAt"] == "" {
		h.t.Fatalf("stream began with %s %v, %v", name, data, err)
	}
	return s
}

func (s *eventStream) close() { s.cancel() }

// next returns the next event.
func (s *eventStream) next() (name string, data map[string]any, err error) {
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			return name, data, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			s.lastID = value
		case "data":
			if err := json.Unmarshal([]byte(value), &data); err != nil {
				return name, data, err
			}
		case "":
			return name, data, nil
		}
	}
}

// wantMessage reads a message, which must be that one.
func (s *eventStream) wantMessage(id string) map[string]any {
	s.t.Helper()
	name, data, err := s.next()
	if err != nil || name != "message" || data["id"] != id || s.lastID != id {
		s.t.Fatalf("the stream has %s %v, %v; want message %s", name, data, err, id)
	}
	return data
}

// wantEnd checks that the broker ended the stream, and ended it well.
func (s *eventStream) wantEnd() {
	s.t.Helper()
	if name, data, err := s.next(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.t.Fatalf("the stream has %s %v, %v; want its end", name, data, err)
	}
}

func TestStreamTellsWhatIsPosted(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "other"})
	before := ann.say("#general", "before")
	s := h.stream(bob.key("read").Secret, "general", "")
	ann.say("#other", "elsewhere")
	first := ann.say("#general", "first")
	second := wantOK[postResponse](h.rest(bob.key("send").Secret, "POST /messages", `{"topic":"general","text":"second"}`)).MessageID
	if m := s.wantMessage(first); m["senderName"] != "ann" || m["ciphertext"] != "Zmlyc3Q=" || m["bodyVersion"] != 1.0 || m["replyToId"] != nil {
		t.Errorf("message %v", m)
	}
	s.wantMessage(second) // one's own, too
	again := h.stream(bob.key("read").Secret, "general", before)
	again.wantMessage(first)
	again.wantMessage(second)
	third := ann.say("#general", "third")
	again.wantMessage(third)
	s.wantMessage(third)
	h.rest(bob.key("read").Secret, "GET /topics/general/stream", "", "Last-Event-ID", "nowhere").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
}

func TestStreamLeavesOutWhatGrantsKeepOut(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ask[*wire.Ack](bob, &wire.SetGrants{Grants: map[string][]string{ann.id.Key.Public(): {}}})
	s := h.stream(bob.key("read").Secret, "general", "")
	ann.say("#general", "not for bob")
	s.wantMessage(cat.say("#general", "for bob"))
}

// Streams that break and resume see each message once and in order, however many
// post at a time.
func TestStreamMissesNothingAndTellsNothingTwice(t *testing.T) {
	h := newHouse(t)
	const senders, each = 4, 100
	start := h.arrive("start").say("#general", "start")
	secret := h.arrive("reader").key("read").Secret
	var posting sync.WaitGroup
	for i := range senders {
		g := h.arrive(fmt.Sprint("sender", i))
		key := g.key("send").Secret
		posting.Go(func() {
			for n := range each {
				if n%10 == 0 {
					h.rest(key, "POST /messages", fmt.Sprintf(`{"topic":"general","text":"%d"}`, n)).wantStatus(http.StatusOK)
					continue
				}
				if ack, err := g.SendText(t.Context(), "#general", fmt.Sprint(n)); err != nil || !ack.Queued {
					t.Errorf("ack %+v, %v", ack, err)
				}
			}
		})
	}
	var got []string
	s := h.stream(secret, "general", start)
	for len(got) < senders*each {
		name, data, err := s.next()
		if err != nil || name != "message" {
			t.Fatalf("after %d: %s %v %v", len(got), name, data, err)
		}
		if got = append(got, data["id"].(string)); len(got)%37 == 0 {
			s.close()
			s = h.stream(secret, "general", s.lastID)
		}
	}
	posting.Wait()
	topic, _, err := h.db.Topic(t.Context(), h.mesh.ID, "", "general")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := h.db.History(t.Context(), topic.ID, store.Page{Limit: 2 * senders * each})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range slices.Backward(stored) {
		want = append(want, m.ID)
	}
	if !slices.Equal(got, want[1:]) {
		t.Errorf("the stream had %d messages, the topic %d, or in another order", len(got), len(want)-1)
	}
}

func TestStreamsAndKeysEndTogether(t *testing.T) {
	h := newHouse(t)
	adam, ann := h.arriveAdmin("adam"), h.arrive("ann")
	revoked, banned, other := ann.key("read"), ann.key("read"), adam.key("read")
	streams := map[*wire.APIKeyCreated]*eventStream{}
	for _, key := range []*wire.APIKeyCreated{revoked, banned, other} {
		streams[key] = h.stream(key.Secret, "general", "")
	}
	soon := wire.Time(time.Now().Add(time.Second))
	expired := ask[*wire.APIKeyCreated](ann, &wire.APIKeyCreate{Capabilities: []string{"read"}, ExpiresAt: &soon})
	h.stream(expired.Secret, "general", "").wantEnd()
	wantDead := func(key *wire.APIKeyCreated) {
		t.Helper()
		h.rest(key.Secret, "GET /topics", "").wantProblem(http.StatusUnauthorized, "error.api_key_invalid")
	}
	wantDead(expired)

	if got := ask[*wire.APIKeyRevokeResponse](ann, &wire.APIKeyRevoke{ID: revoked.Prefix}); got.Status != wire.KeyRevoked || got.ID != revoked.ID {
		t.Errorf("revoked: %+v", got)
	}
	streams[revoked].wantEnd()
	wantDead(revoked)

	ask[*wire.BanAck](adam, &wire.Ban{Target: "ann"})
	streams[banned].wantEnd()
	wantDead(banned)

	last := adam.say("#general", "last")
	streams[other].wantMessage(last)
	h.restart() // drains
	streams[other].wantEnd()
	wantOK[any](h.rest(other.Secret, "GET /topics", ""))
}

func TestBanBesideTheServerEndsKeysAndStreams(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	key := ann.key("read").Secret
	s := h.stream(key, "general", "")
	h.revoke(ann.id)
	h.rest(key, "GET /topics", "").wantProblem(http.StatusUnauthorized, "error.api_key_invalid")
	s.wantEnd()
}

func TestStreamOfAPrivateTopicEndsWithItsMembership(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	ask[*wire.Ack](ann, &wire.TopicInvite{Topic: "secret", Member: bob.id.Key.Public()})
	s := h.stream(bob.key("read").Secret, "secret", "")
	ask[*wire.Ack](bob, &wire.TopicLeave{Topic: "secret"})
	ann.say("#secret", "he is gone")
	s.wantEnd()
}

func TestStreamsAreBounded(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	key := ann.key("read").Secret
	var open []*eventStream
	for range maxKeyStreams {
		open = append(open, h.stream(key, "general", ""))
	}
	h.rest(key, "GET /topics/general/stream", "").wantProblem(http.StatusTooManyRequests, wire.RateLimit)
	another := h.stream(ann.key("read").Secret, "general", "")
	another.wantMessage(ann.say("#general", "x"))
	open[0].close()
	eventually(t, "a stream ended", func() bool { return h.streams.active.Load() == maxKeyStreams })
	h.stream(key, "general", "").close()
}

// flushed is a response that is read while it is written.
type flushed struct {
	*httptest.ResponseRecorder
	wrote chan string
}

func (f *flushed) Write(p []byte) (int, error) { f.wrote <- string(p); return len(p), nil }

// Who opens a stream and then reads nothing is cut off after the write timeout, and
// holds up no drain.
func TestReaderThatReadsNothingIsCut(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"in time": 200 * time.Millisecond, "by a drain": time.Hour} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(l *Limits) { l.WriteTimeout = timeout })
			ann := h.arrive("ann")
			socket, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			fmt.Fprintf(socket, "GET /api/v1/topics/general/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", ann.key("read").Secret)
			eventually(t, "the stream is open", func() bool { return h.streams.active.Load() == 1 })
			large := strings.Repeat("x", 45<<10)
			for range 300 { // more than sockets hold
				ann.say("#general", large)
			}
			b := h.Broker
			if timeout == time.Hour {
				if b.streams.active.Load() != 1 {
					t.Error("the stream ended by itself")
				}
				h.restart()
			}
			eventually(t, "the stream is cut", func() bool { return b.streams.active.Load() == 0 })
		})
	}
}

func TestStreamBeatsAndEndsWithADrain(t *testing.T) {
	schema, err := os.ReadFile("../schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := NewMesh("home", "http://x", time.Now())
		db, err := store.Open(filepath.Join(folder, "meshbox.db"), store.Options{Schema: string(schema), Server: true, First: &first})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		b := New(Config{Limits: DefaultLimits()}, db, pagesForTest)
		joined, err := db.Join(store.Joining{MeshID: first.Mesh.ID, OwnerPubKey: first.Mesh.OwnerPubKey, Token: first.Invites[0].Token, PubKey: strings.Repeat("a", 64), DisplayName: "ann"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		secret := newSecret()
		err = db.CreateAPIKey(store.APIKey{ID: store.NewID(), MeshID: first.Mesh.ID, MemberID: joined.Member.ID, Hash: store.HashAPIKey(secret), Capabilities: []string{"read"}, CreatedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodGet, "/api/v1/topics/general/stream", nil)
		request.Header.Set("Authorization", "Bearer "+secret)
		out := &flushed{httptest.NewRecorder(), make(chan string)}
		ended := make(chan struct{})
		go func() { b.Handler().ServeHTTP(out, request); close(ended) }()
		began := time.Now()
		if text := <-out.wrote; !strings.HasPrefix(text, "event: ready\n") {
			t.Errorf("it begins with %q", text)
		}
		for i := range 3 {
			text := <-out.wrote
			if after := time.Since(began); !strings.HasPrefix(text, "event: heartbeat\ndata: {") || after != time.Duration(i+1)*heartbeatEvery {
				t.Errorf("after %v: %q", after, text)
			}
		}
		b.Drain(t.Context())
		<-ended
	})
}
