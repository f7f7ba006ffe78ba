package broker

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// A lower source does not overwrite a higher one that is still fresh: all pairs.
func TestStatusSourcesByRank(t *testing.T) {
	names := map[source]string{unsaid: "nobody", byLog: "jsonl", byHand: "manual", byHook: "hook"}
	for first := range names {
		for _, second := range []source{byLog, byHand, byHook} {
			for _, age := range []time.Duration{0, statusFresh - time.Nanosecond, statusFresh} {
				t.Run(fmt.Sprintf("%s after %s %v old", names[second], names[first], age), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := &presence{}
						p.become(wire.StatusWorking, first, time.Now())
						time.Sleep(age)
						p.say(wire.StatusIdle, second, time.Now())
						want := wire.StatusIdle
						if first > second && age < statusFresh {
							want = wire.StatusWorking
						}
						if p.status != want {
							t.Errorf("status %s, want %s", p.status, want)
						}
					})
				})
			}
		}
	}
}

// dnd is a person's wish: only set_status by hand lifts it, at once, and sets it
// at once, whoever said something else just before.
func TestDoNotDisturbIsAPersonsWord(t *testing.T) {
	for _, setter := range []source{byLog, byHand, byHook} {
		for _, lifter := range []source{byLog, byHand, byHook} {
			for _, age := range []time.Duration{0, time.Hour} {
				p := &presence{}
				now := time.Now()
				p.become(wire.StatusDND, setter, now)
				for _, status := range []string{wire.StatusWorking, wire.StatusIdle} {
					p.say(status, lifter, now.Add(age))
					if lifted := p.status != wire.StatusDND; lifted != (lifter == byHand) {
						t.Errorf("dnd by %d, then %s by %d after %v: %s", setter, status, lifter, age, p.status)
					}
				}
			}
		}
	}
	p := &presence{}
	p.become(wire.StatusWorking, byHook, time.Now())
	p.say(wire.StatusDND, byLog, time.Now())
	if p.status != wire.StatusWorking {
		t.Error("a log set dnd over a fresh hook")
	}
	p.say(wire.StatusDND, byHand, time.Now())
	if p.status != wire.StatusDND {
		t.Error("a person could not set dnd over a fresh hook")
	}
}

func TestSetStatusTellsItsSource(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusIdle})
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusWorking, Source: wire.SourceJSONL})
	if got := peerOf(t, ann, ann.Key()).Status; got != wire.StatusIdle {
		t.Errorf("%s: a log overwrote what was said by hand", got)
	}
	for _, source := range []string{"hook", "manual", "JSONL", "x"} { // no client may call itself a hook
		ann.wantRefused(&wire.SetStatus{Status: wire.StatusWorking, Source: source}, wire.InvalidArgs)
	}
	bob := h.arrive("bob")
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusWorking, Source: wire.SourceJSONL})
	if got := peerOf(t, bob, bob.Key()).Status; got != wire.StatusWorking {
		t.Errorf("%s: nobody listens to the log", got)
	}
	ask[*wire.Ack](bob, &wire.SetStatus{Status: wire.StatusIdle})
	if got := peerOf(t, bob, bob.Key()).Status; got != wire.StatusIdle {
		t.Errorf("%s: by hand counts less than a log", got)
	}
}

// After a status fell back nobody is bound by who said it.
func TestFallenBackStatusIsNobodys(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.WorkingTTL = 50 * time.Millisecond })
	ann, bob := h.arriveIn("ann", "/work", 7), h.arrive("bob")
	h.hook(`{"cwd":"/work","pid":7,"status":"working"}`).want(200, false)
	bob.post(ann.Key(), "held", wire.PriorityNext)
	ann.wantPush("held") // it fell back
	ask[*wire.Ack](ann, &wire.SetStatus{Status: wire.StatusDND, Source: wire.SourceJSONL})
	if got := peerOf(t, ann, ann.Key()).Status; got != wire.StatusDND {
		t.Errorf("status %s: the hook still counts as fresh", got)
	}
}

// Two sources at once must not leave a peer listed as idle behind a closed gate,
// or the other way round.
func TestStatusAndGateNeverDisagree(t *testing.T) {
	h := newHouse(t)
	ann := h.arriveIn("ann", "/work", 7)
	p := h.presenceOf(ann.Key())
	var racers sync.WaitGroup
	for _, by := range []source{byHand, byHook} {
		r := request{conn: p.conn}
		racers.Go(func() {
			for i := range 3000 {
				status := []string{wire.StatusIdle, wire.StatusWorking}[i%2]
				if by == byHook {
					h.takeReport(report{cwd: "/work", pid: 7, status: status, at: time.Now()})
				} else {
					r.change(func(p *presence) { p.saidBy = unsaid }) // so that both count
					r.setStatus(&wire.SetStatus{Status: status})
				}
				h.wantGateOf(p)
			}
		})
	}
	racers.Wait()
}

// wantGateOf checks that the feed of p is gated as its status says.
func (h *house) wantGateOf(p *presence) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	f := p.conn.feed.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.urgent != (p.status != wire.StatusIdle) {
		h.t.Errorf("status %s, but urgent only = %v", p.status, f.urgent)
	}
}

// What the lease kept of the status binds nobody, except for dnd; and working
// falls back a minute after the restart, not at once and not never.
func TestStatusAfterARestart(t *testing.T) {
	h := newHouse(t)
	keys := map[string]identity.Key{wire.StatusDND: identity.NewKey(), wire.StatusWorking: identity.NewKey()}
	for status, key := range keys {
		g := h.dial(h.join(status), peer.Options{Session: key, Client: wire.Client{CWD: "/" + status, PID: 7}})
		g.say("#general", "hi")
		ask[*wire.Ack](g, &wire.SetStatus{Status: status})
	}
	h.restart()
	for status, key := range keys {
		if p := h.presenceOf(key.Public()); p.status != status || p.saidBy != unsaid || time.Since(p.since) > patience {
			t.Errorf("%s came back as %s by %d since %v", status, p.status, p.saidBy, p.since)
		}
		h.hook(fmt.Sprintf(`{"cwd":"/%s","pid":7,"status":"idle"}`, status)).want(200, false)
	}
	if got := h.presenceOf(keys[wire.StatusDND].Public()).status; got != wire.StatusDND {
		t.Errorf("a hook lifted dnd after the restart: %s", got)
	}
	if got := h.presenceOf(keys[wire.StatusWorking].Public()).status; got != wire.StatusIdle {
		t.Errorf("a hook could not say idle after the restart: %s", got)
	}
}

// dnd is on disk when it is acked, not only when the connection ends.
func TestDoNotDisturbSurvivesBeingKilled(t *testing.T) {
	h := newHouse(t)
	key := identity.NewKey()
	ann := h.talker("ann", key)
	for _, status := range []string{wire.StatusDND, wire.StatusIdle} {
		ask[*wire.Ack](ann, &wire.SetStatus{Status: status})
		leases, err := h.db.Leases(t.Context())
		if err != nil || len(leases) != 1 || leases[0].Status != status {
			t.Errorf("leases on disk: %+v, %v; want one that is %s", leases, err, status)
		}
	}
}

// presenceOf returns the presence of a session key.
func (h *house) presenceOf(key string) *presence {
	h.t.Helper()
	h.mu.RLock()
	defer h.mu.RUnlock()
	p := h.rooms[h.mesh.ID].bySession[key]
	if p == nil {
		h.t.Fatalf("nobody is here as %s", key)
	}
	return p
}
