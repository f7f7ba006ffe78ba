package broker

import (
	"sync"
	"time"
)

// What lasts while the broker runs (pings, writes, leases, redelivery, rates) goes
// by the monotonic clock, which a Time of this process carries. What is stored
// grows old by the wall clock, and that can be wrong: a machine without a battery
// begins in the past, NTP mends it in one step, a laptop sleeps. An ageClock
// keeps such a leap from making everything old at once:
//
//   - nothing grows old in the first settleIn of a process: the clock of a machine
//     that just started is often put right only then;
//   - when the wall clock moves by leapLeast or more against the monotonic one,
//     things are as old as without that for the next hold, which is how long
//     messages wait. So what was stored before has its whole time.
//
// Rejected: to believe neither clock and count each message's age while running,
// which costs a write per message and day.
type ageClock struct {
	hold time.Duration // how long a leap is left out

	mu    sync.Mutex
	begun bool
	wall  time.Time     // at the last look
	up    time.Duration // likewise
	leaps []leap
}

// leap is a step of the wall clock alone.
type leap struct {
	by    time.Duration // negative: it was set back
	until time.Duration // left out until then, since the start
}

const (
	settleIn  = 10 * time.Minute
	leapLeast = time.Hour // smaller steps are believed
)

// look returns the time by which what is stored is old, and by how much the wall
// clock leapt since the last look, 0 for nothing to speak of. wall is what the
// wall clock shows, up how long the process runs by the monotonic one.
func (a *ageClock) look(wall time.Time, up time.Duration) (aged time.Time, leapt time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wall = wall.Round(0) // without its monotonic reading
	if a.begun {
		leapt = wall.Sub(a.wall) - (up - a.up)
	}
	a.begun, a.wall, a.up = true, wall, up
	if leapt.Abs() < leapLeast {
		leapt = 0
	} else {
		a.leaps = append(a.leaps, leap{leapt, up + a.hold})
	}
	return wall.Add(-a.behind(up)), leapt
}

// behind is the sum of the leaps that are left out: one back undoes one forward.
func (a *ageClock) behind(up time.Duration) (sum time.Duration) {
	kept := a.leaps[:0]
	for _, l := range a.leaps {
		if l.until > up {
			kept = append(kept, l)
			sum += l.by
		}
	}
	a.leaps = kept
	return max(sum, 0)
}

// aged is the time by which what is stored is old at now.
func (b *Broker) aged(now time.Time, up time.Duration) time.Time {
	aged, leapt := b.ages.look(now, up)
	if leapt != 0 {
		b.log.Warn("the clock of this machine leapt; what waits does not grow old by that",
			"by", leapt.Round(time.Second).String(), "for", b.cfg.Limits.MessageTTL.String())
	}
	return aged
}
