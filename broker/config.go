package broker

import (
	"log/slog"
	"time"

	"meshbox/broker/wire"
)

// Config says how a Broker behaves.
type Config struct {
	PublicURL string // http(s)://host[:port], the base of links; no trailing slash
	Version   string
	Log       *slog.Logger
	Limits    Limits
}

// Limits are the bounds a broker keeps.
type Limits struct {
	MaxMessage     int           // bytes of nonce+ciphertext+targetSpec in one send
	MaxConnections int           // live connections of one mesh
	HelloTimeout   time.Duration // from the upgrade to a valid hello
	PingInterval   time.Duration
	PongTimeout    time.Duration // since the last pong
	OutboxFrames   int           // frames that may wait for one socket
	OutboxBytes    int           // bytes that may wait for one socket
}

// DefaultLimits are those of the protocol, and for a small machine.
func DefaultLimits() Limits {
	return Limits{
		MaxMessage:     wire.DefaultMaxMessage,
		MaxConnections: 10_000,
		HelloTimeout:   10 * time.Second,
		PingInterval:   30 * time.Second,
		PongTimeout:    75 * time.Second,
		OutboxFrames:   4096,
		OutboxBytes:    8 << 20,
	}
}

const (
	rememberAfter = 10 * time.Second      // a session key that lived so long is kept (protocol section 10)
	sendsInFlight = 64                    // of one connection; more wait in its socket
	malformedRun  = 5                     // bad frames in a row that end a connection (protocol section 1)
	closeGrace    = 6 * time.Second       // for a close handshake; then the socket is cut
	pingPatience  = 5 * time.Second       // how long the write loop waits for a pong before it goes on
	eventDelay    = 25 * time.Millisecond // presence events may wait this long to leave together
	sweepEvery    = 5 * time.Second
)
