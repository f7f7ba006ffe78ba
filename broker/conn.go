package broker

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/gate"
	"meshbox/broker/wire"
)

// conn is one WebSocket connection.
type conn struct {
	b      *Broker
	ws     *websocket.Conn // set before the connection is listed
	tcp    *corkedConn     // below ws
	out    *outbox
	opened time.Time

	socket *gate.Place // see admit
	fresh  *gate.Place // until a valid hello

	loops    sync.WaitGroup          // the write loop, and a ping that waits for its answer
	lastPong atomic.Int64            // when, see uptime
	feed     atomic.Pointer[feed]    // nil before a valid hello
	overdue  atomic.Pointer[[]int64] // seqs of pushes to repeat, from the sweeper
	writing  atomic.Int64            // since when a write is under way, see uptime; 0: none is
	ended    atomic.Bool             // it is being closed: what still comes in is not handled

	// owned by the read loop
	log       *slog.Logger
	presence  *presence // nil before a valid hello
	helloGate *time.Timer
	badFrames int // in a row
	buffer    bytes.Buffer

	// sends between Append and their ack
	slots   chan struct{}  // one taken per send in flight
	pending sync.WaitGroup // waited for by the read loop alone
}

// serveWS upgrades the request and serves the connection until it ends.
func (b *Broker) serveWS(w http.ResponseWriter, r *http.Request) {
	c := &conn{b: b, out: newOutbox(b.cfg.Limits), opened: time.Now(), slots: make(chan struct{}, sendsInFlight)}
	c.log = b.log.With("remote", r.RemoteAddr)
	if !b.enter() {
		http.Error(w, "meshbox is shutting down; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	if c.socket, c.fresh = b.admit(w, r); c.socket == nil {
		b.serving.Done()
		return
	}
	corking := &corkWriter{ResponseWriter: w}
	ws, err := websocket.Accept(corking, r, &websocket.AcceptOptions{
		// Same origin, or no Origin header (programs): a page of another origin
		// cannot connect, although it has no cookie to ride on either.
		CompressionMode: websocket.CompressionDisabled,
		OnPongReceived:  func(context.Context, []byte) { c.lastPong.Store(b.uptime(time.Now())) },
	})
	if err != nil {
		c.log.Debug("upgrade refused", "err", err)
		b.exit(c)
		return
	}
	ws.SetReadLimit(int64(b.cfg.Limits.MaxMessage + wire.FrameOverhead))
	c.ws, c.tcp = ws, corking.conn
	c.lastPong.Store(b.uptime(c.opened))
	if !b.opened(c) {
		ws.CloseNow()
		b.exit(c)
		return
	}
	c.greetAndServe()
}

// greetAndServe runs both loops. It returns as soon as the hello is answered,
// and the read loop goes on in a goroutine of its own: what the HTTP server keeps
// for a request, and the deep stack that a hello takes, are more memory than an
// idle connection should hold.
func (c *conn) greetAndServe() {
	c.helloGate = time.AfterFunc(c.b.cfg.Limits.HelloTimeout, c.helloTooLate)
	c.loops.Go(c.writeLoop)
	if !c.readUntil(func() bool { return c.presence != nil }) {
		c.over()
		return
	}
	c.buffer = bytes.Buffer{} // a hello is larger than most of what follows
	go func() {
		c.readUntil(func() bool { return false })
		c.over()
	}()
}

// over ends what is left of a connection whose read loop has ended.
func (c *conn) over() {
	defer c.b.exit(c)
	c.helloGate.Stop()
	c.pending.Wait()
	c.notePushes(time.Now().Add(noteAfter)) // all
	c.b.ledger.remove(func(s *subscription) bool { return s.conn == c })
	c.b.ledger.unwatch(c)
	c.b.leave(c)
	c.out.finish(ending{code: wire.CloseNormal})
	c.loops.Wait()
	c.ws.CloseNow()
}

// readUntil is the read loop: it handles frames until enough says so, and then
// returns true, or until the connection ends.
func (c *conn) readUntil(enough func() bool) bool {
	for !enough() {
		frame, err := c.readFrame()
		if err != nil {
			c.log.Debug("connection ended", "err", err)
			return false
		}
		if c.ended.Load() || !c.handle(frame) {
			return false
		}
	}
	return true
}

// readFrame returns the next frame; it is valid until the next call.
func (c *conn) readFrame() ([]byte, error) {
	_, reader, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if c.buffer.Cap() > 16<<10 { // one large frame must not cost memory for ever
		c.buffer = bytes.Buffer{}
	}
	c.buffer.Reset()
	_, err = io.Copy(&c.buffer, reader)
	return c.buffer.Bytes(), err
}

// writeLoop writes what the outbox holds, pings, and closes in the end.
func (c *conn) writeLoop() {
	ping := time.NewTicker(c.b.cfg.Limits.PingInterval)
	if !c.writeUntil(ping.C, c.isCaughtUp) {
		ping.Stop()
		return
	}
	c.loops.Go(func() { // with a fresh stack: reading what waited took a deep one
		defer ping.Stop()
		c.writeUntil(ping.C, func() bool { return false })
	})
}

// writeUntil goes on until enough says so, and then returns true, or until the
// connection ends.
func (c *conn) writeUntil(ping <-chan time.Time, enough func() bool) bool {
	var frames [][]byte
	for !enough() {
		pings := false
		select {
		case <-c.out.bell:
		case <-ping:
			pings = true
		}
		since := time.Now()
		if seqs := c.overdue.Swap(nil); seqs != nil {
			c.redeliver(*seqs)
		}
		for more := true; more; more = c.catchUp() {
			var end *ending
			if frames, end = c.out.take(frames); !c.flush(frames, end) {
				return false
			}
			if clear(frames); cap(frames) > idleFrames { // frames are shared: let go of them
				frames = nil
			}
		}
		if pings {
			c.loops.Go(func() { c.ping(since) })
		}
	}
	return true
}

// flush writes frames, closes if that is due, and reports whether the
// connection goes on.
func (c *conn) flush(frames [][]byte, end *ending) bool {
	if end == nil {
		return len(frames) == 0 || c.write(frames)
	}
	if end.flush && !c.write(frames) {
		return false
	}
	c.close(*end)
	return false
}

// write reports whether all frames went out.
func (c *conn) write(frames [][]byte) bool {
	c.writing.Store(c.b.uptime(time.Now()))
	defer c.writing.Store(0)
	c.tcp.cork()
	for _, frame := range frames {
		if err := c.ws.Write(context.Background(), websocket.MessageText, frame); err != nil {
			c.ws.CloseNow() // the read loop notices
			return false
		}
	}
	if err := c.tcp.uncork(); err != nil {
		c.ws.CloseNow()
		return false
	}
	return true
}

// ping asks for a sign of life; the sweeper ends connections that give none.
// What was pushed until since was written before, so an answer says that it
// arrived. It waits on a goroutine of its own, once per PingInterval: in the
// write loop, everything behind it would wait for the peer.
func (c *conn) ping(since time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), c.b.cfg.Limits.PingInterval)
	defer cancel()
	if c.ws.Ping(ctx) != nil {
		return
	}
	if f := c.feed.Load(); f != nil {
		c.record(f, f.answered(since))
	}
}

// uptime is now as nanoseconds since the broker started, at least 1. It fits an
// atomic, and unlike Unix time no step of the wall clock changes it: one forward
// would end every connection.
func (b *Broker) uptime(now time.Time) int64 { return max(1, int64(now.Sub(b.started))) }

// silence is how long the peer gave no sign of life.
func (c *conn) silence(now time.Time) time.Duration {
	return time.Duration(c.b.uptime(now) - c.lastPong.Load())
}

// stalled reports that a write has been under way for too long.
func (c *conn) stalled(now time.Time) bool {
	since := c.writing.Load()
	return since != 0 && time.Duration(c.b.uptime(now)-since) > c.b.cfg.Limits.WriteTimeout
}

// close performs the closing handshake.
func (c *conn) close(e ending) {
	if err := c.ws.Close(websocket.StatusCode(e.code), e.reason); err != nil {
		c.b.log.Debug("close", "err", err) // c.log is the read loop's until there is a feed
	}
}

// send queues a message for the peer. One that does not keep up is cut off.
func (c *conn) send(m wire.Message, reqID string) { c.sendFrame(wire.Encode(m, reqID)) }

func (c *conn) sendFrame(frame []byte) {
	if !c.out.add(frame) {
		c.cut(wire.SlowConsumer)
	}
}

// end closes the connection for a reason of the error table, after what waits
// was written. It does not block and may be called by anyone, many times.
func (c *conn) end(reason string) {
	c.finish(ending{code: wire.CloseCode(reason), reason: reason, flush: true})
}

// drop is end by order of a moderator.
func (c *conn) drop(reason string) {
	if c.finish(ending{code: wire.CloseCode(reason), reason: reason, flush: true}) {
		c.b.metrics.dropped.WithLabelValues(reason).Inc()
	}
}

// cut closes a connection that does not take what waits for it.
func (c *conn) cut(reason string) {
	if c.finish(ending{code: wire.CloseCode(reason), reason: reason}) {
		c.b.metrics.dropped.WithLabelValues(reason).Inc()
	}
}

// abandon cuts the socket of a peer that is gone: there is nobody to say goodbye
// to.
func (c *conn) abandon(reason string) {
	if c.out.finish(ending{code: wire.CloseCode(reason), reason: reason}) {
		c.b.metrics.dropped.WithLabelValues(reason).Inc()
	}
	time.AfterFunc(0, func() { c.ws.CloseNow() }) // it may wait for the write loop
}

func (c *conn) finish(e ending) bool {
	c.ended.Store(true)
	if !c.out.finish(e) {
		return false
	}
	// A peer that reads nothing would hold the write loop for ever.
	time.AfterFunc(closeGrace, func() { c.ws.CloseNow() })
	return true
}
