package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdOnTerminal runs the program with a terminal for all its streams, and keeps
// what that shows in a file.
func cmdOnTerminal(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "onterminal FILE ARG...")
	screen, terminal, err := openTerminal()
	ts.Check(err)
	defer screen.Close()
	c := exec.Command("meshbox", args[1:]...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	ts.Check(c.Start())
	terminal.Close()
	var shown bytes.Buffer
	_, _ = shown.ReadFrom(screen) // ends with EIO when the program does
	ts.Check(c.Wait())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), shown.Bytes(), 0o600))
}

// openTerminal returns the two ends of a pseudo-terminal (man 4 pts).
func openTerminal() (screen, terminal *os.File, err error) {
	if screen, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		screen.Close()
	}
	return screen, terminal, err
}
