package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"meshbox/broker/peer"
)

// Pairs has each of a number of senders write to a recipient of its own, a
// direct message at a time: the next one leaves when the last one was acked to
// the sender, read by the recipient and acknowledged by it. That is what counts
// as one message.
//
// With a rate, messages are due at regular instants instead, whatever became of
// those before, and latencies count from then: a broker that falls behind must
// not look fast because nobody could ask it more.
func Pairs(ctx context.Context, t *Target, o Options) (*Result, error) {
	members, err := t.enlist(ctx, 2*o.Pairs, o.Say)
	if err != nil {
		return nil, err
	}
	load, err := newPairs(ctx, members, o)
	if err != nil {
		return nil, err
	}
	defer load.hangUp()
	// A first message costs more than the next: its sender earns a lease.
	if err := load.round(ctx, Options{Messages: o.Pairs, InFlight: 1}); err != nil {
		return nil, err
	}
	before := load.reset()
	m := t.measure(ctx)
	stop := watch(o.Say, load.progress)
	err = load.round(ctx, o)
	stop()
	if err != nil {
		return nil, err
	}
	r := m.result(ctx, "pairs", int(load.completed.Load()), "messages", time.Duration(load.last.Load()))
	load.report(r)
	r.Counts.Reordered += before.Reordered // what was lost before is still missing
	return r, nil
}

// pairs is a run of Pairs.
type pairs struct {
	run    run
	all    []*pair
	broken chan error // has room for each connection

	completed atomic.Int64
	last      atomic.Int64 // when the last one was completed
	moved     atomic.Int64 // when anything was answered last
	underway  atomic.Int64

	// of the round
	left     atomic.Int64  // how many may still be sent
	until    time.Duration // when the last may be sent
	paced    bool
	inFlight int
}

// pair is a sender, its recipient, and what is under way between them.
type pair struct {
	load     *pairs
	number   int
	from, to *client

	mu      sync.Mutex // also keeps the order of numbers on the socket
	frame   *template
	out     outbound
	in      inbound
	settled []bool          // client_ack written, by number
	going   int             // messages under way
	overdue []time.Duration // when those were due that found no room
}

// never is later than all.
const never = time.Duration(1<<63 - 1)

func newPairs(ctx context.Context, members []peer.Identity, o Options) (*pairs, error) {
	members = members[:2*o.Pairs]
	options := make([]peer.Options, len(members))
	for i, id := range members {
		options[i] = as(id)
	}
	clients, err := connect(ctx, options, o.Say)
	if err != nil {
		return nil, err
	}
	load := &pairs{run: newRun(), broken: make(chan error, len(members))}
	for i := range o.Pairs {
		from, to := members[2*i], members[2*i+1]
		p := &pair{load: load, number: i, from: clients[2*i], to: clients[2*i+1]}
		p.frame = newTemplate(load.run, i, to.Key.Public(), o.Size)
		load.all = append(load.all, p)
		go load.serve(from, p.from, handlers{ack: p.answered, push: p.from.settle})
		go load.serve(to, p.to, handlers{ack: unasked, push: p.pushed})
	}
	return load, nil
}

func (l *pairs) serve(who peer.Identity, c *client, h handlers) {
	l.broken <- brokenOff(who.DisplayName, c.serve(h))
}

func (l *pairs) hangUp() {
	for _, p := range l.all {
		cut([]*client{p.from, p.to})
	}
}

// round sends as many messages as o says, or for as long, and returns when all
// are done, or when nothing moves any more.
func (l *pairs) round(ctx context.Context, o Options) error {
	l.left.Store(1 << 62)
	l.until, l.paced, l.inFlight = now()+o.Duration, o.Rate > 0, o.InFlight
	if o.Messages > 0 {
		l.left.Store(int64(o.Messages))
		l.until = never
	}
	l.last.Store(int64(now()))
	l.moved.Store(int64(now()))
	var busy sync.WaitGroup
	for i, p := range l.all {
		if l.paced {
			busy.Go(func() { p.pace(ctx, float64(len(l.all))/o.Rate, float64(i)/o.Rate) })
		} else {
			p.begin()
		}
	}
	err := l.wait(ctx, &busy)
	l.left.Store(0)
	return err
}

// wait returns when the round is over.
func (l *pairs) wait(ctx context.Context, pacers *sync.WaitGroup) error {
	paced := make(chan struct{})
	go func() { pacers.Wait(); close(paced) }()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for over := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.broken:
			return err
		case <-paced:
			over, paced = true, nil
		case <-look.C:
			stuck := now()-time.Duration(l.moved.Load()) > drainTime
			if over && (l.underway.Load() == 0 || stuck) {
				return nil
			}
		}
	}
}

// reset forgets how it went, and returns it. Nothing may be under way. Numbers
// go on: what comes of the messages before is known for a duplicate.
func (l *pairs) reset() (before Counts) {
	for _, p := range l.all {
		p.mu.Lock()
		before.add(total(&p.out, &p.in))
		p.out.acks, p.in.trips, p.out.counts, p.in.counts = nil, nil, Counts{}, Counts{}
		p.mu.Unlock()
	}
	l.completed.Store(0)
	return before
}

func (l *pairs) report(r *Result) {
	var counts Counts
	var acks, trips samples
	for _, p := range l.all {
		p.mu.Lock()
		counts.add(total(&p.out, &p.in))
		acks, trips = append(acks, p.out.acks...), append(trips, p.in.trips...)
		p.mu.Unlock()
	}
	r.Counts, r.Ack, r.EndToEnd = &counts, acks.latency(), trips.latency()
}

func (l *pairs) progress(elapsed time.Duration) string {
	n := l.completed.Load()
	return fmt.Sprintf("pairs: %d messages in %.0f s, %.0f/s", n, elapsed.Seconds(), float64(n)/elapsed.Seconds())
}

// begin puts as many messages under way as may be.
func (p *pair) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.going < p.load.inFlight && p.send(now()) {
	}
}

// pace has messages due every so many seconds, the first after offset.
func (p *pair) pace(ctx context.Context, every, offset float64) {
	start := now()
	for i := 0; ctx.Err() == nil && p.load.left.Load() > 0; i++ {
		due := start + time.Duration((offset+float64(i)*every)*float64(time.Second))
		if due >= p.load.until {
			return
		}
		time.Sleep(due - now())
		p.mu.Lock()
		if p.going < p.load.inFlight {
			p.send(due)
		} else {
			p.overdue = append(p.overdue, due)
		}
		p.mu.Unlock()
	}
}

// send sends the next message, unless the round is over, and reports that. mu is
// held.
func (p *pair) send(due time.Duration) bool {
	if now() >= p.load.until || p.load.left.Add(-1) < 0 {
		p.overdue = nil
		return false
	}
	p.going++
	p.load.underway.Add(1)
	n := p.out.send(due)
	p.settled = append(p.settled, false)
	_ = p.from.write(p.frame.with(n)) // a connection that broke ends the run by its reader
	return true
}

// answered takes the answer to message n.
func (p *pair) answered(n int, code string) error {
	at := now()
	p.load.moved.Store(int64(at))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch first := p.out.ack(n, code, at); {
	case first && code != "":
		time.AfterFunc(refusedPause, p.giveUp)
	case first && p.settled[n]:
		p.complete()
	}
	return nil
}

// refusedPause is how long a sender that was refused waits: it would only be
// refused again.
const refusedPause = 100 * time.Millisecond

// giveUp goes on after a refusal.
func (p *pair) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next()
}

// pushed takes a push to the recipient, and acknowledges it. Those of others, of
// #general for example, are none of ours.
func (p *pair) pushed(frame []byte) error {
	sender, n, ours := p.load.run.read(field(frame, ciphertextKey))
	at := now()
	if err := p.to.settle(frame); err != nil || !ours || sender != p.number {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in.push(n, &p.out, at) {
		p.in.counts.ClientAcked++
		p.settled[n] = true
		if p.out.answers[n] == acked {
			p.complete()
		}
	}
	return nil
}

// complete counts a message that was acked, delivered and client-acked. mu is
// held.
func (p *pair) complete() {
	p.load.completed.Add(1)
	p.load.last.Store(int64(now()))
	p.next()
}

// next has the place of a message taken by the one that is due. mu is held.
func (p *pair) next() {
	switch {
	case !p.load.paced:
		p.send(now())
	case len(p.overdue) > 0:
		due := p.overdue[0]
		p.overdue = p.overdue[1:]
		p.send(due)
	}
	p.going--
	p.load.underway.Add(-1)
}
