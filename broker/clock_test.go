package broker

import (
	"testing"
	"time"

	"meshbox/broker/peer"
)

const day = 24 * time.Hour

func TestLeapsOfTheClockAgeNothing(t *testing.T) {
	const hold, year = 7 * day, 365 * day
	type step struct {
		up, wall time.Duration // since the first look
		behind   time.Duration // wanted
		leapt    time.Duration // wanted
	}
	for name, steps := range map[string][]step{
		"a clock that is right":           {{time.Minute, time.Minute, 0, 0}, {20 * day, 20 * day, 0, 0}},
		"small steps are believed":        {{time.Minute, time.Minute + 59*time.Minute, 0, 0}, {2 * time.Minute, time.Minute, 0, 0}},
		"put right from long ago":         {{time.Minute, year, year, year - time.Minute}, {2 * time.Minute, year + time.Minute, year, 0}},
		"its messages had their time":     {{time.Minute, year, year, 0}, {hold, year + hold, year, 0}, {hold + 2*time.Minute, year + hold, 0, 0}},
		"forward by mistake, and back":    {{time.Minute, year, year, 0}, {2 * time.Minute, 2 * time.Minute, 0, time.Minute - year}},
		"back by mistake, and forward":    {{time.Minute, -year, 0, -year - time.Minute}, {2 * time.Minute, 2 * time.Minute, 0, year + time.Minute}},
		"asleep for three nights":         {{16 * time.Hour, day, 8 * time.Hour, 8 * time.Hour}, {32 * time.Hour, 2 * day, 16 * time.Hour, 8 * time.Hour}, {2 * day, 3 * day, day, 8 * time.Hour}},
		"the nights of a week, no longer": {{16 * time.Hour, day, 8 * time.Hour, 8 * time.Hour}, {8 * day, 8*day + 8*time.Hour, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &ageClock{hold: hold}
			began := time.Now()
			a.look(began, 0)
			for i, s := range steps {
				aged, leapt := a.look(began.Add(s.wall), s.up)
				behind := began.Add(s.wall).Round(0).Sub(aged)
				if (behind-s.behind).Abs() > 2*time.Minute || s.leapt != 0 && leapt != s.leapt {
					t.Errorf("step %d: %v behind after a leap of %v, want %v and %v", i+1, behind, leapt, s.behind, s.leapt)
				}
			}
		})
	}
}

// Outcome: a leap of the clock expires nothing. What waited before it has its
// whole time, and expires then.
func TestClockThatLeapsExpiresNothing(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "acked before the leap")
	ttl, now := h.cfg.Limits.MessageTTL, time.Now()
	leapt := now.Add(365 * day)
	h.tidy(now, settleIn)
	for _, later := range []time.Duration{time.Minute, time.Hour, ttl - time.Minute} {
		if h.tidy(leapt.Add(later), settleIn+later); h.queueDepth() != 1 {
			t.Fatalf("expired %v after the leap", later)
		}
	}
	if h.tidy(leapt.Add(ttl+2*time.Minute), settleIn+ttl+2*time.Minute); h.queueDepth() != 0 {
		t.Error("it never expires")
	}
}

// Outcome: a server whose clock is far ahead when it starts expires nothing until
// there was time to put it right.
func TestClockThatIsPutRightAfterTheStartExpiresNothing(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "stored in an earlier run")
	now := time.Now()
	h.tidy(now.Add(365*day), time.Minute)
	h.tidy(now.Add(365*day), settleIn-time.Minute)
	h.tidy(now.Add(settleIn), settleIn)
	h.dial(bob, peer.Options{}).wantPush("stored in an earlier run")
}
