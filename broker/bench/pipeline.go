package bench

import (
	"context"
	"fmt"
	"time"
)

// Pipeline has one sender write a batch of messages on one socket without
// waiting for anything, and checks that acks and pushes come in that order. Then
// it does so again. Latencies of the last of a batch include those of all before.
func Pipeline(ctx context.Context, t *Target, o Options) (*Result, error) {
	members, err := t.enlist(ctx, 2, o.Say)
	if err != nil {
		return nil, err
	}
	o.Pairs = 1
	load, err := newPairs(ctx, members, o)
	if err != nil {
		return nil, err
	}
	defer load.hangUp()
	batches := 0
	m := t.measure(ctx)
	stop := watch(o.Say, func(elapsed time.Duration) string {
		return fmt.Sprintf("pipeline: %d messages in %.0f s", load.completed.Load(), elapsed.Seconds())
	})
	for more := true; more && err == nil; {
		err = load.burst(ctx, o.Batch)
		batches++
		more = o.Messages == 0 && now()-m.start < o.Duration || batches*o.Batch < o.Messages
	}
	stop()
	if err != nil {
		return nil, err
	}
	r := m.result(ctx, "pipeline", int(load.completed.Load()), "messages", time.Duration(load.last.Load()))
	load.report(r)
	return r, nil
}

// burst sends n messages of each pair at once, and waits for them.
func (l *pairs) burst(ctx context.Context, n int) error {
	return l.round(ctx, Options{Messages: n, InFlight: n})
}
