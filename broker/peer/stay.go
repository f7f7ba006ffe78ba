package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Back-off between attempts of Stay: it doubles, with jitter, so that the peers
// of a restarted broker do not all come at once.
const (
	firstPause = 250 * time.Millisecond
	longPause  = 15 * time.Second
)

// Stay keeps a connection open until ctx ends: use is called with each new one
// and returns when that has ended (Conn.Done) or it wants to stop; paused, if
// not nil, is told why there is none and for how long. It returns nil when ctx
// ended, the error of use if that is not the connection's own, or a final
// *Rejected.
func Stay(ctx context.Context, o Options, use func(context.Context, *Conn) error, paused func(error, time.Duration)) error {
	pause := firstPause
	for {
		err := once(ctx, o, use, func() { pause = firstPause })
		if ctx.Err() != nil {
			return nil
		}
		if rejected, ok := errors.AsType[*Rejected](err); ok && rejected.Final() {
			return err
		}
		if stop, ok := errors.AsType[*stopped](err); ok {
			return stop.error
		}
		wait := pause/2 + rand.N(pause)
		if paused != nil {
			paused(err, wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		pause = min(2*pause, longPause)
	}
}

// stopped marks an error of use itself.
type stopped struct{ error }

func once(ctx context.Context, o Options, use func(context.Context, *Conn) error, greeted func()) error {
	c, err := Dial(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	greeted()
	err = use(ctx, c)
	if ended := c.Err(); ended != nil {
		return ended
	}
	return &stopped{err}
}
