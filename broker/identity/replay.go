package identity

import (
	"crypto/ed25519"
	"encoding/hex"
	"sync"
	"time"
)

// replayWindow is for how many milliseconds a signature is remembered at least. A hello whose
// timestamp lies MaxSkew ahead of the clock stays acceptable until the clock is MaxSkew past it, so
// MaxSkew alone would leave the second half of that time to a replay. The last 10 s, the longest a
// handshake may take, are for a caller that reads the clock again between Verify and Remember.
const replayWindow = int64((2*MaxSkew + 10*time.Second) / time.Millisecond)

// signature is the decoded form of what a guard remembers. The whole of it, because R alone could be
// reused by a signer; and it is enough, because Verify accepts no second spelling of it.
type signature [ed25519.SignatureSize]byte

// ReplayGuard remembers the signatures of accepted hellos for as long as they could be accepted again.
// It is safe for concurrent use.
//
// It keeps two generations: new signatures go to the young one, and when that is replayWindow old it
// becomes the old one and the previous old one is dropped. Memory is that of the signatures accepted
// within two windows, about 4 minutes, at some 100 bytes each. There is no other bound: to forget
// early would admit replays, to refuse would lock out everyone because one member is noisy, and
// strangers leave nothing behind because the broker forgets what fails a later check.
// Rejected: an expiry per signature with a heap, which forgets sooner for twice the memory.
type ReplayGuard struct {
	origin time.Time // of the monotonic clock

	mu         sync.Mutex // a leaf: nothing is locked or called under it
	since      int64      // Unix ms when young was begun, 0: never
	sinceUp    int64      // the same by the monotonic clock, ms since origin
	young, old map[signature]struct{}
}

// NewReplayGuard returns a guard that remembers nothing yet.
func NewReplayGuard() *ReplayGuard {
	return &ReplayGuard{origin: time.Now(), young: map[signature]struct{}{}}
}

// Remember records that a hello with this signature (128 lowercase hex) is being accepted at now, and
// reports whether it is the first: false means replayed. What is not a signature is never the first.
// Of concurrent calls with one signature exactly one returns true.
//
// Ed25519 signs the same text the same way, so two connections that one key opens within one
// millisecond look like a replay too. The second is refused and tries again, as clients do.
func (g *ReplayGuard) Remember(sigHex string, now time.Time) bool {
	return g.remember(sigHex, now.UnixMilli(), now.Sub(g.origin).Milliseconds())
}

// remember is Remember at nowMs, Unix ms, and upMs by the monotonic clock.
func (g *ReplayGuard) remember(sigHex string, nowMs, upMs int64) bool {
	sig, ok := decodeSignature(sigHex)
	if !ok {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rotateLocked(nowMs, upMs)
	if g.knowsLocked(sig) {
		return false
	}
	g.young[sig] = struct{}{}
	return true
}

// Forget takes back a Remember that returned true, for a hello that failed a later check: it may be
// repeated once the reason is gone, and a stranger's signatures take no memory.
func (g *ReplayGuard) Forget(sigHex string) {
	sig, ok := decodeSignature(sigHex)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.young, sig)
	delete(g.old, sig)
}

func (g *ReplayGuard) knowsLocked(sig signature) bool {
	_, young := g.young[sig]
	_, old := g.old[sig]
	return young || old
}

// rotateLocked drops what is too old by both clocks. By the wall clock, because timestamps are checked
// against it: when it is set back, old hellos become acceptable again, and must still be known. By the
// monotonic one, because a wall clock that leaps forward would have everything forgotten, and be put
// right a moment later.
func (g *ReplayGuard) rotateLocked(nowMs, upMs int64) {
	if g.since == 0 {
		g.since, g.sinceUp = nowMs, upMs
	}
	switch age := min(nowMs-g.since, upMs-g.sinceUp); {
	case age >= 2*replayWindow:
		g.old, g.young = nil, map[signature]struct{}{}
	case age >= replayWindow:
		g.old, g.young = g.young, map[signature]struct{}{}
	case nowMs-g.since < -replayWindow:
		// Set back by more than a window. Waiting for the clock to catch up might take a year, and
		// memory with it; begin to count again from here, with everything still remembered.
	default:
		return
	}
	g.since, g.sinceUp = nowMs, upMs
}

func decodeSignature(sigHex string) (sig signature, ok bool) {
	if !IsSignature(sigHex) {
		return sig, false
	}
	hex.Decode(sig[:], []byte(sigHex)) // cannot fail: the shape was checked
	return sig, true
}
