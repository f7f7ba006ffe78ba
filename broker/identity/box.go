package identity

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"
)

const (
	nonceBytes = 24 // of a box; chosen at random, which 192 bits make safe
	keyBytes   = 32 // of an X25519 key, public or secret
)

// What Open and Seal can fail with. Open does not tell a wrong key from a tampered box: it cannot.
var (
	errNoKey   = errors.New("there is no secret key to seal or open with")
	errBoxPeer = errors.New("the peer's public key is not a valid Ed25519 key")
	errNonce   = errors.New("the nonce is not 24 bytes in base64")
	errBoxText = errors.New("the ciphertext is not base64")
	errOpen    = errors.New("the message cannot be opened: it was sealed for another key, by another sender, or was altered")
)

// boxEncoding is how nonces and ciphertexts travel: standard base64 with padding, and no second
// spelling of the same bytes.
var boxEncoding = base64.StdEncoding.Strict()

// SealAnonymous encrypts message so that only the holder of an X25519 key (32 bytes) can read it, and
// nobody can tell who wrote it. It equals libsodium's crypto_box_seal; the result is 48 bytes longer
// than message. A key of another length or of small order is an error.
func SealAnonymous(recipientX25519 []byte, message []byte) ([]byte, error) {
	return sealAnonymous(rand.Reader, recipientX25519, message)
}

// sealAnonymous takes the source of the ephemeral key, so that tests can repeat themselves.
func sealAnonymous(random io.Reader, recipient, message []byte) ([]byte, error) {
	if len(recipient) != keyBytes {
		return nil, fmt.Errorf("an X25519 public key has %d bytes, not %d", keyBytes, len(recipient))
	}
	// A key of small order makes the shared secret zero, for anyone to open. nacl/box would go on with
	// it; libsodium does not. The scalar 0 is clamped to 2^254, which only such keys send to zero.
	if _, err := curve25519.X25519(make([]byte, keyBytes), recipient); err != nil {
		return nil, errors.New("the recipient's X25519 key is not a valid key")
	}
	return box.SealAnonymous(nil, message, (*[keyBytes]byte)(recipient), random)
}

// Seal encrypts plaintext from k to the holder of an Ed25519 key (64 lowercase hex), as libsodium's
// crypto_box_easy does between both keys converted to X25519. Nonce and ciphertext are standard base64
// with padding. It fails for the zero Key and for a key that libsodium would not convert.
func (k Key) Seal(recipientPubHex string, plaintext []byte) (nonceB64, ciphertextB64 string, err error) {
	var nonce [nonceBytes]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	sealed, err := k.seal(recipientPubHex, &nonce, plaintext)
	if err != nil {
		return "", "", err
	}
	return boxEncoding.EncodeToString(nonce[:]), boxEncoding.EncodeToString(sealed), nil
}

// seal is Seal with a given nonce.
func (k Key) seal(recipientPubHex string, nonce *[nonceBytes]byte, plaintext []byte) ([]byte, error) {
	theirs, ours, err := k.boxKeys(recipientPubHex)
	if err != nil {
		return nil, err
	}
	return box.Seal(nil, plaintext, nonce, theirs, ours), nil
}

// Open decrypts what Seal made for k with the key senderPubHex belongs to. Success proves that the
// holder of that key, or of k itself, wrote it.
func (k Key) Open(senderPubHex, nonceB64, ciphertextB64 string) ([]byte, error) {
	theirs, ours, err := k.boxKeys(senderPubHex)
	if err != nil {
		return nil, err
	}
	nonce, err := decodeNonce(nonceB64)
	if err != nil {
		return nil, err
	}
	sealed, err := boxEncoding.DecodeString(ciphertextB64)
	if err != nil {
		return nil, errBoxText
	}
	plaintext, ok := box.Open(nil, sealed, nonce, theirs, ours)
	if !ok {
		return nil, errOpen
	}
	return plaintext, nil
}

func decodeNonce(encoded string) (*[nonceBytes]byte, error) {
	nonce, err := boxEncoding.DecodeString(encoded)
	if err != nil || len(nonce) != nonceBytes || len(encoded) != boxEncoding.EncodedLen(nonceBytes) { // it skips line breaks
		return nil, errNonce
	}
	return (*[nonceBytes]byte)(nonce), nil
}

// boxKeys returns the X25519 keys for a box between k and the peer: their public, our secret one.
func (k Key) boxKeys(peerPubHex string) (theirs, ours *[keyBytes]byte, err error) {
	if k.IsZero() {
		return nil, nil, errNoKey
	}
	if theirs, err = montgomeryPublic(peerPubHex); err != nil {
		return nil, nil, err
	}
	return theirs, k.montgomerySecret(), nil
}

// montgomerySecret converts k as crypto_sign_ed25519_sk_to_curve25519 does: it is the scalar that
// signing with k uses.
func (k Key) montgomerySecret() *[keyBytes]byte {
	digest := sha512.Sum512(k.Seed())
	secret := [keyBytes]byte(digest[:keyBytes])
	secret[0] &= 248 // clamped, as RFC 7748 has it; X25519 would do so anyway
	secret[31] = secret[31]&127 | 64
	return &secret
}

// montgomeryPublic converts an Ed25519 key (64 lowercase hex) as crypto_sign_ed25519_pk_to_curve25519
// does, and refuses the same ones: keys outside the main subgroup, and those of small order, with
// which the secret shared would be known to everyone.
func montgomeryPublic(pubHex string) (*[keyBytes]byte, error) {
	if !IsPublicKey(pubHex) {
		return nil, errBoxPeer
	}
	enc, _ := hex.DecodeString(pubHex) // cannot fail: the shape was checked
	point, err := new(edwards25519.Point).SetBytes(enc)
	if err != nil || !isStrictPoint(enc) || !isInMainSubgroup(point) {
		return nil, errBoxPeer
	}
	return (*[keyBytes]byte)(point.BytesMontgomery()), nil
}

// isInMainSubgroup reports whether L·p is the identity, where L is the order of the base point.
// Scalars are taken modulo L, so it is asked as (L-1)·p == -p.
func isInMainSubgroup(p *edwards25519.Point) bool {
	zero := edwards25519.NewScalar()
	product := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minusOne, p, zero)
	return product.Equal(new(edwards25519.Point).Negate(p)) == 1
}

// minusOne is L-1.
var minusOne = func() *edwards25519.Scalar {
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, keyBytes-1)...))
	if err != nil {
		panic("identity: one is not a canonical scalar: " + err.Error())
	}
	return edwards25519.NewScalar().Negate(one)
}()
