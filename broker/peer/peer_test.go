package peer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

func someone(slug, meshID string) Identity {
	return Identity{MeshID: meshID, MeshSlug: slug, BrokerURL: "ws://localhost:7900/ws", MemberID: "m", DisplayName: "ann", PeerType: wire.PeerAI, Key: identity.NewKey()}
}

func TestKeyringKeepsIdentities(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "meshbox")
	keyring, err := OpenKeyring(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Choose(""); err == nil || !strings.Contains(err.Error(), "meshbox join") {
		t.Errorf("choosing from none: %v", err)
	}
	home, lab := someone("home", "1"), someone("lab", "2")
	newer := someone("home", "1")
	for _, id := range []Identity{home, lab, newer} {
		if err := keyring.Add(id); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{folder: 0o700, keyring.Path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode().Perm(), err, mode)
		}
	}
	again, err := OpenKeyring(folder)
	if err != nil {
		t.Fatal(err)
	}
	same := func(got, want Identity) bool {
		return got.Key.Public() == want.Key.Public() && got.MeshSlug == want.MeshSlug && got.MemberID == want.MemberID && got.PeerType == want.PeerType
	}
	if got, err := again.Choose(""); err != nil || !same(got, newer) {
		t.Errorf("the newest = %+v, %v", got, err)
	}
	if got, err := again.Choose("lab"); err != nil || !same(got, lab) {
		t.Errorf("lab = %+v, %v", got, err)
	}
	if _, err := again.Choose("attic"); err == nil || !strings.Contains(err.Error(), "home, lab") {
		t.Errorf("an unknown mesh: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, ".identities-*")); len(left) > 0 {
		t.Errorf("temporary files stay behind: %v", left)
	}
}

func TestDamagedKeyringIsNotOverwritten(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON": "{", "newer": `{"version":2}`, "broken key": `{"version":1,"identities":[{"mesh_id":"1","mesh_slug":"home","seed":"00"}]}`,
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "identities.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeyring(folder); err == nil {
			t.Errorf("%s: opened", name)
		}
		if after, _ := os.ReadFile(path); string(after) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestHTTPBase(t *testing.T) {
	for in, want := range map[string]string{
		"ws://localhost:7900/ws": "http://localhost:7900", "wss://mesh.example.org/ws": "https://mesh.example.org",
		"wss://example.org/mesh/ws": "https://example.org/mesh", "http://x/ws": "", "ws:///ws": "", "": "",
	} {
		if got, err := HTTPBase(in); got != want || (err == nil) != (want != "") {
			t.Errorf("HTTPBase(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestFinalRejections(t *testing.T) {
	for code, want := range map[Rejected]bool{
		{Code: wire.Unauthorized, Close: 1008}: true, {Code: wire.Revoked, Close: 4002}: true, {Code: "", Close: 4001}: true,
		{Code: wire.BadSignature, Close: 1008}: true, {Code: wire.Replayed, Close: 1008}: false, {Code: wire.TimestampSkew, Close: 1008}: false,
		{Code: wire.Capacity, Close: 1008}: false, {Code: wire.ShuttingDown, Close: 1001}: false, {Code: wire.SlowConsumer, Close: 1013}: false,
	} {
		if code.Final() != want {
			t.Errorf("%+v: final %v, want %v", code, code.Final(), want)
		}
	}
}

func TestTextOfWhatIsNotForUs(t *testing.T) {
	ann, bob, eve := identity.NewKey(), identity.NewKey(), identity.NewKey()
	nonce, sealed, err := ann.Seal(bob.Public(), []byte("psst"))
	if err != nil {
		t.Fatal(err)
	}
	push := &wire.Push{SenderPubkey: ann.Public(), Nonce: nonce, Ciphertext: sealed}
	if text, err := (&Conn{key: bob}).Text(push); err != nil || text != "psst" {
		t.Errorf("bob reads %q, %v", text, err)
	}
	if text, err := (&Conn{key: eve}).Text(push); !errors.Is(err, ErrSealed) {
		t.Errorf("eve reads %q, %v; want ErrSealed", text, err)
	}
	nonce, plain := Plain("für alle")
	push = &wire.Push{SenderPubkey: ann.Public(), Nonce: nonce, Ciphertext: plain}
	if text, err := (&Conn{key: eve}).Text(push); err != nil || text != "für alle" {
		t.Errorf("a broadcast reads %q, %v", text, err)
	}
	push.Topic, push.BodyVersion = "secret", 2
	if _, err := (&Conn{key: eve}).Text(push); !errors.Is(err, ErrSealed) {
		t.Errorf("a version 2 body: %v, want ErrSealed", err)
	}
}
