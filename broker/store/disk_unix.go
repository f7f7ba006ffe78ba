//go:build unix

package store

import (
	"os"
	"path/filepath"
	"syscall"
)

// sameOwner gives files the owner of the data file at path, or of its folder if
// there is none: what root restored, the user of the service must be able to open.
// It does nothing for others, who may not.
func sameOwner(path string, files ...string) {
	info, err := os.Stat(path)
	if err != nil {
		if info, err = os.Stat(filepath.Dir(path)); err != nil {
			return
		}
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return
	}
	for _, file := range files {
		_ = os.Lchown(file, int(owner.Uid), int(owner.Gid))
	}
}

// syncFolder returns when the names in the folder of path are on disk.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
