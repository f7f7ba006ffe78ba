//go:build unix

package bench

import (
	"fmt"
	"syscall"
)

// spareFiles are open files beside those of the connections.
const spareFiles = 100

// checkFiles refuses more connections than this process may open; the Go runtime
// has raised the soft limit to the hard one at the start of the program.
func checkFiles(connections int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // then opening them will tell
	}
	if uint64(limit.Cur) < uint64(connections+spareFiles) {
		return fmt.Errorf("%d connections need %d open files, here and in the broker, and at most %d are allowed; raise the limit with ulimit -Hn, or take fewer", connections, connections+spareFiles, limit.Cur)
	}
	return nil
}
