package identity

import (
	"slices"
	"strings"
	"time"
)

// MaxAttestationTTL is how far in the future an attestation may expire, inclusive (§3).
const MaxAttestationTTL = 24 * time.Hour

// Attestation is a member's word that a session key acts for it until a given time, with all of the
// member's capabilities (version 1) or with a subset of them (version 2) (§3).
type Attestation struct {
	SessionPubKey      string   // 64 lowercase hex
	ParentMemberPubKey string   // 64 lowercase hex, the signer
	ExpiresAt          float64  // Unix ms, NaN when the frame held no finite number
	Signature          string   // 128 lowercase hex, by ParentMemberPubKey over Canonical
	Version            int      // 0 when the frame had none, which means 1; or 1, or 2
	AllowedCaps        []string // nil: the field was absent; empty and not nil: it was []
}

// Canonical returns the bytes the parent signs. Version 1:
//
//	claudemesh-session-attest|<parentMemberPubkey>|<sessionPubkey>|<expiresAt>
//
// Version 2, whose last field is AllowedCaps in lower case, sorted, joined with commas:
//
//	claudemesh-session-attest-v2|<parentMemberPubkey>|<sessionPubkey>|<expiresAt>|<caps>
//
// Duplicates stay: they do not make the text ambiguous, and what clients do not remove before
// signing must not be removed before verifying.
func (a Attestation) Canonical() string {
	if !a.isV2() {
		return join("claudemesh-session-attest", a.ParentMemberPubKey, a.SessionPubKey, number(a.ExpiresAt))
	}
	caps := lowerCaps(a.AllowedCaps)
	slices.Sort(caps)
	return join("claudemesh-session-attest-v2", a.ParentMemberPubKey, a.SessionPubKey, number(a.ExpiresAt), strings.Join(caps, ","))
}

// isV2 decides by either sign of version 2, so that no frame that speaks of capabilities is ever
// verified over bytes that do not.
func (a Attestation) isV2() bool { return a.Version == 2 || a.AllowedCaps != nil }

// Sign sets Signature to parent's over Canonical. It verifies only if ParentMemberPubKey is
// parent.Public().
func (a *Attestation) Sign(parent Key) { a.Signature = parent.Sign(a.Canonical()) }

// Verify returns nil when the parent signed this attestation and it is in force at now, else an
// *Error with the first of malformed, expired, ttl_too_long, bad_signature that applies.
func (a Attestation) Verify(now time.Time) error {
	if err := a.checkShape(); err != nil {
		return err
	}
	nowMs := float64(now.UnixMilli())
	switch {
	case a.ExpiresAt <= nowMs:
		return refuse(codeExpired, "The attestation has expired; let the parent member sign a new one, and check the client's clock.")
	case a.ExpiresAt > nowMs+float64(MaxAttestationTTL.Milliseconds()):
		return refuse(codeTTLTooLong, "The attestation is valid for more than 24 hours; let the parent member sign one that expires sooner, and check the client's clock.")
	case !VerifyHex(a.ParentMemberPubKey, a.Canonical(), a.Signature):
		return refuse(codeBadSignature, "The attestation's signature does not match its parentMemberPubkey; let the parent member sign a new one.")
	}
	return nil
}

func (a Attestation) checkShape() error {
	switch {
	case !isFinite(a.ExpiresAt):
		return refuse(codeMalformed, "The attestation's expiresAt must be a number of Unix milliseconds.")
	case !IsPublicKey(a.SessionPubKey):
		return refuse(codeMalformed, "The attestation's sessionPubkey must be 64 lowercase hex characters.")
	case !IsPublicKey(a.ParentMemberPubKey):
		return refuse(codeMalformed, "The attestation's parentMemberPubkey must be 64 lowercase hex characters.")
	case !IsSignature(a.Signature):
		return refuse(codeMalformed, "The attestation's signature must be 128 lowercase hex characters.")
	case a.Version < 0 || a.Version > 2:
		return refuse(codeMalformed, "The attestation's version must be 1 or 2; update the broker if the client speaks a newer one.")
	case slices.ContainsFunc(a.AllowedCaps, isAmbiguousCap):
		return refuse(codeMalformed, "The attestation's allowed_caps must be non-empty printable ASCII names without , and |.")
	}
	return nil
}

// isAmbiguousCap reports whether a capability would let the signed list be read in two ways: ["a,b"]
// and ["a","b"], or [""] and []. Outside ASCII, "lower case" and "sorted" depend on who computes them.
func isAmbiguousCap(capability string) bool {
	return capability == "" || strings.ContainsFunc(capability, func(r rune) bool {
		return r < ' ' || r > '~' || r == ',' || r == '|'
	})
}

// Caps returns what the session may do. It means something only after Verify returned nil.
//
// Version 1 grants everything. Version 2 grants AllowedCaps, and nothing when that field is absent,
// although the protocol reads its absence as everything: an absent and an empty list are signed as
// the same bytes, so a session vouched for with no capabilities at all could drop the field and
// become as mighty as its parent. A parent that means everything has version 1 to say so.
// Rejected: refusing such a frame, as its signature is good and a session without capabilities may
// still listen.
func (a Attestation) Caps() Caps {
	if !a.isV2() {
		return AllCaps()
	}
	allowed := make(map[string]bool, len(a.AllowedCaps))
	for _, capability := range lowerCaps(a.AllowedCaps) {
		allowed[capability] = true
	}
	return Caps{allowed: allowed}
}

func lowerCaps(caps []string) []string {
	lower := make([]string, len(caps))
	for i, capability := range caps {
		lower[i] = strings.ToLower(capability)
	}
	return lower
}

// Caps is a set of session capabilities. The zero value allows nothing, so that forgetting to fill it
// in locks out rather than lets in.
type Caps struct {
	all     bool
	allowed map[string]bool // lower case; read-only once made
}

// AllCaps returns the set that allows everything: that of a member connection or a version 1 session.
func AllCaps() Caps { return Caps{all: true} }

// Allows reports whether the set has capability, one of the protocol's lower-case names (§3).
func (c Caps) Allows(capability string) bool { return c.all || c.allowed[capability] }

// All reports whether the set allows everything, also what a later version may name.
func (c Caps) All() bool { return c.all }
