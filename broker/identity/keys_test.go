package identity

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestKeyFromSeed(t *testing.T) {
	k := key(alice)
	again, err := KeyFromSeed(k.Seed())
	if err != nil || again.Public() != k.Public() || again.Sign("x") != k.Sign("x") {
		t.Errorf("the key of %v's seed is %v (%v)", k, again, err)
	}
	for _, n := range []int{0, 31, 33, 64} {
		if _, err := KeyFromSeed(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes was accepted", n)
		}
	}
}

func TestSeedIsACopy(t *testing.T) {
	k := key(alice)
	clear(k.Seed())
	if bytes.Equal(k.Seed(), make([]byte, 32)) || !VerifyHex(k.Public(), "x", k.Sign("x")) {
		t.Error("clearing the seed that was handed out changed the key")
	}
}

func TestNewKeysDiffer(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a.Public() == b.Public() || a.IsZero() || !IsPublicKey(a.Public()) || !IsSignature(a.Sign("")) {
		t.Errorf("new keys %v and %v", a, b)
	}
}

func TestZeroKeyDoesNothing(t *testing.T) {
	var k Key
	if !k.IsZero() || k.Seed() != nil || k.Public() != "" || k.Sign("x") != "" {
		t.Error("the zero key has something to show")
	}
	if VerifyHex(k.Public(), "x", k.Sign("x")) {
		t.Error("the zero key's signature verifies")
	}
}

// TestPrintingAKeyKeepsItsSecret, also inside other structs.
func TestPrintingAKeyKeepsItsSecret(t *testing.T) {
	k := key(alice)
	type holder struct{ key Key }
	type exporter struct{ Key Key }
	seed := k.Seed()
	secrets := []string{hex.EncodeToString(seed)[:8], strings.ToUpper(hex.EncodeToString(seed))[:8],
		strings.Trim(fmt.Sprint(seed[:4]), "[]"), strings.Trim(fmt.Sprintf("%#v", seed[:2]), "[]byte{}"), string(seed[:4])}
	for _, v := range []any{k, &k, holder{k}, &holder{k}, exporter{k}, []Key{k}, map[string]Key{"k": k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
			text := fmt.Sprintf(verb, v)
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s of %T prints the secret: %s", verb, v, text)
				}
			}
		}
	}
	if got, want := fmt.Sprint(k), "identity.Key("+k.Public()+")"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestShapes(t *testing.T) {
	pub, sig := key(alice).Public(), key(alice).Sign("x")
	if !IsPublicKey(pub) || !IsSignature(sig) || IsPublicKey(sig) || IsSignature(pub) {
		t.Error("a key and a signature are not told apart")
	}
	for _, c := range malformedHex(pub) {
		if IsPublicKey(c.hex) {
			t.Errorf("a public key %s passes: %q", c.name, c.hex)
		}
	}
	for _, c := range malformedHex(sig) {
		if IsSignature(c.hex) {
			t.Errorf("a signature %s passes: %q", c.name, c.hex)
		}
	}
}
