// Package wake lets an idle agent notice that somebody wants something of it.
//
// Clients differ in what they offer for that. The best way that really works is
// taken, and named, so that nobody believes an agent was woken that was not:
//
//	woken           Claude Code's inbox socket, or "codex queue": a turn begins at once
//	at turn end     a hook of the client takes a note from the agent's desk, and goes on
//	next tool call  nothing of the kind: the agent hears of it when it calls a tool
//
// An agent is told that there is something, and by whom. What was written stays in
// its inbox: nothing remote is dressed up as an instruction of the user.
package wake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"
)

// Tier is how an agent hears of a message.
type Tier string

const (
	Woken        Tier = "woken"
	AtTurnEnd    Tier = "at turn end"
	NextToolCall Tier = "next tool call"
)

const (
	dialTime  = 2 * time.Second
	queueTime = 15 * time.Second
)

// Way is how one agent is woken.
type Way struct {
	Tier Tier
	By   string // what does it, for a person
	wake func(ctx context.Context, text string) error
}

// Wake begins a turn of the agent with a text. An error says that nobody was woken.
func (w Way) Wake(ctx context.Context, text string) error {
	if w.wake == nil {
		return errors.New("this client has no way to wake its agent")
	}
	return w.wake(ctx, text)
}

// None is that of an agent which cannot be woken.
var None = Way{Tier: NextToolCall, By: "its next tool call"}

// Claude wakes by the inbox socket that Claude Code names to the servers it starts
// (CLAUDE_CODE_MESSAGING_SOCKET and _TOKEN): what comes from there begins a turn
// of an idle session, and waits for the end of one that is at work. The socket is
// tried now, so that what does not work is not promised.
func Claude(ctx context.Context, getenv func(string) string) Way {
	socket, token := getenv("CLAUDE_CODE_MESSAGING_SOCKET"), getenv("CLAUDE_CODE_MESSAGING_TOKEN")
	if socket == "" {
		return None
	}
	conn, err := dial(ctx, socket)
	if err != nil {
		return None
	}
	conn.Close()
	return Way{Tier: Woken, By: "the inbox of Claude Code", wake: func(ctx context.Context, text string) error {
		conn, err := dial(ctx, socket)
		if err != nil {
			return err
		}
		defer conn.Close()
		return writeInbox(conn, token, text)
	}}
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "unix", socket)
}

// writeInbox writes the frames of Claude Code's inbox, each a line. No reply comes.
func writeInbox(conn net.Conn, token, text string) error {
	if err := conn.SetWriteDeadline(time.Now().Add(dialTime)); err != nil {
		return err
	}
	lines := json.NewEncoder(conn)
	if token != "" {
		if err := lines.Encode(map[string]string{"type": "auth", "token": token}); err != nil {
			return err
		}
	}
	return lines.Encode(map[string]any{"type": "user", "message": map[string]string{"role": "user", "content": text}})
}

// Codex wakes by "codex queue": the thread is what Codex says of a tool call.
func Codex(thread string) Way {
	program, err := exec.LookPath("codex")
	if thread == "" || err != nil {
		return None
	}
	return Way{Tier: Woken, By: "codex queue", wake: func(ctx context.Context, text string) error {
		ctx, cancel := context.WithTimeout(ctx, queueTime)
		defer cancel()
		output, err := exec.CommandContext(ctx, program, "queue", "--thread", thread, "--message", text).CombinedOutput()
		if err != nil {
			return fmt.Errorf("codex queue: %w: %s", err, strings.TrimSpace(string(output)))
		}
		return nil
	}}
}
