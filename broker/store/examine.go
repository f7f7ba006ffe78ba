package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gofrs/flock"
)

// What can be said of a data file without being its server, for who looks for what
// is wrong.

// FileSchema returns the schema version of the data file at path as its header has
// it, 0 for an empty or missing one. Its errors are sentences for a person.
func FileSchema(path string) (int, error) {
	state, err := inspect(path)
	return state.version, err
}

// Served reports whether a server has the data file at path open. It takes the lock
// for a moment, shared, and makes no lock file.
func Served(path string) (bool, error) {
	path, err := realPath(path)
	if err != nil {
		return false, err
	}
	name := path + ".lock"
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, reason(err)
	}
	lock := flock.New(name, flock.SetFlag(os.O_RDONLY))
	got, err := lock.TryRLock()
	if err != nil {
		return false, reason(err)
	}
	return !got, lock.Close()
}

// WALSize returns the bytes of the write-ahead log beside the data file at path, and
// from how many on a server begins it anew.
func WALSize(path string) (size, large int64) {
	path, err := realPath(path)
	if err != nil {
		return 0, walLarge
	}
	info, err := os.Stat(path + "-wal")
	if err != nil {
		return 0, walLarge
	}
	return info.Size(), walLarge
}

// QuickCheck looks for damage in the whole file (PRAGMA quick_check), and returns
// the first findings in SQLite's words, none for a sound file. It reads all of it, and
// ends with ctx.
func (db *DB) QuickCheck(ctx context.Context) (found []string, err error) {
	const query = "PRAGMA quick_check(5)"
	err = db.rows(ctx, func(rows *sql.Rows) error {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			found = append(found, line)
		}
		return nil
	}, query)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("it took too long: %w", ctx.Err())
	}
	return found, err
}
