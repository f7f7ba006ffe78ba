package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
)

// Storm counts handshakes.
type Storm struct {
	Done    int            `json:"done"`
	Failed  map[string]int `json:"failed"`  // by error
	Unclean int            `json:"unclean"` // of those done, where the goodbye was not answered
}

// Handshakes connects and leaves, over and over, several at a time: TCP, upgrade,
// hello, its answer, and the closing handshake. Each of those at a time is a
// member of its own; with Session it comes as a new session of its own each time.
func Handshakes(ctx context.Context, t *Target, o Options) (*Result, error) {
	members, err := t.enlist(ctx, o.Concurrency, o.Say)
	if err != nil {
		return nil, err
	}
	s := &storm{options: o}
	s.left.Store(1 << 62)
	if o.Messages > 0 {
		s.left.Store(int64(o.Messages))
	}
	m := t.measure(ctx)
	s.until = m.start + o.Duration
	if o.Messages > 0 {
		s.until = never
	}
	stop := watch(o.Say, func(elapsed time.Duration) string {
		return fmt.Sprintf("handshakes: %d in %.0f s", s.done.Load(), elapsed.Seconds())
	})
	var busy sync.WaitGroup
	visitors := make([]visitor, o.Concurrency)
	for i := range visitors {
		visitors[i] = visitor{storm: s, id: members[i], failed: map[string]int{}}
		busy.Go(func() { visitors[i].visit(ctx) })
	}
	busy.Wait()
	stop()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := m.result(ctx, "handshakes", int(s.done.Load()), "handshakes", now())
	s.report(r, visitors)
	return r, nil
}

// storm is a run of Handshakes.
type storm struct {
	options Options
	done    atomic.Int64
	left    atomic.Int64
	until   time.Duration
}

// visitor is one member that comes and goes.
type visitor struct {
	storm   *storm
	id      peer.Identity
	last    time.Time // what its latest hello was signed for
	took    samples
	failed  map[string]int
	unclean int
}

func (v *visitor) visit(ctx context.Context) {
	for now() < v.storm.until && v.storm.left.Add(-1) >= 0 && ctx.Err() == nil {
		o := as(v.id)
		if v.storm.options.Session {
			o.Session = identity.NewKey()
		}
		start := now()
		c, err := dial(ctx, o, v.instant())
		if err != nil {
			v.failed[err.Error()]++
			continue
		}
		v.took.add(now() - start)
		if c.close() != nil {
			v.unclean++
		}
		v.storm.done.Add(1)
	}
}

// instant is now, or a millisecond after the last time: two hellos that one key
// signs for the same millisecond would be a replay.
func (v *visitor) instant() time.Time {
	at := time.Now()
	if next := v.last.Add(time.Millisecond); at.Before(next) {
		at = next
	}
	v.last = at
	return at
}

func (s *storm) report(r *Result, visitors []visitor) {
	var took samples
	r.Handshakes = &Storm{Failed: map[string]int{}}
	for _, v := range visitors {
		took = append(took, v.took...)
		r.Handshakes.Unclean += v.unclean
		for why, n := range v.failed {
			r.Handshakes.Failed[why] += n
		}
	}
	r.Handshakes.Done = int(s.done.Load())
	r.Handshake = took.latency()
}
