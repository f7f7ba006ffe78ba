package doctor

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// modes say nothing here: who may open a file is in its access control list.
const modes = false

func ownerOf(fs.FileInfo) (uint32, bool) { return 0, false }

func writable(string) error { return nil }

func fileLimit() (uint64, bool) { return 0, false }

func freeSpace(folder string) (free uint64, err error) {
	path, err := windows.UTF16PtrFromString(folder)
	if err != nil {
		return 0, err
	}
	return free, windows.GetDiskFreeSpaceEx(path, &free, nil, nil)
}
