package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// SchemaVersion is the schema this program writes (PRAGMA user_version).
const SchemaVersion = 8

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration brings a file from version to-1 to version to.
type migration struct {
	to   int
	name string
	sql  string
}

// migrations returns the numbered files in order.
func migrations() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	slices.Sort(names)
	var all []migration
	for _, name := range names {
		text, _ := migrationFiles.ReadFile(name)
		base := strings.TrimPrefix(name, "migrations/")
		to, err := strconv.Atoi(base[:4])
		if err != nil {
			panic("store: migration without a number: " + name)
		}
		all = append(all, migration{to: to, name: base, sql: string(text)})
	}
	return all
}

// ensureSchema fills an empty file and migrates an older one.
func (db *DB) ensureSchema(state fileState, o Options) error {
	empty, err := db.isEmpty(state)
	if err != nil {
		return db.unusable(err)
	}
	if empty {
		if !o.Server {
			return fmt.Errorf("the data file %s is empty; run meshbox once to fill it", db.path)
		}
		db.created = true
		return db.unusable(db.create(o))
	}
	id, version, err := db.stamps() // the header may lag behind the WAL
	if err != nil {
		return db.unusable(err)
	}
	switch {
	case id != applicationID:
		return foreignFile(db.path)
	case version > SchemaVersion:
		return newerSchema(db.path, version)
	case version == SchemaVersion:
		return db.unusable(db.checkSchema())
	case !o.Server:
		return fmt.Errorf("the data file %s is from an older meshbox; start the server once to update it", db.path)
	}
	return db.migrate(version, o.OnMigrate)
}

// isEmpty asks SQLite, which knows what is only in the log yet, about a file
// that seems to have no tables.
func (db *DB) isEmpty(state fileState) (bool, error) {
	if !state.empty {
		return false, nil
	}
	var tables int
	err := db.write.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables)
	return tables == 0, err
}

// stamps returns the application id and the schema version of the file.
func (db *DB) stamps() (id, version int, err error) {
	err = db.write.QueryRow("SELECT application_id, user_version FROM pragma_application_id, pragma_user_version").Scan(&id, &version)
	return id, version, err
}

// checkSchema reads the table of contents and the smallest table, which fails
// on a file that is damaged at its start.
func (db *DB) checkSchema() error {
	var tables int
	if err := db.write.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name IN ('mesh', 'member', 'topic', 'message')").Scan(&tables); err != nil {
		return err
	}
	if tables != 4 {
		return fmt.Errorf("%w: tables are missing", ErrCorrupt)
	}
	return db.write.QueryRow("SELECT count(*) FROM mesh").Scan(&tables)
}

// create writes the current schema and the first mesh into an empty file, in
// one transaction.
func (db *DB) create(o Options) error {
	return db.inTransaction(func(conn *sql.Conn) error {
		if _, err := conn.ExecContext(context.Background(), o.Schema); err != nil {
			return err
		}
		if o.First == nil {
			return nil
		}
		tx := newTx(conn)
		defer tx.close()
		return tx.createMesh(*o.First)
	}, SchemaVersion)
}

// migrate brings the file from version to SchemaVersion in one transaction,
// after copying it to a snapshot beside it.
func (db *DB) migrate(version int, tell func(int, string)) error {
	snapshot := fmt.Sprintf("%s.before-v%d", db.path, SchemaVersion)
	if err := db.snapshot(snapshot); err != nil {
		return fmt.Errorf("cannot copy the data file before updating it: %w; nothing was changed", err)
	}
	err := db.inTransaction(func(conn *sql.Conn) error {
		for _, m := range migrations() {
			if m.to <= version {
				continue
			}
			if _, err := conn.ExecContext(context.Background(), m.sql); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
		}
		return nil
	}, SchemaVersion)
	if err != nil {
		return fmt.Errorf("cannot update the data file %s from schema %d to %d: %w; it was left as it is, and a copy is at %s", db.path, version, SchemaVersion, translate(err), snapshot)
	}
	if tell != nil {
		tell(version, snapshot)
	}
	return nil
}

// snapshot writes a consistent copy of the file to path, readable by its owner
// alone, replacing an older one.
func (db *DB) snapshot(path string) error {
	temporary := path + ".tmp"
	if err := os.Remove(temporary); err != nil && !os.IsNotExist(err) {
		return reason(err)
	}
	// VACUUM INTO fills an existing empty file, so its mode can be set first.
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return reason(err)
	}
	file.Close()
	if _, err := db.write.Exec("VACUUM INTO ?", temporary); err != nil {
		os.Remove(temporary)
		return translate(err)
	}
	return os.Rename(temporary, path)
}

// inTransaction runs fn on one connection and stamps the file with version.
func (db *DB) inTransaction(fn func(*sql.Conn) error, version int) error {
	ctx := context.Background()
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err = fn(conn); err == nil {
		_, err = conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, version))
	}
	if err != nil {
		conn.ExecContext(ctx, "ROLLBACK")
		return err
	}
	// Into the file itself, where inspect looks; the log keeps it safe till then.
	_, err = conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
