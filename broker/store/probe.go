package store

import (
	"context"
	"errors"
	"time"
)

const (
	probeIdle   = 10 * time.Second // so long a write that worked says that the next one will
	probeFailed = time.Second      // so long one that did not
)

// outcome is what became of a transaction: nil, or an error of the file or the disk.
type outcome struct {
	err error
	at  time.Time
}

// tells reports whether an outcome is recent enough to say how things are.
func (o *outcome) tells(now time.Time) bool {
	if o == nil {
		return false
	}
	age := now.Sub(o.at)
	return age < probeFailed || o.err == nil && age < probeIdle
}

// CanWrite returns nil if the latest write reached the disk, else what was wrong
// (ErrFull, ErrReadOnly, ErrBusy, ...). When there was none lately it writes a little,
// at most every 10 seconds, and once a second as long as that fails.
func (db *DB) CanWrite(ctx context.Context) error {
	w := db.writer
	if last := w.last.Load(); last.tells(time.Now()) {
		return last.err
	}
	select {
	case db.probing <- struct{}{}:
	case <-ctx.Done():
		return ErrBusy
	}
	if last := w.last.Load(); last.tells(time.Now()) { // another one probed
		<-db.probing
		return last.err
	}
	wrote := make(chan error, 1)
	probe := &op{apply: probeWrite, done: func(err error) { <-db.probing; wrote <- err }}
	if err := w.trySubmit(probe); err != nil {
		<-db.probing
		return err
	}
	select {
	case err := <-wrote:
		return err
	case <-ctx.Done():
		return ErrBusy
	}
}

func probeWrite(tx *Tx) error {
	return tx.exec("INSERT INTO setting (key, value) VALUES ('probed_at', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", time.Now().UTC().Format(time.RFC3339))
}

// trySubmit is submit that does not wait: a queue that stays full is an answer, too.
func (w *writer) trySubmit(o *op) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.ops <- o:
		return nil
	default:
		return ErrBusy
	}
}

// Trouble names what is wrong with the file in a word: full, read_only, busy,
// damaged or down.
func Trouble(err error) string {
	switch {
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrReadOnly):
		return "read_only"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrCorrupt):
		return "damaged"
	}
	return "down"
}
