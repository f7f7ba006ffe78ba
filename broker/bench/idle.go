package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
)

// Idle is what connections cost that say nothing.
type Idle struct {
	Connections   int      `json:"connections"`
	Members       int      `json:"members"`              // that they belong to
	Broken        int      `json:"broken"`               // of them, since
	MemoryBefore  *int64   `json:"memory_before_bytes"`  // of the server, without them; null: unknown
	MemoryPeak    *int64   `json:"memory_peak_bytes"`    // right after the last one came
	MemorySettled *int64   `json:"memory_settled_bytes"` // when it fell no more
	Each          *float64 `json:"kib_each"`             // settled: what one connection costs
	EachPeak      *float64 `json:"kib_each_peak"`
}

const (
	settleLook = time.Second      // how often the memory is looked at
	settleCalm = 10 * time.Second // it has settled when it did not fall for so long
)

// IdleConnections opens connections that stay and say nothing, as sessions of a
// few members, and measures the memory of the server. Duration bounds how long
// it waits for the memory to settle.
func IdleConnections(ctx context.Context, t *Target, o Options) (*Result, error) {
	if err := checkFiles(o.Connections); err != nil {
		return nil, err
	}
	members, err := t.enlist(ctx, o.Owners, o.Say)
	if err != nil {
		return nil, err
	}
	options := make([]peer.Options, o.Connections)
	for i := range options {
		options[i] = as(members[i%o.Owners])
		options[i].Session = identity.NewKey()
	}
	idle := &Idle{Connections: o.Connections, Members: o.Owners}
	if idle.MemoryBefore, err = settle(ctx, t.Usage, o, "before"); err != nil {
		return nil, err
	}
	var broken atomic.Int64
	m := t.measure(ctx)
	clients, err := arrive(ctx, options, o.Say, &broken)
	defer cut(clients)
	if err != nil {
		return nil, err
	}
	r := m.result(ctx, "idle", o.Connections, "connections", now())
	idle.MemoryPeak = r.ServerMemory
	if idle.MemorySettled, err = settle(ctx, t.Usage, o, "with the connections"); err != nil {
		return nil, err
	}
	idle.Broken = int(broken.Load())
	idle.Each, idle.EachPeak = idle.each(idle.MemorySettled), idle.each(idle.MemoryPeak)
	r.ServerMemory, r.Idle = idle.MemorySettled, idle
	return r, nil
}

// arrive connects, and has every connection read from its hello on, for the
// broker's pings and for events.
func arrive(ctx context.Context, options []peer.Options, say func(string), broken *atomic.Int64) ([]*client, error) {
	clients := make([]*client, len(options))
	err := each(ctx, len(options), say, "connections", func(i int) error {
		c, err := dial(ctx, options[i], time.Now())
		if err != nil {
			return err
		}
		clients[i] = c
		go func() {
			_ = c.serve(handlers{ack: unasked, push: c.settle})
			broken.Add(1)
		}()
		return nil
	})
	return clients, err
}

// settle waits until the memory of the server falls no more, at most for
// o.Duration, and returns it.
func settle(ctx context.Context, meter Meter, o Options, when string) (*int64, error) {
	if meter == nil {
		return nil, nil
	}
	look := time.NewTicker(settleLook)
	defer look.Stop()
	var least int64
	for start, fell := now(), now(); now()-start < o.Duration && now()-fell < settleCalm; {
		u, err := meter(ctx)
		if err != nil {
			return nil, nil
		}
		if least == 0 || u.Memory < least-least/100 {
			least, fell = u.Memory, now()
		}
		o.Say(fmt.Sprintf("idle: the server has %.1f MiB %s, waiting for it to settle", float64(u.Memory)/(1<<20), when))
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	u, err := meter(ctx)
	if err != nil {
		return nil, nil
	}
	return &u.Memory, nil
}

// each is what one connection costs, in KiB, when the server has so much.
func (i *Idle) each(memory *int64) *float64 {
	if memory == nil || i.MemoryBefore == nil {
		return nil
	}
	kib := float64(*memory-*i.MemoryBefore) / float64(i.Connections) / 1024
	return &kib
}
