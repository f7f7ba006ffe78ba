package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oldFile makes a data file from its text in testdata.
func oldFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/store", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "meshbox.db")
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(string(text)); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustShape(t *testing.T, db *DB) []string {
	t.Helper()
	lines, err := shape(t.Context(), db.read)
	if current, notKnown := db.SchemaCurrent(t.Context()); err != nil || notKnown != nil || !current {
		t.Fatalf("%v, %v, current %t", err, notKnown, current)
	}
	return lines
}

func TestEveryOldFileEndsInTodaysSchema(t *testing.T) {
	fresh, _ := newDB(t)
	want := mustShape(t, fresh)
	files, err := filepath.Glob("../../testdata/store/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no old files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			path := oldFile(t, filepath.Base(file))
			var told []string
			o := Options{Schema: schemaText(t), Server: true, OnMigrate: func(from int, snapshot string) { told = append(told, fmt.Sprint(from, " ", snapshot)) }}
			db := mustOpen(t, path, o)
			if got := mustShape(t, db); !slices.Equal(got, want) {
				t.Errorf("the migrated file differs:\n%s", difference(got, want))
			}
			version, err := strconv.Atoi(strings.Trim(filepath.Base(file), "v.sql"))
			if err != nil {
				t.Fatal(err)
			}
			if len(told) != 1 || told[0] != fmt.Sprintf("%d %s.before-v%d", version, path, SchemaVersion) {
				t.Errorf("OnMigrate was told %q", told)
			}
			snapshot, err := inspect(fmt.Sprintf("%s.before-v%d", path, SchemaVersion))
			if err != nil || snapshot.version != version {
				t.Errorf("snapshot: %+v, %v; want version %d", snapshot, err, version)
			}
			before := contents(t, db)
			db.Close()
			if again := mustOpen(t, path, o); contents(t, again) != before || len(told) != 1 {
				t.Error("opening the migrated file again changed it")
			}
		})
	}
}

func difference(got, want []string) string {
	var lines []string
	for _, line := range got {
		if !slices.Contains(want, line) {
			lines = append(lines, "migrated only: "+line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			lines = append(lines, "fresh only:    "+line)
		}
	}
	return strings.Join(lines, "\n")
}

// contents is every row of the tables that the backfill writes.
func contents(t *testing.T, db *DB) string {
	t.Helper()
	var text strings.Builder
	for _, table := range []string{"mesh", "topic", "topic_member", "message", "delivery"} {
		err := db.rows(t.Context(), func(rows *sql.Rows) error {
			columns, _ := rows.Columns()
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				return err
			}
			for _, v := range values {
				fmt.Fprintf(&text, "%v|", *v.(*any))
			}
			text.WriteByte('\n')
			return nil
		}, "SELECT * FROM "+table+" ORDER BY 1, 2")
		if err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

func TestBackfillPutsEveryActiveMemberIntoGeneral(t *testing.T) {
	db := mustOpen(t, oldFile(t, "v1.sql"), Options{Schema: schemaText(t), Server: true})
	meshes, err := db.Meshes(t.Context())
	if err != nil || len(meshes) != 3 {
		t.Fatalf("meshes = %v, %v", meshes, err)
	}
	want := map[string]string{
		"home":  "olga lead, adam member", // rita is revoked
		"lab":   "",
		"attic": "otto member",
	}
	for _, mesh := range meshes {
		general, _, err := db.Topic(t.Context(), mesh.ID, "", "general")
		if err != nil || general.Description != GeneralDescription {
			t.Fatalf("mesh %s: general = %+v, %v", mesh.Slug, general, err)
		}
		members, err := db.TopicMembers(t.Context(), general.ID)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range members {
			names = append(names, m.DisplayName+" "+m.Role)
		}
		if got := strings.Join(names, ", "); got != want[mesh.Slug] {
			t.Errorf("mesh %s: general has %q, want %q", mesh.Slug, got, want[mesh.Slug])
		}
	}
}

func TestBackfillTwiceChangesNothing(t *testing.T) {
	db := mustOpen(t, oldFile(t, "v1.sql"), Options{Schema: schemaText(t), Server: true})
	before := contents(t, db)
	backfill, err := migrationFiles.ReadFile("migrations/0003_general.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *Tx) error {
		_, err := tx.conn.ExecContext(t.Context(), string(backfill))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if after := contents(t, db); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestFilesThatAreRefusedStayUntouched(t *testing.T) {
	valid := func(t *testing.T) []byte {
		db, _ := newDB(t)
		db.Close()
		bytes, err := os.ReadFile(db.Path())
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	tests := []struct {
		name string
		file func(t *testing.T) []byte
		says string
	}{
		{"text", func(*testing.T) []byte { return bytes.Repeat([]byte("not a database\n"), 100) }, "no SQLite header"},
		{"short", func(*testing.T) []byte { return []byte("SQLite") }, "too short"},
		{"truncated", func(t *testing.T) []byte { return valid(t)[:8192] }, "ends after 8192 of"},
		{"newer", func(t *testing.T) []byte { b := valid(t); b[63] = SchemaVersion + 1; return b }, "newer meshbox"},
		{"foreign", func(t *testing.T) []byte { b := valid(t); clear(b[68:72]); return b }, "another program"},
		{"garbage pages", func(t *testing.T) []byte {
			b := valid(t)
			for i := 100; i < len(b); i++ {
				b[i] = 0xA5
			}
			return b
		}, "damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meshbox.db")
			content := tt.file(t)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path, Options{Schema: schemaText(t), Server: true, First: home()})
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want one sentence with %q", err, tt.says)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, content) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOneServerPerFile(t *testing.T) {
	db, _ := newDB(t)
	_, err := Open(db.Path(), Options{Schema: schemaText(t), Server: true})
	if err == nil || !strings.Contains(err.Error(), "another meshbox is already serving") {
		t.Errorf("second server: %v", err)
	}
	beside, err := Open(db.Path(), Options{})
	if err != nil {
		t.Fatalf("a command beside the server: %v", err)
	}
	beside.Close()
	db.Close()
	mustOpen(t, db.Path(), Options{Schema: schemaText(t), Server: true})
}

func TestFileIsPrivate(t *testing.T) {
	db, _ := newDB(t)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(db.Path() + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", suffix, info.Mode().Perm(), err)
		}
	}
}

func TestCommandNeedsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "there is no data file") {
		t.Errorf("err = %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the command created the file")
	}
}

// A first start that was cut off before its commit left one page and a log.
func TestCutOffFirstStartIsDoneAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meshbox.db")
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	raw.SetMaxOpenConns(1)
	for _, statement := range []string{"PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", "BEGIN", "CREATE TABLE x (y)", "ROLLBACK"} {
		if _, err := raw.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	raw.Close()
	if err := os.WriteFile(path+"-wal", []byte(strings.Repeat("x", 4152)), 0o600); err != nil {
		t.Fatal(err)
	}
	first := home()
	db := mustOpen(t, path, Options{Schema: schemaText(t), Server: true, First: first})
	if meshes, err := db.Meshes(t.Context()); err != nil || len(meshes) != 1 || !db.Created() {
		t.Errorf("meshes %v, %v, created %v", meshes, err, db.Created())
	}
}

func TestLockedFileFailsAWholeBatchAtOnce(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	if err := db.Update(func(tx *Tx) error { return tx.exec("PRAGMA busy_timeout = 50") }); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", db.Path()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	const n = 40
	errs := make(chan error, n)
	began := time.Now()
	for range n {
		p := topicPost(ann, "general", "aGk=")
		p.ID, p.Priority, p.CreatedAt = NewID(), "next", time.Now()
		db.Append(&p, nil, func(_ Posted, err error) { errs <- err })
	}
	for range n {
		if err := <-errs; !errors.Is(err, ErrBusy) {
			t.Errorf("err = %v, want ErrBusy", err)
		}
	}
	if took := time.Since(began); took > 40*50*time.Millisecond {
		t.Errorf("%d writes failed one after the other, in %v", n, took)
	}
	if _, err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(db, topicPost(ann, "general", "aGk=")); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
}
