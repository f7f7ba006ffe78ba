package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// DB is an open data file. It is safe for concurrent use.
type DB struct {
	path   string
	read   *sql.DB  // any number of readers
	stmts  sync.Map // of the readers: SQL text → *sql.Stmt
	write  *sql.DB  // the writer's one connection
	writer *writer
	lock   *flock.Flock // nil for a command beside a server

	probing chan struct{} // capacity 1: CanWrite writes

	created bool
}

// Options say how to open a data file.
type Options struct {
	// Schema is the text of schema.sql, for a new file.
	Schema string

	// Server takes the lock that makes this the only server on the file, creates
	// the file if there is none, and brings an older one up to date. Without it
	// the file must exist with the current schema.
	Server bool

	// First is the mesh that a new file begins with.
	First *FirstMesh

	// OnMigrate, if set, is told the version the file had and the name of the
	// copy that was made of it before migrating.
	OnMigrate func(from int, snapshot string)
}

// Open opens the data file at path. Its errors are sentences for a person, and
// after any of them the file is as it was.
func Open(path string, o Options) (*DB, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, err
	}
	db := &DB{path: path, probing: make(chan struct{}, 1)}
	if _, err := inspect(path); err != nil {
		return nil, err // before a lock file is made beside it
	}
	if o.Server {
		if err := db.takeLock(); err != nil {
			return nil, err
		}
	}
	if err := db.open(o); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// realPath is the absolute path of the file itself: two servers that reach it by
// different links must meet at the same lock.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target, nil
	}
	return path, nil // there is no file yet
}

// takeLock makes this process the only server on the file. The lock is on a
// file beside it: SQLite's own locks are on the data file, and closing a second
// descriptor of that one would silently drop them (POSIX).
func (db *DB) takeLock() error {
	lock := flock.New(db.path+".lock", flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("cannot create %s: %w; check that the folder exists and may be written, or choose another file with --db", lock.Path(), reason(err))
	}
	if !got {
		return fmt.Errorf("another meshbox is already serving %s; stop it first, or choose another file with --db", db.path)
	}
	db.lock = lock
	return nil
}

// open does the work of Open; on an error the caller closes db.
func (db *DB) open(o Options) error {
	state, err := inspect(db.path)
	if err != nil {
		return err
	}
	if err := db.prepareFile(state, o.Server); err != nil {
		return err
	}
	if err := db.connect(); err != nil {
		return err
	}
	if err := db.ensureSchema(state, o); err != nil {
		return err
	}
	conn, err := db.write.Conn(context.Background())
	if err != nil {
		return db.unusable(err)
	}
	db.writer = startWriter(conn, db.path+"-wal", !o.Server)
	return nil
}

// prepareFile creates a missing file with a mode that keeps its keys private.
func (db *DB) prepareFile(state fileState, server bool) error {
	if state.exists {
		return nil
	}
	if !server {
		return fmt.Errorf("there is no data file %s; run meshbox once to create it, or name the right file with --db", db.path)
	}
	file, err := os.OpenFile(db.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot create the data file %s: %w; choose a folder you may write with --db", db.path, reason(err))
	}
	return file.Close()
}

// connect opens the two pools. The pragmas are in the DSN because one set by a
// statement would reach a single pooled connection.
func (db *DB) connect() (err error) {
	shared := fmt.Sprintf("_pragma=foreign_keys(1)&_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", busyTimeout.Milliseconds())
	ours := fmt.Sprintf("&_pragma=cache_size(-65536)&_pragma=journal_size_limit(%d)&_txlock=immediate", walKeep)
	location := (&url.URL{Scheme: "file", Path: filepath.ToSlash(db.path)}).String()
	if db.write, err = sql.Open("sqlite", location+"?"+shared+ours); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", location+"?"+shared+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	readers := max(4, runtime.NumCPU())
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	return db.unusable(db.write.PingContext(context.Background()))
}

// unusable makes a person's sentence of an error met while opening.
func (db *DB) unusable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot open the data file %s: %w", db.path, translate(err))
}

// Close waits for every accepted write and releases the file. It may be called
// twice.
func (db *DB) Close() error {
	if db.writer != nil {
		db.writer.stop()
		db.writer.tx.conn.Close()
	}
	var errs []error
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Path returns the absolute path of the data file.
func (db *DB) Path() string { return db.path }

// Created reports whether Open made the file, or filled an empty one.
func (db *DB) Created() bool { return db.created }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var meshes int
	return db.row(ctx, &meshes, "SELECT count(*) FROM mesh")
}

// SchemaCurrent reports whether the file has the schema this program knows.
func (db *DB) SchemaCurrent(ctx context.Context) (bool, error) {
	var version int
	err := db.row(ctx, &version, "PRAGMA user_version")
	return version == SchemaVersion, err
}

// SetSetting remembers value under key.
func (db *DB) SetSetting(key, value string) error {
	return db.Update(func(tx *Tx) error {
		return tx.exec("INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
	})
}

// Setting returns what was remembered under key, or ErrNotFound.
func (db *DB) Setting(ctx context.Context, key string) (value string, err error) {
	err = db.row(ctx, &value, "SELECT value FROM setting WHERE key = ?", key)
	return value, err
}

// row scans the single column of a single row; ErrNotFound if there is none.
func (db *DB) row(ctx context.Context, dst any, query string, args ...any) error {
	return db.scan(ctx, []any{dst}, query, args...)
}

func (db *DB) scan(ctx context.Context, dst []any, query string, args ...any) error {
	stmt, err := db.prepared(ctx, query)
	if err != nil {
		return err
	}
	if err := stmt.QueryRowContext(ctx, args...).Scan(dst...); err != nil {
		return failure(query, err)
	}
	return nil
}

// prepared returns the statement of query for the readers, preparing it on first
// use: planning one anew costs more than most of them take to run.
func (db *DB) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if known, ok := db.stmts.Load(query); ok {
		return known.(*sql.Stmt), nil
	}
	stmt, err := db.read.PrepareContext(ctx, query)
	if err != nil {
		return nil, failure(query, err)
	}
	if known, loaded := db.stmts.LoadOrStore(query, stmt); loaded {
		stmt.Close()
		return known.(*sql.Stmt), nil
	}
	return stmt, nil
}

func (db *DB) rows(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	stmt, err := db.prepared(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return drain(rows, err, query, each)
}

// reason strips the operation and path that os errors repeat.
func reason(err error) error {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err
	}
	return err
}

// millis is t for a column, NULL for the zero time.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// instant is a column back as a time, zero for NULL.
func instant(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64)
}

// orNull is s for a column where NULL means "not there".
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
