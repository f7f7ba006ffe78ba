package broker

import (
	"log/slog"
	"time"

	"meshbox/broker/wire"
)

// Config says how a Broker behaves.
type Config struct {
	PublicURL string // http(s)://host[:port][/path], the base of links; no trailing slash
	Version   string
	Log       *slog.Logger
	Limits    Limits
}

// Limits are the bounds a broker keeps.
type Limits struct {
	MaxMessage     int           // bytes of nonce+ciphertext+targetSpec in one send
	MaxConnections int           // live connections of one mesh
	MaxPerAddress  int           // sockets of one address, but loopback; of IPv6 a /64 counts as one
	MaxPending     int           // sockets that did not say a valid hello yet; a quarter of it of one address, but loopback
	SendRate       float64       // sends per second of one member, lasting; 0: no limit
	SendBurst      int           // sends of one member at once
	HelloTimeout   time.Duration // from the upgrade to a valid hello
	PingInterval   time.Duration
	PongTimeout    time.Duration // since the last pong
	AckTimeout     time.Duration // then a push that was not acked is pushed again
	Lease          time.Duration // how long a presence outlives its connection
	WorkingTTL     time.Duration // then the status working falls back to idle
	MessageTTL     time.Duration // then what could not be delivered expires
	KeepDelivered  time.Duration // what everyone has is kept so long after it was sent; 0: for ever
	KeepDeliveries int           // and only as the newest so many deliveries; 0: all of them
	PruneEvery     time.Duration // how often what is over is deleted
	WriteTimeout   time.Duration // a connection that takes nothing for so long is a slow consumer
	OutboxFrames   int           // frames that may wait for one socket
	OutboxBytes    int           // bytes that may wait for one socket
}

// DefaultLimits are those of the protocol, and for a small machine.
func DefaultLimits() Limits {
	return Limits{
		MaxMessage:     wire.DefaultMaxMessage,
		MaxConnections: 10_000,
		MaxPerAddress:  2000,
		MaxPending:     1000,
		SendRate:       20,
		SendBurst:      100,
		HelloTimeout:   10 * time.Second,
		PingInterval:   30 * time.Second,
		PongTimeout:    75 * time.Second,
		AckTimeout:     30 * time.Second,
		Lease:          90 * time.Second,
		WorkingTTL:     time.Minute,
		MessageTTL:     7 * 24 * time.Hour,
		KeepDelivered:  30 * 24 * time.Hour,
		KeepDeliveries: 200_000,
		PruneEvery:     time.Minute,
		WriteTimeout:   20 * time.Second,
		OutboxFrames:   4096,
		OutboxBytes:    8 << 20,
	}
}

const (
	maxCapabilities = 100 // words of one hello

	earnAfter     = 10 * time.Second // a presence that lived so long has earned a lease (protocol section 10)
	sendsInFlight = 64               // of one connection; more wait in its socket
	malformedRun  = 5                // bad frames in a row that end a connection (protocol section 1)
	closeGrace    = 6 * time.Second  // for a close handshake; then the socket is cut
	idleFrames    = 32               // room for frames that an idle connection may keep
	retryRead     = time.Second      // after the store could not be read
	retryWrite    = time.Second      // after it could not be written

	feedWindow      = 1024 // pushes of one connection that wait for their ack
	feedPage        = 64   // messages read from the store at once
	maxRedeliveries = 5    // of one push on one connection
	topicBacklog    = 200  // messages of one topic that wait for a member; older ones are history

	eventDelay   = 25 * time.Millisecond // presence events may wait this long to leave together
	earnEvery    = time.Second
	sweepEvery   = 5 * time.Second
	tidyEvery    = time.Minute
	enforceEvery = time.Second // bans of commands beside the server hold on live connections within twice that
)
