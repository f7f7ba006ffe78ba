// Package store keeps everything meshbox knows in one SQLite file.
//
// It promises:
//
//   - What a method reported as done is on disk (WAL, synchronous=FULL): a
//     killed process or a lost power supply takes nothing back.
//   - One server per file, enforced by a lock; short-lived commands such as
//     "meshbox invite" may write beside it.
//   - A file that is not ours, is damaged, or was written by a newer meshbox is
//     refused before a byte of it is changed.
//   - Driver errors stop here: callers see ErrNotFound, ErrBusy and the like.
//
// All writes go through one goroutine that commits whatever waits as one
// transaction, so that many senders share one fsync (writer.go). Reads use a
// pool of connections of their own and never wait for the writer.
package store
