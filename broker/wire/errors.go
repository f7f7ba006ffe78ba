package wire

// The error codes of the protocol. Each is machine-readable snake_case; what a
// person should do stands in the message beside it.
const (
	// of any frame
	Malformed          = "malformed"
	UnknownMessageType = "unknown_message_type"
	NoHello            = "no_hello"
	InvalidArgs        = "invalid_args"
	Forbidden          = "forbidden"
	NotFound           = "not_found"
	Internal           = "internal"

	// of a hello (protocol sections 2 and 3)
	HelloTimeout           = "hello_timeout"
	BadSessionPubkey       = "bad_session_pubkey"
	BadParentPubkey        = "bad_parent_pubkey"
	AttestationMismatch    = "attestation_mismatch"
	Capacity               = "capacity"
	TimestampSkew          = "timestamp_skew"
	BadSignature           = "bad_signature"
	Expired                = "expired"
	TTLTooLong             = "ttl_too_long"
	Replayed               = "replayed"
	Unauthorized           = "unauthorized"
	Revoked                = "revoked"
	ParentMemberIDMismatch = "parent_member_id_mismatch"

	// of a living connection
	AlreadyGreeted  = "already_greeted"
	SlowConsumer    = "slow_consumer"
	SessionReplaced = "session_replaced"
	PongTimeout     = "pong_timeout"
	ShuttingDown    = "shutting_down"

	// of moderation: why a connection ended
	Disconnected = "disconnected"
	Kicked       = "kicked"
	Banned       = "banned" // its error frame has the code revoked

	// of a send (protocol section 5)
	TargetNotFound      = "target_not_found"
	PayloadTooLarge     = "payload_too_large"
	InvalidPayload      = "invalid_payload"
	IdempotencyConflict = "idempotency_conflict"
	RateLimit           = "rate_limit"
	Busy                = "busy"

	// of message_status
	InvalidArgument = "invalid_argument"
	AmbiguousPrefix = "ambiguous_prefix"

	// of topics (protocol section 7)
	TopicNotFound = "topic_not_found"

	// of webhooks (protocol, services, section 3)
	WebhookExists = "webhook_exists"
)

// WebSocket close codes the broker uses (RFC 6455 section 7.4; 4000–4999 are
// the protocol's own).
const (
	CloseNormal       = 1000
	CloseGoingAway    = 1001
	ClosePolicy       = 1008
	CloseTooBig       = 1009
	CloseInternal     = 1011
	CloseTryLater     = 1013
	CloseKicked       = 4001 // terminal for one-shot clients
	CloseBanned       = 4002 // terminal for one-shot clients
	MaxCloseReasonLen = 123  // bytes; a longer reason sends no close frame at all
)

// closeCodes says with which code a connection ends for a reason. A reason that
// is not here does not end the connection.
var closeCodes = map[string]int{
	HelloTimeout: ClosePolicy, BadSessionPubkey: ClosePolicy, BadParentPubkey: ClosePolicy,
	AttestationMismatch: ClosePolicy, Capacity: ClosePolicy, TimestampSkew: ClosePolicy,
	Malformed: ClosePolicy, BadSignature: ClosePolicy, Expired: ClosePolicy, TTLTooLong: ClosePolicy,
	Replayed: ClosePolicy, Unauthorized: ClosePolicy, ParentMemberIDMismatch: ClosePolicy,
	Revoked: CloseBanned, Banned: CloseBanned, Kicked: CloseKicked,

	SessionReplaced: CloseNormal,
	Disconnected:    CloseNormal,
	ShuttingDown:    CloseGoingAway,
	PongTimeout:     CloseGoingAway,
	SlowConsumer:    CloseTryLater,
	Busy:            CloseTryLater,
	Internal:        CloseInternal,
}

// CloseCode returns the WebSocket close code for a reason that ends a
// connection, CloseInternal for one the table does not hold.
func CloseCode(reason string) int {
	if code, ok := closeCodes[reason]; ok {
		return code
	}
	return CloseInternal
}

// Error is the protocol's only error shape. It is both a Message and a Go error.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	ID      string `json:"id,omitempty"` // only when it answers a send with that id
}

// NewError returns an Error; message is a full sentence that tells a person
// what to do, and never carries internal text.
func NewError(code, message string) *Error { return &Error{Code: code, Message: message} }

// Type implements Message.
func (*Error) Type() string { return "error" }

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }
