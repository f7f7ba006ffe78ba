package broker

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// house is a broker on a real file behind a real listener.
type house struct {
	*Broker
	t      testing.TB
	url    string // http://127.0.0.1:port
	mesh   store.Mesh
	first  string // token of the first link
	server *httptest.Server
	stop   func() // ends broker and store
	change []func(*Limits)
	log    *slog.Logger // of the broker from the next start on
}

// newHouse starts one; change may adapt its limits.
func newHouse(t testing.TB, change ...func(*Limits)) *house {
	t.Helper()
	return newHouseIn(t, t.TempDir(), change...)
}

// newHouseIn starts one whose data file is in folder.
func newHouseIn(t testing.TB, folder string, change ...func(*Limits)) *house {
	t.Helper()
	schema, err := os.ReadFile("../schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, change: change}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.Handler().ServeHTTP(w, r) }))
	h.server.Start()
	h.url = h.server.URL
	first := NewMesh("home", h.url, time.Now())
	h.mesh, h.first = first.Mesh, first.Invites[0].Token
	h.open(filepath.Join(folder, "meshbox.db"), store.Options{Schema: string(schema), Server: true, First: &first})
	t.Cleanup(func() {
		h.stop()
		h.server.Close()
	})
	return h
}

// restart ends the broker as a service manager does, and starts another one on
// the same file and address.
func (h *house) restart() {
	h.t.Helper()
	path := h.db.Path()
	h.stop()
	h.open(path, store.Options{Server: true})
}

// open starts a broker on the file at path.
func (h *house) open(path string, o store.Options) {
	h.t.Helper()
	db, err := store.Open(path, o)
	if err != nil {
		h.t.Fatal(err)
	}
	cfg := Config{PublicURL: h.url, Version: "test", Log: h.log, Limits: DefaultLimits()}
	cfg.Limits.SendRate = 0 // tests send as fast as they can
	for _, f := range h.change {
		f(&cfg.Limits)
	}
	if os.Getenv("MESHBOX_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b := New(cfg, db, pagesForTest)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.Run(ctx); close(done) }()
	h.Broker = b
	h.stop = func() {
		drain, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		b.Drain(drain)
		cancel()
		<-done
		db.Close()
	}
}

// waitingFor returns how many messages wait for the member connections of id.
func (h *house) waitingFor(id peer.Identity) int {
	h.t.Helper()
	waiting, err := h.db.Pending(h.t.Context(), store.Mailbox{MemberID: id.MemberID}, store.Waiting{Limit: 10_000})
	if err != nil {
		h.t.Fatal(err)
	}
	return len(waiting)
}

// invite stores an invite and returns its token.
func (h *house) invite(terms InviteTerms) store.Invite {
	h.t.Helper()
	if terms.Role == "" {
		terms.Role = store.RoleMember
	}
	if terms.Uses == 0 {
		terms.Uses = 1
	}
	if terms.TTL == 0 {
		terms.TTL = time.Hour
	}
	invite, err := NewInvite(h.mesh, h.url, terms, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	if err = h.db.CreateInvite(invite, ""); err != nil {
		h.t.Fatal(err)
	}
	return invite
}

// join makes a new member of the house's mesh.
func (h *house) join(name string) peer.Identity {
	h.t.Helper()
	id, err := peer.Join(h.t.Context(), h.url+"/join/"+h.invite(InviteTerms{}).Token, name, identity.NewKey())
	if err != nil {
		h.t.Fatalf("%s can not join: %v", name, err)
	}
	return id
}

// guest is a connected peer with a test's patience.
type guest struct {
	*peer.Conn
	t  testing.TB
	id peer.Identity
}

// dial connects id, as a session if o has a session key.
func (h *house) dial(id peer.Identity, o peer.Options) *guest {
	h.t.Helper()
	o.Identity = id
	c, err := peer.Dial(h.t.Context(), o)
	if err != nil {
		h.t.Fatalf("%s can not connect: %v", id.DisplayName, err)
	}
	h.t.Cleanup(c.Close)
	return &guest{Conn: c, t: h.t, id: id}
}

// arrive joins and connects in one go.
func (h *house) arrive(name string) *guest {
	h.t.Helper()
	return h.dial(h.join(name), peer.Options{})
}

// arriveAs joins and connects as a session of the new member.
func (h *house) arriveAs(name string, client wire.Client) *guest {
	h.t.Helper()
	return h.dial(h.join(name), peer.Options{Session: identity.NewKey(), Client: client})
}

var pagesForTest = fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}, "app.css": {Data: []byte("*{}")}}

// patience is generous: the race detector on a busy machine is slow.
const patience = 30 * time.Second

// ask sends a request and returns its answer as T.
func ask[T wire.Message](g *guest, m wire.Message) T {
	g.t.Helper()
	answer, err := g.Request(g.t.Context(), m)
	if err != nil {
		g.t.Fatalf("%s: %s: %v", g.id.DisplayName, m.Type(), err)
	}
	typed, ok := answer.(T)
	if !ok {
		g.t.Fatalf("%s: %s was answered by %s", g.id.DisplayName, m.Type(), answer.Type())
	}
	return typed
}

// wantRefused sends a request that must fail with code.
func (g *guest) wantRefused(m wire.Message, code string) {
	g.t.Helper()
	answer, err := g.Request(g.t.Context(), m)
	if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != code {
		g.t.Errorf("%s: %s: answer %v, err %v; want code %s", g.id.DisplayName, m.Type(), answer, err, code)
	}
}

// say sends a readable text and returns the message id.
func (g *guest) say(target, text string) string {
	g.t.Helper()
	ack, err := g.SendText(g.t.Context(), target, text)
	if err != nil || !ack.Queued {
		g.t.Fatalf("%s → %s: ack %+v, %v", g.id.DisplayName, target, ack, err)
	}
	return ack.MessageID
}

// wantUnsent sends a text that must be refused with a code.
func (g *guest) wantUnsent(target, text, code string) {
	g.t.Helper()
	ack, err := g.SendText(g.t.Context(), target, text)
	if err != nil || ack.Queued || !strings.HasPrefix(ack.Error, code+": ") {
		g.t.Errorf("%s → %s: ack %+v, %v; want refusal %s", g.id.DisplayName, target, ack, err, code)
	}
}

// wantPush returns the next push that is no presence event, and acks it.
func (g *guest) wantPush(text string) *wire.Push {
	g.t.Helper()
	for {
		push := g.next()
		if push == nil {
			g.t.Fatalf("%s got no push; want %q", g.id.DisplayName, text)
		}
		if push.Subtype == "system" {
			continue
		}
		if got, err := g.Text(push); err != nil || got != text {
			g.t.Fatalf("%s got %q, %v; want %q", g.id.DisplayName, got, err, text)
		}
		_ = g.Ack(g.t.Context(), push) // fails if the connection just ended
		return push
	}
}

// wantEvent returns the next presence event, which must be of that kind.
func (g *guest) wantEvent(event, name string) wire.PeerEvent {
	g.t.Helper()
	for {
		push := g.next()
		if push == nil {
			g.t.Fatalf("%s got no event; want %s of %s", g.id.DisplayName, event, name)
		}
		if push.Subtype != "system" {
			continue
		}
		var data wire.PeerEvent
		if err := json.Unmarshal(push.EventData, &data); err != nil || push.Event != event || data.Name != name {
			g.t.Fatalf("%s got %s %s; want %s of %s", g.id.DisplayName, push.Event, push.EventData, event, name)
		}
		return data
	}
}

func (g *guest) next() *wire.Push {
	select {
	case push := <-g.Pushes():
		return push
	case <-time.After(patience):
		return nil
	}
}

// wantQuiet checks that no message was pushed; presence events are no matter.
// An answer of the broker proves that all earlier pushes are here.
func (g *guest) wantQuiet() { g.t.Helper(); g.wantNone(false) }

// wantNoEvents checks that no presence event was pushed; messages are no matter.
func (g *guest) wantNoEvents() {
	g.t.Helper()
	time.Sleep(2 * eventDelay) // events may wait that long to leave together
	g.wantNone(true)
}

func (g *guest) wantNone(events bool) {
	g.t.Helper()
	ask[*wire.PeersList](g, &wire.ListPeers{})
	for {
		select {
		case push := <-g.Pushes():
			if events == (push.Subtype == "system") {
				g.t.Errorf("%s got an unexpected push: %s %s %s", g.id.DisplayName, push.Event, push.Topic, push.Ciphertext)
			}
		default:
			return
		}
	}
}

// drain drops what was pushed so far.
func (g *guest) drain() {
	ask[*wire.PeersList](g, &wire.ListPeers{})
	for len(g.Pushes()) > 0 {
		<-g.Pushes()
	}
}

// wantClosed waits until the broker closed the connection.
func (g *guest) wantClosed(code int, reason string) {
	g.t.Helper()
	select {
	case <-g.Done():
	case <-time.After(patience):
		g.t.Fatalf("%s was not closed; want %d %s", g.id.DisplayName, code, reason)
	}
	rejected, ok := errors.AsType[*peer.Rejected](g.Err())
	if !ok || rejected.Close != code || rejected.Code != reason {
		g.t.Errorf("%s ended with %v; want %d %s", g.id.DisplayName, g.Err(), code, reason)
	}
}

// raw is a socket without any manners, for hellos that must fail.
type raw struct {
	*websocket.Conn
	t testing.TB
}

func (h *house) raw() *raw {
	h.t.Helper()
	ws, _, err := websocket.Dial(h.t.Context(), BrokerURL(h.url), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 22)
	h.t.Cleanup(func() { ws.CloseNow() })
	return &raw{Conn: ws, t: h.t}
}

func (r *raw) send(m wire.Message) { r.sendText(string(wire.Encode(m, ""))) }

func (r *raw) sendText(frame string) {
	r.t.Helper()
	if err := r.Write(r.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		r.t.Fatal(err)
	}
}

// frame returns the next frame as a generic object.
func (r *raw) frame() map[string]any {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, text, err := r.Read(ctx)
	if err != nil {
		r.t.Fatalf("no frame: %v", err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		r.t.Fatalf("frame %s: %v", text, err)
	}
	return object
}

// wantError reads an error frame with that code.
func (r *raw) wantError(code string) map[string]any {
	r.t.Helper()
	frame := r.frame()
	if frame["type"] != "error" || frame["code"] != code || frame["message"] == "" {
		r.t.Fatalf("got %v; want error %s", frame, code)
	}
	return frame
}

// wantClosed reads until the socket is closed.
func (r *raw) wantClosed(code int, reason string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		_, _, err := r.Read(ctx)
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[websocket.CloseError](err)
		if !ok || int(closed.Code) != code || closed.Reason != reason {
			r.t.Fatalf("ended with %v; want close %d %q", err, code, reason)
		}
		return
	}
}

// metric returns the value of a line of /metrics, 0 if it is not there.
func (h *house) metric(line string) float64 {
	h.t.Helper()
	response, err := http.Get(h.url + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, line+" "); ok {
			var value float64
			fmt.Sscan(rest, &value)
			return value
		}
	}
	return 0
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// wantClosedCode is wantClosed for a reason that is the library's.
func (r *raw) wantClosedCode(code int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if _, _, err := r.Read(ctx); int(websocket.CloseStatus(err)) != code {
		r.t.Fatalf("ended with %v; want close %d", err, code)
	}
}

// revoke bans a member behind the broker's back, as a command beside it would.
func (h *house) revoke(id peer.Identity) {
	h.t.Helper()
	raw := h.openRaw()
	defer raw.Close()
	if _, err := raw.Exec(`UPDATE member SET revoked_at = 1 WHERE id = ?`, id.MemberID); err != nil {
		h.t.Fatal(err)
	}
}

// openRaw opens the data file as another program would.
func (h *house) openRaw() *sql.DB {
	h.t.Helper()
	raw, err := sql.Open("sqlite", h.db.Path())
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}
