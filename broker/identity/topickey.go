package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// Sizes of a topic's key and of its sealed copy, in bytes (protocol, services, section 2).
const (
	topicKeyBytes  = 32
	SealedKeyBytes = keyBytes + topicKeyBytes + box.Overhead // the sealer's X25519 key, and a box of the topic's: 80
)

// What opening a sealed topic key, or a message under one, can fail with.
var (
	// ErrUnknownSealer says that a copy was sealed by a key that nobody vouches for.
	ErrUnknownSealer = errors.New("the key of the topic was sealed by somebody who is not in it")

	errNoTopicKey = errors.New("there is no topic key to seal or open with")
	errSealedKey  = errors.New("the sealed topic key is not 80 bytes in base64")
	errTopicText  = errors.New("the message cannot be opened: it was encrypted with another topic key, or was altered")
)

// TopicKey is the secret that the members of an encrypted topic share. The zero TopicKey has none.
type TopicKey struct {
	secret func() *[topicKeyBytes]byte // a function for the reason that Key has one
}

// NewTopicKey makes a random key.
func NewTopicKey() TopicKey {
	var secret [topicKeyBytes]byte
	rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	return topicKeyOf(secret)
}

func topicKeyOf(secret [topicKeyBytes]byte) TopicKey {
	return TopicKey{func() *[topicKeyBytes]byte { return &secret }}
}

// IsZero reports whether k has no secret.
func (k TopicKey) IsZero() bool { return k.secret == nil }

// Format prints nothing of the key, whatever the verb.
func (k TopicKey) Format(f fmt.State, _ rune) { io.WriteString(f, "identity.TopicKey") }

// Seal encrypts the text of a version 2 body, as libsodium's crypto_secretbox_easy does. Nonce and
// ciphertext are standard base64 with padding. It fails for the zero TopicKey.
func (k TopicKey) Seal(text []byte) (nonceB64, ciphertextB64 string, err error) {
	if k.IsZero() {
		return "", "", errNoTopicKey
	}
	var nonce [nonceBytes]byte
	rand.Read(nonce[:])
	return boxEncoding.EncodeToString(nonce[:]), boxEncoding.EncodeToString(k.seal(&nonce, text)), nil
}

// seal is Seal with a given nonce.
func (k TopicKey) seal(nonce *[nonceBytes]byte, text []byte) []byte {
	return secretbox.Seal(nil, text, nonce, k.secret())
}

// Open decrypts a version 2 body. Success proves that somebody wrote it who had the topic's key, and
// not who: all its members have the same.
func (k TopicKey) Open(nonceB64, ciphertextB64 string) ([]byte, error) {
	if k.IsZero() {
		return nil, errNoTopicKey
	}
	nonce, err := decodeNonce(nonceB64)
	if err != nil {
		return nil, err
	}
	sealed, err := boxEncoding.DecodeString(ciphertextB64)
	if err != nil {
		return nil, errBoxText
	}
	text, ok := secretbox.Open(nil, sealed, nonce, k.secret())
	if !ok {
		return nil, errTopicText
	}
	return text, nil
}

// SealTopicKey encrypts a topic's key from k to the holder of an Ed25519 key (64 lowercase hex). The
// copy is base64 of k's X25519 public key followed by the box; the nonce travels beside it. Errors are
// those of Seal.
func (k Key) SealTopicKey(recipientPubHex string, topic TopicKey) (encryptedKeyB64, nonceB64 string, err error) {
	if topic.IsZero() {
		return "", "", errNoTopicKey
	}
	var nonce [nonceBytes]byte
	rand.Read(nonce[:])
	copied, err := k.sealTopicKey(recipientPubHex, &nonce, topic)
	if err != nil {
		return "", "", err
	}
	return boxEncoding.EncodeToString(copied), boxEncoding.EncodeToString(nonce[:]), nil
}

// sealTopicKey is SealTopicKey with a given nonce.
func (k Key) sealTopicKey(recipientPubHex string, nonce *[nonceBytes]byte, topic TopicKey) ([]byte, error) {
	sealed, err := k.seal(recipientPubHex, nonce, topic.secret()[:])
	if err != nil {
		return nil, err
	}
	return append(k.montgomeryOwn(), sealed...), nil
}

// OpenTopicKey opens a copy that was sealed for k, and returns who of sealers (Ed25519 keys, 64 hex)
// sealed it. The copy names its sealer itself, and anybody can seal a key of their own for anybody: so
// it counts only if the named key is that of one of sealers, and is ErrUnknownSealer else. A copy that
// k sealed for itself nobody else can make.
func (k Key) OpenTopicKey(encryptedKeyB64, nonceB64 string, sealers ...string) (topic TopicKey, sealer string, err error) {
	if k.IsZero() {
		return topic, "", errNoKey
	}
	copied, err := decodeSealedKey(encryptedKeyB64)
	if err != nil {
		return topic, "", err
	}
	nonce, err := decodeNonce(nonceB64)
	if err != nil {
		return topic, "", err
	}
	theirs, sealer, err := findSealer(copied[:keyBytes], sealers)
	if err != nil {
		return topic, "", err
	}
	secret, ok := box.Open(nil, copied[keyBytes:], nonce, theirs, k.montgomerySecret())
	if !ok {
		return topic, "", errOpen
	}
	return topicKeyOf([topicKeyBytes]byte(secret)), sealer, nil
}

// findSealer returns who of sealers has an X25519 key.
func findSealer(x25519 []byte, sealers []string) (theirs *[keyBytes]byte, sealer string, err error) {
	for _, sealer := range sealers {
		theirs, err := montgomeryPublic(sealer)
		if err == nil && bytes.Equal(theirs[:], x25519) {
			return theirs, sealer, nil
		}
	}
	return nil, "", ErrUnknownSealer
}

// SealerKey returns the X25519 public key that copies sealed by k begin with, 64 lowercase hex
// characters; "" for the zero Key.
func (k Key) SealerKey() string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(k.montgomeryOwn())
}

// IsSealerKey reports whether an X25519 key (64 hex) is that of an Ed25519 key (64 hex).
func IsSealerKey(x25519Hex, pubHex string) bool {
	converted, err := montgomeryPublic(pubHex)
	return err == nil && hex.EncodeToString(converted[:]) == x25519Hex
}

// montgomeryOwn returns k's X25519 public key.
func (k Key) montgomeryOwn() []byte {
	public, err := curve25519.X25519(k.montgomerySecret()[:], curve25519.Basepoint)
	if err != nil {
		panic("identity: " + err.Error()) // the base point is not of small order
	}
	return public
}

// SealerOf returns the X25519 public key (64 lowercase hex) that a sealed topic key names as its
// sealer's. It fails if the copy, or the nonce beside it, does not have the form of one.
func SealerOf(encryptedKeyB64, nonceB64 string) (string, error) {
	copied, err := decodeSealedKey(encryptedKeyB64)
	if err != nil {
		return "", err
	}
	if _, err := decodeNonce(nonceB64); err != nil {
		return "", err
	}
	return hex.EncodeToString(copied[:keyBytes]), nil
}

func decodeSealedKey(encoded string) ([]byte, error) {
	copied, err := boxEncoding.DecodeString(encoded)
	if err != nil || len(copied) != SealedKeyBytes || len(encoded) != boxEncoding.EncodedLen(SealedKeyBytes) { // it skips line breaks
		return nil, errSealedKey
	}
	return copied, nil
}
