// Package broker is the meeting place: it verifies who connects, keeps who is
// here, and moves messages from the socket they came by to the disk and from
// there to everyone they are for.
//
// The way of a connection:
//
//	GET /ws ─ upgrade ─▶ conn.serve (conn.go)
//	  read loop   one goroutine: decode, dispatch (dispatch.go), one method per
//	              message type. The first must be a hello (hello.go).
//	  write loop  one goroutine: the only one that writes to the socket. It takes
//	              frames from the outbox (outbox.go), pings, and closes.
//
// The way of a message (delivery.go): the read loop checks it and hands it to
// the store's single writer, which commits many at once. Only after the commit
// the sender's outbox gets the ack, and each recipient's outbox the push. Acks
// and pushes leave in the order of the commits, which for one connection is the
// order of its sends.
//
// Locks, always taken in this order and never across I/O:
//
//	Broker.mu   who is here: presences by id, key, member and session
//	outbox.mu   what waits to be written to one socket
//
// Slow consumers: an outbox is bounded in frames and bytes. When it is full its
// connection is closed with 1013 slow_consumer; the messages themselves are on
// disk.
package broker
