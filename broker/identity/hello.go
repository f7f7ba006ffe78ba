package identity

import "time"

// Hello is the signed part of a member's hello (§2).
type Hello struct {
	MeshID    string
	MemberID  string
	PubKey    string  // the member's, 64 lowercase hex
	Timestamp float64 // Unix ms, NaN when the frame held no finite number
	Signature string  // 128 lowercase hex, by PubKey over Canonical
}

// Canonical returns the bytes a member signs: <meshId>|<memberId>|<pubkey>|<timestamp>.
//
// They carry no label of their own, unlike those of sessions, so a hello to a mesh called
// "claudemesh-session-attest" could be read as an attestation. It would vouch for the signer's own
// key and nobody else's, and so gives nothing away.
func (h Hello) Canonical() string {
	return join(h.MeshID, h.MemberID, h.PubKey, number(h.Timestamp))
}

// Sign sets Signature to k's over Canonical. It verifies only if PubKey is k.Public().
func (h *Hello) Sign(k Key) { h.Signature = k.Sign(h.Canonical()) }

// Verify returns nil when the holder of PubKey signed this hello just now, else an *Error with the
// first of timestamp_skew, malformed, bad_signature that applies. Whether such a member exists, and
// whether the hello is a replay, is for the caller to find out.
func (h Hello) Verify(now time.Time) error {
	if err := checkSkew(h.Timestamp, now); err != nil {
		return err
	}
	if err := h.checkShape(); err != nil {
		return err
	}
	if !VerifyHex(h.PubKey, h.Canonical(), h.Signature) {
		return refuse(codeBadSignature, "The hello's signature does not match its pubkey; sign <meshId>|<memberId>|<pubkey>|<timestamp> with that key's secret.")
	}
	return nil
}

func (h Hello) checkShape() error {
	switch {
	case !isID(h.MeshID):
		return refuse(codeMalformed, "meshId must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -; take it from the invite.")
	case !isID(h.MemberID):
		return refuse(codeMalformed, "memberId must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -; take it from the answer to the join.")
	case !IsPublicKey(h.PubKey):
		return refuse(codeMalformed, "pubkey must be 64 lowercase hex characters; send the member's Ed25519 public key.")
	case !IsSignature(h.Signature):
		return refuse(codeMalformed, "signature must be 128 lowercase hex characters; send the Ed25519 signature of the hello.")
	}
	return nil
}
