package broker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"meshbox/broker/wire"
)

// The status hook (protocol section 4): POST /hook/set-status lets the program
// of an agent say what the agent is doing, without a connection of its own. It
// names the agent by what its hello said: process and folder.

const (
	statusPath = "/hook/set-status"

	hookRate    = rate.Limit(30.0 / 60) // reports per second of one process in one folder, lasting
	hookBurst   = 30                    // reports of one at once
	maxHookers  = 1024                  // processes that report at the same time
	maxReports  = 256                   // reports that wait for a hello; the oldest give way
	reportTime  = 10 * time.Second      // how long they wait
	maxSafePID  = 1 << 53               // what a JSON number holds exactly
	errHookAway = "The status hook is answered only on the machine of the broker: call it there, as http://localhost."
)

// statusRequest is the body of POST /hook/set-status.
type statusRequest struct {
	CWD       string   `json:"cwd"`
	PID       *float64 `json:"pid"`
	Status    string   `json:"status"`
	SessionID string   `json:"session_id"`
}

// statusResponse answers a report that was taken. Pending: it waits for the
// hello of whom it is about.
type statusResponse struct {
	OK      bool `json:"ok"`
	Pending bool `json:"pending"`
}

func (b *Broker) postStatus(w http.ResponseWriter, r *http.Request) {
	if !isLocal(r) {
		hookFailed(w, http.StatusForbidden, errHookAway)
		return
	}
	now := time.Now()
	said, problem := readReport(r, now)
	if problem != "" {
		hookFailed(w, http.StatusBadRequest, problem)
		return
	}
	if wait := b.hooks.take(said.process(), now); wait > 0 {
		seconds := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		hookFailed(w, http.StatusTooManyRequests, fmt.Sprintf("A process may report 30 times a minute; try again in %d s.", seconds))
		return
	}
	writeJSON(w, http.StatusOK, statusResponse{OK: true, Pending: b.takeReport(said)})
}

func hookFailed(w http.ResponseWriter, status int, sentence string) {
	writeJSON(w, status, struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}{Error: sentence})
}

// forwarding are headers that only a proxy sets: behind one on this machine
// everybody comes from loopback. Those of trusted proxies are gone here, and the
// address is the client's (package gate).
var forwarding = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// isLocal reports whether a request comes from a program on this machine that
// meant to ask this machine. The Host must say so too, because a page elsewhere
// can have its own name resolve to 127.0.0.1; requests that a browser marks as
// another site's were refused before (http.CrossOriginProtection).
func isLocal(r *http.Request) bool {
	for _, name := range forwarding {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && isLoopbackHost(r.Host)
}

// isLoopbackHost reports whether a Host header names this machine for itself.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// report is what a hook said of the program that runs in a folder.
type report struct {
	cwd       string  // as a hello's is kept
	pid       float64 // 0: not said
	sessionID string  // "": not said
	status    string
	at        time.Time
}

// readReport reads and checks a report. A problem is a sentence for the client.
func readReport(r *http.Request, now time.Time) (said report, problem string) {
	var body statusRequest
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return said, "The body must be a JSON object with cwd, status, and perhaps pid and session_id."
	}
	said = report{
		cwd: wire.CleanLine(body.CWD, wire.MaxTextLen), sessionID: wire.CleanLine(body.SessionID, wire.MaxIDLen),
		status: body.Status, at: now,
	}
	switch {
	case said.cwd == "":
		return said, "The cwd is missing: send the folder in which the agent runs."
	case !wire.ValidStatus(body.Status):
		return said, "The status must be idle, working or dnd."
	case body.PID == nil:
		return said, ""
	case *body.PID < 1 || *body.PID > maxSafePID || *body.PID != math.Trunc(*body.PID):
		return said, "The pid must be a positive whole number, or left out."
	}
	said.pid = *body.PID
	return said, ""
}

// process is what reports are counted by.
func (s *report) process() string { return fmt.Sprintf("%.0f %s", s.pid, s.cwd) }

// How surely a report means a program.
const (
	notMeant = iota
	inFolder // it runs in the same folder
	inSession
	isProcess
)

func (s *report) means(c *wire.Client) int {
	switch {
	case c.CWD != s.cwd:
		return notMeant
	case s.pid != 0 && c.PID == s.pid:
		return isProcess
	case s.sessionID != "" && c.SessionID == s.sessionID:
		return inSession
	}
	return inFolder
}

// takeReport sets the status of whom a report means, or keeps it for the hello
// of one who is not here yet. Looking and keeping are one step, so that no hello
// slips through between.
func (b *Broker) takeReport(s report) (pending bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	meant := b.meant(&s)
	for _, p := range meant {
		before := p.status
		if p.say(s.status, byHook, s.at); p.status != before && p.visible {
			b.changed(p.meshID, wire.ChangedPeers)
		}
	}
	if len(meant) == 0 {
		b.reports.keep(s)
	}
	return len(meant) == 0
}

// meant returns whom a report is about, in whatever mesh: every presence of its
// process, which may be in several; else of its session; else the newest in its
// folder, one that is connected before one that is leased. Broker.mu is held.
func (b *Broker) meant(s *report) (all []*presence) {
	best := inFolder
	for _, r := range b.rooms {
		for _, p := range r.all {
			switch fit := b.fit(s, p); {
			case fit > best:
				best, all = fit, []*presence{p}
			case fit == best:
				all = append(all, p)
			}
		}
	}
	if best == inFolder && len(all) > 0 {
		return []*presence{slices.MaxFunc(all, byNewness)}
	}
	return all
}

// fit is how surely a report means p. It never means a command that asks and
// leaves, which an agent runs in its own folder.
func (b *Broker) fit(s *report, p *presence) int {
	if !p.leases() {
		return notMeant
	}
	return s.means(&p.client)
}

func byNewness(x, y *presence) int {
	if here := x.conn != nil; here != (y.conn != nil) {
		if here {
			return 1
		}
		return -1
	}
	return cmp.Or(x.connectedAt.Compare(y.connectedAt), strings.Compare(x.id, y.id))
}

// applyReport gives a presence that is arriving the status that was reported
// shortly before, in time for its feed to begin with it. Broker.mu is held.
func (b *Broker) applyReport(p *presence, now time.Time) {
	if len(b.reports) == 0 || !p.leases() {
		return
	}
	if s, ok := b.reports.claim(&p.client, now); ok {
		p.say(s.status, byHook, s.at)
	}
}

// reports wait for hellos, the oldest first. Broker.mu guards them.
type reports []report

// keep adds a report, in place of an earlier one about the same.
func (all *reports) keep(s report) {
	all.drop(s.at)
	*all = slices.DeleteFunc(*all, func(old report) bool {
		return old.cwd == s.cwd && old.pid == s.pid && old.sessionID == s.sessionID
	})
	if len(*all) >= maxReports {
		*all = slices.Delete(*all, 0, 1)
	}
	*all = append(*all, s)
}

// claim takes out the report that means c most surely, of those the latest.
func (all *reports) claim(c *wire.Client, now time.Time) (s report, ok bool) {
	all.drop(now)
	best, at := notMeant, -1
	for i := range *all {
		if fit := (*all)[i].means(c); fit != notMeant && fit >= best {
			best, at = fit, i
		}
	}
	if at < 0 {
		return report{}, false
	}
	s = (*all)[at]
	*all = slices.Delete(*all, at, at+1)
	return s, true
}

// drop removes what has waited too long.
func (all *reports) drop(now time.Time) {
	*all = slices.DeleteFunc(*all, func(s report) bool { return now.Sub(s.at) >= reportTime })
}
