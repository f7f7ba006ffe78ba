// Package broker is the meeting place: it verifies who connects, keeps who is
// here, and moves messages from the socket they came by to the disk and from
// there to everyone they are for.
//
// The way of a connection, which comes through package gate (who asks, for which name)
// and is counted before anything is known of it (admit.go):
//
//	GET /ws ─ upgrade ─▶ conn.serve (conn.go)
//	  read loop   one goroutine: decode, dispatch (dispatch.go), one method per
//	              message type. The first must be a hello (hello.go).
//	  write loop  one goroutine: the only one that writes to the socket. It takes
//	              frames from the outbox (outbox.go), reads from the store what
//	              the connection is behind with (feed.go), pings, and closes.
//
// The way of a message (send.go, address.go, delivery.go): the read loop checks it and hands it to
// the store's single writer, which commits many at once. Only after the commit
// the sender's outbox gets the ack, and the message is offered to the feeds of
// its recipients' connections. Acks and pushes leave in the order of the
// commits, which for one connection is the order of its sends. A message that a
// feed does not take stays where it is, on disk, until the feed has caught up or
// the recipient says its next hello.
//
// Scripts come by HTTP with an API key (apikey.go, rest.go): whoever has one acts as
// the member that issued it, and its messages go the same way (restpost.go). An event
// stream (reststream.go, streams.go) is rung after the commit, too, and reads the
// store from its cursor. What services post to a webhook (webhook.go, webhookpost.go)
// is made a line of (package webhook), and is a message of the webhook itself.
//
// Of encrypted topics the broker keeps what members sealed for members (seals.go,
// restseals.go), and can read nothing.
//
// What everyone has got is deleted after a while (prune.go), unless it is history.
//
// A presence (presence.go, room.go) outlives its connection by a lease (lease.go),
// unless a moderator ends it (moderation.go). Its status (status.go, hook.go)
// says what its feed lets pass. Who asked for it is told that something changed,
// and asks what (changes.go), and how far its messages got (receipts.go). What
// happens besides messages is appended to an
// audit chain (audit.go, store/audit.go) with the change itself.
//
// Locks, always taken in this order and never across I/O:
//
//	Broker.mu   who is here: presences by id, session key and member
//	feed.mu     what one connection was pushed and has not settled
//	outbox.mu   what waits to be written to one socket
//
// Those of grants, sendRates, ledger, changes and keyUses are leaves: nothing is
// locked under them. Under streams.mu there may be stream.mu, which says whether
// anything is written any more.
//
// Slow consumers: an outbox is bounded in frames and bytes. Messages that do not
// fit wait on disk; presence events that do not fit, and a write that stalls for
// Limits.WriteTimeout, close the connection with 1013 slow_consumer. Drops are
// counted by reason in broker_connections_dropped_total.
package broker
