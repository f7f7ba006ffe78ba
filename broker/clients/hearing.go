package clients

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"

	"meshbox/broker/wake"
)

// Hearing is how the agents of a client come to hear of messages.
type Hearing struct {
	Tier wake.Tier
	Why  string // half a sentence
}

// The first Claude Code whose sessions have an inbox.
const inboxSince = "2.1.224"

// Hearing finds out, with the client as it is now, what its agents can expect: its own
// program is asked. Which of them works is seen again in each session.
func (s *System) Hearing(ctx context.Context, name string) (Hearing, error) {
	if _, known := allHooks[name]; !known {
		return Hearing{}, fmt.Errorf("there is no client %q", name)
	}
	switch name {
	case "claude":
		if runtime.GOOS == "windows" {
			break // its inbox is a named pipe there
		}
		if version := s.version(ctx, "claude"); version != "" && !older(version, inboxSince) {
			return Hearing{wake.Woken, "Claude Code " + version + " has an inbox for each session"}, nil
		}
	case "codex":
		if program, err := s.LookPath("codex"); err == nil {
			if help, err := s.Run(ctx, program, "queue", "--help"); err == nil && strings.Contains(help, "--thread") {
				return Hearing{wake.Woken, "by codex queue, once it has used one of the tools"}, nil
			}
		}
	}
	h := allHooks[name]
	d, err := s.readHooks(h)
	switch {
	case err != nil || !s.calls(h, d):
		return Hearing{wake.NextToolCall, "no hook tells it earlier"}, nil
	case h.areOff(d):
		return Hearing{wake.NextToolCall, "hooks are turned off in " + h.path(s)}, nil
	}
	return Hearing{wake.AtTurnEnd, "by the hooks, once they are trusted"}, nil
}

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)\.(\d+)`)

// version is that of a client's program, "" if there is none.
func (s *System) version(ctx context.Context, name string) string {
	program, err := s.LookPath(name)
	if err != nil {
		return ""
	}
	output, err := s.Run(ctx, program, "--version")
	if err != nil {
		return ""
	}
	return versionNumber.FindString(output)
}

// older compares two versions of three numbers.
func older(a, b string) bool {
	as, bs := versionNumber.FindStringSubmatch(a), versionNumber.FindStringSubmatch(b)
	for i := 1; i <= 3; i++ {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return false
}

func (s *System) readHooks(h hooks) (*document, error) {
	text, err := read(h.path(s))
	if err != nil {
		return nil, err
	}
	return parse(text, h.strict)
}

// calls reports whether all events call us, by whatever command.
func (s *System) calls(h hooks, d *document) bool {
	for _, event := range h.events {
		if !slices.ContainsFunc(list(d.get("hooks", event)), func(element hujson.Value) bool { return s.callsUs(h, element) }) {
			return false
		}
	}
	return true
}

// areOff reports whether the client calls no hooks at all.
func (h hooks) areOff(d *document) bool {
	if h.off[0] == "" {
		return false
	}
	value := d.get(strings.Split(h.off[0], "/")...)
	return value != nil && strings.TrimSpace(string(value.Pack())) == h.off[1]
}
