package cli

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/oklog/run"
	"github.com/spf13/cobra"

	"meshbox/broker"
	"meshbox/broker/gate"
	"meshbox/broker/mcp"
	"meshbox/broker/store"
)

const (
	minDuration       = 10 * time.Millisecond // of a limit: shorter ones are mistakes
	drainTime         = 8 * time.Second       // for connections to close on shutdown
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeader         = 16 << 10 // bytes
	maxMessage        = 16 << 20 // bytes, the most --max-message-bytes may be
)

// serveFlags are those of the server.
type serveFlags struct {
	net       netFlags
	db        string
	publicURL string
	logFormat string
	logLevel  string
	limits    broker.Limits
}

func (a *app) serveCommand(name string) *cobra.Command {
	return a.serveCommandOf(name, &serveFlags{limits: broker.DefaultLimits()})
}

// serveCommandOf is the command that sets f.
func (a *app) serveCommandOf(name string, f *serveFlags) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: "Serve the broker and the web chat", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			f.net.listenSet = c.Flags().Changed("listen")
			return a.serve(c.Context(), f)
		},
	}
	f.net.add(c)
	flags := c.Flags()
	flags.StringVar(&f.db, "db", defaultDB, "the data file; created if there is none")
	flags.StringVar(&f.publicURL, "public-url", "", "what links and invites begin with (default: derived from the listener)")
	flags.StringVar(&f.logFormat, "log-format", "", "text or json (default: text on a terminal, else json)")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.IntVar(&f.limits.MaxMessage, "max-message-bytes", f.limits.MaxMessage, "size limit of one message's nonce, ciphertext and target")
	flags.IntVar(&f.limits.MaxConnections, "max-connections", f.limits.MaxConnections, "live connections of one mesh")
	flags.IntVar(&f.limits.MaxPerAddress, "max-connections-per-address", f.limits.MaxPerAddress, "connections of one address; an IPv6 /64 counts as one, loopback and trusted proxies are not bound")
	flags.IntVar(&f.limits.MaxPending, "max-pending-connections", f.limits.MaxPending, "connections that have not said a valid hello yet")
	flags.Float64Var(&f.limits.SendRate, "send-rate", f.limits.SendRate, "messages per second one member may send, lasting; 0: no limit")
	flags.IntVar(&f.limits.SendBurst, "send-burst", f.limits.SendBurst, "messages one member may send at once")
	flags.DurationVar(&f.limits.HelloTimeout, "hello-timeout", f.limits.HelloTimeout, "how long a new connection may stay silent")
	flags.DurationVar(&f.limits.PingInterval, "ping-interval", f.limits.PingInterval, "how often connections are pinged")
	flags.DurationVar(&f.limits.PongTimeout, "pong-timeout", f.limits.PongTimeout, "how long a connection may leave pings unanswered")
	flags.DurationVar(&f.limits.WriteTimeout, "write-timeout", f.limits.WriteTimeout, "how long a connection may take nothing of what is sent to it")
	flags.DurationVar(&f.limits.AckTimeout, "ack-timeout", f.limits.AckTimeout, "after this a message that was not acknowledged is pushed again")
	flags.DurationVar(&f.limits.Lease, "presence-lease", f.limits.Lease, "how long a peer stays listed after its connection broke")
	flags.DurationVar(&f.limits.MessageTTL, "message-ttl", f.limits.MessageTTL, "how long a message waits for a recipient that is away")
	flags.DurationVar(&f.limits.KeepDelivered, "keep-delivered", f.limits.KeepDelivered, "how long a message that everyone has is kept; 0: for ever")
	flags.IntVar(&f.limits.KeepDeliveries, "keep-deliveries", f.limits.KeepDeliveries, "how many deliveries are kept, the newest; 0: all")
	return c
}

// check refuses values that cannot work, before anything has happened.
func (f *serveFlags) check() error {
	l := f.limits
	switch {
	case f.db == "":
		return errNoDB
	case l.MaxMessage < 1024 || l.MaxMessage > maxMessage:
		return usagef("--max-message-bytes must be 1024 to %d", maxMessage)
	case l.MaxConnections < 1:
		return usagef("--max-connections must be at least 1")
	case l.MaxPerAddress < 1 || l.MaxPending < 1:
		return usagef("--max-connections-per-address and --max-pending-connections must be at least 1")
	case !(l.SendRate >= 0 && l.SendRate <= 1e6) || l.SendBurst < 1:
		return usagef("--send-rate must be 0 to 1000000, and --send-burst at least 1")
	case min(l.HelloTimeout, l.PingInterval, l.WriteTimeout, l.AckTimeout, l.Lease, l.MessageTTL) < minDuration:
		return usagef("durations must be at least %s", minDuration)
	case l.KeepDelivered != 0 && l.KeepDelivered < minDuration:
		return usagef("--keep-delivered must be at least %s, or 0 to keep messages for ever", minDuration)
	case l.KeepDeliveries < 0:
		return usagef("--keep-deliveries must be at least 1, or 0 to keep all")
	case l.PongTimeout <= l.PingInterval:
		return usagef("--pong-timeout must be longer than --ping-interval")
	}
	if f.publicURL != "" {
		var err error
		if f.publicURL, err = checkPublicURL(f.publicURL); err != nil {
			return err
		}
	}
	return f.net.check()
}

// serve runs the server until ctx ends, and returns nil then.
func (a *app) serve(ctx context.Context, f *serveFlags) error {
	log, err := a.logger(f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	// The port comes first: when it is taken, nothing else has happened yet.
	sockets, err := f.net.open()
	if err != nil {
		return err
	}
	defer sockets.close()
	publicURL, err := f.net.url(f.publicURL, sockets.main[0].Addr())
	if err != nil {
		return err
	}
	db, first, err := a.openData(f.db, publicURL, log)
	if err != nil {
		return err
	}
	defer db.Close()
	keepPrivate(db.Path(), log)
	s, err := f.site(db, sockets, publicURL, log)
	if err != nil {
		return err
	}
	err = db.SetSetting(publicURLKey, publicURL)
	if known, _ := db.Setting(ctx, fingerprintKey); err == nil && known != s.secured.fingerprint { // "" is not kept at first
		err = db.SetSetting(fingerprintKey, s.secured.fingerprint)
	}
	if err != nil {
		return fmt.Errorf("cannot write to the data file %s: %w", db.Path(), err)
	}
	s.broker = broker.New(broker.Config{PublicURL: publicURL, Version: version(), Log: log, Limits: f.limits}, db, a.assets.Web)
	s.gate.Refused, s.limits.Refused = s.broker.Refused, s.broker.Refused
	if err := a.welcome(ctx, db, s, first); err != nil {
		return err
	}
	for _, socket := range sockets.main {
		log.Info("serving", "listen", socket.Addr().String(), "public_url", publicURL, "db", db.Path(), "version", version(), "tls", s.secured.config != nil)
	}
	return a.runActors(ctx, s)
}

// keepPrivate takes the right to read the data file, which holds keys, from other users:
// a restored copy often has it.
func keepPrivate(path string, log *slog.Logger) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 || runtime.GOOS == "windows" {
		return
	}
	for _, beside := range []string{"-wal", "-shm"} {
		_ = os.Chmod(path+beside, 0o600) // they get the mode of the file when they are made
	}
	if err := os.Chmod(path, 0o600); err != nil {
		log.Warn("other users may read the data file, and with it the keys of the meshes", "db", path, "err", err)
		return
	}
	log.Warn("other users could read the data file, and with it the keys of the meshes; now it is private", "db", path)
}

// site prepares what stands in front of the broker.
func (f *serveFlags) site(db *store.DB, sockets *sockets, publicURL string, log *slog.Logger) (*site, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return nil, err
	}
	proxies, err := gate.ParseNetworks(f.net.proxies)
	if err != nil {
		return nil, err
	}
	s := &site{sockets: sockets, url: publicURL, counts: gate.NewCounts(), log: log}
	s.gate = gate.Config{Base: u.Path, Hosts: gate.NewHosts(f.net.names(publicURL)), Proxies: proxies}
	s.limits = gate.Limits{Total: f.net.total, PerAddress: f.limits.MaxPerAddress, Exempt: proxies}
	s.secured, err = f.net.secure(db.Path(), publicURL, log)
	return s, err
}

// openData opens or creates the data file. first is what it was created with,
// nil for one that was there.
func (a *app) openData(path, publicURL string, log *slog.Logger) (db *store.DB, first *store.FirstMesh, err error) {
	fresh := broker.NewMesh("home", publicURL, time.Now())
	agents, err := broker.NewInvite(fresh.Mesh, publicURL, agentTerms, time.Now())
	if err != nil {
		return nil, nil, err
	}
	fresh.Invites = append(fresh.Invites, agents)
	db, err = store.Open(path, a.openOptions(&fresh, log))
	if err != nil {
		return nil, nil, err
	}
	if db.Created() {
		first = &fresh
	}
	return db, first, nil
}

// site is a server that is about to run.
type site struct {
	broker  *broker.Broker
	sockets *sockets
	gate    gate.Config
	limits  gate.Limits
	counts  *gate.Counts // of all sockets
	secured secured
	url     string // public
	log     *slog.Logger
}

// runActors runs what belongs to the server until ctx ends or one part fails.
func (a *app) runActors(ctx context.Context, s *site) error {
	var group run.Group
	{
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { <-ctx.Done(); return nil }, func(error) { cancel() })
	}
	{
		ctx, cancel := context.WithCancel(context.Background())
		group.Add(func() error { s.broker.Run(ctx); return nil }, func(error) { cancel() })
	}
	if s.sockets.challenge != nil {
		server := s.challengeServer()
		group.Add(func() error {
			return closedIsNil(server.Serve(gate.NewListener(s.sockets.challenge, s.limits, s.counts)))
		}, func(error) { server.Close() })
	}
	if s.secured.begin != nil {
		ctx, cancel := context.WithCancel(context.Background())
		group.Add(func() error { go s.secured.begin(ctx); <-ctx.Done(); return nil }, func(error) { cancel() })
	}
	tools := mcp.NewHTTP(s.broker.Handler(), version())
	server := s.server(s.gate.Handler(withMCP(s.broker.Handler(), tools)))
	stopped := make(chan struct{})
	group.Add(func() error {
		err := s.serve(server)
		if err == nil {
			<-stopped // the connections first, then the data file
		}
		return err
	}, func(error) {
		defer close(stopped)
		s.log.Info("shutting down")
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		tools.Drain()
		s.broker.Drain(ctx)
		if err := server.Shutdown(ctx); err != nil {
			s.log.Warn("requests were cut off", "err", err)
		}
	})
	return group.Run()
}

// server bounds what a connection may take; bodies and answers are the gate's.
func (s *site) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, TLSConfig: s.secured.config, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(serverLog{s.log}, "", 0),
	}
}

// challengeServer answers an authority on port 80, and leads all others to HTTPS.
func (s *site) challengeServer() *http.Server {
	lead := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.TrimSuffix(s.url, s.gate.Base)+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	server := s.server(s.secured.answer(lead))
	server.TLSConfig, server.ReadTimeout, server.WriteTimeout = nil, readHeaderTimeout, readHeaderTimeout
	return server
}

// serve serves on all sockets until the server is shut down or one of them fails.
func (s *site) serve(server *http.Server) error {
	failed := make(chan error, len(s.sockets.main))
	for _, socket := range s.sockets.main {
		socket = gate.NewListener(socket, s.limits, s.counts)
		go func() {
			if s.secured.config != nil {
				failed <- closedIsNil(server.ServeTLS(socket, "", ""))
			} else {
				failed <- closedIsNil(server.Serve(socket))
			}
		}()
	}
	return <-failed
}

func closedIsNil(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serverLog takes what net/http has to say: mostly of clients that go away, which
// nobody wants to read, but also why a request broke or none comes in.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer, for one line.
func (l serverLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch {
	case strings.HasPrefix(text, "http: panic"):
		l.log.Error("a request failed badly", "err", text)
	case strings.HasPrefix(text, "http: Accept error"):
		l.log.Warn("no connection can be accepted", "err", text)
	default:
		l.log.Debug("http", "err", text)
	}
	return len(line), nil
}

// logger writes to standard error.
func (a *app) logger(format, level string) (*slog.Logger, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	least, ok := levels[level]
	if !ok {
		return nil, usagef("--log-level %q must be debug, info, warn or error", level)
	}
	options := slog.HandlerOptions{Level: least}
	if format == "" {
		format = "json"
		if isTerminal(a.err) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, &options)), nil
	}
	return nil, usagef("--log-format %q must be text or json", format)
}
