package identity

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sigNumber returns a distinct text of a signature's shape.
func sigNumber(n int) string { return fmt.Sprintf("%0128x", n) }

func wantRemember(t *testing.T, g *ReplayGuard, sig string, now time.Time, want bool) {
	t.Helper()
	if got := g.Remember(sig, now); got != want {
		t.Errorf("remember at %d ms: %v, want %v", now.UnixMilli()-at, got, want)
	}
}

// size returns how many signatures g holds.
func (g *ReplayGuard) size() int { return len(g.young) + len(g.old) }

func TestReplayIsRefused(t *testing.T) {
	g := NewReplayGuard()
	wantRemember(t, g, sigNumber(1), atTime(), true)
	wantRemember(t, g, sigNumber(1), atTime(), false)
	wantRemember(t, g, sigNumber(2), atTime(), true)
	wantRemember(t, g, sigNumber(1), atTime().Add(MaxSkew), false)
}

// TestReplayIsRefusedWhileTheHelloVerifies: at any phase of the generations, and with other hellos
// arriving or none, a hello whose clock is as far ahead as allowed is known until it no longer
// verifies, and then for the time a handshake may take.
func TestReplayIsRefusedWhileTheHelloVerifies(t *testing.T) {
	for _, step := range []time.Duration{time.Second, 10 * time.Second, 2 * MaxSkew} {
		for phase := 0; phase < 300; phase += 3 {
			g := NewReplayGuard()
			g.Remember(sigNumber(0), atTime())
			accepted := atTime().Add(time.Duration(phase)*time.Second + 999*time.Microsecond)
			h := aliceHello()
			h.Timestamp = float64(accepted.Add(MaxSkew).UnixMilli())
			wantRemember(t, g, sigNumber(1), accepted, true)
			n := 2
			for now := accepted; checkSkew(h.Timestamp, now) == nil; now = now.Add(step) {
				wantRemember(t, g, sigNumber(1), now.Add(10*time.Second), false)
				wantRemember(t, g, sigNumber(n), now, true)
				n++
			}
		}
	}
}

// TestReplayWindow: whenever in its generation a signature comes, it is kept for twice MaxSkew and
// 10 s at least.
func TestReplayWindow(t *testing.T) {
	const window = 130 * time.Second
	for phase := time.Duration(0); phase <= window; phase += time.Second / 2 {
		g := NewReplayGuard()
		accepted := atTime().Add(phase)
		wantRemember(t, g, sigNumber(0), atTime(), true)
		wantRemember(t, g, sigNumber(1), accepted, true)
		for n := range int(window / time.Second) {
			g.Remember(sigNumber(n+2), accepted.Add(time.Duration(n)*time.Second))
		}
		wantRemember(t, g, sigNumber(1), accepted.Add(window), false)
	}
}

func TestReplayIsForgottenInTheEnd(t *testing.T) {
	g := NewReplayGuard()
	wantRemember(t, g, sigNumber(1), atTime(), true)
	later := atTime().Add(2 * time.Duration(replayWindow) * time.Millisecond)
	wantRemember(t, g, sigNumber(2), later, true)
	if g.size() != 1 {
		t.Errorf("%d signatures held, want only the new one", g.size())
	}
	wantRemember(t, g, sigNumber(1), later, true)
}

func TestForgetAllowsARepetition(t *testing.T) {
	g := NewReplayGuard()
	wantRemember(t, g, sigNumber(1), atTime(), true)
	g.Forget(sigNumber(1))
	wantRemember(t, g, sigNumber(1), atTime(), true)

	next := atTime().Add(time.Duration(replayWindow) * time.Millisecond)
	wantRemember(t, g, sigNumber(2), next, true) // turns 1 into a signature of the old generation
	wantRemember(t, g, sigNumber(1), next, false)
	g.Forget(sigNumber(1))
	wantRemember(t, g, sigNumber(1), next, true)
}

func TestWhatIsNoSignatureIsNeverNew(t *testing.T) {
	g := NewReplayGuard()
	for _, c := range malformedHex(strings.Repeat("a", 128)) {
		wantRemember(t, g, c.hex, atTime(), false)
		g.Forget(c.hex)
	}
	if g.size() != 0 {
		t.Errorf("%d signatures held, want none", g.size())
	}
}

// TestReplayAfterTheClockWasSetBack: old hellos verify again then, and must still be known.
func TestReplayAfterTheClockWasSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Second, time.Minute, 2 * time.Minute, time.Hour, 365 * 24 * time.Hour} {
		g := NewReplayGuard()
		wantRemember(t, g, sigNumber(1), atTime(), true)
		wantRemember(t, g, sigNumber(1), atTime().Add(-back), false)
	}
}

// TestReplayAfterALeapForwardAndBack: a clock that is wrong for a moment makes nothing forgotten.
func TestReplayAfterALeapForwardAndBack(t *testing.T) {
	const year, minute = 365 * 24 * 3600 * 1000, 60 * 1000
	g := NewReplayGuard()
	begun := atTime().UnixMilli()
	for i, at := range []struct{ wall, up int64 }{{0, 0}, {year, 1}, {year + 1000, 1000}, {2000, 2000}} {
		if !g.remember(sigNumber(i+1), begun+at.wall, at.up) {
			t.Errorf("signature %d is taken for a replay", i+1)
		}
	}
	if g.remember(sigNumber(1), begun+3000, 3000) {
		t.Error("a replay passed after the clock was put right")
	}
	if !g.remember(sigNumber(1), begun+10*minute, 10*minute) {
		t.Error("it is never forgotten")
	}
}

// TestReplayAfterASmallSetBack: the old generation's hellos verify again for longer then, so it must
// not be dropped on the new clock's schedule.
func TestReplayAfterASmallSetBack(t *testing.T) {
	after := func(d time.Duration) time.Time { return atTime().Add(d) }
	window := time.Duration(replayWindow) * time.Millisecond
	g := NewReplayGuard()
	wantRemember(t, g, sigNumber(1), after(0), true)
	wantRemember(t, g, sigNumber(2), after(window-time.Second), true)
	wantRemember(t, g, sigNumber(3), after(window), true) // 2 is of the old generation now
	wantRemember(t, g, sigNumber(4), after(window/2), true)
	wantRemember(t, g, sigNumber(2), after(window/2+window), false) // at most MaxSkew after it was accepted
}

func TestReplayMemoryIsBounded(t *testing.T) {
	const perSecond, window = 10, int(replayWindow / 1000)
	const limit = perSecond * 2 * (window + 1)
	for _, start := range []time.Time{atTime(), atTime().Add(-365 * 24 * time.Hour)} { // the second: set back by a year
		g := NewReplayGuard()
		g.Remember(sigNumber(0), atTime())
		most := 0
		for i := range 20 * window * perSecond {
			g.Remember(sigNumber(i+1), start.Add(time.Duration(i)*time.Second/perSecond))
			most = max(most, g.size())
		}
		if most > limit {
			t.Errorf("%d signatures held at a time, want at most %d", most, limit)
		}
	}
}

func TestConcurrentReplaysPassOnce(t *testing.T) {
	const signatures, tries = 200, 8
	g := NewReplayGuard()
	var wg sync.WaitGroup
	var accepted [signatures]atomic.Int32
	for try := range tries {
		wg.Go(func() {
			for i := range signatures {
				// Clocks read by different goroutines come in any order.
				if g.Remember(sigNumber(i), atTime().Add(time.Duration(i-try)*time.Millisecond)) {
					accepted[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range accepted {
		if n := accepted[i].Load(); n != 1 {
			t.Errorf("signature %d accepted %d times, want once", i, n)
		}
	}
}
