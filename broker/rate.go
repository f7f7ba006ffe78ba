package broker

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"meshbox/broker/wire"
)

// buckets hold one token bucket per key. Those that are full are forgotten,
// which is what a new one is.
type buckets struct {
	limit rate.Limit // tokens per second; rate.Inf: no limit
	burst int
	most  int // buckets at once; 0: as many as there are keys

	mu    sync.Mutex
	byKey map[string]*rate.Limiter
}

func newBuckets(limit rate.Limit, burst, most int) *buckets {
	return &buckets{limit: limit, burst: burst, most: most, byKey: map[string]*rate.Limiter{}}
}

// take takes a token of key. If there is none, or no room for another bucket, it
// takes nothing and returns how long to wait.
func (s *buckets) take(key string, now time.Time) (wait time.Duration) {
	if s.limit == rate.Inf {
		return 0
	}
	b := s.bucket(key, now)
	if b == nil {
		return time.Duration(float64(time.Second) / float64(s.limit))
	}
	r := b.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// debt is how long key has to wait until it has a token, which is not taken, and
// whether any of its tokens are missing.
func (s *buckets) debt(key string, now time.Time) (wait time.Duration, owes bool) {
	s.mu.Lock()
	b := s.byKey[key]
	s.mu.Unlock()
	if b == nil {
		return 0, false
	}
	tokens := b.TokensAt(now)
	return time.Duration(max(0, 1-tokens) / float64(s.limit) * float64(time.Second)), tokens < float64(s.burst)
}

// charge takes a token of key even if there is none: then it is owed, but not more of
// them than are paid back within most.
func (s *buckets) charge(key string, now time.Time, most time.Duration) {
	b := s.bucket(key, now)
	if b == nil {
		return
	}
	if owed := -b.TokensAt(now) / float64(s.limit) * float64(time.Second); owed < float64(most) {
		b.ReserveN(now, 1)
	}
}

// bucket is that of key, nil if there is none and no room for it.
func (s *buckets) bucket(key string, now time.Time) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.byKey[key]
	if b != nil {
		return b
	}
	if s.most > 0 && len(s.byKey) >= s.most {
		if s.forget(now); len(s.byKey) >= s.most {
			return nil
		}
	}
	b = rate.NewLimiter(s.limit, s.burst)
	s.byKey[key] = b
	return b
}

// forgetIdle drops the buckets that are full.
func (s *buckets) forgetIdle(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
}

// forget is forgetIdle; mu is held.
func (s *buckets) forget(now time.Time) {
	for key, b := range s.byKey {
		if b.TokensAt(now) >= float64(s.burst) {
			delete(s.byKey, key)
		}
	}
}

// sendRates hold one token bucket per member, for all its connections together:
// an agent in a loop must not drown the others (protocol section 5). A bucket
// outlives the connection, or reconnecting would fill it.
type sendRates struct{ *buckets }

func newSendRates(l Limits) *sendRates {
	limit := rate.Limit(l.SendRate) // sends per second
	if l.SendRate <= 0 {
		limit = rate.Inf
	}
	return &sendRates{newBuckets(limit, l.SendBurst, 0)}
}

// take counts one send of a member. Its error is a *tooFast that says how long to
// wait.
func (s *sendRates) take(memberID string, now time.Time) error {
	if wait := s.buckets.take(memberID, now); wait > 0 {
		return &tooFast{&refusal{wire.RateLimit, fmt.Sprintf("slow down, try again in %.0f s", math.Ceil(wait.Seconds()))}, wait}
	}
	return nil
}
