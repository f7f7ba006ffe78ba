package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/box"
	"pgregory.net/rapid"
)

type boxFile struct {
	About      string            `json:"about"`
	Seeds      map[string]string `json:"seeds"`
	Keys       []keyVector       `json:"keys"`
	Peers      []peerVector      `json:"peers"`
	Boxes      []boxVector       `json:"boxes"`
	Recipients []recipientVector `json:"recipients"`
	Sealed     []sealedVector    `json:"sealed"`
}

type keyVector struct {
	vector
	Key string `json:"key"`
}

// keyAnswer is a key pair as libsodium converts it, in hex.
type keyAnswer struct {
	Public       string `json:"public"`
	X25519Public string `json:"x25519_public"`
	X25519Secret string `json:"x25519_secret"`
}

// peerVector is an Ed25519 key that libsodium converts to X25519, or refuses to.
type peerVector struct {
	vector
	Public string `json:"public"`
}

type boxVector struct {
	vector
	Sender     string `json:"sender"`
	Recipient  string `json:"recipient"`
	Nonce      string `json:"nonce"`      // base64
	Plaintext  string `json:"plaintext"`  // hex
	Ciphertext string `json:"ciphertext"` // base64, ours
}

// recipientVector is an X25519 key that libsodium seals to, or refuses to.
type recipientVector struct {
	vector
	X25519 string `json:"x25519"` // hex
}

type sealedVector struct {
	vector
	Recipient string `json:"recipient"`
	Message   string `json:"message"` // hex
	Sealed    string `json:"sealed"`  // base64, ours
}

// boxAnswer is what libsodium makes of the same plaintext, and of our ciphertext.
type boxAnswer struct {
	Ciphertext string `json:"ciphertext"` // base64
	Sealed     string `json:"sealed"`     // base64
	Opened     string `json:"opened"`     // hex
}

var plaintexts = map[string]string{"empty": "", "short": "hello bob", "a block": strings.Repeat("x", 64), "long": strings.Repeat("0123456789", 100), "binary": "\x00\xff\x80"}

var plaintextNames = []string{"empty", "short", "a block", "long", "binary"}

func boxVectors(said answers) any {
	file := boxFile{
		About: "Ed25519 keys converted to X25519, boxes between them, and anonymous boxes: ours opened by libsodium and libsodium's by us.",
		Seeds: seeds(alice, bob, session, owner, mallory),
	}
	for _, name := range []string{alice, bob, session, owner, mallory} {
		file.Keys = append(file.Keys, keyVector{vector{Name: "key of " + name, Libsodium: said["key of "+name]}, name})
	}
	file.Peers = peerVectors(said)
	file.Recipients = recipientVectors(said)
	for _, name := range plaintextNames {
		file.Boxes = append(file.Boxes, boxOf(said, "box, "+name, plaintexts[name]))
		file.Sealed = append(file.Sealed, sealedOf(said, "anonymous box, "+name, plaintexts[name]))
	}
	return file
}

func boxOf(said answers, name, plaintext string) boxVector {
	nonce := [nonceBytes]byte(key(name).Seed()) // any fixed bytes
	sealed, err := key(alice).seal(key(bob).Public(), &nonce, []byte(plaintext))
	if err != nil {
		panic(err)
	}
	return boxVector{vector{Name: name, Libsodium: said[name]}, alice, bob,
		base64.StdEncoding.EncodeToString(nonce[:]), hex.EncodeToString([]byte(plaintext)), base64.StdEncoding.EncodeToString(sealed)}
}

func sealedOf(said answers, name, message string) sealedVector {
	to, err := montgomeryPublic(key(bob).Public())
	if err != nil {
		panic(err)
	}
	ephemeral := bytes.NewReader(key(name).Seed()) // any fixed bytes
	sealed, err := sealAnonymous(ephemeral, to[:], []byte(message))
	if err != nil {
		panic(err)
	}
	return sealedVector{vector{Name: name, Libsodium: said[name]}, bob, hex.EncodeToString([]byte(message)), base64.StdEncoding.EncodeToString(sealed)}
}

func peerVectors(said answers) (peers []peerVector) {
	add := func(name string, enc []byte) {
		peers = append(peers, peerVector{vector{Name: name, Libsodium: said[name]}, hex.EncodeToString(enc)})
	}
	bobs := unhex32(key(bob).Public())
	add("peer, honest", bobs[:])
	for i, p := range torsionPoints() {
		suffix := string(rune('0'+i)) + "/8"
		add("peer of small order "+suffix, p.Bytes())
		if i != 0 {
			add("peer of mixed order "+suffix, plus(decodePoint(bobs[:]), p).Bytes())
		}
	}
	for _, odd := range oddSmallOrder() {
		add("peer of small order, "+odd.name, odd.enc)
	}
	for i := range int64(19) {
		add("peer with y = p + "+big.NewInt(i).String(), littleEndian(new(big.Int).Add(fieldPrime, big.NewInt(i)), 0))
	}
	add("peer that is no point", append([]byte{2}, make([]byte, 31)...))
	return peers
}

func recipientVectors(said answers) (recipients []recipientVector) {
	add := func(name string, enc []byte) {
		recipients = append(recipients, recipientVector{vector{Name: name, Libsodium: said[name]}, hex.EncodeToString(enc)})
	}
	to, _ := montgomeryPublic(key(bob).Public())
	add("recipient, honest", to[:])
	for i := range int64(2) {
		n := big.NewInt(i).String()
		add("recipient u = "+n, littleEndian(big.NewInt(i), 0))
		add("recipient u = "+n+", top bit set", littleEndian(big.NewInt(i), 1))
		add("recipient u = p + "+n, littleEndian(new(big.Int).Add(fieldPrime, big.NewInt(i)), 0))
	}
	add("recipient u = p - 1", littleEndian(new(big.Int).Sub(fieldPrime, big.NewInt(1)), 0))
	for i, p := range []int{1, 3} { // the u of the points of order 8
		add("recipient of order 8, "+string(rune('a'+i)), torsionPoints()[p].BytesMontgomery())
	}
	add("recipient u = 2", littleEndian(big.NewInt(2), 0))
	add("recipient a byte short", to[:31])
	add("recipient a byte long", append(to[:], 0))
	add("recipient empty", nil)
	return recipients
}

func TestKeyVectors(t *testing.T) {
	for _, c := range loadVectors[boxFile](t, "box.json").Keys {
		said := answer[keyAnswer](t, c.vector)
		public, err := montgomeryPublic(key(c.Key).Public())
		if err != nil {
			t.Fatal(err)
		}
		got := keyAnswer{key(c.Key).Public(), hex.EncodeToString(public[:]), hex.EncodeToString(key(c.Key).montgomerySecret()[:])}
		if got != said {
			t.Errorf("%s\n got %+v\nwant %+v", c.Key, got, said)
		}
	}
}

func TestPeerVectors(t *testing.T) {
	for _, c := range loadVectors[boxFile](t, "box.json").Peers {
		_, _, err := key(alice).Seal(c.Public, nil)
		if want := answer[bool](t, c.vector); (err == nil) != want {
			t.Errorf("%s: sealed to: %v, want %v", c.Name, err == nil, want)
		}
		if _, errOpening := key(alice).Open(c.Public, "", ""); (errOpening == errBoxPeer) != (err != nil) {
			t.Errorf("%s: open says %v, seal %v", c.Name, errOpening, err)
		}
	}
}

func TestRecipientVectors(t *testing.T) {
	for _, c := range loadVectors[boxFile](t, "box.json").Recipients {
		to, err := hex.DecodeString(c.X25519)
		if err != nil {
			t.Fatal(err)
		}
		_, err = SealAnonymous(to, []byte("root key"))
		if want := answer[bool](t, c.vector); (err == nil) != want {
			t.Errorf("%s: sealed to: %v, want %v", c.Name, err == nil, want)
		}
	}
}

func TestBoxVectors(t *testing.T) {
	for _, c := range loadVectors[boxFile](t, "box.json").Boxes {
		said := answer[boxAnswer](t, c.vector)
		if c.Ciphertext != said.Ciphertext {
			t.Errorf("%s\n got %s\nwant %s", c.Name, c.Ciphertext, said.Ciphertext)
		}
		if said.Opened != c.Plaintext {
			t.Errorf("%s: libsodium opened %s, want %s", c.Name, said.Opened, c.Plaintext)
		}
		got, err := key(c.Recipient).Open(key(c.Sender).Public(), c.Nonce, said.Ciphertext)
		if err != nil || hex.EncodeToString(got) != c.Plaintext {
			t.Errorf("%s: opened %x (%v), want %s", c.Name, got, err, c.Plaintext)
		}
	}
}

func TestSealedVectors(t *testing.T) {
	for _, c := range loadVectors[boxFile](t, "box.json").Sealed {
		said := answer[boxAnswer](t, c.vector)
		if said.Opened != c.Message {
			t.Errorf("%s: libsodium opened %s, want %s", c.Name, said.Opened, c.Message)
		}
		for who, sealed := range map[string]string{"ours": c.Sealed, "libsodium's": said.Sealed} {
			if got := openAnonymous(t, key(c.Recipient), sealed); hex.EncodeToString(got) != c.Message {
				t.Errorf("%s, %s: opened %x, want %s", c.Name, who, got, c.Message)
			}
		}
	}
}

// openAnonymous opens an anonymous box for k.
func openAnonymous(t testing.TB, k Key, sealedB64 string) []byte {
	t.Helper()
	sealed, err := base64.StdEncoding.DecodeString(sealedB64)
	if err != nil {
		t.Fatal(err)
	}
	public, err := montgomeryPublic(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	message, ok := box.OpenAnonymous(nil, sealed, public, k.montgomerySecret())
	if !ok {
		t.Error("the anonymous box does not open")
	}
	return message
}

// TestOpenRefuses what is not exactly the box that was sealed, by and for those two keys.
func TestOpenRefuses(t *testing.T) {
	nonce, ciphertext, err := key(alice).Seal(key(bob).Public(), []byte("hello bob"))
	if err != nil {
		t.Fatal(err)
	}
	from := key(alice).Public()
	flipped := func(b64 string, i int) string {
		b, _ := base64.StdEncoding.DecodeString(b64)
		b[(i+len(b))%len(b)] ^= 1
		return base64.StdEncoding.EncodeToString(b)
	}
	for _, c := range []struct {
		name                    string
		reader                  Key
		from, nonce, ciphertext string
		want                    error
	}{
		{"by another reader", key(mallory), from, nonce, ciphertext, errOpen},
		{"from another sender", key(bob), key(mallory).Public(), nonce, ciphertext, errOpen},
		{"with another nonce", key(bob), from, flipped(nonce, 0), ciphertext, errOpen},
		{"with another tag", key(bob), from, nonce, flipped(ciphertext, 0), errOpen},
		{"with another text", key(bob), from, nonce, flipped(ciphertext, -1), errOpen},
		{"empty", key(bob), from, nonce, "", errOpen},
		{"shorter than a tag", key(bob), from, nonce, "AAAA", errOpen},
		{"with a short nonce", key(bob), from, nonce[:28], ciphertext, errNonce},
		{"with a long nonce", key(bob), from, nonce + "AAAA", ciphertext, errNonce},
		{"without a nonce", key(bob), from, "", ciphertext, errNonce},
		{"with a nonce that is not base64", key(bob), from, "!", ciphertext, errNonce},
		{"with a ciphertext that is not base64", key(bob), from, nonce, "!" + ciphertext, errBoxText},
		{"with base64 of URLs", key(bob), from, nonce, "-_-_" + ciphertext, errBoxText},
		{"without padding", key(bob), from, nonce, strings.TrimRight(ciphertext, "=") + "A", errBoxText},
		{"with bits in the padding", key(bob), from, nonce, ciphertext[:len(ciphertext)-3] + "B==", errBoxText},
		{"from a key in upper case", key(bob), strings.ToUpper(from), nonce, ciphertext, errBoxPeer},
		{"from no key", key(bob), "", nonce, ciphertext, errBoxPeer},
		{"without a secret", Key{}, from, nonce, ciphertext, errNoKey},
	} {
		if got, err := c.reader.Open(c.from, c.nonce, c.ciphertext); err != c.want || got != nil {
			t.Errorf("%s: opened %q (%v), want %v", c.name, got, err, c.want)
		}
	}
}

// TestSealOpens: for the recipient, and for the sender, who shares the secret.
func TestSealOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := anyKey().Draw(t, "from"), anyKey().Draw(t, "to")
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		nonce, ciphertext, err := from.Seal(to.Public(), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := to.Open(from.Public(), nonce, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("opened %x (%v), want %x", got, err, plaintext)
		}
		if got, err := from.Open(to.Public(), nonce, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("the sender opened %x (%v), want %x", got, err, plaintext)
		}
	})
}

func TestSealAnonymousOpens(t *testing.T) {
	to, err := montgomeryPublic(key(bob).Public())
	if err != nil {
		t.Fatal(err)
	}
	first, err := SealAnonymous(to[:], []byte("root key"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := SealAnonymous(to[:], []byte("root key"))
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("two anonymous boxes are the same: %x (%v)", first, err)
	}
	if got := openAnonymous(t, key(bob), base64.StdEncoding.EncodeToString(first)); string(got) != "root key" {
		t.Errorf("opened %q", got)
	}
}

func TestNoncesDiffer(t *testing.T) {
	a, _, _ := key(alice).Seal(key(bob).Public(), nil)
	b, _, _ := key(alice).Seal(key(bob).Public(), nil)
	if a == "" || a == b {
		t.Errorf("nonces %q and %q", a, b)
	}
}
