package broker

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"meshbox/broker/wire"
)

// sendRates hold one token bucket per member, for all its connections together:
// an agent in a loop must not drown the others (protocol section 5). A bucket
// outlives the connection, or reconnecting would fill it.
type sendRates struct {
	limit rate.Limit // sends per second; rate.Inf: no limit
	burst int

	mu       sync.Mutex
	byMember map[string]*rate.Limiter
}

func newSendRates(l Limits) *sendRates {
	limit := rate.Limit(l.SendRate)
	if l.SendRate <= 0 {
		limit = rate.Inf
	}
	return &sendRates{limit: limit, burst: l.SendBurst, byMember: map[string]*rate.Limiter{}}
}

// take counts one send of a member. Its error is a refusal that says how long to
// wait.
func (s *sendRates) take(memberID string, now time.Time) error {
	if s.limit == rate.Inf {
		return nil
	}
	r := s.bucket(memberID).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &refusal{wire.RateLimit, fmt.Sprintf("slow down, try again in %.0f s", math.Ceil(wait.Seconds()))}
}

func (s *sendRates) bucket(memberID string) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.byMember[memberID]
	if b == nil {
		b = rate.NewLimiter(s.limit, s.burst)
		s.byMember[memberID] = b
	}
	return b
}

// forgetIdle drops the buckets that are full, which is what a new one is.
func (s *sendRates) forgetIdle(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, b := range s.byMember {
		if b.TokensAt(now) >= float64(s.burst) {
			delete(s.byMember, id)
		}
	}
}
