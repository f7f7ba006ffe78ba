package broker

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// answer is what the status hook said.
type answer struct {
	t      testing.TB
	code   int
	header http.Header
	body   map[string]any
	text   string
}

// hook posts a report; change may adapt the request.
func (h *house) hook(body string, change ...func(*http.Request)) *answer {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/hook/set-status", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range change {
		f(request)
	}
	recorder := httptest.NewRecorder()
	if request.RemoteAddr != "" { // not for the wire: handed to the handler
		h.Handler().ServeHTTP(recorder, request)
		return newAnswer(h.t, recorder.Result())
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	return newAnswer(h.t, response)
}

func newAnswer(t testing.TB, r *http.Response) *answer {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{t: t, code: r.StatusCode, header: r.Header, text: string(text)}
	_ = json.Unmarshal(text, &a.body) // what the guard of all routes refuses is no JSON
	return a
}

// want checks that the report was taken.
func (a *answer) want(code int, pending bool) {
	a.t.Helper()
	if a.code != code || a.body["ok"] != true || a.body["pending"] != pending {
		a.t.Errorf("answer %d %s, want %d, pending %v", a.code, a.text, code, pending)
	}
}

// wantError checks that it was refused with a sentence.
func (a *answer) wantError(code int) {
	a.t.Helper()
	sentence, _ := a.body["error"].(string)
	if a.code != code || a.body["ok"] != false || !strings.HasSuffix(sentence, ".") {
		a.t.Errorf("answer %d %s, want %d and a sentence", a.code, a.text, code)
	}
}

// arriveIn joins and connects as a session of a process in a folder.
func (h *house) arriveIn(name, cwd string, pid float64) *guest {
	h.t.Helper()
	return h.arriveAs(name, wire.Client{CWD: cwd, PID: pid})
}

// wantStatus checks how a peer is listed.
func (g *guest) wantStatus(of *guest, status string) {
	g.t.Helper()
	if got := peerOf(g.t, g, of.Key()).Status; got != status {
		g.t.Errorf("%s is listed as %s, want %s", of.id.DisplayName, got, status)
	}
}

func TestHookSetsTheStatusByProcessAndFolder(t *testing.T) {
	h := newHouse(t)
	ann, other := h.arriveIn("ann", "/work", 7), h.arriveIn("other", "/work", 8)
	elsewhere := h.arriveIn("elsewhere", "/play", 7)
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	ann.wantStatus(ann, wire.StatusWorking)
	ann.wantStatus(other, wire.StatusIdle)
	ann.wantStatus(elsewhere, wire.StatusIdle)
}

// One process may be in several meshes, by several keys.
func TestHookSetsAllPresencesOfAProcess(t *testing.T) {
	h := newHouse(t)
	one, two := h.arriveIn("one", "/work", 7), h.arriveIn("two", "/work", 7)
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	one.wantStatus(one, wire.StatusWorking)
	one.wantStatus(two, wire.StatusWorking)
}

func TestHookSetsTheStatusOfTheNewestInTheFolder(t *testing.T) {
	h := newHouse(t)
	older, newer := h.arriveIn("older", "/work", 7), h.arriveIn("newer", "/work", 8)
	h.arriveAs("command", wire.Client{CWD: "/work", PID: 9, Capabilities: []string{wire.CapNoLease}}) // it only asks and leaves
	h.hook(`{"cwd":"/work","status":"working"}`).want(200, false)
	h.hook(`{"cwd":"/work","pid":9,"status":"working"}`).want(200, false) // no agent has this pid
	older.wantStatus(older, wire.StatusIdle)
	older.wantStatus(newer, wire.StatusWorking)
}

func TestHookPrefersTheSessionItNames(t *testing.T) {
	h := newHouse(t)
	older := h.arriveAs("older", wire.Client{CWD: "/work", SessionID: "s1"})
	newer := h.arriveAs("newer", wire.Client{CWD: "/work", SessionID: "s2"})
	h.hook(`{"cwd":"/work","status":"working","session_id":"s1"}`).want(200, false)
	older.wantStatus(older, wire.StatusWorking)
	older.wantStatus(newer, wire.StatusIdle)
}

// Who is connected comes before who is away; but a peer that is away, if there
// is no other, comes back as the hook said.
func TestHookPrefersWhoIsConnected(t *testing.T) {
	h := newHouse(t)
	here := h.dial(h.join("here"), peer.Options{Session: identity.NewKey(), Client: wire.Client{CWD: "/work"}})
	key := identity.NewKey()
	away := h.talker("away", key) // in /work too, and newer
	away.Close()
	eventually(t, "one is away", func() bool { return h.countPresences() == 1 })
	h.hook(`{"cwd":"/work","status":"working"}`).want(200, false)
	here.wantStatus(here, wire.StatusWorking)
	here.wantStatus(away, wire.StatusIdle)
	here.Close()
	eventually(t, "nobody is here", func() bool { return h.countPresences() == 0 })
	h.hook(`{"cwd":"/work","status":"working"}`).want(200, false)
	bob := h.arrive("bob")
	back := h.dial(away.id, peer.Options{Session: key})
	bob.post(key.Public(), "held", wire.PriorityNext)
	back.wantQuiet()
}

func TestHeldMessagesFlowWhenTheHookSaysIdle(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arriveIn("ann", "/work", 7), h.arrive("bob")
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	bob.post(ann.Key(), "held", wire.PriorityNext)
	bob.post(ann.Key(), "urgent", wire.PriorityNow)
	ann.wantPush("urgent")
	ann.wantQuiet()
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusIdle}) // the hook knows better
	ann.wantQuiet()
	h.hook(`{"cwd":"/work","pid":7,"status":"idle"}`).want(200, false)
	ann.wantPush("held")
}

func TestHookDoesNotLiftDoNotDisturb(t *testing.T) {
	h := newHouse(t)
	ann := h.arriveIn("ann", "/work", 7)
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusDND})
	h.hook(`{"cwd":"/work","pid":7,"status":"idle"}`).want(200, false)
	ann.wantStatus(ann, wire.StatusDND)
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusIdle})
	ann.wantStatus(ann, wire.StatusIdle)
}

// A hook that is faster than its agent's hello is not lost, and what waited for
// the agent does not slip past the gate.
func TestHookAppliesToTheNextHello(t *testing.T) {
	h := newHouse(t)
	bob, ann := h.arrive("bob"), h.join("ann")
	bob.post(ann.Key.Public(), "held", wire.PriorityNext)
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, true)
	h.arriveIn("other", "/play", 7) // not whom it means
	session := h.dial(ann, peer.Options{Session: identity.NewKey(), Client: wire.Client{CWD: "/work", PID: 7}})
	session.wantStatus(session, wire.StatusWorking)
	session.wantQuiet()
	next := h.arriveIn("next", "/work", 7) // it was applied once
	next.wantStatus(next, wire.StatusIdle)
	h.hook(`{"cwd":"/work","pid":7,"status":"idle"}`).want(200, false)
	session.wantPush("held")
}

func TestReportsWaitTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting reports
		client := &wire.Client{CWD: "/work", PID: 7}
		waiting.keep(report{cwd: "/work", pid: 7, status: wire.StatusWorking, at: time.Now()})
		time.Sleep(reportTime - time.Nanosecond)
		if s, ok := waiting.claim(client, time.Now()); !ok || s.status != wire.StatusWorking {
			t.Errorf("just in time: %+v, %v", s, ok)
		}
		if _, ok := waiting.claim(client, time.Now()); ok {
			t.Error("a report was applied twice")
		}
		waiting.keep(report{cwd: "/work", pid: 7, status: wire.StatusWorking, at: time.Now()})
		time.Sleep(reportTime)
		if s, ok := waiting.claim(client, time.Now()); ok || len(waiting) != 0 {
			t.Errorf("too late: %+v, %v, %d kept", s, ok, len(waiting))
		}
	})
}

func TestReportsThatWaitMeanWhoTheyName(t *testing.T) {
	now := time.Now()
	var waiting reports
	for _, s := range []report{
		{cwd: "/work", pid: 7, status: "old"}, {cwd: "/work", pid: 7, status: "by pid"}, {cwd: "/work", sessionID: "s", status: "by session"},
		{cwd: "/work", status: "by folder"}, {cwd: "/play", pid: 7, status: "elsewhere"},
	} {
		s.at = now
		waiting.keep(s)
	}
	for _, step := range []struct {
		client wire.Client
		want   string
	}{
		{wire.Client{CWD: "/work", PID: 7, SessionID: "s"}, "by pid"}, // once: the newer replaced the old one
		{wire.Client{CWD: "/work", PID: 7, SessionID: "s"}, "by session"},
		{wire.Client{CWD: "/work", PID: 9}, "by folder"},
		{wire.Client{CWD: "/work", PID: 7}, ""},
	} {
		if s, _ := waiting.claim(&step.client, now); s.status != step.want {
			t.Errorf("%+v claims %q, want %q", step.client, s.status, step.want)
		}
	}
	for i := range 2 * maxReports {
		waiting.keep(report{cwd: fmt.Sprint(i), at: now})
	}
	if len(waiting) != maxReports || waiting[0].cwd != strconv.Itoa(maxReports) {
		t.Errorf("%d reports wait, from %q on; want the newest %d", len(waiting), waiting[0].cwd, maxReports)
	}
}

func TestHookIsRateLimitedPerProcess(t *testing.T) {
	h := newHouse(t)
	h.arriveIn("ann", "/work", 7)
	for range 30 {
		h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	}
	refused := h.hook(`{"cwd":"/work","pid":7,"status":"idle"}`)
	refused.wantError(429)
	if seconds, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 2 {
		t.Errorf("Retry-After: %q, want 1 or 2 s", refused.header.Get("Retry-After"))
	}
	h.hook(`{"cwd":"/work","pid":8,"status":"working"}`).want(200, false)
	h.hook(`{"cwd":"/play","pid":7,"status":"working"}`).want(200, true)
}

// Whoever makes up processes fills a table of bounded size, and is refused then.
func TestHookBucketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hooks := newBuckets(hookRate, hookBurst, maxHookers)
		for i := range maxHookers {
			if wait := hooks.take(strconv.Itoa(i), time.Now()); wait != 0 {
				t.Fatalf("process %d waits %v", i, wait)
			}
		}
		if wait := hooks.take("one more", time.Now()); wait != 2*time.Second || len(hooks.byKey) != maxHookers {
			t.Errorf("one more waits %v beside %d buckets", wait, len(hooks.byKey))
		}
		time.Sleep(2 * time.Second) // the others' buckets are full again
		if wait := hooks.take("one more", time.Now()); wait != 0 || len(hooks.byKey) != 1 {
			t.Errorf("later it waits %v beside %d buckets", wait, len(hooks.byKey))
		}
	})
}

func TestHookRefusesNonsense(t *testing.T) {
	h := newHouse(t)
	for _, body := range []string{
		``, `[]`, `{"cwd":7,"status":"idle"}`, `{"status":"idle"}`, `{"cwd":" \u0007","status":"idle"}`, `{"cwd":"/work"}`,
		`{"cwd":"/work","status":"asleep"}`, `{"cwd":"/work","status":"idle","pid":"7"}`, `{"cwd":"/work","status":"idle","pid":0}`,
		`{"cwd":"/work","status":"idle","pid":-1}`, `{"cwd":"/work","status":"idle","pid":1.5}`, `{"cwd":"/work","status":"idle","pid":1e300}`,
		`{"cwd":"` + strings.Repeat("x", maxBody) + `","status":"idle"}`,
	} {
		h.hook(body).wantError(400)
	}
	h.hook(`{"cwd":"/work\u001b","pid":null,"status":"idle"}`).want(200, true) // cleaned as in a hello
	if kept := h.keptReports(); len(kept) != 1 || kept[0].cwd != "/work" {
		t.Errorf("kept: %+v", kept)
	}
}

// Only a program of this machine that asks this machine is answered.
func TestHookIsAnsweredOnlyOnLoopback(t *testing.T) {
	h := newHouse(t)
	const body = `{"cwd":"/work","status":"idle"}`
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, addr := range []string{"192.168.1.5:4000", "[2001:db8::1]:4000", "[::ffff:10.0.0.1]:4000", "@", "127.0.0.1"} {
		h.hook(body, from(addr), host("localhost:7900")).wantError(403)
	}
	for _, addr := range []string{"127.0.0.1:4000", "127.9.9.9:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000"} {
		h.hook(body, from(addr), host("localhost:7900")).want(200, true)
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"} { // behind a proxy everybody is local
		h.hook(body, header(name, "127.0.0.1")).wantError(403)
		h.hook(body, header(name, "")).wantError(403)
	}
	for _, name := range []string{"mesh.example.org", "mesh.example.org:7900", "localhost.example.org", "10.0.0.1:7900", "[fe80::1]:7900"} { // DNS rebinding
		h.hook(body, host(name)).wantError(403)
	}
	for _, name := range []string{"localhost", "LOCALHOST:7900", "127.0.0.1", "127.0.0.2:80", "[::1]", "[::1]:7900"} {
		h.hook(body, host(name)).want(200, true)
	}
	h.hook(body, header("Authorization", "Bearer x"), from("192.168.1.5:4000")).wantError(403)
}

func TestHookIsNotForPagesOfOtherSites(t *testing.T) {
	h := newHouse(t)
	const body = `{"cwd":"/work","status":"idle"}`
	for _, mark := range [][2]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, // another port
	} {
		refused := h.hook(body, func(r *http.Request) { r.Header.Set(mark[0], mark[1]) })
		if refused.code != http.StatusForbidden {
			t.Errorf("%v: answer %d %s, want 403", mark, refused.code, refused.text)
		}
	}
	if kept := h.keptReports(); len(kept) != 0 {
		t.Errorf("kept: %+v", kept)
	}
}

func (h *house) keptReports() reports {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.reports)
}
