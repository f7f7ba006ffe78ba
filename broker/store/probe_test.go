package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What the latest write said counts for a while; then a probe finds out, and says so
// as soon as writing works again.
func TestCanWrite(t *testing.T) {
	db, _ := newDB(t)
	readOnly := func(on string) {
		t.Helper()
		if _, err := db.writer.tx.conn.ExecContext(t.Context(), "PRAGMA query_only = "+on); err != nil { // the writer is idle
			t.Fatal(err)
		}
	}
	if err := db.Update(func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	age := func() { // as if the latest write was long ago
		last := *db.writer.last.Load()
		last.at = last.at.Add(-probeIdle)
		db.writer.last.Store(&last)
	}
	if err := db.CanWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	readOnly("1")
	if err := db.CanWrite(t.Context()); err != nil {
		t.Errorf("right after a write that worked: %v", err)
	}
	age()
	if err := db.CanWrite(t.Context()); !errors.Is(err, ErrReadOnly) || Trouble(err) != "read_only" {
		t.Errorf("read-only: %v", err)
	}
	readOnly("0")
	age()
	if err := db.CanWrite(t.Context()); err != nil {
		t.Errorf("it can be written again: %v", err)
	}
}

// Who asks while another program holds the file is not kept waiting for it.
func TestCanWriteDoesNotWaitForALock(t *testing.T) {
	db, _ := newDB(t)
	begun, release := make(chan struct{}), make(chan struct{})
	go func() { _ = db.Update(func(*Tx) error { close(begun); <-release; return nil }) }()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	db.writer.last.Store(nil)
	if err := db.CanWrite(ctx); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := db.CanWrite(t.Context()); err != nil {
		t.Errorf("after that: %v", err)
	}
}
