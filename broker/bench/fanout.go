package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// Fanout has one member post to a private topic with many connected members, a
// post at a time, and measures how long it takes until the last of them has read
// it. The next post leaves when all have, or with a rate when it is due.
func Fanout(ctx context.Context, t *Target, o Options) (*Result, error) {
	members, err := t.enlist(ctx, o.Members+1, o.Say)
	if err != nil {
		return nil, err
	}
	members = members[:o.Members+1]
	topic, err := openTopic(ctx, members, o.Say)
	if err != nil {
		return nil, err
	}
	f, err := newFanout(ctx, members, topic, o)
	if err != nil {
		return nil, err
	}
	defer cut(f.clients)
	if err := f.post(ctx, now()); err != nil { // the first costs more: a lease, and who is in the topic
		return nil, err
	}
	before := f.reset()
	m := t.measure(ctx)
	stop := watch(o.Say, f.progress)
	err = f.posts(ctx, o)
	stop()
	if err != nil {
		return nil, err
	}
	r := m.result(ctx, "fanout", f.posted(), "posts", now())
	f.report(r)
	r.Counts.Reordered += before.Reordered // what was lost before is still missing
	return r, nil
}

// openTopic makes a private topic with all members.
func openTopic(ctx context.Context, members []peer.Identity, say func(string)) (string, error) {
	c, err := peer.Dial(ctx, as(members[0]))
	if err != nil {
		return "", err
	}
	defer c.Close()
	name := "bench-" + string(newRun())
	_, err = c.Request(ctx, &wire.TopicCreate{Name: name, Description: "Made by meshbox bench", Visibility: wire.VisibilityPrivate})
	if err != nil {
		return "", fmt.Errorf("cannot make a topic: %w", err)
	}
	return name, each(ctx, len(members)-1, say, "members in the topic", func(i int) error {
		_, err := c.Request(ctx, &wire.TopicInvite{Topic: name, Member: members[i+1].MemberID})
		return err
	})
}

// fanout is a run of Fanout.
type fanout struct {
	run     run
	clients []*client  // the first one posts
	broken  chan error // has room for each connection
	all     chan bool  // true when a post is acked and everywhere, false when it was refused

	mu      sync.Mutex
	frame   *template
	out     outbound
	in      []*inbound    // by recipient
	waiting int           // recipients that the latest post did not reach yet, and its ack
	arrived time.Duration // when the latest recipient had read it
	toAll   samples
}

func newFanout(ctx context.Context, members []peer.Identity, topic string, o Options) (*fanout, error) {
	options := make([]peer.Options, len(members))
	for i, id := range members {
		options[i] = as(id)
	}
	clients, err := connect(ctx, options, o.Say)
	if err != nil {
		return nil, err
	}
	f := &fanout{run: newRun(), clients: clients, broken: make(chan error, len(clients)), all: make(chan bool, 1)}
	f.frame = newTemplate(f.run, 0, "#"+topic, o.Size)
	go f.serve(members[0], clients[0], handlers{ack: f.answered, push: clients[0].settle})
	for i, c := range clients[1:] {
		in := &inbound{}
		f.in = append(f.in, in)
		go f.serve(members[i+1], c, handlers{ack: unasked, push: func(frame []byte) error { return f.pushed(c, in, frame) }})
	}
	return f, nil
}

func (f *fanout) serve(who peer.Identity, c *client, h handlers) {
	f.broken <- brokenOff(who.DisplayName, c.serve(h))
}

// posts posts as often as o says, or for as long.
func (f *fanout) posts(ctx context.Context, o Options) error {
	start := now()
	for i := 0; ; i++ {
		due := now()
		if o.Rate > 0 {
			due = start + time.Duration(float64(i)/o.Rate*float64(time.Second))
			time.Sleep(due - now())
		}
		if o.Messages > 0 && i >= o.Messages || o.Messages == 0 && now()-start >= o.Duration {
			return nil
		}
		if err := f.post(ctx, due); err != nil {
			return err
		}
	}
}

// post posts once and waits until all have it, or for drainTime: then some lost
// it.
func (f *fanout) post(ctx context.Context, due time.Duration) error {
	f.mu.Lock()
	f.waiting = len(f.in) + 1
	n := f.out.send(due)
	err := f.clients[0].write(f.frame.with(n))
	f.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case stored := <-f.all:
		if stored {
			f.mu.Lock()
			f.toAll.add(f.arrived - due)
			f.mu.Unlock()
		}
		return nil
	case <-time.After(drainTime):
		return nil
	case err := <-f.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered takes the answer to post n.
func (f *fanout) answered(n int, code string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.out.ack(n, code, now()) {
		return nil
	}
	if code != "" { // it goes nowhere
		f.waiting = 0
		time.AfterFunc(refusedPause, func() { f.all <- false })
		return nil
	}
	f.got(n)
	return nil
}

// pushed takes a push to one recipient, and acknowledges it.
func (f *fanout) pushed(c *client, in *inbound, frame []byte) error {
	_, n, ours := f.run.read(field(frame, ciphertextKey))
	at := now()
	if err := c.settle(frame); err != nil || !ours {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if in.push(n, &f.out, at) {
		in.counts.ClientAcked++
		f.arrived = max(f.arrived, at)
		f.got(n)
	}
	return nil
}

// got counts what the latest post waits for. mu is held.
func (f *fanout) got(n int) {
	if n != len(f.out.due)-1 {
		return // a straggler
	}
	if f.waiting--; f.waiting == 0 {
		f.all <- true
	}
}

// reset forgets how it went so far, and returns it. Numbers go on: what comes of
// the posts before is known for a duplicate.
func (f *fanout) reset() (before Counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = total(&f.out, f.in...)
	f.toAll, f.out.acks, f.out.counts = nil, nil, Counts{}
	for _, in := range f.in {
		in.trips, in.counts = nil, Counts{}
	}
	return before
}

func (f *fanout) report(r *Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := total(&f.out, f.in...)
	var trips samples
	for _, in := range f.in {
		trips = append(trips, in.trips...)
	}
	r.Counts, r.Ack, r.EndToEnd, r.ToAll = &counts, f.out.acks.latency(), trips.latency(), f.toAll.latency()
}

func (f *fanout) posted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.toAll)
}

func (f *fanout) progress(elapsed time.Duration) string {
	return fmt.Sprintf("fanout: %d posts to %d members in %.0f s", f.posted(), len(f.in), elapsed.Seconds())
}
