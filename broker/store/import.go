package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxLine is how long a line of an export may be, in bytes: a message of the greatest
// size that a server can allow, in base64, fits well.
const maxLine = 64 << 20

// LineError is what is wrong with an export, and where.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Imported says what Import stored.
type Imported struct {
	Mesh     Mesh
	Members  int
	Messages int64
}

// ImportInto imports a mesh into the data file at path, of which o says how it is
// opened: it is made if there is none, and then is gone again if the import fails.
// The file is checked afterwards. For the rest see Import.
func ImportInto(ctx context.Context, path string, o Options, source io.ReadSeeker, name string) (done Imported, err error) {
	db, err := Open(path, o)
	if err != nil {
		return done, err
	}
	done, err = db.Import(ctx, source, name)
	err = errors.Join(err, db.Close())
	if err != nil {
		if db.created {
			for _, suffix := range append([]string{"", ".lock"}, sideFiles...) {
				os.Remove(db.path + suffix)
			}
		}
		return done, err
	}
	report, err := Check(ctx, path, o.Schema)
	if err == nil {
		err = report.Err(path)
	}
	return done, err
}

// Import stores the mesh of an export, all of it or nothing. name, if not "", is
// what it is called here. Errors of the text are *LineError; ErrExists inside of one
// if the mesh, or another of this name, is there already. What was imported is as it
// should be (see Check), and refers to nothing of other meshes.
func (db *DB) Import(ctx context.Context, source io.ReadSeeker, name string) (done Imported, err error) {
	err = db.Update(func(tx *Tx) error {
		if _, err := source.Seek(0, io.SeekStart); err != nil { // it may be run twice
			return err
		}
		i := &importer{ctx: ctx, tx: tx, name: name, ids: map[string]map[string]bool{"member": {}, "topic": {}, "invite": {}}}
		err := i.all(source)
		done = Imported{i.mesh, i.count["member"], int64(i.count["message"])}
		if _, onLine := errors.AsType[*LineError](err); err != nil && !onLine && i.line > 0 && !isDatabaseError(err) && ctx.Err() == nil {
			err = &LineError{i.line, err}
		}
		return err
	})
	return done, err
}

// importer is one run of Import.
type importer struct {
	ctx  context.Context
	tx   *Tx
	name string // what the mesh is to be called, "" for what it is called
	line int

	mesh    Mesh
	table   int // of exported: where the last line went
	columns map[string][]column
	count   map[string]int             // lines, by table
	first   int64                      // the number of the mesh's message n is first + n
	ids     map[string]map[string]bool // by table: of this mesh
	ahead   []reference                // to rows that had not come yet
}

// reference is what a row says of another.
type reference struct {
	line      int
	table, id string
}

func (i *importer) all(source io.Reader) error {
	if err := i.prepare(); err != nil {
		return err
	}
	lines := bufio.NewScanner(source)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	ended := false
	for lines.Scan() {
		if err := i.ctx.Err(); err != nil {
			return err
		}
		i.line++
		if ended {
			return errors.New("there is more after the end")
		}
		var err error
		if i.line == 1 {
			err = i.header(lines.Bytes())
		} else {
			ended, err = i.take(lines.Bytes())
		}
		if err != nil {
			return err
		}
	}
	i.line++
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("it is longer than %d bytes", maxLine)
	case err != nil:
		return err
	case !ended:
		return errors.New("the end is missing: the file was cut off")
	}
	i.line = 0 // what is still to be found is of no line
	return i.finish()
}

// prepare looks up what the tables are like, and where the new messages begin.
func (i *importer) prepare() error {
	i.columns, i.count = map[string][]column{}, map[string]int{}
	for _, t := range exported {
		columns, err := columnsOf(i.ctx, i.tx.conn, t.name)
		if err != nil {
			return err
		}
		i.columns[t.name] = columns
	}
	err := i.tx.row(&i.first, `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'message'`)
	if err != nil {
		return err
	}
	// The mesh names its owner, and the owner its mesh.
	return i.tx.exec(`PRAGMA defer_foreign_keys = 1`)
}

func (i *importer) header(line []byte) error {
	var h exportHeader
	switch err := json.Unmarshal(line, &h); {
	case err != nil || h.Kind != exportKind:
		return errors.New("this is no export of a mesh; make one with: meshbox export")
	case h.Format != exportFormat || h.Schema > SchemaVersion:
		return fmt.Errorf("it was written by a newer meshbox (format %d, schema %d; this one knows %d and %d); update meshbox", h.Format, h.Schema, exportFormat, SchemaVersion)
	case !h.Secrets:
		return errors.New("it was written without secrets: it is for reading, and no mesh can be made of it; export again with them")
	}
	return nil
}

// take stores one line. It reports whether that was the end.
func (i *importer) take(line []byte) (ended bool, err error) {
	var parsed struct {
		Kind  string
		Row   map[string]any
		Lines json.Number
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&parsed); err != nil {
		return false, errors.New("this is no JSON object with kind and row")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return false, errors.New("there is more than one JSON object")
	}
	if parsed.Kind != exportEnd {
		return false, i.store(parsed.Kind, parsed.Row)
	}
	if stored := fmt.Sprint(i.line - 2); string(parsed.Lines) != stored {
		return false, fmt.Errorf("%s lines were read, and there should be %s: some are missing", stored, parsed.Lines)
	}
	return true, nil
}

// store inserts a row.
func (i *importer) store(kind string, row map[string]any) error {
	at := slices.IndexFunc(exported, func(t exportTable) bool { return t.name == kind })
	switch {
	case at < 0:
		return fmt.Errorf("the kind %q is not known", kind)
	case at < i.table, i.count["mesh"] == 0 && kind != "mesh", kind == "mesh" && i.count["mesh"] > 0:
		return fmt.Errorf("a line of the kind %q can not stand here", kind)
	}
	i.table = at
	i.count[kind]++
	if kind == "mesh" {
		if err := i.begin(row); err != nil {
			return err
		}
	}
	names, values, err := i.values(kind, row)
	if err != nil {
		return err
	}
	err = i.tx.exec(`INSERT INTO `+kind+` (`+strings.Join(names, ", ")+`) VALUES (?`+strings.Repeat(", ?", len(names)-1)+`)`, values...)
	switch {
	case errors.Is(err, ErrExists):
		return fmt.Errorf("this %s, or one that may not stand beside it, %w", kind, err)
	case isDatabaseError(err), err == nil:
	default:
		return fmt.Errorf("it is no %s that can be: %w", kind, err)
	}
	if ids := i.ids[kind]; ids != nil {
		if id, ok := row["id"].(string); ok {
			ids[id] = true
		}
	}
	if kind == "message" && err == nil {
		err = i.index(row)
	}
	return err
}

// begin takes the line of the mesh itself.
func (i *importer) begin(row map[string]any) error {
	i.mesh.ID, _ = row["id"].(string)
	i.mesh.Slug, _ = row["slug"].(string)
	if i.mesh.ID == "" || !ValidMeshName(i.mesh.Slug) {
		return errors.New("the mesh has no id, or no name that a mesh can have")
	}
	var there string
	err := i.tx.row(&there, `SELECT slug FROM mesh WHERE id = ?`, i.mesh.ID)
	if err == nil {
		return fmt.Errorf("this mesh %w, as %q", ErrExists, there)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	slug := i.mesh.Slug
	if i.name != "" {
		slug = i.name
	}
	if err := i.tx.row(&there, `SELECT id FROM mesh WHERE slug = ?`, slug); err == nil {
		return fmt.Errorf("another mesh called %q %w; choose a name with --name", slug, ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	row["slug"] = slug
	return nil
}

// values are the columns of a row that stand in the line, as the table has them.
func (i *importer) values(kind string, row map[string]any) (names []string, values []any, err error) {
	for _, c := range i.columns[kind] {
		v, there := row[c.name]
		switch {
		case c.name == "mesh_id":
			v = i.mesh.ID
		case !there && c.required:
			return nil, nil, fmt.Errorf("there is no %s", c.name)
		case !there: // of an older meshbox
			continue
		default:
			if v, err = i.value(kind, c, v); err != nil {
				return nil, nil, fmt.Errorf("%s %w", c.name, err)
			}
		}
		names, values = append(names, c.name), append(values, v)
	}
	for name := range row {
		if !slices.ContainsFunc(i.columns[kind], func(c column) bool { return c.name == name && name != "mesh_id" }) {
			return nil, nil, fmt.Errorf("a %s has no %q", kind, name)
		}
	}
	return names, values, nil
}

func (i *importer) value(kind string, c column, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	switch {
	case c.kind == "TEXT" && isText:
		i.refer(c.refers, text)
		return text, nil
	case c.kind == "BLOB" && isText:
		blob, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("is no base64")
		}
		return blob, nil
	case c.kind == "INTEGER" && isNumber:
		n, err := number.Int64()
		if err != nil {
			return nil, errors.New("is no whole number")
		}
		if c.isPlace() {
			return i.place(kind, c, n)
		}
		return n, nil
	}
	return nil, errors.New("has the wrong type")
}

// place is the number of a message here. Messages come one after the other, and
// nothing is ahead of them.
func (i *importer) place(kind string, c column, n int64) (int64, error) {
	last := int64(i.count["message"])
	switch {
	case kind == "message" && c.name == "seq" && n != last:
		return 0, fmt.Errorf("is %d, and the next message is %d", n, last)
	case n < 0 || n > last || n == 0 && c.name == "seq":
		return 0, fmt.Errorf("is %d, and there are %d messages", n, last)
	case n == 0:
		return 0, nil
	}
	return i.first + n, nil
}

// refer notes that a row names another.
func (i *importer) refer(table, id string) {
	if ids := i.ids[table]; ids != nil && !ids[id] {
		i.ahead = append(i.ahead, reference{i.line, table, id})
	}
}

// index makes a message of a topic findable.
func (i *importer) index(row map[string]any) error {
	p := &Post{Message: Message{Seq: i.first + int64(i.count["message"])}}
	p.TopicID, _ = row["topic_id"].(string)
	p.Ciphertext, _ = row["ciphertext"].(string)
	version, _ := row["body_version"].(json.Number)
	if version == "1" {
		p.BodyVersion = 1
	}
	return i.tx.index(p)
}

// finish checks the whole.
func (i *importer) finish() error {
	if i.count["mesh"] == 0 {
		return errors.New("there is no mesh")
	}
	for _, r := range i.ahead {
		if !i.ids[r.table][r.id] {
			return &LineError{r.line, fmt.Errorf("it names a %s %q that is not in this mesh", r.table, r.id)}
		}
	}
	i.tx.forget()
	c := &checker{conn: i.tx.conn, report: &Report{}}
	for _, check := range []func(context.Context) error{
		c.foreignKeys, func(ctx context.Context) error { return c.chain(ctx, i.mesh) }, c.general, c.messages,
	} {
		if err := check(i.ctx); err != nil {
			return err
		}
	}
	if !c.report.Valid() {
		return fmt.Errorf("the data file would not be in order with it, and nothing was imported: %s", c.report.Findings[0].Text)
	}
	return i.rename()
}

// rename records, as for every other mesh, that it has another name.
func (i *importer) rename() error {
	if i.name == "" || i.name == i.mesh.Slug {
		return nil
	}
	before := i.mesh.Slug
	i.mesh.Slug = i.name
	return i.tx.audit(i.mesh.ID, EventMeshRenamed, ActorOperator, map[string]any{"from": before, "to": i.name})
}
