package identity

import "time"

// SessionHello is the signed part of a session's hello: the session key signs the hello, the parent
// member's key has signed the attestation in it (§3).
//
// The broker checks in this order: CheckBinding, its capacity, Attestation.Verify, VerifySignature.
type SessionHello struct {
	MeshID             string
	ParentMemberPubKey string  // 64 lowercase hex
	SessionPubKey      string  // 64 lowercase hex
	Timestamp          float64 // Unix ms, NaN when the frame held no finite number
	Signature          string  // 128 lowercase hex, by SessionPubKey over Canonical
	Attestation        Attestation
}

// Canonical returns the bytes the session key signs, anew for every connection:
// claudemesh-session-hello|<meshId>|<parentMemberPubkey>|<sessionPubkey>|<timestamp>.
func (s SessionHello) Canonical() string {
	return join("claudemesh-session-hello", s.MeshID, s.ParentMemberPubKey, s.SessionPubKey, number(s.Timestamp))
}

// Sign sets Signature to session's over Canonical. It verifies only if SessionPubKey is
// session.Public().
func (s *SessionHello) Sign(session Key) { s.Signature = session.Sign(s.Canonical()) }

// CheckBinding returns nil when the attestation speaks of the keys the hello claims, else an *Error
// with the first of bad_session_pubkey, bad_parent_pubkey, attestation_mismatch that applies. It
// verifies no signature.
func (s SessionHello) CheckBinding() error {
	switch {
	case !IsPublicKey(s.SessionPubKey):
		return refuse(codeBadSessionPubKey, "sessionPubkey must be 64 lowercase hex characters; send the session's Ed25519 public key.")
	case !IsPublicKey(s.ParentMemberPubKey):
		return refuse(codeBadParentPubKey, "parentMemberPubkey must be 64 lowercase hex characters; send the parent member's Ed25519 public key.")
	case s.Attestation.SessionPubKey != s.SessionPubKey || s.Attestation.ParentMemberPubKey != s.ParentMemberPubKey:
		return refuse(codeAttestationMismatch, "The attestation was made for other keys than this hello claims; let the parent member sign one for this session.")
	}
	return nil
}

// VerifySignature returns nil when the holder of SessionPubKey signed this hello just now, else an
// *Error with the first of timestamp_skew, malformed, bad_signature that applies. An attestation can
// be read off the wire and presented by anyone; only this signature proves the session key.
func (s SessionHello) VerifySignature(now time.Time) error {
	if err := checkSkew(s.Timestamp, now); err != nil {
		return err
	}
	if err := s.checkShape(); err != nil {
		return err
	}
	if !VerifyHex(s.SessionPubKey, s.Canonical(), s.Signature) {
		return refuse(codeBadSignature, "The hello's signature does not match its sessionPubkey; sign claudemesh-session-hello|<meshId>|<parentMemberPubkey>|<sessionPubkey>|<timestamp> with the session key's secret.")
	}
	return nil
}

// checkShape checks the keys as well as CheckBinding does, so that the signed text is unambiguous even
// to a caller that left that check out.
func (s SessionHello) checkShape() error {
	switch {
	case !isID(s.MeshID):
		return refuse(codeMalformed, "meshId must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -; take it from the invite.")
	case !IsPublicKey(s.SessionPubKey) || !IsPublicKey(s.ParentMemberPubKey):
		return refuse(codeMalformed, "sessionPubkey and parentMemberPubkey must be 64 lowercase hex characters each.")
	case !IsSignature(s.Signature):
		return refuse(codeMalformed, "signature must be 128 lowercase hex characters; send the session's Ed25519 signature of the hello.")
	}
	return nil
}
