package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"meshbox/broker/store"
)

const (
	checkTime = 20 * time.Second // what reading the whole data file may take
	scarce    = 1 << 30          // bytes free, below which to think of it
	too       = 64 << 20         // bytes free, below which the disk will be full any moment
)

// there reports whether there is a data file to look at.
func (x *examination) there() bool {
	info, err := os.Stat(x.DB)
	return err == nil && info.Mode().IsRegular()
}

func (x *examination) dataFile(context.Context) {
	const which = "if the server's is elsewhere, name it with --db; else run meshbox once, which makes it"
	info, err := os.Stat(x.DB)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !x.Named:
		x.warn(which, "there is no %s here, so no data file was looked at", x.DB)
	case errors.Is(err, fs.ErrNotExist):
		x.fail(which, "there is no data file %s", x.DB)
	case err != nil:
		x.fail("run this as the user whose server it is, or with sudo", "%s cannot be looked at: %s", x.DB, reason(err))
	case !info.Mode().IsRegular():
		x.fail("name the file with --db", "%s is not a file", x.DB)
	default:
		x.ok("%s, %s", x.DB, size(info.Size()))
	}
}

// permissions: the file holds the keys of the meshes, and so does its log; who may
// write the folder can put another file in its place.
func (x *examination) permissions(context.Context) {
	if !x.there() {
		return
	}
	before := len(x.findings)
	folder := filepath.Dir(x.DB)
	info, err := os.Stat(folder)
	if err != nil {
		x.fail("run this as the user whose server it is, or with sudo", "%s cannot be looked at: %s", folder, reason(err))
		return
	}
	if open := info.Mode().Perm() & 0o022; modes && open != 0 && info.Mode()&fs.ModeSticky == 0 {
		x.fail("chmod go-w "+folder, "others may write the folder %s (mode %#o)", folder, info.Mode().Perm())
	}
	if err := x.Machine.Writable(folder); err != nil {
		x.fail("look at the folder's owner and mode, and whether the file system is mounted read-only: SQLite writes beside the data file", "%s cannot be written: %s", folder, err)
	}
	owner, known := ownerOf(info)
	for _, path := range []string{x.DB, x.DB + "-wal", x.DB + "-shm", x.DB + ".lock"} {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if modes && info.Mode().Perm()&0o077 != 0 {
			x.fail("chmod 600 "+path, "others may open %s, which holds keys and messages (mode %#o)", path, info.Mode().Perm())
		}
		if of, _ := ownerOf(info); known && of != owner {
			x.fail("give it to the user of the server, with: sudo chown --reference="+folder+" "+path, "%s belongs to user %d, its folder to user %d", path, of, owner)
		}
	}
	if len(x.findings) == before {
		x.ok("only its owner may open it")
	}
}

func (x *examination) schema(context.Context) {
	if !x.there() {
		return
	}
	version, err := store.FileSchema(x.DB)
	switch {
	case err != nil:
		what, remedy := sentence(err)
		x.fail(remedy, "%s", what)
	case version < store.SchemaVersion:
		x.warn("start the server of this version once: it updates the file, and leaves a copy beside it", "the data file has schema %d, this program %d", version, store.SchemaVersion)
	default:
		x.ok("%d, which this program knows", version)
		x.known = true
	}
}

// integrity opens the file, as commands beside a server do, and reads all of it.
func (x *examination) integrity(ctx context.Context) {
	if !x.known {
		return
	}
	db, err := store.Open(x.DB, store.Options{})
	if err != nil {
		what, remedy := sentence(err)
		x.fail(remedy, "%s", what)
		return
	}
	x.db = db
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	found, err := db.QuickCheck(ctx)
	switch {
	case ctx.Err() != nil:
		x.warn(`look at it in a quiet hour with: sqlite3 FILE "PRAGMA quick_check"`, "the file is too large to be read within %s, and was not checked", checkTime)
	case err != nil:
		x.fail("stop the server, keep the file as it is, and restore a backup", "it cannot be read: %s", err)
	case len(found) > 0:
		x.fail("stop the server, keep the file as it is, and restore a backup; sqlite3 FILE .recover saves what can be read", "the file is damaged: %s", found[0])
	default:
		x.ok("quick_check finds no damage")
	}
}

func (x *examination) log(context.Context) {
	if x.db == nil {
		return
	}
	bytes, large := store.WALSize(x.DB)
	if bytes > 4*large {
		x.warn("something reads the file for a long time, such as a backup: wait for it, or find it with: fuser -v "+x.DB, "%s-wal has %s; it is begun anew above %s", x.DB, size(bytes), size(large))
		return
	}
	x.ok("%s", size(bytes))
}

func (x *examination) space(context.Context) {
	if !x.there() {
		return
	}
	free, err := x.Machine.Free(filepath.Dir(x.DB))
	if err != nil {
		x.warn("look yourself with: df -h", "how much is free is not known: %s", err)
		return
	}
	info, err := os.Stat(x.DB)
	if err != nil {
		return
	}
	switch judgeSpace(free, uint64(info.Size())) {
	case Fail:
		x.fail("make room: with a full disk, sends are refused with busy", "%s are free in %s", size(free), filepath.Dir(x.DB))
	case Warn:
		x.warn("make room soon: an update of meshbox copies the data file first", "%s are free in %s", size(free), filepath.Dir(x.DB))
	default:
		x.ok("%s are free", size(free))
	}
}

// judgeSpace says what to think of free bytes beside a data file of used bytes.
func judgeSpace(free, used uint64) string {
	switch {
	case free < too:
		return Fail
	case free < scarce || free < used:
		return Warn
	}
	return OK
}

// reason strips the operation and path that os errors repeat.
func reason(err error) error {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err
	}
	return err
}
