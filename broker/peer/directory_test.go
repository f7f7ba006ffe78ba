package peer

import (
	"fmt"
	"strings"
	"testing"

	"meshbox/broker/wire"
)

var (
	keyA = "aaaaaaaa" + strings.Repeat("0", 56)
	keyB = "bbbbbbbb" + strings.Repeat("0", 56)
	keyC = "aaaaaaaa" + strings.Repeat("1", 56)

	crowd = []wire.Peer{
		{DisplayName: "Anna", Pubkey: keyA, CWD: "/home/anna"}, {DisplayName: "bob", Pubkey: keyB}, {DisplayName: "anna", Pubkey: keyC},
		{DisplayName: "bob", Pubkey: keyB}, // the same member by another connection
	}
)

func TestTargetsThatNeedNoList(t *testing.T) {
	for _, target := range []string{"#general", "#0VbmNmFwkUi3fN2ZdmRvpcuQGzeoSc", "@core/backend", "@all", "*", keyA} {
		var offline Conn // it could not ask
		if got, err := offline.Resolve(t.Context(), target); got != target || err != nil {
			t.Errorf("%s: got %q, %v", target, got, err)
		}
	}
}

func TestNamesAreThoseOfOnePeer(t *testing.T) {
	for name, want := range map[string]string{
		"bob": keyB, "BOB": keyB, "bbbbbbbb": keyB, keyB[:20]: keyB, keyC[:9]: keyC,
	} {
		if got, err := single(name, crowd); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestOfSessionsInOneFolderTheLatestIsMeant(t *testing.T) {
	session := func(key, member, folder, since string) wire.Peer {
		return wire.Peer{DisplayName: "claude-api", Pubkey: key, MemberPubkey: member, CWD: folder, ConnectedAt: since}
	}
	before, now := session(keyA, keyC, "/api", "2026-11-25T10:00:00.000Z"), session(keyB, keyC, "/api", "2026-11-25T11:00:00.000Z")
	if got, err := single("claude-api", []wire.Peer{now, before}); got != keyB || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, other := range []wire.Peer{session(keyA, keyA, "/api", ""), session(keyA, keyC, "/web", "")} {
		if got, err := single("claude-api", []wire.Peer{now, other}); err == nil {
			t.Errorf("got %q of two that differ", got)
		}
	}
}

func TestUnknownNamesListWhoIsHere(t *testing.T) {
	for _, name := range []string{"carol", "bobby", "bbbbbbb", "cccccccc"} { // seven digits of a key are too few
		_, err := single(name, crowd)
		want := fmt.Sprintf("nobody called %q is here; connected are: Anna, anna, bob (", name)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := single("bob", nil); err == nil || !strings.Contains(err.Error(), "connected are: nobody (") {
		t.Error(err)
	}
}

func TestAmbiguousNamesListCandidates(t *testing.T) {
	for _, name := range []string{"anna", "aaaaaaaa"} {
		_, err := single(name, crowd)
		want := fmt.Sprintf("2 peers are called %q; name one by its key: %s (Anna, /home/anna), %s (anna, no folder)", name, keyA, keyC)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", name, err, want)
		}
	}
}
