package broker

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
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
	rates   *sendRates
	grants  *grants
	ledger  *ledger
	changes changes
	seen    lastSeen
	uses    keyUses
	streams streams
	hooks   *buckets // status reports, by process
	asked   *buckets // requests of API keys, by member
	guesses guesses

	admission admission

	searches chan struct{} // capacity maxSearches: one is in it for each that runs

	started time.Time // its monotonic reading is what durations count from
	ages    *ageClock
	handler http.Handler

	serving sync.WaitGroup // connections, and requests of API keys; (seen) http.Server.Shutdown does not wait for hijacked ones

	newest        atomic.Int64 // seq of the newest message that was offered; not more than what is stored
	sessionsEnded atomic.Bool  // since the last sweep: what waits for them goes to their members
	rerouting     atomic.Bool  // the sweeper hands that to the store

	mu       sync.RWMutex
	draining bool
	conns    map[*conn]struct{} // all sockets, greeted or not
	rooms    map[string]*room   // by mesh id
	ringing  map[string]bool    // meshes whose events leave soon, see ringLater
	reports  reports            // statuses of peers that are not here yet, see hook.go
}

// New returns a Broker on db whose pages come from web. It does nothing until
// its Handler is served and Run is called.
func New(cfg Config, db *store.DB, web fs.FS) *Broker {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		cfg: cfg, db: db, log: cfg.Log, replays: identity.NewReplayGuard(), ledger: newLedger(), changes: newChanges(), searches: make(chan struct{}, maxSearches),
		rates: newSendRates(cfg.Limits), hooks: newBuckets(hookRate, hookBurst, maxHookers), started: time.Now(),
		asked: newRequestRates(cfg.Limits), guesses: newGuesses(), admission: newAdmission(), streams: newStreams(),
		ages:  &ageClock{hold: cfg.Limits.MessageTTL},
		conns: map[*conn]struct{}{}, rooms: map[string]*room{}, ringing: map[string]bool{},
	}
	var err error
	if b.grants, err = loadGrants(db); err != nil {
		b.log.Error("grants could not be read; nobody is blocked until the next start", "err", err)
	}
	b.metrics = newMetrics(b)
	b.handler = b.routes(web)
	newest, err := db.NewestSeq(context.Background())
	if err != nil {
		b.log.Error("the newest message could not be read; connections get some messages twice", "err", err)
	}
	b.newest.Store(newest)
	b.resumeLeases()
	b.sessionsEnded.Store(true) // perhaps while nobody served
	return b
}

// Handler serves the WebSocket, the REST endpoints and the pages.
func (b *Broker) Handler() http.Handler { return b.handler }

// Run does what must be done regularly, until ctx ends.
func (b *Broker) Run(ctx context.Context) {
	l := b.cfg.Limits
	var others sync.WaitGroup
	others.Go(func() { b.prune(ctx) })
	others.Go(func() { b.tellLedger(ctx) })
	others.Go(func() { b.earnInTime(ctx) })
	others.Go(func() { b.enforce(ctx) })
	defer others.Wait()
	tick := time.NewTicker(min(sweepEvery, l.PongTimeout/3, l.AckTimeout/3, l.Lease/3, l.WriteTimeout/3, l.WorkingTTL/3))
	defer tick.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b.sweep(now)
		case now := <-tidy.C:
			b.tidy(now, now.Sub(b.started))
		}
	}
}

// enforce enforces bans until ctx ends. It has a goroutine of its own: beside many
// who write, what a sweep stores takes seconds, and a ban must not wait for that.
func (b *Broker) enforce(ctx context.Context) {
	tick := time.NewTicker(enforceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.attempt("enforce bans", b.enforceBans)
		}
	}
}

// sweep ends silent and stalled connections, has pushes repeated that were not
// acked, lets old statuses fall back, and ends leases.
func (b *Broker) sweep(now time.Time) {
	for _, c := range b.allConns() {
		if c.silence(now) > b.cfg.Limits.PongTimeout {
			c.abandon(wire.PongTimeout)
		}
		if c.stalled(now) {
			c.cut(wire.SlowConsumer)
		}
		c.checkOverdue(now)
		c.notePushes(now.Add(-noteAfter))
	}
	b.relax(now)
	b.ledger.ring() // for what could not be read before
	b.attempt("last seen", b.keepSeen)
	b.attempt("uses of API keys", b.keepUses)
	b.attempt("end leases", func() error { return b.endLeases(now) })
	b.attempt("reroute", b.reroute)
}

// tidy removes what is over, in the store only what is old by the ageClock. up is
// how long the broker runs.
func (b *Broker) tidy(now time.Time, up time.Duration) {
	b.rates.forgetIdle(now)
	b.hooks.forgetIdle(now)
	b.asked.forgetIdle(now)
	b.guesses.mine.forgetIdle(now)
	aged := b.aged(now, up)
	if up < settleIn {
		return
	}
	b.attempt("drop claims", func() error { return b.db.DropClaims(aged) })
	b.attempt("drop session keys", func() error { return b.db.DropSessionKeys(aged, b.isKnown) })
	b.attempt("drop API keys", func() error { return b.db.DropAPIKeys(aged) })
	b.attempt("expire deliveries", func() error { return b.expire(aged, now) })
}

// attempt logs what fails; it is tried again next time.
func (b *Broker) attempt(what string, do func() error) {
	if err := do(); err != nil {
		b.log.Warn("sweep failed", "at", what, "err", err)
	}
}

// Drain refuses new connections and requests of API keys, closes the others with
// 1001, ends streams, and waits for them until ctx ends; what is left then is cut.
func (b *Broker) Drain(ctx context.Context) {
	b.mu.Lock()
	b.draining = true
	b.mu.Unlock()
	b.streams.end()
	for _, c := range b.allConns() {
		c.end(wire.ShuttingDown)
	}
	gone := make(chan struct{})
	go func() { b.serving.Wait(); close(gone) }()
	defer b.attempt("last seen", b.keepSeen)
	defer b.attempt("uses of API keys", b.keepUses)
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for _, c := range b.allConns() {
		c.ws.CloseNow()
	}
	b.streams.cut()
	<-gone
}

// enter admits a connection, or a request of an API key, unless the broker is
// draining.
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
	c.fresh.Leave()
	c.socket.Leave()
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
