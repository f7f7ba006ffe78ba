package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Checking a data file: that SQLite finds it whole, that it has the schema it
// should have, and that what this program relies on holds in it.

// The checks, as findings name them.
const (
	CheckIntegrity   = "integrity"    // PRAGMA integrity_check
	CheckForeignKeys = "foreign_keys" // PRAGMA foreign_key_check
	CheckSchema      = "schema"       // tables, columns and indexes are those of this version
	CheckAudit       = "audit"        // the hash chain of each mesh
	CheckGeneral     = "general"      // each mesh has #general, with all its members
	CheckMessages    = "messages"     // messages, deliveries and cursors belong together
)

// maxFindings bounds what one check reports.
const maxFindings = 20

// Finding is one thing that is wrong with a data file.
type Finding struct {
	Check string // one of the above
	Text  string // a sentence for a person
}

// Report is what Check found out about a data file.
type Report struct {
	Schema   int   // PRAGMA user_version; at most SchemaVersion
	Size     int64 // bytes, of the file itself
	Meshes   int
	Members  int // active ones
	Messages int64
	Newest   time.Time // of the newest message; zero: there is none
	Findings []Finding
}

// Valid reports that nothing is wrong.
func (r *Report) Valid() bool { return len(r.Findings) == 0 }

// Current reports whether the file has the schema of this program; an older one
// gets it at the next start of the server.
func (r *Report) Current() bool { return r.Schema == SchemaVersion }

// Err is a sentence that names the first finding, nil if there is none.
func (r *Report) Err(path string) error {
	if r.Valid() {
		return nil
	}
	return fmt.Errorf("%s is not in order: %s", path, r.Findings[0].Text)
}

// Check reads the whole data file at path, also beside a running server, and
// changes nothing. schema is the text of schema.sql. Errors are sentences about a
// file that cannot be read at all, or is none of this program's.
func Check(ctx context.Context, path, schema string) (*Report, error) {
	conn, state, done, err := openToRead(ctx, path)
	if err != nil {
		return nil, err
	}
	defer done()
	// One transaction: what is compared is of one moment.
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return nil, unreadable(path, err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	c := &checker{conn: conn, report: &Report{Schema: state.version}}
	if info, err := os.Stat(path); err == nil {
		c.report.Size = info.Size()
	}
	if err := c.all(ctx, schema); err != nil {
		return nil, unreadable(path, err)
	}
	return c.report, nil
}

// checker is one run of Check.
type checker struct {
	conn   querier
	report *Report
}

// querier reads: a *sql.Conn or *sql.DB.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (c *checker) find(check, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{check, fmt.Sprintf(format, args...)})
}

// all runs the checks. A file that SQLite finds damaged is not looked into any
// further, and of an older schema only what has always been there is known.
func (c *checker) all(ctx context.Context, schema string) error {
	err := c.integrity(ctx)
	if err != nil || !c.report.Valid() {
		return c.damage(err)
	}
	if err := scanOne(ctx, c.conn, []any{&c.report.Schema}, `PRAGMA user_version`); err != nil { // the header may lag behind the WAL
		return c.damage(err)
	}
	checks := []func(context.Context) error{c.foreignKeys, c.audit, c.count}
	if c.report.Current() {
		checks = []func(context.Context) error{
			func(ctx context.Context) error { return c.schema(ctx, schema) }, c.foreignKeys, c.audit, c.general, c.messages, c.count,
		}
	}
	for _, check := range checks {
		if err := c.damage(check(ctx)); err != nil {
			return err
		}
		if slices.ContainsFunc(c.report.Findings, func(f Finding) bool { return f.Check == CheckSchema }) {
			return nil // what the others ask for may not be there
		}
	}
	return nil
}

// damage makes a finding of an error that says that the file is damaged.
func (c *checker) damage(err error) error {
	if err = translate(err); errors.Is(err, ErrCorrupt) {
		c.find(CheckIntegrity, "it is damaged (%v)", errors.Unwrap(err))
		return nil
	}
	return err
}

func (c *checker) integrity(ctx context.Context) error {
	return each(ctx, c.conn, func(rows *sql.Rows) error {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			c.find(CheckIntegrity, "%s", strings.Join(strings.Fields(line), " "))
		}
		return nil
	}, fmt.Sprintf(`PRAGMA integrity_check(%d)`, maxFindings))
}

func (c *checker) foreignKeys(ctx context.Context) error {
	return c.findRows(ctx, CheckForeignKeys, "rows of %s that refer to a row of %s which is not there: %d",
		`SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY "table", parent`)
}

// audit reads the chain of each mesh.
func (c *checker) audit(ctx context.Context) error {
	var chains bool
	if err := scanOne(ctx, c.conn, []any{&chains}, `SELECT count(*) FROM sqlite_schema WHERE name = 'audit'`); err != nil || !chains {
		return err
	}
	var meshes []Mesh
	err := each(ctx, c.conn, func(rows *sql.Rows) error {
		var m Mesh
		err := rows.Scan(&m.ID, &m.Slug)
		meshes = append(meshes, m)
		return err
	}, `SELECT id, slug FROM mesh ORDER BY created_at, id`)
	for _, m := range meshes {
		if err == nil {
			err = c.chain(ctx, m)
		}
	}
	return err
}

func (c *checker) chain(ctx context.Context, m Mesh) error {
	v, err := verifyAudit(ctx, c.conn, m.ID)
	if err == nil && !v.Valid() {
		c.find(CheckAudit, "the audit chain of the mesh %q is broken at entry %d (%s): it, or what was before it, was changed", m.Slug, v.BrokenAt.Number, v.BrokenAt.ID)
	}
	return err
}

// schema compares with a file that was made just now.
func (c *checker) schema(ctx context.Context, text string) error {
	model, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer model.Close()
	model.SetMaxOpenConns(1) // each connection would have a memory of its own
	if _, err := model.ExecContext(ctx, text); err != nil {
		return err
	}
	want, err := shape(ctx, model)
	if err != nil {
		return err
	}
	have, err := shape(ctx, c.conn)
	if err != nil {
		return err
	}
	c.differences("there should be no %s", have, want)
	c.differences("there is no %s", want, have)
	return nil
}

// differences reports what is in one shape and not in the other.
func (c *checker) differences(format string, in, notIn []string) {
	found := 0
	for _, line := range in {
		if _, known := slices.BinarySearch(notIn, line); !known && found < maxFindings {
			c.find(CheckSchema, format, line)
			found++
		}
	}
}

func (c *checker) general(ctx context.Context) error {
	err := c.findRows(ctx, CheckGeneral, "the mesh %q has no topic #general", `SELECT slug FROM mesh
		WHERE NOT EXISTS (SELECT 1 FROM topic t WHERE t.mesh_id = mesh.id AND t.name = 'general') ORDER BY slug`)
	if err != nil {
		return err
	}
	return c.findRows(ctx, CheckGeneral, "%s is not in #general of the mesh %q", `SELECT m.display_name || ' (' || substr(m.pubkey, 1, 16) || ')', mesh.slug
		FROM member m JOIN mesh ON mesh.id = m.mesh_id JOIN topic t ON t.mesh_id = mesh.id AND t.name = 'general'
		WHERE m.revoked_at IS NULL AND m.pubkey IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM topic_member tm WHERE tm.topic_id = t.id AND tm.member_id = m.id) ORDER BY m.id`)
}

// messages looks at what has no foreign keys, because messages and deliveries are
// too many for them. A cursor ahead of the numbers still to be given would have
// messages skipped in silence.
func (c *checker) messages(ctx context.Context) error {
	const newest = `(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'message')`
	for _, check := range []struct{ format, query string }{
		{"messages of a mesh that is not there: %d", `SELECT count(*) FROM message WHERE mesh_id NOT IN (SELECT id FROM mesh) HAVING count(*) > 0`},
		{"messages of a topic that is not there: %d", `SELECT count(*) FROM message
			WHERE topic_id IS NOT NULL AND topic_id NOT IN (SELECT id FROM topic) HAVING count(*) > 0`},
		{"deliveries of a message that is not there: %d", `SELECT count(*) FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.seq = d.seq) HAVING count(*) > 0`},
		{"messages of a sender that is not there: %d", `SELECT count(*) FROM message m
			WHERE NOT EXISTS (SELECT 1 FROM member s WHERE s.id = m.sender_member_id) HAVING count(*) > 0`},
		{"deliveries to a member that is not there: %d", `SELECT count(*) FROM delivery d
			WHERE NOT EXISTS (SELECT 1 FROM member r WHERE r.id = d.member_id) HAVING count(*) > 0`},
		{"the message with the number %d is newer than the newest one, %d", `SELECT max(seq), ` + newest + ` FROM message HAVING max(seq) > ` + newest},
		{"places in topics that are ahead of the newest message, and would miss the next ones: %d", `SELECT count(*) FROM topic_member
			WHERE max(read_seq, delivered_seq, since_seq) > ` + newest + ` HAVING count(*) > 0`},
	} {
		if err := c.findRows(ctx, CheckMessages, check.format, check.query); err != nil {
			return err
		}
	}
	return nil
}

// count says how much there is, so that a person can tell one file from another.
func (c *checker) count(ctx context.Context) error {
	r := c.report
	var newest sql.NullInt64
	if err := scanOne(ctx, c.conn, []any{&r.Meshes, &r.Members}, `SELECT (SELECT count(*) FROM mesh), (SELECT count(*) FROM member WHERE revoked_at IS NULL)`); err != nil {
		return err
	}
	var messages bool
	if err := scanOne(ctx, c.conn, []any{&messages}, `SELECT count(*) FROM sqlite_schema WHERE name = 'message'`); err != nil || !messages {
		return err
	}
	err := scanOne(ctx, c.conn, []any{&r.Messages, &newest}, `SELECT count(*), (SELECT created_at FROM message ORDER BY rowid DESC LIMIT 1) FROM message`)
	r.Newest = instant(newest)
	return err
}

// findRows makes a finding of each row of a query, at most maxFindings.
func (c *checker) findRows(ctx context.Context, check, format, query string) error {
	found := 0
	return each(ctx, c.conn, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if found++; found <= maxFindings {
			c.find(check, format, values...)
		}
		return nil
	}, query)
}

// shape describes every table and index of a file, without its comments, sorted.
// Tables that SQLite and Litestream keep for themselves are none of ours.
func shape(ctx context.Context, conn querier) (lines []string, err error) {
	const ours = `m.name NOT LIKE 'sqlite\_stat%' ESCAPE '\' AND m.name NOT LIKE '\_litestream\_%' ESCAPE '\'`
	for _, query := range []string{
		`SELECT format('column %s of table %s (%s, notnull %d, default %s, key %d)', c.name, m.name, c.type, c."notnull", c.dflt_value, c.pk)
			FROM sqlite_schema m, pragma_table_xinfo(m.name) c WHERE m.type = 'table' AND ` + ours,
		`SELECT format('table %s (strict %d, without rowid %d)', name, strict, wr) FROM pragma_table_list m WHERE schema = 'main' AND ` + ours,
		`SELECT format('reference from %s(%s) to %s(%s)', m.name, f."from", f."table", f."to")
			FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' AND ` + ours,
		`SELECT format('column %s, as number %d of index %s on %s (unique %d, partial %d)', x.name, x.seqno, i.name, m.name, i."unique", i.partial)
			FROM sqlite_schema m, pragma_index_list(m.name) i, pragma_index_xinfo(i.name) x WHERE m.type = 'table' AND ` + ours,
		`SELECT format('table %s with %d checks', name, (length(sql) - length(replace(sql, 'CHECK', ''))) / 5)
			FROM sqlite_schema m WHERE type = 'table' AND sql IS NOT NULL AND ` + ours,
		`SELECT format('%s %s on %s', m.type, m.name, m.tbl_name) FROM sqlite_schema m WHERE m.type IN ('trigger', 'view')`,
	} {
		err := each(ctx, conn, func(rows *sql.Rows) error {
			var line string
			err := rows.Scan(&line)
			lines = append(lines, line)
			return err
		}, query)
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// each calls do for every row of a query.
func each(ctx context.Context, conn querier, do func(*sql.Rows) error, query string, args ...any) error {
	rows, err := conn.QueryContext(ctx, query, args...)
	return drain(rows, err, query, do)
}

// scanOne scans the one row of a query.
func scanOne(ctx context.Context, conn querier, dst []any, query string, args ...any) error {
	found := false
	err := each(ctx, conn, func(rows *sql.Rows) error { found = true; return rows.Scan(dst...) }, query, args...)
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// openToRead opens a data file of this program, of this schema or an older one,
// in a way that leaves it and its neighbours as they are. done closes it.
func openToRead(ctx context.Context, path string) (conn *sql.Conn, state fileState, done func(), err error) {
	if state, err = inspect(path); err != nil {
		return nil, state, nil, err
	}
	if !state.exists {
		return nil, state, nil, fmt.Errorf("there is no file %s; name the right one", path)
	}
	if state.empty && !hasWAL(path) {
		return nil, state, nil, fmt.Errorf("%s is empty: it is no data file, nor a backup of one", path)
	}
	location, err := filepath.Abs(path)
	if err != nil {
		return nil, state, nil, err
	}
	source := (&url.URL{Scheme: "file", Path: filepath.ToSlash(location)}).String() + "?mode=" + readMode(location) +
		fmt.Sprintf("&_pragma=busy_timeout(%d)", busyTimeout.Milliseconds())
	pool, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, state, nil, err
	}
	pool.SetMaxOpenConns(1)
	if conn, err = pool.Conn(ctx); err != nil {
		pool.Close()
		return nil, state, nil, unreadable(path, err)
	}
	return conn, state, func() { conn.Close(); pool.Close() }, nil
}

// readMode is how a file is opened so that reading changes nothing. With a log
// beside it, only reading keeps the log from being copied into the file at the
// end. Without one there is nothing to copy, and who opens the file for reading
// alone would leave an empty log behind; where that cannot be made, nobody else
// writes either.
func readMode(path string) string {
	if _, err := os.Stat(path + "-wal"); err == nil {
		return "ro"
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil || !canMakeFiles(filepath.Dir(path)) {
		return "ro&immutable=1"
	}
	file.Close()
	return "rw"
}

func unreadable(path string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("cannot read %s: %w", path, translate(err))
}

// canMakeFiles reports whether SQLite could keep its own files in a folder.
func canMakeFiles(folder string) bool {
	file, err := os.CreateTemp(folder, ".meshbox-*")
	if err != nil {
		return false
	}
	file.Close()
	return os.Remove(file.Name()) == nil
}
