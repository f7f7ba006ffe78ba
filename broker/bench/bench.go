package bench

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Options are what to do. A scenario looks at those it needs.
type Options struct {
	Duration time.Duration // of the measured part
	Messages int           // instead: as many messages in total, or posts, or handshakes; 0: by Duration
	Size     int           // bytes of a message's body, before base64

	Pairs    int     // senders, each with a recipient of its own
	InFlight int     // messages of one pair under way at a time
	Rate     float64 // messages or posts per second in total; 0: as fast as it goes

	Members     int  // recipients of a post
	Batch       int  // messages sent on one socket without waiting
	Connections int  // idle ones
	Owners      int  // members the idle connections belong to
	Concurrency int  // handshakes at a time
	Session     bool // session hellos instead of plain ones

	Say func(progress string) // called often, by one goroutine at a time or several
}

// Result is what one scenario found. What it does not measure is absent.
type Result struct {
	Scenario string  `json:"scenario"`
	Seconds  float64 `json:"seconds"` // of the measured part

	PerSecond  float64  `json:"per_second"` // of Unit
	Unit       string   `json:"unit"`       // messages, posts, handshakes, connections or starts
	Ack        *Latency `json:"ack_ms,omitempty"`
	EndToEnd   *Latency `json:"end_to_end_ms,omitempty"` // send → push read
	ToAll      *Latency `json:"to_all_ms,omitempty"`     // post → push read by the last recipient
	Handshake  *Latency `json:"handshake_ms,omitempty"`  // connect → hello_ack read
	Ready      *Latency `json:"ready_ms,omitempty"`      // start of the process → /health/ready answers 200
	Counts     *Counts  `json:"counts,omitempty"`
	Idle       *Idle    `json:"idle,omitempty"`
	Handshakes *Storm   `json:"handshakes,omitempty"`

	ServerMemory *int64   `json:"server_memory_bytes"` // at the end; null: unknown
	ServerCPU    *float64 `json:"server_cpu_seconds"`  // during the measured part; null: unknown
	OwnCPU       *float64 `json:"bench_cpu_seconds"`   // likewise, of this program

	Stored     int      `json:"stored_messages"`             // in the private broker's file before
	ComparedTo *float64 `json:"compared_to_empty,omitempty"` // per_second on this file to that on an empty one, means of two runs
}

// Kept reports whether the broker kept its promises: nothing acked was lost and
// nothing came out of order.
func (r *Result) Kept() bool { return r.Counts == nil || r.Counts.Kept() }

// Scenario runs one kind of load against a target.
type Scenario func(context.Context, *Target, Options) (*Result, error)

// Scenarios are those that run against any broker, by name.
var Scenarios = map[string]Scenario{
	"pairs":      Pairs,
	"fanout":     Fanout,
	"handshakes": Handshakes,
	"pipeline":   Pipeline,
	"idle":       IdleConnections,
}

// drainTime is for what is under way when nothing moves any more; tests have less.
var drainTime = 20 * time.Second

const tellEvery = 200 * time.Millisecond // progress

// began is the zero of all durations since; they are monotonic.
var began = time.Now()

func now() time.Duration { return time.Since(began) }

// watch calls say with what line returns, until the returned function is called.
func watch(say func(string), line func(elapsed time.Duration) string) (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for start := time.Now(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
				say(line(time.Since(start)))
			}
		}
	}()
	return func() { close(done); <-gone }
}

// measure is the clock and the meters of a measured part.
type measure struct {
	server, own reading
	start       time.Duration
}

// reading is a meter, and what it showed at the start; nil if it does not work.
type reading struct {
	meter  Meter
	before *Usage
}

func begin(ctx context.Context, m Meter) reading {
	if m != nil {
		if u, err := m(ctx); err == nil {
			return reading{m, &u}
		}
	}
	return reading{}
}

// end returns what was used since the start, and the memory now; nil if unknown.
func (r reading) end(ctx context.Context) (cpu *float64, memory *int64) {
	if r.before == nil {
		return nil, nil
	}
	u, err := r.meter(ctx)
	if err != nil {
		return nil, nil
	}
	used := (u.CPU - r.before.CPU).Seconds()
	return &used, &u.Memory
}

func (t *Target) measure(ctx context.Context) *measure {
	return &measure{server: begin(ctx, t.Usage), own: begin(ctx, Process(os.Getpid())), start: now()}
}

// result is that of the measured part, in which n of unit were done until end.
func (m *measure) result(ctx context.Context, scenario string, n int, unit string, end time.Duration) *Result {
	took := (end - m.start).Seconds()
	r := &Result{Scenario: scenario, Seconds: took, Unit: unit, PerSecond: float64(n) / took}
	r.OwnCPU, _ = m.own.end(ctx)
	r.ServerCPU, r.ServerMemory = m.server.end(ctx)
	return r
}

// brokenOff makes a sentence of why a connection ended in the middle of a run.
func brokenOff(who string, err error) error {
	return fmt.Errorf("the connection of %s ended: %w", who, err)
}
