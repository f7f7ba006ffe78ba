package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
)

const (
	publicKeyChars = 2 * ed25519.PublicKeySize // 64
	signatureChars = 2 * ed25519.SignatureSize // 128
)

// Key is an Ed25519 key pair, of a member, a session or the owner of a mesh. The zero Key has no
// secret: its Public and Sign return "", which verifies nowhere.
type Key struct {
	// Returns seed and public key, which nobody writes to. A function and not the bytes, because fmt
	// prints an unexported Key in another struct without asking Format, and for some verbs follows
	// pointers too; into a function it cannot look. It also makes == on Keys an error.
	private func() ed25519.PrivateKey
}

// NewKey makes a random key.
func NewKey() Key {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: crypto/rand ends the process instead
	return fromSeed(seed)
}

// KeyFromSeed returns the key of a 32-byte seed (RFC 8032's secret key; the first half of libsodium's).
func KeyFromSeed(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("a key seed has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	return fromSeed(seed), nil
}

func fromSeed(seed []byte) Key {
	private := ed25519.NewKeyFromSeed(seed)
	return Key{func() ed25519.PrivateKey { return private }}
}

// IsZero reports whether k has no secret.
func (k Key) IsZero() bool { return k.private == nil }

// Seed returns a copy of the 32-byte seed, nil for the zero Key.
func (k Key) Seed() []byte {
	if k.IsZero() {
		return nil
	}
	return k.private().Seed()
}

// Public returns the public key, 64 lowercase hex characters.
func (k Key) Public() string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(k.private()[ed25519.SeedSize:])
}

// Sign returns the signature over the UTF-8 bytes of canonical, 128 lowercase hex characters.
func (k Key) Sign(canonical string) string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(ed25519.Sign(k.private(), []byte(canonical)))
}

// Format prints the public key whatever the verb: a Key that strays into a log line must not take its
// secret along. Rejected: a String method, which %d and %#v pass by.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, "identity.Key("+k.Public()+")") }

// IsPublicKey reports whether s has the shape of a public key: exactly 64 lowercase hex characters.
// Upper case is refused, not folded, because keys are compared and stored as text.
func IsPublicKey(s string) bool { return len(s) == publicKeyChars && isLowerHex(s) }

// IsSignature reports whether s has the shape of a signature: exactly 128 lowercase hex characters.
func IsSignature(s string) bool { return len(s) == signatureChars && isLowerHex(s) }

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
