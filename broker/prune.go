package broker

import (
	"context"
	"time"

	"meshbox/broker/store"
)

// prune deletes what was delivered long enough ago, once a minute until ctx ends.
// It has a goroutine of its own, because a pass rests most of the time so that
// senders do not notice it, and the sweeper must not wait for that.
func (b *Broker) prune(ctx context.Context) {
	keep := store.Retention{Age: b.cfg.Limits.KeepDelivered, Rows: b.cfg.Limits.KeepDeliveries}
	if keep == (store.Retention{}) {
		return
	}
	pruner := b.db.NewPruner(keep, func(n int) { b.metrics.pruned.Add(float64(n)) })
	tick := time.NewTicker(b.cfg.Limits.PruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := pruner.Pass(ctx, b.aged(now, now.Sub(b.started)))
			if err != nil && ctx.Err() == nil {
				b.log.Warn("sweep failed", "at", "prune", "err", err)
			}
		}
	}
}
