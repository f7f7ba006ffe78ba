package store

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// tamper changes the file as somebody with a database tool would.
func tamper(t *testing.T, db *DB, query string, args ...any) {
	t.Helper()
	raw, err := sql.Open("sqlite", db.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

// chain returns the entries of a mesh in their order.
func chain(t *testing.T, db *DB, meshID string) []AuditEntry {
	t.Helper()
	entries, total, err := db.AuditEntries(t.Context(), meshID, AuditQuery{Limit: 1000})
	if err != nil || total != len(entries) {
		t.Fatalf("%d of %d entries, %v", len(entries), total, err)
	}
	ordered := make([]AuditEntry, len(entries))
	for i, e := range entries {
		ordered[len(entries)-1-i] = e
	}
	return ordered
}

func mustVerify(t *testing.T, db *DB, meshID string) AuditVerdict {
	t.Helper()
	verdict, err := db.VerifyAudit(t.Context(), meshID)
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

// note appends an entry that records nothing but itself.
func note(t *testing.T, db *DB, meshID, event string) {
	t.Helper()
	err := db.Update(func(tx *Tx) error { return tx.audit(meshID, event, ActorServer, map[string]any{"text": event}) })
	if err != nil {
		t.Fatal(err)
	}
}

// The form of what is hashed is a promise: who keeps a hash must be able to
// check it with another program.
func TestAuditHashIsThatOfItsDocumentedForm(t *testing.T) {
	e := AuditEntry{Number: 7, ID: "ID", Event: "e", Actor: "añ", Payload: `{"a":","}`, CreatedAt: time.UnixMilli(1234)}
	// printf '15:meshbox-audit-1,2:ab,4:mesh,1:7,2:ID,4:1234,1:e,3:añ,9:{"a":","},' | sha256sum
	const want = "8d7f458fe0fa19ba34dad8d654369e093b0632f30ae5a1a8dc359b52c31ec006"
	if got := e.chainHash("mesh", "ab"); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestAuditChainsOfMeshesAreTheirOwn(t *testing.T) {
	db, home := newDB(t)
	lab := Mesh{ID: NewID(), Slug: "lab", OwnerPubKey: strings.Repeat("b", 64), OwnerSeed: make([]byte, 32), RootKey: make([]byte, 32), CreatedAt: time.Now()}
	if err := db.CreateMesh(FirstMesh{Mesh: lab}); err != nil {
		t.Fatal(err)
	}
	before := map[string]int{home: len(chain(t, db, home)), lab.ID: len(chain(t, db, lab.ID))}
	for i := range 3 {
		note(t, db, home, fmt.Sprint("home-", i))
		note(t, db, lab.ID, fmt.Sprint("lab-", i))
	}
	for meshID, had := range before {
		verdict := mustVerify(t, db, meshID)
		entries := chain(t, db, meshID)
		if !verdict.Valid() || verdict.Entries != had+3 || verdict.LastHash != entries[len(entries)-1].Hash {
			t.Errorf("verdict %+v, had %d", verdict, had)
		}
		for i, e := range entries {
			if e.Number != int64(i+1) {
				t.Errorf("entry %d has number %d", i+1, e.Number)
			}
		}
	}
}

func TestTamperedAuditChainIsFound(t *testing.T) {
	forged := AuditEntry{Number: 3, ID: "forged", Event: "x", Actor: ActorServer, Payload: "{}", CreatedAt: time.UnixMilli(1)}
	tests := []struct {
		name   string
		tamper func(*testing.T, *DB, string, []AuditEntry)
		broken int // index of the entry that must be named, -1: the forged one
	}{
		{"an event changed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET event = 'nothing' WHERE id = ?`, e[2].ID)
		}, 2},
		{"an actor changed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET actor = 'operator' WHERE id = ?`, e[2].ID)
		}, 2},
		{"a payload changed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET payload = '{}' WHERE id = ?`, e[2].ID)
		}, 2},
		{"a time changed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET created_at = created_at + 1 WHERE id = ?`, e[2].ID)
		}, 2},
		{"an id changed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET id = 'forged' WHERE id = ?`, e[2].ID)
		}, -1},
		{"the first removed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `DELETE FROM audit WHERE id = ?`, e[0].ID)
		}, 1},
		{"one removed", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `DELETE FROM audit WHERE id = ?`, e[2].ID)
		}, 3},
		{"one removed and the rest renumbered", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `DELETE FROM audit WHERE id = ?`, e[2].ID)
			for _, later := range e[3:] {
				tamper(t, db, `UPDATE audit SET number = number - 1 WHERE id = ?`, later.ID)
			}
		}, 3},
		{"two swapped", func(t *testing.T, db *DB, _ string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET number = 1000 WHERE id = ?`, e[2].ID)
			tamper(t, db, `UPDATE audit SET number = ? WHERE id = ?`, e[2].Number, e[3].ID)
			tamper(t, db, `UPDATE audit SET number = ? WHERE id = ?`, e[3].Number, e[2].ID)
		}, 3},
		{"one inserted, with a hash that fits what is before it", func(t *testing.T, db *DB, meshID string, e []AuditEntry) {
			for i := len(e) - 1; i >= 2; i-- {
				tamper(t, db, `UPDATE audit SET number = number + 1 WHERE id = ?`, e[i].ID)
			}
			tamper(t, db, `INSERT INTO audit (mesh_id, number, id, event, actor, payload, hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, meshID,
				forged.Number, forged.ID, forged.Event, forged.Actor, forged.Payload, forged.chainHash(meshID, e[1].Hash), forged.CreatedAt.UnixMilli())
		}, 2},
		{"one changed and its own hash computed anew", func(t *testing.T, db *DB, meshID string, e []AuditEntry) {
			changed := e[2]
			changed.Actor = ActorOperator
			tamper(t, db, `UPDATE audit SET actor = ?, hash = ? WHERE id = ?`, changed.Actor, changed.chainHash(meshID, e[1].Hash), e[2].ID)
		}, 3},
		{"one moved here from another mesh", func(t *testing.T, db *DB, meshID string, e []AuditEntry) {
			tamper(t, db, `UPDATE audit SET hash = ? WHERE id = ?`, e[2].chainHash("another", e[1].Hash), e[2].ID)
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db, meshID := newDB(t)
			for i := range 6 {
				note(t, db, meshID, fmt.Sprint("event-", i))
			}
			entries := chain(t, db, meshID)
			if verdict := mustVerify(t, db, meshID); !verdict.Valid() {
				t.Fatalf("broken before it was touched: %+v", verdict)
			}
			tt.tamper(t, db, meshID, entries)
			want := "forged"
			if tt.broken >= 0 {
				want = entries[tt.broken].ID
			}
			if verdict := mustVerify(t, db, meshID); verdict.Valid() || verdict.BrokenAt.ID != want {
				t.Errorf("verdict %+v, want it broken at %s", verdict, want)
			}
		})
	}
}

// What was said of the limits of a chain is so: a cut end shows only by the
// hash that somebody kept.
func TestCutEndOfAnAuditChainShowsByTheLastHashAlone(t *testing.T) {
	db, meshID := newDB(t)
	for i := range 4 {
		note(t, db, meshID, fmt.Sprint("event-", i))
	}
	whole := mustVerify(t, db, meshID)
	tamper(t, db, `DELETE FROM audit WHERE mesh_id = ? AND number > ?`, meshID, whole.Entries-2)
	cut := mustVerify(t, db, meshID)
	if !cut.Valid() || cut.LastHash == whole.LastHash {
		t.Errorf("verdict %+v after %+v", cut, whole)
	}
}

func TestAuditEntryIsKeptOrLostWithItsChange(t *testing.T) {
	db, meshID := newDB(t)
	before := len(chain(t, db, meshID))
	refusal := errors.New("no")
	err := db.Update(func(tx *Tx) error {
		if err := tx.audit(meshID, "refused", ActorServer, nil); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) || len(chain(t, db, meshID)) != before {
		t.Errorf("%v, and %d entries after %d", err, len(chain(t, db, meshID)), before)
	}
	note(t, db, meshID, "after")
	if verdict := mustVerify(t, db, meshID); !verdict.Valid() || verdict.Entries != before+1 {
		t.Errorf("verdict %+v", verdict)
	}
}

// Two processes append to one chain: a server, and a command beside it.
func TestAuditChainOfTwoWritersIsOne(t *testing.T) {
	db, meshID := newDB(t)
	beside := mustOpen(t, db.Path(), Options{})
	had := len(chain(t, db, meshID))
	done := make(chan error, 2)
	for _, writer := range []*DB{db, beside} {
		go func() {
			var err error
			for i := range 20 {
				err = errors.Join(err, writer.Update(func(tx *Tx) error {
					return tx.audit(meshID, "event", ActorServer, map[string]any{"n": i})
				}))
			}
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	if verdict := mustVerify(t, db, meshID); !verdict.Valid() || verdict.Entries != had+40 {
		t.Errorf("verdict %+v", verdict)
	}
}

func TestAuditEntriesAreFoundByEventAndPage(t *testing.T) {
	db, meshID := newDB(t)
	for i := range 5 {
		note(t, db, meshID, "one")
		note(t, db, meshID, fmt.Sprint("two-", i))
	}
	page, total, err := db.AuditEntries(t.Context(), meshID, AuditQuery{Event: "one", Limit: 2, Offset: 1})
	if err != nil || total != 5 || len(page) != 2 || page[0].Event != "one" || page[0].Number <= page[1].Number {
		t.Errorf("%d of %d: %+v, %v", len(page), total, page, err)
	}
}
