package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/oklog/run"
	"github.com/spf13/cobra"

	"meshbox/broker"
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
	listen    string
	db        string
	publicURL string
	logFormat string
	logLevel  string
	limits    broker.Limits
}

func (a *app) serveCommand(name string) *cobra.Command {
	f := &serveFlags{limits: broker.DefaultLimits()}
	c := &cobra.Command{
		Use: name, Short: "Serve the broker and the web chat", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", defaultListen, "address and port to listen on")
	flags.StringVar(&f.db, "db", defaultDB, "the data file; created if there is none")
	flags.StringVar(&f.publicURL, "public-url", "", "what links and invites begin with (default: derived from the listener)")
	flags.StringVar(&f.logFormat, "log-format", "", "text or json (default: text on a terminal, else json)")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.IntVar(&f.limits.MaxMessage, "max-message-bytes", f.limits.MaxMessage, "size limit of one message's nonce, ciphertext and target")
	flags.IntVar(&f.limits.MaxConnections, "max-connections", f.limits.MaxConnections, "live connections of one mesh")
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
		f.publicURL, err = checkPublicURL(f.publicURL)
		return err
	}
	return nil
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
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return listenError(f.listen, err)
	}
	defer listener.Close()
	publicURL := or(f.publicURL, derivePublicURL(listener.Addr()))
	db, first, err := a.openData(f.db, publicURL, log)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.SetSetting(publicURLKey, publicURL); err != nil {
		return fmt.Errorf("cannot write to the data file %s: %w", db.Path(), err)
	}
	b := broker.New(broker.Config{PublicURL: publicURL, Version: version(), Log: log, Limits: f.limits}, db, a.assets.Web)
	if err := a.welcome(ctx, db, publicURL, first); err != nil {
		return err
	}
	log.Info("serving", "listen", listener.Addr().String(), "public_url", publicURL, "db", db.Path(), "version", version())
	return a.runActors(ctx, b, listener, log)
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

// runActors runs what belongs to the server until ctx ends or one part fails.
func (a *app) runActors(ctx context.Context, b *broker.Broker, listener net.Listener, log *slog.Logger) error {
	var group run.Group
	{
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { <-ctx.Done(); return nil }, func(error) { cancel() })
	}
	{
		ctx, cancel := context.WithCancel(context.Background())
		group.Add(func() error { b.Run(ctx); return nil }, func(error) { cancel() })
	}
	tools := mcp.NewHTTP(b.Handler(), version())
	server := &http.Server{
		Handler: withMCP(b.Handler(), tools), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	group.Add(func() error {
		err := server.Serve(listener)
		if errors.Is(err, http.ErrServerClosed) {
			<-stopped // the connections first, then the data file
			return nil
		}
		return err
	}, func(error) {
		defer close(stopped)
		log.Info("shutting down")
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		tools.Drain()
		b.Drain(ctx)
		if err := server.Shutdown(ctx); err != nil {
			log.Warn("requests were cut off", "err", err)
		}
	})
	return group.Run()
}

// listenError makes a sentence of why an address cannot be listened on.
func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the address %s is in use, perhaps by another meshbox; stop that, or choose another with --listen", address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s is not allowed; ports below 1024 need root: choose another with --listen", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("the address %s is not one of this machine's; choose another with --listen", address)
	}
	if wrapped, ok := errors.AsType[*net.OpError](err); ok {
		err = wrapped.Err
	}
	if _, ok := errors.AsType[*os.SyscallError](err); ok {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with --listen", address, err)
	}
	return usagef("--listen %q: %w; write it as ADDRESS:PORT, such as 127.0.0.1:7900", address, err)
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
