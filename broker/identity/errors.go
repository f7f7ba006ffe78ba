package identity

// The codes a check can fail with; each is an error code and a close reason of the protocol (§2, §3).
const (
	codeMalformed           = "malformed"
	codeBadSignature        = "bad_signature"
	codeTimestampSkew       = "timestamp_skew"
	codeExpired             = "expired"
	codeTTLTooLong          = "ttl_too_long"
	codeBadSessionPubKey    = "bad_session_pubkey"
	codeBadParentPubKey     = "bad_parent_pubkey"
	codeAttestationMismatch = "attestation_mismatch"
)

// Error is a refusal that may be shown to whoever sent the frame.
type Error struct {
	Code    string // machine-readable, snake_case, one of the protocol's
	Message string // a full sentence telling a person what to do; reveals nothing about the mesh
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// refuse returns an *Error as a plain error, so that no check can return a typed nil.
func refuse(code, message string) error { return &Error{Code: code, Message: message} }
