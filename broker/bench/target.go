package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// workers is how many things are prepared at a time.
const workers = 32

// Target is the mesh that is put under load.
type Target struct {
	Invitation peer.Invitation
	Usage      Meter // of the broker's process; nil: unknown

	members []peer.Identity
}

// enlist returns n members, the same ones each time; it joins those that are
// missing.
func (t *Target) enlist(ctx context.Context, n int, say func(string)) ([]peer.Identity, error) {
	first := len(t.members)
	if first >= n {
		return t.members[:n], nil
	}
	fresh := make([]peer.Identity, n-first)
	err := each(ctx, len(fresh), say, "members joined", func(i int) (err error) {
		fresh[i], err = t.Invitation.Join(ctx, fmt.Sprintf("bench-%d", first+i+1), identity.NewKey())
		return err
	})
	if err != nil && strings.Contains(err.Error(), "was used already") {
		err = fmt.Errorf("the invite is used up, and %d members are needed; make one with: meshbox invite --uses %d", n, n)
	}
	if err != nil {
		return nil, err
	}
	t.members = append(t.members, fresh...)
	return t.members, nil
}

// connect dials one connection per option.
func connect(ctx context.Context, all []peer.Options, say func(string)) ([]*client, error) {
	clients := make([]*client, len(all))
	err := each(ctx, len(all), say, "connections", func(i int) (err error) {
		clients[i], err = dial(ctx, all[i], time.Now())
		return err
	})
	if err != nil {
		cut(clients)
	}
	return clients, err
}

// cut ends connections without a word.
func cut(all []*client) {
	for _, c := range all {
		if c != nil {
			c.ws.CloseNow()
		}
	}
}

// as is how a member connects.
func as(id peer.Identity) peer.Options {
	return peer.Options{Identity: id, Client: wire.Client{Channel: "meshbox-bench"}}
}

// each calls do for 0 to n-1, several at a time, and says how far it is. The
// first error ends it.
func each(ctx context.Context, n int, say func(string), what string, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan int)
	var busy sync.WaitGroup
	for range min(workers, n) {
		busy.Go(func() {
			for i := range jobs {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case jobs <- i:
			say(fmt.Sprintf("%d of %d %s", i, n, what))
		case <-ctx.Done():
		}
	}
	close(jobs)
	busy.Wait()
	return context.Cause(ctx)
}
