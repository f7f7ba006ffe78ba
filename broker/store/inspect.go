package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// sqliteMagic is how every SQLite file begins.
const sqliteMagic = "SQLite format 3\x00"

const (
	applicationID = 0x6d626f78 // "mbox", in the SQLite header
	headerLen     = 100        // bytes (SQLite file format, section 1.3)
)

// fileState is what a data file says of itself before SQLite touches it.
type fileState struct {
	exists  bool
	empty   bool // no table yet, as far as the file itself tells: ours to fill
	version int  // PRAGMA user_version
}

// inspect reads the header of the file at path with plain reads. Opening a
// foreign file with our pragmas would already change it (journal_mode), so who
// it belongs to is decided before SQLite sees it. That also costs no time on
// large files, which PRAGMA integrity_check would.
func inspect(path string) (fileState, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // who creates it says what is wrong
		return fileState{empty: true}, nil
	}
	if err != nil {
		return fileState{}, fmt.Errorf("cannot open the data file %s: %w; check its owner and mode", path, reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fileState{}, err
	}
	if !info.Mode().IsRegular() {
		return fileState{}, fmt.Errorf("%s is not a file; name a file with --db", path)
	}
	if info.Size() == 0 {
		return fileState{exists: true, empty: true}, nil
	}
	header := make([]byte, headerLen)
	if _, err := io.ReadFull(file, header); err != nil {
		return fileState{}, fmt.Errorf("%s is too short to be a meshbox data file; restore a backup, or choose another file with --db", path)
	}
	return judge(path, header, info.Size())
}

// judge reads the header fields; offsets are those of the SQLite file format.
func judge(path string, header []byte, size int64) (fileState, error) {
	if string(header[:16]) != sqliteMagic {
		return fileState{}, fmt.Errorf("%s is not a meshbox data file, or is damaged (it has no SQLite header); restore a backup, or choose another file with --db", path)
	}
	pages := int64(binary.BigEndian.Uint32(header[28:]))
	id := binary.BigEndian.Uint32(header[68:])
	if id == 0 && pages <= 1 {
		// One page holds no table: a first start that was cut off here.
		return fileState{exists: true, empty: true}, nil
	}
	if id != applicationID {
		return fileState{}, foreignFile(path)
	}
	state := fileState{exists: true, version: int(binary.BigEndian.Uint32(header[60:]))}
	if state.version > SchemaVersion {
		return fileState{}, newerSchema(path, state.version)
	}
	pageSize := int64(binary.BigEndian.Uint16(header[16:]))
	if pageSize == 1 { // how the format spells 65536
		pageSize = 65536
	}
	if size < pages*pageSize && !hasWAL(path) {
		return fileState{}, fmt.Errorf("%s is damaged: it ends after %d of %d bytes; restore a backup", path, size, pages*pageSize)
	}
	return state, nil
}

// hasWAL reports a write-ahead log with content: then the file itself may lag
// behind its header after a crash, and SQLite's recovery completes it.
func hasWAL(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

func foreignFile(path string) error {
	return fmt.Errorf("%s is an SQLite file of another program; choose another file with --db", path)
}

func newerSchema(path string, version int) error {
	return fmt.Errorf("%s was written by a newer meshbox (schema %d, this one knows %d); update meshbox, or restore the snapshot the newer one made", path, version, SchemaVersion)
}
