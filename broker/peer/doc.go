// Package peer is the other end of the wire: it joins a mesh by an invite,
// keeps the identity that came of it, dials a broker, proves its key, and then
// sends, receives and acknowledges messages.
//
// A Conn is one connection and ends with it. Stay keeps one open across
// restarts and broken networks.
package peer
