package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Backups. A copy is made by VACUUM INTO, which reads one state of the file while
// others go on writing. It stands under its name only once it was checked and is
// on disk.

// syncEvery is how long a copy may write before that goes to the disk.
const syncEvery = 50 * time.Millisecond

// sideFiles are what SQLite keeps beside a file: content that is not in it yet,
// and what it derives from that.
var sideFiles = []string{"-wal", "-shm", "-journal"}

// besideData are the ends of all names of files that a data file or its server keeps.
var besideData = append([]string{".lock", ".crt", ".key"}, sideFiles...)

// Backup copies the data file at path to target, also beside a running server,
// and checks the copy. schema is the text of schema.sql. An existing target is
// refused unless force is set, and then replaced at once. Its errors are sentences
// for a person, and after any of them target is as it was.
func Backup(ctx context.Context, path, target, schema string, force bool) (*Report, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, err
	}
	if target, err = realPath(target); err != nil {
		return nil, err
	}
	if err := mayWrite(path, target, force); err != nil {
		return nil, err
	}
	temporary, report, err := copyChecked(ctx, path, target, schema)
	if err != nil {
		return nil, err
	}
	for _, suffix := range sideFiles { // of what is replaced: the copy must not take them for its own
		os.Remove(target + suffix)
	}
	if err := moveInto(temporary, target); err != nil {
		os.Remove(temporary)
		return nil, fmt.Errorf("cannot write %s: %w", target, reason(err))
	}
	return report, nil
}

// mayWrite refuses a target of which something would be lost: an existing file unless
// force is set, the data file at path, and, whatever force says, what a data file in
// use or a server needs.
func mayWrite(path, target string, force bool) error {
	there, err := os.Lstat(target)
	if source, serr := os.Stat(path); err == nil && serr == nil && os.SameFile(source, there) {
		return fmt.Errorf("%s is the data file itself; name another file", target)
	}
	if err == nil && !there.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file; name another one", target)
	}
	for _, suffix := range besideData {
		if of, beside := strings.CutSuffix(target, suffix); beside && exists(of) {
			return fmt.Errorf("%s belongs to the data file %s; name another file", target, of)
		}
	}
	if served, err := Served(target); err == nil && served {
		return fmt.Errorf("%s is the data file of a running server; name another file", target)
	}
	for _, suffix := range append([]string{""}, sideFiles...) {
		if exists(target+suffix) && !force {
			return fmt.Errorf("there is a file %s already; choose another name, or replace it with --force", target+suffix)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// copyChecked copies the data file at path to a temporary file beside target, with
// a mode that keeps its keys private, and checks the copy. It is on disk when
// copyChecked returns.
func copyChecked(ctx context.Context, path, target, schema string) (temporary string, report *Report, err error) {
	conn, _, done, err := openToRead(ctx, path)
	if err != nil {
		return "", nil, err
	}
	defer done()
	dropStale(target)
	// CreateTemp's mode is 0600; VACUUM INTO fills an existing empty file.
	file, err := os.CreateTemp(filepath.Dir(target), filepath.Base(target)+".*.tmp")
	if err != nil {
		return "", nil, fmt.Errorf("cannot write in %s: %w", filepath.Dir(target), reason(err))
	}
	defer file.Close()
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	stop := syncOften(file)
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", file.Name())
	if stop(); err != nil {
		return "", nil, cannotCopy(ctx, path, target, err)
	}
	if report, err = Check(ctx, file.Name(), schema); err != nil {
		return "", nil, err
	}
	if err := report.Err("the copy of " + path); err != nil {
		return "", nil, err
	}
	if err := file.Sync(); err != nil {
		return "", nil, cannotCopy(ctx, path, target, err)
	}
	return file.Name(), report, nil
}

// staleAfter is when an unfinished copy is one of a program that was killed: one that is
// being written is younger.
const staleAfter = time.Hour

// dropStale removes the unfinished copies for target that killed programs left.
func dropStale(target string) {
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		isCopy := strings.HasPrefix(entry.Name(), filepath.Base(target)+".") && strings.HasSuffix(entry.Name(), ".tmp")
		if err == nil && isCopy && info.Mode().IsRegular() && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(filepath.Dir(target), entry.Name()))
		}
	}
}

// syncOften has what is written to a file go to the disk a little at a time, until
// stop is called. All of it at the end would make senders, who wait for the disk
// too, wait for it: (seen) more than a second for 370 MB.
func syncOften(file *os.File) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(syncEvery):
				_ = file.Sync() // the last one counts
			}
		}
	}()
	return func() { close(done); <-stopped }
}

func cannotCopy(ctx context.Context, path, target string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("cannot copy %s to %s: %w", path, filepath.Dir(target), translate(reason(err)))
}

// WritePrivately makes the file at path of what write writes, with a mode that keeps
// it private, when that is whole and on disk. An existing file is refused unless force
// is set, and then replaced at once; a data file is never replaced.
func WritePrivately(path string, force bool, write func(io.Writer) error) error {
	if err := mayWrite("", path, force); err != nil {
		return err
	}
	if isSQLite(path) {
		return fmt.Errorf("%s is a data file or a copy of one; name another file", path)
	}
	dropStale(path)
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return fmt.Errorf("cannot write in %s: %w", filepath.Dir(path), reason(err))
	}
	if err = write(file); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = moveInto(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return fmt.Errorf("cannot write %s: %w", path, reason(err))
	}
	return nil
}

// isSQLite reports whether there is such a file, by its first bytes.
func isSQLite(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, len(sqliteMagic))
	_, err = io.ReadFull(file, head)
	return err == nil && string(head) == sqliteMagic
}

// moveInto gives a file its name, in place of another, and returns when that is
// on disk.
func moveInto(temporary, target string) error {
	if err := os.Rename(temporary, target); err != nil {
		return err
	}
	return syncFolder(target)
}

// Restored says what Restore did.
type Restored struct {
	*Report
	Former string // the file that was there before, as it is called now; "" if there was none
}

// Restore puts a copy of the backup at source in the place of the data file at
// path, which is kept beside it. It checks source first, and refuses while a
// server, or another Restore, holds the data file. schema is the text of
// schema.sql. Its errors are sentences for a person, and after any of them the data
// file is as it was.
func Restore(ctx context.Context, source, path, schema string) (*Restored, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, err
	}
	if err := notItself(source, path); err != nil {
		return nil, err
	}
	report, err := Check(ctx, source, schema)
	if err == nil {
		err = report.Err(source)
	}
	if err != nil {
		return nil, err
	}
	db := &DB{path: path} // only its lock is wanted
	if err := db.takeLock(); err != nil {
		return nil, err
	}
	defer db.lock.Close()
	temporary, report, err := copyChecked(ctx, source, path, schema)
	if err != nil {
		return nil, err
	}
	sameOwner(path, temporary, db.lock.Path())
	former, err := db.replaceBy(temporary)
	if err != nil {
		os.Remove(temporary)
		return nil, fmt.Errorf("cannot replace %s: %w", path, reason(err))
	}
	return &Restored{report, former}, nil
}

func notItself(source, path string) error {
	a, err := os.Stat(source)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no file %s; name the backup", source)
		}
		return fmt.Errorf("cannot read %s: %w", source, reason(err))
	}
	if b, err := os.Stat(path); err == nil && os.SameFile(a, b) {
		return fmt.Errorf("%s is the data file itself; name a backup of it, and the data file with --db", source)
	}
	return nil
}

// replaceBy puts a file in the place of the data file, which gets another name. It
// keeps its own until the other takes that, so that there is one at any moment.
func (db *DB) replaceBy(file string) (former string, err error) {
	var undo []func() error
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	if _, err := os.Stat(db.path); err == nil {
		db.foldLog()
		former = freeName(db.path + ".before-restore-" + time.Now().Format("2006-01-02-150405"))
		if err := linkOrCopy(db.path, former); err != nil {
			return "", err
		}
		undo = append(undo, func() error { return os.Remove(former) })
	}
	for _, suffix := range sideFiles {
		aside := freeName(former + suffix)
		if former == "" {
			aside = freeName(db.path + ".before-restore" + suffix)
		}
		err := os.Rename(db.path+suffix, aside)
		if err == nil {
			undo = append(undo, func() error { return os.Rename(aside, db.path+suffix) })
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return former, moveInto(file, db.path)
}

// foldLog copies the log of a server that was killed into the data file. Where that
// fails, the file is broken, and its log is kept beside it.
func (db *DB) foldLog() {
	old := &DB{path: db.path}
	defer old.Close()
	if _, err := inspect(db.path); err == nil && hasWAL(db.path) && old.connect() == nil {
		_, _ = old.write.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

// freeName is name, or name with a number that makes it new.
func freeName(name string) string {
	for n, candidate := 2, name; ; n++ {
		if _, err := os.Lstat(candidate); err != nil {
			return candidate
		}
		candidate = fmt.Sprintf("%s-%d", name, n)
	}
}

// linkOrCopy gives a file a second name, or where there are no links makes a copy.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
