package broker

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Broker serves the meshes of one data file.
type Broker struct {
	cfg     Config
	db      *store.DB
	log     *slog.Logger
	metrics *metrics
	replays *identity.ReplayGuard
	started time.Time
	handler http.Handler

	serving sync.WaitGroup // connections; (seen) http.Server.Shutdown does not wait for hijacked ones

	mu       sync.RWMutex
	draining bool
	conns    map[*conn]struct{} // all sockets, greeted or not
	rooms    map[string]*room   // by mesh id
	ringing  map[string]bool    // meshes whose events leave soon, see ringLater
}

// New returns a Broker on db whose pages come from web. It does nothing until
// its Handler is served and Run is called.
func New(cfg Config, db *store.DB, web fs.FS) *Broker {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		cfg: cfg, db: db, log: cfg.Log, replays: identity.NewReplayGuard(), started: time.Now(),
		conns: map[*conn]struct{}{}, rooms: map[string]*room{}, ringing: map[string]bool{},
	}
	b.metrics = newMetrics(b)
	b.handler = b.routes(web)
	b.resumeLeases()
	return b
}

// Handler serves the WebSocket, the REST endpoints and the pages.
func (b *Broker) Handler() http.Handler { return b.handler }

// Run does what must be done regularly, until ctx ends.
func (b *Broker) Run(ctx context.Context) {
	tick := time.NewTicker(min(sweepEvery, b.cfg.Limits.PongTimeout/3, b.cfg.Limits.AckTimeout/3, b.cfg.Limits.Lease/3, b.cfg.Limits.WriteTimeout/3))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b.sweep(now)
		}
	}
}

// sweep ends silent connections, has pushes repeated that were not acked, and
// removes what is over in the store.
func (b *Broker) sweep(now time.Time) {
	for _, c := range b.allConns() {
		if c.silence(now) > b.cfg.Limits.PongTimeout {
			c.abandon(wire.PongTimeout)
		}
		if c.stalled(now) {
			c.cut(wire.SlowConsumer)
		}
		c.checkOverdue(now)
	}
	for what, drop := range map[string]func(time.Time) error{
		"claims": b.db.DropClaims, "session keys": b.db.DropSessionKeys, "deliveries": b.expire, "leases": b.endLeases, "sessions": b.reroute,
	} {
		if err := drop(now); err != nil {
			b.log.Warn("sweep failed", "of", what, "err", err)
		}
	}
}

// Drain refuses new connections, closes the others with 1001 and waits for them
// until ctx ends; what is left then is cut.
func (b *Broker) Drain(ctx context.Context) {
	b.mu.Lock()
	b.draining = true
	b.mu.Unlock()
	for _, c := range b.allConns() {
		c.end(wire.ShuttingDown)
	}
	gone := make(chan struct{})
	go func() { b.serving.Wait(); close(gone) }()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for _, c := range b.allConns() {
		c.ws.CloseNow()
	}
	<-gone
}

// enter admits a connection unless the broker is draining.
func (b *Broker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.serving.Add(1)
	return true
}

// opened lists a connection that has its socket. It reports false, and lists
// nothing, if the broker began to drain since it entered.
func (b *Broker) opened(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *Broker) exit(c *conn) {
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	b.serving.Done()
}

func (b *Broker) allConns() []*conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		all = append(all, c)
	}
	return all
}
