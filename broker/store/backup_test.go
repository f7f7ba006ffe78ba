package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// mustCheck wants a file to be in order.
func mustCheck(t *testing.T, path string) *Report {
	t.Helper()
	report, err := Check(t.Context(), path, schemaText(t))
	if err != nil {
		t.Fatal(err)
	}
	if !report.Valid() {
		t.Fatalf("%s: %+v", path, report.Findings)
	}
	return report
}

func mustBackup(t *testing.T, db *DB) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "copy.db")
	if _, err := Backup(t.Context(), db.Path(), target, schemaText(t), false); err != nil {
		t.Fatal(err)
	}
	return target
}

// A backup has all that was stored before it began, and of what is stored
// meanwhile the beginning.
func TestBackupBesideAWriter(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	var stored atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, _, err := post(db, topicPost(ann, "general", "aGk=")); err != nil {
				stopped <- err
				return
			}
			stored.Add(1)
		}
	}()
	for range 5 {
		before := stored.Load()
		target := mustBackup(t, db)
		after := stored.Load()
		if got := mustCheck(t, target).Messages; got < before || got > after+1 {
			t.Errorf("the copy has %d messages; there were %d before it and %d after it", got, before, after)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestBackupThatFailsLeavesNothing(t *testing.T) {
	db, _ := newDB(t)
	folder := t.TempDir()
	target := filepath.Join(folder, "copy.db")
	if err := os.WriteFile(target, []byte("an older backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ctx, db.Path(), target, schemaText(t), true); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	// The copy is found wanting: the file it was made of lost its #general.
	if err := db.Update(func(tx *Tx) error { return tx.exec(`UPDATE topic SET name = 'other'`) }); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), db.Path(), target, schemaText(t), true); err == nil || !strings.Contains(err.Error(), "has no topic #general") {
		t.Errorf("a file that is not in order: %v", err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if kept, _ := os.ReadFile(target); string(kept) != "an older backup" {
		t.Errorf("the older backup is now %q", kept)
	}
}

// What is beside the file that a backup replaces belongs to that file.
func TestBackupDoesNotInheritALog(t *testing.T) {
	db, _ := newDB(t)
	target := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(target+"-wal", []byte("of a file that is gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), db.Path(), target, schemaText(t), false); err == nil || !strings.Contains(err.Error(), "copy.db-wal already") {
		t.Errorf("without force: %v", err)
	}
	if _, err := Backup(t.Context(), db.Path(), target, schemaText(t), true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(target + "-wal"); err == nil {
		t.Error("the log is still there")
	}
	mustCheck(t, target)
}

// A data file that is broken is why somebody restores: it is kept as it is, its log
// too.
func TestRestoreOverABrokenFile(t *testing.T) {
	db, _ := newDB(t)
	backup := mustBackup(t, db)
	path := filepath.Join(t.TempDir(), "meshbox.db")
	garbage := bytes.Repeat([]byte("garbage "), 1000)
	for _, suffix := range []string{"", "-wal"} {
		if err := os.WriteFile(path+suffix, garbage, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restored, err := Restore(t.Context(), backup, path, schemaText(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		if kept, err := os.ReadFile(restored.Former + suffix); err != nil || !bytes.Equal(kept, garbage) {
			t.Errorf("%s was not kept: %v", restored.Former+suffix, err)
		}
	}
	mustCheck(t, path)
	mustOpen(t, path, Options{Schema: schemaText(t), Server: true})
}

// An older file is restored as it is; the server updates it.
func TestRestoreOfAnOlderFile(t *testing.T) {
	files, err := filepath.Glob("../../testdata/store/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no old files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			old := oldFile(t, filepath.Base(file))
			if report := mustCheck(t, old); report.Current() || report.Meshes == 0 {
				t.Errorf("report = %+v", report)
			}
			path := filepath.Join(t.TempDir(), "meshbox.db")
			restored, err := Restore(t.Context(), old, path, schemaText(t))
			if err != nil || restored.Current() || restored.Former != "" {
				t.Fatalf("%+v, %v", restored, err)
			}
			mustOpen(t, path, Options{Schema: schemaText(t), Server: true}).Close()
			if report := mustCheck(t, path); !report.Current() {
				t.Errorf("after the start: %+v", report)
			}
		})
	}
}

// Numbers of messages go on behind the greatest that the restored file gave: no
// place in a topic is ahead of them.
func TestPlacesAfterARestore(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	first, _, err := post(db, topicPost(ann, "general", "aGk="))
	if err != nil {
		t.Fatal(err)
	}
	backup := mustBackup(t, db)
	lost, _, err := post(db, topicPost(ann, "general", "aGk="))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	db.Settle(bob.ID, []Settlement{{Seq: lost.Seq, TopicID: lost.TopicID}}, lost.CreatedAt, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Restore(t.Context(), backup, db.Path(), schemaText(t)); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, db.Path(), Options{Schema: schemaText(t), Server: true})
	next, _, err := post(again, topicPost(ann, "general", "bmV3"))
	if err != nil || next.ID == lost.ID {
		t.Fatalf("%+v, %v", next, err)
	}
	waiting, err := again.Pending(t.Context(), Mailbox{MemberID: bob.ID}, Waiting{Limit: 10})
	if err != nil || len(waiting) != 2 || waiting[0].ID != first.ID || waiting[1].ID != next.ID {
		t.Errorf("bob is owed %+v, %v; want the message before the backup and the new one", waiting, err)
	}
}

// Reading changes nothing: neither the file, nor what is beside it, nor the log of
// a server that was killed.
func TestCheckLeavesFilesAlone(t *testing.T) {
	db, meshID := newDB(t)
	addMember(t, db, meshID, "ann")
	folder := t.TempDir()
	for _, suffix := range []string{"", "-wal", "-shm"} { // as a crash leaves them
		content, err := os.ReadFile(db.Path() + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "killed.db"+suffix), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	still := filepath.Join(folder, "still.db")
	if err := os.Rename(mustBackup(t, db), still); err != nil {
		t.Fatal(err)
	}
	state := func() (all string) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			content, _ := os.ReadFile(filepath.Join(folder, e.Name()))
			if strings.HasSuffix(e.Name(), "-shm") {
				content = nil // locks and an index of the log
			}
			all += e.Name() + " " + string(content)
		}
		return all
	}
	before := state()
	for _, name := range []string{"killed.db", "still.db"} {
		if report := mustCheck(t, filepath.Join(folder, name)); report.Members != 1 {
			t.Errorf("%s: %+v", name, report)
		}
	}
	if state() != before {
		t.Error("a file was changed, made or removed")
	}
}
