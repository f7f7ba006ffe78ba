package peer

import (
	"context"
	"fmt"

	"meshbox/broker/wire"
)

// follower is a call of Follow.
type follower struct {
	changes chan *wire.DeliveryStatus
	left    chan struct{} // closed when it has returned
}

// Follow calls each with what became of a message one sent, now and with every
// change, until all its copies are settled; then it returns nil. An error of the
// broker is a *wire.Error.
func (c *Conn) Follow(ctx context.Context, messageID string, each func(*wire.DeliveryStatus) error) error {
	f := &follower{changes: make(chan *wire.DeliveryStatus), left: make(chan struct{})}
	id, refused := c.wait("")
	c.mu.Lock()
	c.following[id] = f
	c.mu.Unlock()
	defer func() {
		close(f.left)
		c.mu.Lock()
		delete(c.following, id)
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.write(ctx, wire.Encode(&wire.DeliverySubscribe{MessageID: messageID}, id)); err != nil {
		return err
	}
	for {
		select {
		case status := <-f.changes:
			if err := each(status); err != nil || status.Final {
				return err
			}
		case m := <-refused:
			if err, ok := m.(*wire.Error); ok {
				return err
			}
			return fmt.Errorf("the broker answered delivery_subscribe with %s; update meshbox on both sides", m.Type())
		case <-c.done:
			return c.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellFollower hands a change to who follows under reqID, and reports whether
// anybody does.
func (c *Conn) tellFollower(reqID string, m *wire.DeliveryStatus) bool {
	c.mu.Lock()
	f := c.following[reqID]
	c.mu.Unlock()
	if f == nil {
		return false
	}
	select {
	case f.changes <- m:
	case <-f.left:
	case <-c.done:
	}
	return true
}
