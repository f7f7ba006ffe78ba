package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
)

// A mesh as a text: JSON lines, in UTF-8. The first line is a header, then comes a
// line for each row of the tables below, in this order, and then the number of
// lines in between:
//
//	{"kind":"meshbox-export","format":1,"schema":6,"mesh":"home","secrets":true}
//	{"kind":"mesh","row":{"id":"0Vb…","slug":"home",…}}
//	{"kind":"member","row":{"id":"0Vb…",…}}
//	…
//	{"kind":"end","lines":1234}
//
// A row has the columns of its table by name, in the table's order; what they mean
// stands in schema.sql. A BLOB is base64. Left out is mesh_id, which is that of the
// mesh. Numbers of messages (seq, and columns that end in _seq) are those of the
// whole data file; in the text a message's number is its place in the mesh, from 1,
// and any other number the place of the last message up to it, 0 before the first.

const (
	exportKind   = "meshbox-export"
	exportEnd    = "end"
	exportFormat = 1
)

// exportTable is a table of which a mesh has rows.
type exportTable struct {
	name    string
	of      string   // condition for the rows of mesh ?1
	secrets []string // columns that are left out of an export without secrets
}

// Whose a row is.
const (
	ofMesh    = `mesh_id = ?1`
	ofMember  = `member_id IN (SELECT id FROM member WHERE mesh_id = ?1)`
	ofTopic   = `topic_id IN (SELECT id FROM topic WHERE mesh_id = ?1)`
	ofMessage = `seq IN (SELECT seq FROM message WHERE mesh_id = ?1)`
)

// exported are the tables of a mesh. A new table of schema.sql goes here, or to
// notExported. Messages come before what has their numbers.
var exported = []exportTable{
	{"mesh", `id = ?1`, []string{"owner_seed", "root_key"}},
	{"invite", ofMesh, []string{"code", "token"}},
	{"member", ofMesh, nil},
	{"peer_grant", ofMember, nil},
	{"session_key", ofMesh, nil},
	{"lease", ofMesh, nil},
	{"api_key", ofMesh, []string{"hash"}},
	{"topic", ofMesh, nil},
	{"message", ofMesh, nil},
	{"topic_seal", ofTopic, nil},
	{"webhook", ofMesh, []string{"hash"}},
	{"topic_member", ofTopic, nil},
	{"topic_gap", ofTopic, nil},
	{"topic_handed", ofTopic, nil},
	{"delivery", ofMessage, nil},
	{"notification", ofMember, nil},
	{"audit", ofMesh, nil},
}

// notExported are the tables that are not a mesh's, and why.
var notExported = map[string]string{
	"setting":      "of the server and its file",
	"message_text": "made anew of the messages",
}

// Exported says what Export wrote.
type Exported struct {
	Lines    int // between the header and the end
	Messages int
}

// exportHeader is the first line.
type exportHeader struct {
	Kind    string `json:"kind"`
	Format  int    `json:"format"`
	Schema  int    `json:"schema"`
	Mesh    string `json:"mesh"` // for a reader
	Secrets bool   `json:"secrets"`
}

// exportFooter is the last line: a text without it was cut off.
type exportFooter struct {
	Kind  string `json:"kind"`
	Lines int    `json:"lines"`
}

// Export writes a mesh as JSON lines, all of one moment. With secrets it is all
// that Import needs; without them it is for reading. ErrNotFound if there is no such
// mesh.
func (db *DB) Export(ctx context.Context, meshID string, secrets bool, w io.Writer) (Exported, error) {
	mesh, err := db.MeshByID(ctx, meshID)
	if err != nil {
		return Exported{}, err
	}
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return Exported{}, translate(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return Exported{}, translate(err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	e := &exporter{conn: conn, meshID: meshID, secrets: secrets, w: bufio.NewWriterSize(w, 1<<16)}
	if err := e.all(ctx, exportHeader{exportKind, exportFormat, SchemaVersion, mesh.Slug, secrets}); err != nil {
		return Exported{}, err
	}
	return Exported{Lines: e.lines, Messages: len(e.seqs)}, e.w.Flush()
}

// exporter is one run of Export.
type exporter struct {
	conn    *sql.Conn
	meshID  string
	secrets bool
	w       *bufio.Writer
	seqs    []int64 // of the mesh's messages, in order
	lines   int
	line    bytes.Buffer
}

func (e *exporter) all(ctx context.Context, header exportHeader) error {
	err := each(ctx, e.conn, func(rows *sql.Rows) error {
		var seq int64
		err := rows.Scan(&seq)
		e.seqs = append(e.seqs, seq)
		return err
	}, `SELECT seq FROM message WHERE mesh_id = ? ORDER BY seq`, e.meshID)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(e.w).Encode(header); err != nil {
		return err
	}
	for _, t := range exported {
		columns, err := columnsOf(ctx, e.conn, t.name)
		if err == nil {
			err = e.table(ctx, t, columns)
		}
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(e.w).Encode(exportFooter{exportEnd, e.lines})
}

// column is one of a table's.
type column struct {
	name     string
	kind     string // TEXT, INTEGER or BLOB
	required bool   // NOT NULL, and no default
	key      int    // its place in the primary key, from 1; 0: none
	refers   string // the table whose id it holds, "" for none
}

// isPlace reports whether the column has the number of a message.
func (c column) isPlace() bool { return c.name == "seq" || strings.HasSuffix(c.name, "_seq") }

// columnsOf returns the columns of a table in its order. What a column refers to is
// also told by its name, because messages and deliveries have no foreign keys.
func columnsOf(ctx context.Context, conn querier, table string) (all []column, err error) {
	err = each(ctx, conn, func(rows *sql.Rows) error {
		var c column
		err := rows.Scan(&c.name, &c.kind, &c.required, &c.key, &c.refers)
		switch {
		case c.refers != "":
		case strings.HasSuffix(c.name, "member_id"):
			c.refers = "member"
		case c.name == "topic_id":
			c.refers = "topic"
		}
		all = append(all, c)
		return err
	}, `SELECT c.name, c.type, c."notnull" AND c.dflt_value IS NULL, c.pk,
		coalesce((SELECT f."table" FROM pragma_foreign_key_list(?1) f WHERE f."from" = c.name), '')
		FROM pragma_table_info(?1) c ORDER BY c.cid`, table)
	return all, err
}

// table writes the rows of a table, in the order of its primary key.
func (e *exporter) table(ctx context.Context, t exportTable, columns []column) error {
	var key []string
	for _, c := range columns {
		if c.key > 0 {
			key = append(key, c.name)
		}
	}
	slices.SortFunc(key, func(a, b string) int { return keyOrder(columns, a) - keyOrder(columns, b) })
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return c.name == "mesh_id" || !e.secrets && slices.Contains(t.secrets, c.name)
	})
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	return each(ctx, e.conn, func(rows *sql.Rows) error {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		return e.row(t.name, columns, values)
	}, `SELECT `+strings.Join(names, ", ")+` FROM `+t.name+` WHERE `+t.of+` ORDER BY `+strings.Join(key, ", "), e.meshID)
}

func keyOrder(columns []column, name string) int {
	return columns[slices.IndexFunc(columns, func(c column) bool { return c.name == name })].key
}

// row writes one line.
func (e *exporter) row(table string, columns []column, values []any) error {
	e.line.Reset()
	fmt.Fprintf(&e.line, `{"kind":%q,"row":`, table)
	for i, c := range columns {
		separator := ','
		if i == 0 {
			separator = '{'
		}
		fmt.Fprintf(&e.line, `%c%q:`, separator, c.name)
		if err := e.value(c, values[i]); err != nil {
			return fmt.Errorf("%s.%s: %w", table, c.name, err)
		}
	}
	e.line.WriteString("}}\n")
	e.lines++
	_, err := e.w.Write(e.line.Bytes())
	return err
}

func (e *exporter) value(c column, v any) error {
	switch v := v.(type) {
	case int64:
		if c.isPlace() {
			v = e.place(v)
		}
		fmt.Fprint(&e.line, v)
		return nil
	case []byte:
		fmt.Fprintf(&e.line, "%q", base64.StdEncoding.EncodeToString(v))
		return nil
	case string, nil:
		encoder := json.NewEncoder(&e.line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			return err
		}
		e.line.Truncate(e.line.Len() - 1) // the encoder's line break
		return nil
	}
	return fmt.Errorf("a value of the type %T", v) // a STRICT table without REAL has none
}

// place is how many of the mesh's messages have a number up to seq.
func (e *exporter) place(seq int64) int64 {
	return int64(sort.Search(len(e.seqs), func(i int) bool { return e.seqs[i] > seq }))
}
