package doctor

import (
	"context"
	"os/exec"
	"strings"
	"time"

	"meshbox/broker/clients"
	"meshbox/broker/identity"
)

const (
	fewFiles  = 10_100          // open files: --max-connections and a few
	lateClock = 5 * time.Second // from which on a clock is not right
	askTime   = 5 * time.Second // what a program of the system, or a server, may take
)

// ThisMachine is the machine the program runs on. Who has no home has no clients there.
func ThisMachine() Machine {
	system, _ := clients.ThisSystem()
	return Machine{Now: time.Now, Free: freeSpace, Writable: writable, Files: fileLimit, Run: output, LookPath: exec.LookPath, Clients: system}
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	said, err := exec.CommandContext(ctx, name, args...).Output()
	return string(said), err
}

// clock compares this machine's with that of the server, by which it judges hellos.
// A Date header has whole seconds.
func (x *examination) clock(context.Context) {
	if x.answer == nil || x.answer.Date.IsZero() {
		return
	}
	ahead := x.answer.At.Sub(x.answer.Date.Add(time.Second / 2)).Round(time.Second)
	const remedy = "set both clocks, with NTP: the server refuses hellos that are a minute off"
	switch off := ahead.Abs(); {
	case off >= identity.MaxSkew:
		x.fail(remedy, "this machine's clock and the server's differ by %s", off)
	case off >= lateClock:
		x.warn(remedy, "this machine's clock and the server's differ by %s", off)
	default:
		x.ok("this machine's and the server's agree")
	}
}

// timeService asks systemd whether something keeps the clock right.
func (x *examination) timeService(ctx context.Context) {
	if _, err := x.Machine.LookPath("timedatectl"); err != nil {
		return
	}
	said, err := x.Machine.Run(ctx, "timedatectl", "show", "--property=NTPSynchronized", "--value")
	switch strings.TrimSpace(said) {
	case "yes":
		x.ok("the clock is kept right")
	case "no":
		if err == nil {
			x.warn("sudo timedatectl set-ntp true", "the clock is not kept right by NTP")
		}
	}
}

func (x *examination) openFiles(context.Context) {
	limit, ok := x.Machine.Files()
	switch {
	case !ok:
	case limit < fewFiles:
		x.warn("raise it (ulimit -Hn), or give the server a smaller --max-connections; meshbox service install raises it", "a program started here may open %d files, and each connection needs one", limit)
	default:
		x.ok("%d may be open", limit)
	}
}
