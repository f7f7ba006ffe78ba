package wake

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClaudesInboxGetsTheFrames(t *testing.T) {
	folder, err := os.MkdirTemp("", "wake") // a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "inbox")
	env := map[string]string{"CLAUDE_CODE_MESSAGING_SOCKET": socket, "CLAUDE_CODE_MESSAGING_TOKEN": "t0k"}
	getenv := func(name string) string { return env[name] }
	if way := Claude(t.Context(), getenv); way.Tier != NextToolCall {
		t.Errorf("a socket that is not there is %s", way.Tier)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	lines := make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			for scanner := bufio.NewScanner(conn); scanner.Scan(); {
				lines <- scanner.Text()
			}
		}
	}()
	way := Claude(t.Context(), getenv)
	if err := way.Wake(t.Context(), "a \"line\"\nand another"); way.Tier != Woken || err != nil {
		t.Fatalf("%s, %v", way.Tier, err)
	}
	for _, want := range []string{`{"token":"t0k","type":"auth"}`, `{"message":{"content":"a \"line\"\nand another","role":"user"},"type":"user"}`} {
		if got := <-lines; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	listener.Close()
	if err := way.Wake(t.Context(), "x"); err == nil {
		t.Error("nobody listens, and it is said to have woken")
	}
}

func TestCodexIsQueued(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	if way := Codex("thread-1"); way.Tier != NextToolCall {
		t.Errorf("without the program it is %s", way.Tier)
	}
	script := "#!/bin/sh\nfor word; do echo \"$word\"; done >" + filepath.Join(folder, "args") + "\n[ \"$3\" = thread-1 ] || { echo no such thread >&2; exit 1; }\n"
	if err := os.WriteFile(filepath.Join(folder, "codex"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Codex("thread-1").Wake(t.Context(), "look & see"); err != nil {
		t.Fatal(err)
	}
	if args, _ := os.ReadFile(filepath.Join(folder, "args")); string(args) != "queue\n--thread\nthread-1\n--message\nlook & see\n" {
		t.Errorf("it was called with %q", args)
	}
	if err := Codex("gone").Wake(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "no such thread") {
		t.Error(err)
	}
	if err := None.Wake(context.Background(), "x"); err == nil {
		t.Error("who cannot be woken was")
	}
}

func TestTheGuardEndsCircles(t *testing.T) {
	g := NewGuard(Limits{Pair: 3, Topic: 5, Within: 10 * time.Minute})
	now := time.Now()
	agent := func(key, topic string) Cause { return Cause{Sender: key, Agent: true, Topic: topic} }
	allowed := func(want bool, c Cause) *Trip {
		t.Helper()
		got, trip := g.Allows(c, now)
		if got != want || (trip == nil) != got {
			t.Fatalf("%+v: %t, %+v", c, got, trip)
		}
		return trip
	}
	for range 3 {
		allowed(true, agent("a", ""))
	}
	if trip := allowed(false, agent("a", "general")); !trip.ByPair || trip.Times != 3 || !trip.Tell {
		t.Errorf("%+v", trip)
	}
	if trip := allowed(false, agent("a", "")); trip.Tell {
		t.Error("a person is told twice")
	}
	for _, key := range []string{"b", "c", "d", "e", "f"} {
		allowed(true, agent(key, "general"))
	}
	if trip := allowed(false, agent("g", "general")); trip.ByPair || !trip.Tell {
		t.Errorf("%+v", trip)
	}
	allowed(true, agent("g", "deploys"))
	// A person is always heard, and takes the talk over.
	allowed(true, Cause{Sender: "p", Topic: "general"})
	allowed(true, agent("a", "general"))
	// And time passes.
	for range 2 {
		allowed(true, agent("a", "general"))
	}
	allowed(false, agent("a", "general"))
	now = now.Add(10 * time.Minute)
	allowed(true, agent("a", "general"))
}
