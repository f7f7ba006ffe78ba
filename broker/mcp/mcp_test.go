package mcp

import (
	"fmt"
	"strings"
	"testing"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func TestNamesOfSessions(t *testing.T) {
	for _, c := range []struct{ member, folder, want string }{
		{"claude", "/home/ada/importer", "claude-importer"},
		{"claude", "/home/ada/my project", "claude-my-project"},
		{"claude", "/home/ada/Claude", "claude"},
		{"claude", "/", "claude"},
		{"claude", "", "claude"},
		{strings.Repeat("n", 60), "/home/importer", strings.Repeat("n", 60) + "-imp"},
	} {
		if got := DisplayName(c.member, c.folder); got != c.want {
			t.Errorf("%s in %s is called %q, want %q", c.member, c.folder, got, c.want)
		}
	}
}

func TestMentions(t *testing.T) {
	mention := mentionOf("claude-importer", "claude")
	for text, want := range map[string]bool{
		"@claude": true, "hi @CLAUDE, look": true, "(@claude.)": true, "@claude-importer: done?": true, "@claude-": true,
		"claude": false, "@claude-2": false, "@claude.md": false, "x@claude": false, "@@claude": false, "@claudette": false, "@claudé": false,
	} {
		if got := mention.MatchString(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

func TestInboxHandsOverOnce(t *testing.T) {
	b, c := newInbox(), &peer.Conn{}
	push := func(n int, text string) *wire.Push {
		_, ciphertext := peer.Plain(text)
		return &wire.Push{MessageID: fmt.Sprintf("message-%d", n), Topic: "general", Ciphertext: ciphertext}
	}
	for n := range maxUnread + 10 {
		if kept := b.add(c, push(n, "x")); kept != (n < maxUnread) {
			t.Fatalf("message %d is kept: %t", n, kept)
		}
	}
	if b.add(c, push(0, "x")) || b.handed("message-0") || b.handed(fmt.Sprintf("message-%d", maxUnread)) {
		t.Error("what waits, or did not fit, counts as handed over")
	}
	handed, left := b.take()
	if len(handed) != maxUnread || left != 0 || !b.handed("message-0") || b.add(c, push(0, "x")) {
		t.Errorf("%d handed over, %d left", len(handed), left)
	}
	if l := b.find("message-499"); l == nil || l.text != "x" || b.find("message-49") != nil || b.find("message-4999") != nil {
		t.Error("a message is not found by its id, or by that of others")
	}
	// A page of a result is bounded, and never empty.
	for n := range 3 {
		b.add(c, push(1_000+n, strings.Repeat("long ", handBytes/8)))
	}
	for want := 2; want >= 0; want-- {
		if handed, left := b.take(); len(handed) != 1 || left != want {
			t.Errorf("%d handed over, %d left, want 1 and %d", len(handed), left, want)
		}
	}
}

func TestDescribeTellsWhoHasIt(t *testing.T) {
	copies := []wire.Copy{
		{Name: "alice", State: wire.CopyAcked}, {Name: "bob", State: wire.CopyAcked, Seen: true}, {Name: "carol", State: wire.CopyStored, Status: wire.StatusDisconnected},
		{Name: "dave", State: wire.CopyPushed}, {Name: "eve", State: wire.CopyDropped}, {Name: "fay", State: wire.CopyStored, Status: wire.StatusHeld},
		{Name: "gus", State: wire.CopyStored, Status: wire.StatusDisconnected},
	}
	want := "Delivered to 2 of 7: bob, alice. carol, gus are offline and will get it. dave is connected and has not taken it yet. " +
		"fay is busy and gets it when idle. eve takes no such messages from you."
	if got := describe(copies); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := describe(nil); got != "Nobody else is there to get it." {
		t.Error(got)
	}
}
