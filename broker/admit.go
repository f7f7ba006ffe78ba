package broker

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"meshbox/broker/gate"
	"meshbox/broker/store"
)

// Who may have a socket at all, before anything is known of them.

// Reasons of refusals, as broker_requests_refused_total counts them; package gate has
// the others.
const (
	tooManyFrom  = gate.TooManyFrom
	tooManyFresh = "pending_connections"
	guessing     = "invite_guessing"
)

// admission counts sockets by the address of whoever asked for them.
type admission struct {
	sockets *gate.Counts // all
	fresh   *gate.Counts // those without a valid hello
}

func newAdmission() admission { return admission{sockets: gate.NewCounts(), fresh: gate.NewCounts()} }

// admit gives a request for a socket its places: one until the connection ends, and
// one until its hello. Otherwise it answers 503.
func (b *Broker) admit(w http.ResponseWriter, r *http.Request) (socket, fresh *gate.Place) {
	address := gate.Address(r.RemoteAddr)
	if socket = b.admission.sockets.Take(address, b.cfg.Limits.MaxPerAddress); socket == nil {
		b.tooMany(w, tooManyFrom, "There are too many connections from your address; close one, or raise --max-connections-per-address.")
		return nil, nil
	}
	most := b.cfg.Limits.MaxPending
	if b.admission.fresh.Total() < most { // the limit may be passed by as many as ask in the same instant
		if fresh = b.admission.fresh.Take(address, max(1, most/4)); fresh != nil {
			return socket, fresh
		}
	}
	socket.Leave()
	b.tooMany(w, tooManyFresh, "Too many connections wait for their hello; try again in a moment, or raise --max-pending-connections.")
	return nil, nil
}

func (b *Broker) tooMany(w http.ResponseWriter, reason, sentence string) {
	b.Refused(reason)
	w.Header().Set("Retry-After", "1")
	http.Error(w, sentence, http.StatusServiceUnavailable)
}

// Refused counts a request or connection that was refused, under a reason.
func (b *Broker) Refused(reason string) { b.metrics.turnedAway.WithLabelValues(reason).Inc() }

// Guesses of invites. A short code has 47 bits, so guessing is hopeless anyway; this
// keeps it from costing anything.
const (
	guessRate     = 1.0 / 30 // wrong ones per second of one address, lasting
	guessBurst    = 10       // of one at once: somebody who mistypes
	allGuessRate  = 1.0      // of everybody
	allGuessBurst = 100
	maxGuessers   = 1 << 16 // addresses at once
	everybody     = ""      // the key of all together

	// What is owed at most: a flood is over for others as soon as it ends.
	guessDebt    = 2 * time.Minute
	allGuessDebt = 5 * time.Second
)

// guesses bound how often an invite may be named that does not work.
type guesses struct {
	mine *buckets // by address
	all  *buckets // one
}

func newGuesses() guesses {
	return guesses{mine: newBuckets(guessRate, guessBurst, maxGuessers), all: newBuckets(allGuessRate, allGuessBurst, 0)}
}

// wait is how long whoever sent a request must not try an invite. When all together
// were wrong too often, an address that was not lately still may: a guesser must not
// lock out a person who has a good invite. Loopback has only the bucket of all: behind
// a proxy that is not trusted everybody has that address.
func (g *guesses) wait(r *http.Request, now time.Time) time.Duration {
	all, _ := g.all.debt(everybody, now)
	address := gate.Address(r.RemoteAddr)
	if address.IsLoopback() {
		return all
	}
	mine, owes := g.mine.debt(gate.Group(address).String(), now)
	if !owes {
		return 0
	}
	return max(mine, all)
}

// wrong counts an invite that does not exist.
func (g *guesses) wrong(r *http.Request, now time.Time) {
	g.all.charge(everybody, now, allGuessDebt)
	if address := gate.Address(r.RemoteAddr); !address.IsLoopback() {
		g.mine.charge(gate.Group(address).String(), now, guessDebt)
	}
}

// mayGuess reports whether an invite may be tried. If not, problem says so.
func (b *Broker) mayGuess(w http.ResponseWriter, r *http.Request) (problem *restError) {
	wait := b.guesses.wait(r, time.Now())
	if wait <= 0 {
		return nil
	}
	b.Refused(guessing)
	w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
	return tooManyRequests("Too many invites were tried that do not exist.", wait)
}

// tried counts the outcome of using an invite.
func (b *Broker) tried(r *http.Request, err error) {
	if isGuess(err) {
		b.guesses.wrong(r, time.Now())
	}
}

// isGuess tells an invite that was never made here from everything else that may be
// wrong.
func isGuess(err error) bool {
	for _, known := range []error{errInviteSignature, store.ErrNotFound, store.ErrMeshNotFound, store.ErrInviteNotFound, store.ErrInviteOwnerMismatch, store.ErrInviteMeshMismatch} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
