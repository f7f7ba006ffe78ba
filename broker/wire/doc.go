// Package wire is the claudemesh protocol as bytes: one type per message, the
// limits each field must keep, and the table that says what an error code does
// to a connection. It is pure: no sockets, no clock, no database.
//
// The wire is WebSocket text frames, one JSON object per frame, told apart by
// the string "type". A request may carry "_reqId"; every answer to it, error
// included, echoes it. Keys and signatures are lowercase hex, payloads standard
// base64 with padding, instants either Unix milliseconds (timestamp, expiresAt,
// deliverAt) or RFC 3339 UTC with milliseconds (everything called …At).
//
//	client                                   broker
//	  hello | session_hello  ───────────────▶  verify            (requests.go)
//	                         ◀───────────────  hello_ack | error (responses.go)
//	  send                   ───────────────▶  store, commit
//	                         ◀───────────────  ack
//	                         ◀───────────────  push              (to each recipient)
//	  client_ack             ───────────────▶  settle
//
// Fields a party does not know are ignored, so additive fields are always
// allowed (protocol, preamble).
package wire
