package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueLen = 1024 // operations that may wait for the writer; then callers block
	maxBatch = 512  // operations in one transaction: bounds how long readers of the WAL lag

	besidePatience = 15 * time.Second       // of a command for the lock of the file
	besideLook     = 500 * time.Microsecond // how often it looks
)

// op is one write that waits for its commit.
type op struct {
	apply func(*Tx) error
	done  func(error) // told the outcome after the commit, in commit order

	// plain says that apply changes nothing when it fails by itself, which saves
	// the two statements of a savepoint.
	plain bool
	err   error
}

// writer owns the only connection that writes. Two goroutines: one commits,
// the other tells the callers, so that the next fsync runs while acks go out.
type writer struct {
	ops      chan *op
	finished chan []*op
	tx       *Tx      // owned by the commit goroutine
	wal      walWatch // likewise
	wg       sync.WaitGroup
	last     atomic.Pointer[outcome] // of the latest attempt; nil before the first

	mu     sync.RWMutex // held for reading while sending on ops
	closed bool
}

// Tx is the store inside the writer's transaction. Its methods are only valid
// during the function that received it.
type Tx struct {
	conn   *sql.Conn
	beside bool                 // a server has the file, and may be writing all the time
	stmts  map[string]*sql.Stmt // prepared once per SQL text

	audiences   map[string][]string // by topic id; see audience
	senders     map[string]bool     // by member id; see mayPost
	dataVersion int64
}

func newTx(conn *sql.Conn) *Tx {
	return &Tx{conn: conn, stmts: map[string]*sql.Stmt{}, audiences: map[string][]string{}, senders: map[string]bool{}}
}

// close frees the prepared statements.
func (tx *Tx) close() {
	for _, stmt := range tx.stmts {
		stmt.Close()
	}
}

func startWriter(conn *sql.Conn, wal string, beside bool) *writer {
	w := &writer{
		ops:      make(chan *op, queueLen),
		finished: make(chan []*op, 4),
		tx:       newTx(conn),
		wal:      walWatch{path: wal},
	}
	w.tx.beside = beside
	w.wg.Go(w.commitLoop)
	w.wg.Go(w.tellLoop)
	return w
}

// submit queues o, waiting while the queue is full.
func (w *writer) submit(o *op) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	w.ops <- o
	return nil
}

// stop commits what was submitted, tells its callers, and returns.
func (w *writer) stop() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.ops)
	}
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *writer) commitLoop() {
	defer close(w.finished)
	for first := range w.ops {
		batch := append(make([]*op, 0, 1+len(w.ops)), first)
		for len(batch) < maxBatch && len(w.ops) > 0 {
			next, ok := <-w.ops
			if !ok {
				break
			}
			batch = append(batch, next)
		}
		if err := w.commit(batch); errors.Is(err, ErrBusy) {
			batch = w.giveUp(batch, err)
		}
		w.finished <- batch
		w.wal.committed(w.tx)
	}
	w.tx.close()
}

// giveUp fails what came while a batch waited in vain for another program's
// lock, too: one batch after the other, each would wait as long again, and its
// callers' callers would have stopped listening.
func (w *writer) giveUp(batch []*op, err error) []*op {
	for range len(w.ops) {
		if o, ok := <-w.ops; ok {
			o.err = err
			batch = append(batch, o)
		}
	}
	return batch
}

func (w *writer) tellLoop() {
	for batch := range w.finished {
		for _, o := range batch {
			o.done(o.err)
		}
	}
}

// commit runs batch as one transaction. If one operation breaks it, each is tried
// alone, so that a bad write does not fail its neighbours. If the file or the
// disk does, all of them fail at once with the error that is returned: alone each
// would only wait as long again.
func (w *writer) commit(batch []*op) error {
	err := w.tx.run(batch)
	if err == nil {
		w.last.Store(&outcome{at: time.Now()})
		return nil
	}
	if broken, ok := errors.AsType[*opError](err); ok && len(batch) > 1 && !isOutage(broken.error) {
		for _, o := range batch {
			_ = w.commit([]*op{o}) // stands in o.err
		}
		return nil
	}
	for _, o := range batch {
		o.err = err
	}
	if isDatabaseError(err) {
		w.last.Store(&outcome{err: err, at: time.Now()})
	}
	return err
}

// opError says that the transaction broke in an operation, not in its own
// statements.
type opError struct{ error }

func (e *opError) Unwrap() error { return e.error }

// isOutage reports errors that every other operation would meet as well.
func isOutage(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrFull) || errors.Is(err, ErrReadOnly)
}

// run executes batch in one transaction. An error is one of the database, and
// then nothing of the batch was kept; what an operation itself refused stands
// in its err.
func (tx *Tx) run(batch []*op) (err error) {
	if err := tx.begin(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.forget()
			_ = tx.exec("ROLLBACK") // fails when SQLite rolled back by itself
		}
	}()
	if err := tx.noticeOthers(); err != nil {
		return err
	}
	for _, o := range batch {
		if err := tx.apply(o); err != nil {
			return err
		}
	}
	return tx.exec("COMMIT")
}

// begin gets the lock of the file. SQLite, which looks for it ten times a second,
// would hardly ever find it free beside a server under load, that takes it again at
// once: (seen) a ban failed for it. So a command looks more often.
func (tx *Tx) begin() error {
	if !tx.beside {
		return tx.exec("BEGIN IMMEDIATE")
	}
	_ = tx.wait(0) // touches no file
	defer func() { _ = tx.wait(busyTimeout) }()
	for end := time.Now().Add(besidePatience); ; time.Sleep(besideLook) {
		err := tx.exec("BEGIN IMMEDIATE")
		if !errors.Is(err, ErrBusy) || time.Now().After(end) {
			return err
		}
	}
}

// apply runs one operation. Its own refusal is undone and kept in o.err; an
// error of the database is returned.
func (tx *Tx) apply(o *op) error {
	if !o.plain {
		if err := tx.exec("SAVEPOINT op"); err != nil {
			return err
		}
	}
	o.err = o.apply(tx)
	if isDatabaseError(o.err) || o.plain && errors.Is(o.err, errConstraint) {
		return &opError{o.err} // what a plain one wrote before cannot be undone alone
	}
	if o.plain {
		return nil
	}
	if o.err != nil {
		tx.forget()
		if err := tx.exec("ROLLBACK TO op"); err != nil {
			return err
		}
	}
	return tx.exec("RELEASE op")
}

// isDatabaseError tells failures of the file or the disk from an operation's
// own "no".
func isDatabaseError(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrFull) || errors.Is(err, ErrReadOnly) ||
		errors.Is(err, ErrCorrupt) || errors.As(err, new(databaseError))
}

// databaseError wraps what translate has no name for.
type databaseError struct{ error }

// noticeOthers drops what the writer remembered if another process wrote to the
// file since the last transaction (PRAGMA data_version changes by that alone).
func (tx *Tx) noticeOthers() error {
	var version int64
	if err := tx.row(&version, "PRAGMA data_version"); err != nil {
		return err
	}
	if version != tx.dataVersion {
		tx.dataVersion = version
		tx.forget()
	}
	return nil
}

// forget drops everything remembered beside the file.
func (tx *Tx) forget() {
	clear(tx.audiences)
	clear(tx.senders)
}

// Update runs fn in a transaction and returns after its commit. An error of fn
// undoes what it did. fn must not call the DB, and may be run twice.
func (db *DB) Update(fn func(*Tx) error) error { return db.updateThen(fn, func() {}) }

// updateThen is Update that calls committed after the commit, in the order of
// commits, on a goroutine of the store: it must not block.
func (db *DB) updateThen(fn func(*Tx) error, committed func()) error {
	outcome := make(chan error, 1)
	err := db.writer.submit(&op{apply: fn, done: func(err error) {
		if err == nil {
			committed()
		}
		outcome <- err
	}})
	if err != nil {
		return err
	}
	return <-outcome
}

// prepared returns the statement of query, preparing it on first use.
func (tx *Tx) prepared(query string) (*sql.Stmt, error) {
	if stmt, ok := tx.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := tx.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, failure(query, err)
	}
	tx.stmts[query] = stmt
	return stmt, nil
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.execCount(query, args...)
	return err
}

// execCount returns how many rows the statement changed.
func (tx *Tx) execCount(query string, args ...any) (int64, error) {
	result, err := tx.execResult(query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (tx *Tx) execResult(query string, args ...any) (sql.Result, error) {
	stmt, err := tx.prepared(query)
	if err != nil {
		return nil, err
	}
	result, err := stmt.ExecContext(context.Background(), args...)
	if err != nil {
		return nil, failure(query, err)
	}
	return result, nil
}

// row scans the single column of a single row into dst; ErrNotFound if there is
// none.
func (tx *Tx) row(dst any, query string, args ...any) error {
	return tx.scan([]any{dst}, query, args...)
}

// scan scans the columns of a single row; ErrNotFound if there is none.
func (tx *Tx) scan(dst []any, query string, args ...any) error {
	stmt, err := tx.prepared(query)
	if err != nil {
		return err
	}
	if err := stmt.QueryRowContext(context.Background(), args...).Scan(dst...); err != nil {
		return failure(query, err)
	}
	return nil
}

// rows calls each for every row of the result.
func (tx *Tx) rows(each func(*sql.Rows) error, query string, args ...any) error {
	stmt, err := tx.prepared(query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	return drain(rows, err, query, each)
}

// drain reads rows to their end and always closes them: leaked rows would let
// the WAL grow without bound.
func drain(rows *sql.Rows, err error, query string, each func(*sql.Rows) error) error {
	if err != nil {
		return failure(query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return failure(query, err)
	}
	return nil
}

// failure names the statement in an error of the database, for the log.
func failure(query string, err error) error {
	err = translate(err)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, errConstraint) || isDatabaseError(err) {
		return err
	}
	if len(query) > 60 {
		query = query[:60] + "…"
	}
	return databaseError{fmt.Errorf("%s: %w", query, err)}
}
