package mcp

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

func TestTheChannelGetsANotification(t *testing.T) {
	client, server := sdk.NewInMemoryTransports()
	line := &tap{Transport: server}
	if _, err := line.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := client.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := line.notify(t.Context(), "1 new message"); err != nil {
		t.Fatal(err)
	}
	m, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request, ok := m.(*jsonrpc.Request)
	var params struct{ Content string }
	if !ok || request.IsCall() || request.Method != "notifications/claude/channel" || json.Unmarshal(request.Params, &params) != nil || params.Content != "1 new message" {
		t.Errorf("the client got %+v", m)
	}
}

// idle is a session whose agent cannot be woken, and a letter that is for it.
func idle(t *testing.T, limits wake.Limits) (*session, *letter) {
	t.Helper()
	key := identity.NewKey()
	s := newSession(Config{Peer: peer.Options{Identity: peer.Identity{DisplayName: "claude", Key: key}}, Log: slog.New(slog.DiscardHandler), Wake: limits})
	_, ciphertext := peer.Plain("@claude look")
	s.inbox.add(&peer.Conn{}, &wire.Push{MessageID: "message-1", Topic: "general", SenderName: "bob", SenderPubkey: key.Public(), Ciphertext: ciphertext}, s.isForMe)
	return s, s.inbox.unannounced(s.wakes)[0]
}

// The channel is told of a message once, and as nobody knows whether anybody listened,
// a hook tells of it, too.
func TestTheChannelIsNotReliedUpon(t *testing.T) {
	s, l := idle(t, wake.DefaultLimits)
	var told []string
	s.alarm.channel = func(_ context.Context, text string) error { told = append(told, text); return nil }
	folder, agent := filepath.Join(t.TempDir(), "agents"), wake.Agent{Client: claudeClient, Folder: "/project"}
	if err := s.notes.open(folder, agent); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s.announce(t.Context(), []*letter{l}) {
			t.Error("a notification counts as heard")
		}
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "[meshbox] 1 new message for you: from bob") {
		t.Errorf("the channel was told %q", told)
	}
	hook := wake.FindDesk(folder, agent)
	if again := s.inbox.unannounced(s.wakes); len(again) != 1 || !s.announce(t.Context(), again) || len(told) != 1 {
		t.Errorf("the hook is not told, or the channel again: %q", told)
	}
	if hook.Take() == "" {
		t.Error("there is no note for the hook")
	}
	if handed, _ := s.notes.take(s.inbox); len(handed) != 1 || handed[0].handedBy != wake.AtTurnEnd {
		t.Errorf("%d letters were handed over, the first %q", len(handed), handed[0].handedBy)
	}
}

func TestAnAnnouncementNamesASenderOnce(t *testing.T) {
	key := strings.Repeat("ab", 32)
	from := func(name, topic string) *letter {
		return &letter{push: &wire.Push{SenderName: name, SenderPubkey: key, Topic: topic}}
	}
	got := announcement([]*letter{from("bob", ""), from("eve", "general"), from("bob", "")})
	want := "[meshbox] 3 new messages for you: from bob (unknown kind, key abab abab abab abab) to you (2), eve (unknown kind, key abab abab abab abab) in #general. Call check_inbox"
	if !strings.HasPrefix(got, want) {
		t.Error(got)
	}
}

func TestWhoIsNotToBeWokenIsToldNothing(t *testing.T) {
	limits := wake.DefaultLimits
	limits.Pair = 0
	s, l := idle(t, limits)
	s.alarm.channel = func(context.Context, string) error { t.Error("it was told"); return nil }
	if s.announce(t.Context(), []*letter{l}) {
		t.Error("it was announced")
	}
}

// The ledger knows the ways by their names.
func TestTiersAreThoseOfTheLedger(t *testing.T) {
	for i, tier := range []wake.Tier{wake.Woken, wake.AtTurnEnd, wake.NextToolCall} {
		if wire.Hearings[i] != string(tier) {
			t.Errorf("%q is %q in the ledger", tier, wire.Hearings[i])
		}
	}
}
