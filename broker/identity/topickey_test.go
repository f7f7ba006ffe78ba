package identity

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type topicKeyFile struct {
	About  string            `json:"about"`
	Seeds  map[string]string `json:"seeds"`
	Seals  []sealVector      `json:"seals"`
	Bodies []bodyVector      `json:"bodies"`
}

// sealVector is a topic's key, sealed for a member.
type sealVector struct {
	vector
	Sealer       string `json:"sealer"`
	Recipient    string `json:"recipient"`
	TopicKey     string `json:"topic_key"`     // hex
	Nonce        string `json:"nonce"`         // base64
	EncryptedKey string `json:"encrypted_key"` // base64, ours
}

// bodyVector is a version 2 body.
type bodyVector struct {
	vector
	TopicKey   string `json:"topic_key"`  // hex
	Nonce      string `json:"nonce"`      // base64
	Plaintext  string `json:"plaintext"`  // hex
	Ciphertext string `json:"ciphertext"` // base64, ours
}

// topicKeyAnswer is what libsodium makes of the same key or text, and of what we made of it: null
// if it does not open.
type topicKeyAnswer struct {
	SealerKey    string  `json:"sealer_key"`    // hex
	EncryptedKey string  `json:"encrypted_key"` // base64
	Ciphertext   string  `json:"ciphertext"`    // base64
	Opened       *string `json:"opened"`        // hex
}

// topicKeyOfTest returns a fixed key.
func topicKeyOfTest(name string) TopicKey { return topicKeyOf([topicKeyBytes]byte(key(name).Seed())) }

func topicKeyVectors(said answers) any {
	file := topicKeyFile{
		About: "The key of an encrypted topic: sealed for members, and messages under it. Ours opened by libsodium and libsodium's by us.",
		Seeds: seeds(alice, bob, mallory),
	}
	for _, pair := range [][2]string{{alice, bob}, {bob, alice}, {alice, alice}} {
		file.Seals = append(file.Seals, sealOf(said, "seal, "+pair[0]+" for "+pair[1], pair[0], pair[1], func([]byte) {}))
	}
	file.Seals = append(file.Seals,
		sealOf(said, "seal that names another sealer", alice, bob, func(b []byte) { copy(b, key(mallory).montgomeryOwn()) }),
		sealOf(said, "seal, altered", alice, bob, func(b []byte) { b[len(b)-1] ^= 1 }))
	for _, name := range plaintextNames {
		file.Bodies = append(file.Bodies, bodyOf(said, "body, "+name, plaintexts[name], func([]byte) {}))
	}
	file.Bodies = append(file.Bodies, bodyOf(said, "body, altered", "hello all", func(b []byte) { b[3] ^= 0x80 }))
	return file
}

func sealOf(said answers, name, sealer, recipient string, alter func([]byte)) sealVector {
	nonce := [nonceBytes]byte(key(name).Seed()) // any fixed bytes
	topic := topicKeyOfTest("topic")
	copied, err := key(sealer).sealTopicKey(key(recipient).Public(), &nonce, topic)
	if err != nil {
		panic(err)
	}
	alter(copied)
	return sealVector{vector{Name: name, Libsodium: said[name]}, sealer, recipient, hex.EncodeToString(topic.secret()[:]),
		base64.StdEncoding.EncodeToString(nonce[:]), base64.StdEncoding.EncodeToString(copied)}
}

func bodyOf(said answers, name, text string, alter func([]byte)) bodyVector {
	nonce := [nonceBytes]byte(key(name).Seed()) // any fixed bytes
	topic := topicKeyOfTest("topic")
	sealed := topic.seal(&nonce, []byte(text))
	alter(sealed)
	return bodyVector{vector{Name: name, Libsodium: said[name]}, hex.EncodeToString(topic.secret()[:]),
		base64.StdEncoding.EncodeToString(nonce[:]), hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString(sealed)}
}

func TestTopicKeySealVectors(t *testing.T) {
	for _, c := range loadVectors[topicKeyFile](t, "topickey.json").Seals {
		said := answer[topicKeyAnswer](t, c.vector)
		if got := key(c.Sealer).SealerKey(); got != said.SealerKey {
			t.Errorf("%s: sealer key %s, want %s", c.Name, got, said.SealerKey)
		}
		if !IsSealerKey(said.SealerKey, key(c.Sealer).Public()) || IsSealerKey(said.SealerKey, key(mallory).Public()) || IsSealerKey("", "") {
			t.Errorf("%s: it is not known whose key %s is", c.Name, said.SealerKey)
		}
		everybody := []string{key(bob).Public(), key(alice).Public(), key(mallory).Public()}
		topic, sealer, err := key(c.Recipient).OpenTopicKey(said.EncryptedKey, c.Nonce, everybody...)
		if err != nil || hex.EncodeToString(topic.secret()[:]) != c.TopicKey || sealer != key(c.Sealer).Public() {
			t.Errorf("%s: libsodium's was opened as sealed by %s (%v)", c.Name, sealer, err)
		}
		_, _, err = key(c.Recipient).OpenTopicKey(c.EncryptedKey, c.Nonce, everybody...)
		if (err == nil) != (said.Opened != nil) {
			t.Errorf("%s: opened: %v, libsodium: %v", c.Name, err, said.Opened)
		}
		if said.Opened != nil && (*said.Opened != c.TopicKey || c.EncryptedKey != said.EncryptedKey) {
			t.Errorf("%s: libsodium opened %s of %s, want %s of %s", c.Name, *said.Opened, said.EncryptedKey, c.TopicKey, c.EncryptedKey)
		}
	}
}

func TestTopicBodyVectors(t *testing.T) {
	for _, c := range loadVectors[topicKeyFile](t, "topickey.json").Bodies {
		said := answer[topicKeyAnswer](t, c.vector)
		secret, err := hex.DecodeString(c.TopicKey)
		if err != nil {
			t.Fatal(err)
		}
		topic := topicKeyOf([topicKeyBytes]byte(secret))
		got, err := topic.Open(c.Nonce, said.Ciphertext)
		if err != nil || hex.EncodeToString(got) != c.Plaintext {
			t.Errorf("%s: libsodium's opened as %x (%v), want %s", c.Name, got, err, c.Plaintext)
		}
		if _, err := topic.Open(c.Nonce, c.Ciphertext); (err == nil) != (said.Opened != nil) {
			t.Errorf("%s: opened: %v, libsodium: %v", c.Name, err, said.Opened)
		}
		if said.Opened != nil && (*said.Opened != c.Plaintext || c.Ciphertext != said.Ciphertext) {
			t.Errorf("%s: libsodium opened %s, and made %s of it", c.Name, *said.Opened, said.Ciphertext)
		}
	}
}

// A copy counts only from those who are vouched for, whatever it says of itself.
func TestWhoSealedATopicKey(t *testing.T) {
	topic := NewTopicKey()
	copied, nonce, err := key(mallory).SealTopicKey(key(bob).Public(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := key(bob).OpenTopicKey(copied, nonce, key(alice).Public(), key(bob).Public()); !errors.Is(err, ErrUnknownSealer) {
		t.Errorf("of a stranger: %v", err)
	}
	if named, err := SealerOf(copied, nonce); err != nil || named != key(mallory).SealerKey() {
		t.Errorf("it names %s, %v", named, err)
	}
	raw, _ := base64.StdEncoding.DecodeString(copied)
	copy(raw, key(alice).montgomeryOwn())
	forged := base64.StdEncoding.EncodeToString(raw)
	if _, _, err := key(bob).OpenTopicKey(forged, nonce, key(alice).Public()); err != errOpen {
		t.Errorf("of a stranger who names alice: %v", err)
	}
	if _, _, err := key(alice).OpenTopicKey(copied, nonce, key(mallory).Public()); err != errOpen {
		t.Errorf("for another one: %v", err)
	}
}

func TestTopicKeysNeedTheirForm(t *testing.T) {
	topic := NewTopicKey()
	copied, nonce, err := key(alice).SealTopicKey(key(bob).Public(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		copied, nonce string
		want          error
	}{
		"no base64":    {"!", nonce, errSealedKey},
		"short":        {base64.StdEncoding.EncodeToString(make([]byte, 79)), nonce, errSealedKey},
		"long":         {base64.StdEncoding.EncodeToString(make([]byte, 81)), nonce, errSealedKey},
		"empty":        {"", nonce, errSealedKey},
		"short nonce":  {copied, "AAAA", errNonce},
		"line breaks":  {copied[:4] + "\n" + copied[4:], nonce, errSealedKey},
		"nonce breaks": {copied, nonce[:4] + "\n" + nonce[4:], errNonce},
		"unpadded":     {strings.TrimRight(copied, "="), nonce, errSealedKey},
	} {
		_, errOf := SealerOf(c.copied, c.nonce)
		_, _, err := key(bob).OpenTopicKey(c.copied, c.nonce, key(alice).Public())
		if !errors.Is(err, c.want) || !errors.Is(errOf, c.want) {
			t.Errorf("%s: %v and %v, want %v", name, err, errOf, c.want)
		}
	}
	var none TopicKey
	if _, _, err := none.Seal(nil); err != errNoTopicKey {
		t.Errorf("sealing with no key: %v", err)
	}
	if _, err := none.Open(nonce, ""); err != errNoTopicKey {
		t.Errorf("opening with no key: %v", err)
	}
	if _, _, err := key(alice).SealTopicKey(key(bob).Public(), none); err != errNoTopicKey {
		t.Errorf("sealing no key: %v", err)
	}
	if _, _, err := (Key{}).OpenTopicKey(copied, nonce, key(alice).Public()); err != errNoKey || (Key{}).SealerKey() != "" {
		t.Errorf("opening for nobody: %v", err)
	}
	if shown := fmt.Sprintf("%v %#v %d %s", topic, topic, topic, struct{ K TopicKey }{topic}); strings.Contains(shown, fmt.Sprint(topic.secret()[0], " ", topic.secret()[1])) || !strings.HasPrefix(shown, "identity.TopicKey ") {
		t.Errorf("a key is printed as %s", shown)
	}
}

// What was sealed is opened as it was, by those it is for and nobody else.
func TestTopicKeysThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "text")
		topic, from, to := NewTopicKey(), NewKey(), NewKey()
		copied, nonce, err := from.SealTopicKey(to.Public(), topic)
		if err != nil {
			t.Fatal(err)
		}
		got, sealer, err := to.OpenTopicKey(copied, nonce, to.Public(), from.Public())
		if err != nil || sealer != from.Public() {
			t.Fatalf("opened as of %s: %v", sealer, err)
		}
		textNonce, ciphertext, err := topic.Seal(text)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := got.Open(textNonce, ciphertext); err != nil || string(opened) != string(text) {
			t.Fatalf("opened %x of %x, %v", opened, text, err)
		}
		if _, err := NewTopicKey().Open(textNonce, ciphertext); err != errTopicText {
			t.Fatalf("another key opens it: %v", err)
		}
	})
}
