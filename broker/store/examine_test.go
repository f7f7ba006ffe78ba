package store

import (
	"os"
	"path/filepath"
	"testing"
)

// Who asks whether a file is served does not keep a server from it.
func TestServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	want := func(served bool) {
		t.Helper()
		if got, err := Served(path); got != served || err != nil {
			t.Errorf("served: %t, %v, want %t", got, err, served)
		}
	}
	want(false)
	if _, err := os.Stat(path + ".lock"); !os.IsNotExist(err) {
		t.Errorf("asking made a lock file: %v", err)
	}
	db := mustOpen(t, path, Options{Schema: schemaText(t), Server: true, First: home()})
	want(true)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	want(false)
	mustOpen(t, path, Options{Schema: schemaText(t), Server: true, First: home()})
	want(true)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	path = link // the same file by another name
	want(true)
}

func TestFileSchemaAndQuickCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	if version, err := FileSchema(path); version != 0 || err != nil {
		t.Errorf("a missing file: %d, %v", version, err)
	}
	db := mustOpen(t, path, Options{Schema: schemaText(t), Server: true, First: home()})
	if version, err := FileSchema(path); version != SchemaVersion || err != nil {
		t.Errorf("a new file: %d, %v", version, err)
	}
	if found, err := db.QuickCheck(t.Context()); len(found) > 0 || err != nil {
		t.Errorf("a new file: %q, %v", found, err)
	}
	if err := db.SetSetting("any", "value"); err != nil {
		t.Fatal(err)
	}
	if size, large := WALSize(path); size <= 0 || size > large {
		t.Errorf("the log has %d bytes of %d", size, large)
	}
}
