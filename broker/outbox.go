package broker

import "sync"

// outbox is what waits to be written to one socket. Anyone may add to it
// without blocking; its connection's write loop alone takes from it.
type outbox struct {
	bell      chan struct{} // capacity 1: something changed
	maxFrames int
	maxBytes  int

	mu     sync.Mutex
	frames [][]byte // frames are shared between outboxes and never changed
	bytes  int
	end    *ending // set once: how the connection ends
}

// ending is how a connection is to be closed.
type ending struct {
	code   int
	reason string // at most wire.MaxCloseReasonLen bytes
	flush  bool   // write what waits before
}

func newOutbox(l Limits) *outbox {
	return &outbox{bell: make(chan struct{}, 1), maxFrames: l.OutboxFrames, maxBytes: l.OutboxBytes}
}

// add queues frame and wakes the write loop. It returns false if the box is
// full, and then holds as much as before; an empty one takes a frame of any
// size. After an ending it takes nothing and returns true.
func (o *outbox) add(frame []byte) bool {
	ok := o.addQuietly(frame)
	o.ring()
	return ok
}

// addQuietly is add without waking the write loop: the frame leaves with the
// next one, or with the next ring.
func (o *outbox) addQuietly(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		return true
	}
	if len(o.frames) > 0 && (len(o.frames) >= o.maxFrames || o.bytes+len(frame) > o.maxBytes) {
		return false
	}
	o.frames = append(o.frames, frame)
	o.bytes += len(frame)
	return true
}

// finish says how the connection ends; the first word counts.
func (o *outbox) finish(e ending) bool {
	o.mu.Lock()
	first := o.end == nil
	if first {
		o.end = &e
	}
	o.mu.Unlock()
	o.ring()
	return first
}

// take returns all that waits, and the ending if there is one. spare is an
// earlier result that may be reused.
func (o *outbox) take(spare [][]byte) ([][]byte, *ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames := o.frames
	o.frames, o.bytes = spare[:0], 0
	return frames, o.end
}

// ringIfWaiting wakes the write loop if there is something to write: waking
// thousands for nothing is most of what an event would cost.
func (o *outbox) ringIfWaiting() {
	o.mu.Lock()
	waiting := len(o.frames) > 0
	o.mu.Unlock()
	if waiting {
		o.ring()
	}
}

func (o *outbox) ring() {
	select {
	case o.bell <- struct{}{}:
	default: // it rings already
	}
}
