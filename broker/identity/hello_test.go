package identity

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var nan = math.NaN()

type helloFile struct {
	About   string            `json:"about"`
	Seeds   map[string]string `json:"seeds"`
	Now     int64             `json:"now"`
	Cases   []helloVector     `json:"cases"`
	Numbers []numberVector    `json:"numbers"`
}

type helloVector struct {
	vector
	Signer string    `json:"signer,omitempty"` // whose signature libsodium is asked for
	Hello  wireHello `json:"hello"`
	Want   string    `json:"want"` // error code, "" for accepted
}

type numberVector struct {
	vector
	Value wireNumber `json:"value"`
}

type wireHello struct {
	MeshID    string     `json:"meshId"`
	MemberID  string     `json:"memberId"`
	PubKey    string     `json:"pubkey"`
	Timestamp wireNumber `json:"timestamp,omitempty"`
	Signature string     `json:"signature"`
}

func (w wireHello) hello() Hello {
	return Hello{w.MeshID, w.MemberID, w.PubKey, fromWire(w.Timestamp), w.Signature}
}

// aliceHello is a hello that verifies at the vectors' time.
func aliceHello() Hello {
	h := Hello{MeshID: "9JfKq2mXv4Rb7TzW8sYcL3pNa6", MemberID: "0Hd5GvQe1UoPk2XwMz9RtBn4Cy", PubKey: key(alice).Public(), Timestamp: at}
	h.Sign(key(alice))
	return h
}

// helloBuilder collects cases.
type helloBuilder struct {
	said  answers
	cases []helloVector
}

// signed adds a hello that was changed, then signed by signer.
func (b *helloBuilder) signed(name, want, signer string, change func(*Hello)) {
	h := aliceHello()
	change(&h)
	h.Sign(key(signer))
	b.add(name, want, signer, h, toWire(h.Timestamp))
}

// changed adds a hello that alice signed and somebody changed afterwards.
func (b *helloBuilder) changed(name, want string, change func(*Hello)) {
	h := aliceHello()
	change(&h)
	b.add(name, want, "", h, toWire(h.Timestamp))
}

func (b *helloBuilder) add(name, want, signer string, h Hello, timestamp wireNumber) {
	b.cases = append(b.cases, helloVector{vector{Name: name, Libsodium: b.said[name]}, signer,
		wireHello{h.MeshID, h.MemberID, h.PubKey, timestamp, h.Signature}, want})
}

func (b *helloBuilder) note(text string) { b.cases[len(b.cases)-1].Note = text }

func helloVectors(said answers) any {
	b := &helloBuilder{said: said}
	b.signed("a member's hello", "", alice, func(h *Hello) {})
	b.timestamps()
	b.shapes()
	b.forgeries()
	return helloFile{
		About:   "Member hellos at the time now (Unix ms), and the check that decides (protocol section 2).",
		Seeds:   seeds(alice, bob, mallory),
		Now:     at,
		Cases:   b.cases,
		Numbers: numberVectors(said),
	}
}

func (b *helloBuilder) timestamps() {
	for _, c := range []struct {
		name, want string
		timestamp  float64
	}{
		{"clock 60 s ahead", "", at + 60000},
		{"clock 60 s behind", "", at - 60000},
		{"clock 60.001 s ahead", "timestamp_skew", at + 60001},
		{"clock 60.001 s behind", "timestamp_skew", at - 60001},
		{"clock 60.0005 s ahead", "timestamp_skew", at + 60000.5},
		{"clock 60.0005 s behind", "timestamp_skew", at - 60000.5},
		{"timestamp with a fraction", "", at + 0.5},
		{"timestamp with a long fraction", "", at - 1234.567},
		{"timestamp in seconds", "timestamp_skew", at / 1000},
		{"timestamp zero", "timestamp_skew", 0},
		{"timestamp negative", "timestamp_skew", -at},
		{"timestamp absurdly large", "timestamp_skew", 1e300},
	} {
		b.signed(c.name, c.want, alice, func(h *Hello) { h.Timestamp = c.timestamp })
	}
	for _, c := range []struct{ name, text string }{
		{"a string", `"1767225600000"`}, {"null", `null`}, {"true", `true`}, {"an object", `{}`},
		{"an array", `[1767225600000]`}, {"beyond float64", `1e400`}, {"missing", ``},
	} {
		b.add("timestamp "+c.name, "timestamp_skew", "", aliceHello(), wireNumber(c.text))
	}
}

func (b *helloBuilder) shapes() {
	for _, c := range []struct{ name, want, id string }{
		{"empty", "malformed", ""},
		{"of 64 characters", "", strings.Repeat("x", 64)},
		{"of 65 characters", "malformed", strings.Repeat("x", 65)},
		{"with - and _", "", "a-b_c"},
		{"with |", "malformed", "a|b"},
		{"with a space", "malformed", "a b"},
		{"with a newline", "malformed", "a\n"},
		{"outside ASCII", "malformed", "mesh-é"},
	} {
		b.signed("meshId "+c.name, c.want, alice, func(h *Hello) { h.MeshID = c.id })
		b.signed("memberId "+c.name, c.want, alice, func(h *Hello) { h.MemberID = c.id })
	}
	pub, sig := aliceHello().PubKey, aliceHello().Signature
	for _, c := range malformedHex(pub) {
		b.signed("pubkey "+c.name, "malformed", alice, func(h *Hello) { h.PubKey = c.hex })
	}
	for _, c := range malformedHex(sig) {
		b.changed("signature "+c.name, "malformed", func(h *Hello) { h.Signature = c.hex })
	}
	b.changed("everything wrong", "timestamp_skew", func(h *Hello) { *h = Hello{} })
	b.note("the clock is checked first")
	b.changed("malformed and tampered with", "malformed", func(h *Hello) { h.MeshID, h.Signature = "other", "" })
	b.note("the shape is checked before the signature")
}

func (b *helloBuilder) forgeries() {
	b.changed("tampered meshId", "bad_signature", func(h *Hello) { h.MeshID = "another" })
	b.changed("tampered memberId", "bad_signature", func(h *Hello) { h.MemberID = "another" })
	b.changed("tampered pubkey", "bad_signature", func(h *Hello) { h.PubKey = key(bob).Public() })
	b.changed("tampered timestamp", "bad_signature", func(h *Hello) { h.Timestamp++ })
	b.changed("tampered fraction of the timestamp", "bad_signature", func(h *Hello) { h.Timestamp += 0.25 })
	b.changed("tampered R", "bad_signature", func(h *Hello) { h.Signature = flipBit(h.Signature, 0) })
	b.changed("tampered S", "bad_signature", func(h *Hello) { h.Signature = flipBit(h.Signature, 32) })
	b.signed("signed by another key", "bad_signature", mallory, func(h *Hello) {})
	b.signed("delimiter moved between ids, before", "malformed", alice, func(h *Hello) { h.MeshID, h.MemberID = "a|b", "c" })
	b.note("the same signed text as the next case: neither may pass, else one signature is good for two hellos")
	b.signed("delimiter moved between ids, after", "malformed", alice, func(h *Hello) { h.MeshID, h.MemberID = "a", "b|c" })
	b.changed("a session hello's signature", "bad_signature", func(h *Hello) {
		h.Signature = key(alice).Sign("claudemesh-session-hello|" + h.Canonical())
	})
	b.changed("the identity point as key", "bad_signature", func(h *Hello) {
		// R = S·B with S = 1: crypto/ed25519 alone accepts it over any text.
		h.PubKey = "01" + strings.Repeat("00", 31)
		h.Signature = "5866666666666666666666666666666666666666666666666666666666666666" + "01" + strings.Repeat("00", 31)
	})
	b.note("crypto/ed25519 accepts this signature over any text")
}

// malformedHex returns texts that are not what s, lowercase hex, is.
func malformedHex(s string) []struct{ name, hex string } {
	return []struct{ name, hex string }{
		{"in upper case", strings.ToUpper(s)},
		{"with one upper case digit", strings.Replace(s, "a", "A", 1)},
		{"a digit short", s[1:]},
		{"a digit long", s + "0"},
		{"empty", ""},
		{"not hex", "g" + s[1:]},
		{"with 0x", "0x" + s[2:]},
		{"with a line feed", s[1:] + "\n"},
	}
}

// numberVectors ask how JavaScript writes numbers into what is signed.
func numberVectors(said answers) (cases []numberVector) {
	for _, text := range []string{
		"0", "-0", "1", "-1", "0.1", "0.5", "1767225600000", "1767225600000.5", "1767225600000.25", "1767225598765.433",
		"-1767225600000", "1e3", "100000", "123456789012345680000", "1e20", "999999999999999900000", "1e21", "-1e21", "1.5e300",
		"1.7976931348623157e308", "0.000001", "0.0000015", "1e-7", "-1.5e-7", "1e-10", "5e-324", "9007199254740993", "0.30000000000000004",
	} {
		name := "number " + text
		cases = append(cases, numberVector{vector{Name: name, Libsodium: said[name]}, wireNumber(text)})
	}
	return cases
}

func TestHelloVectors(t *testing.T) {
	file := loadVectors[helloFile](t, "hello.json")
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			h := c.Hello.hello()
			wantCode(t, h.Verify(time.UnixMilli(file.Now)), c.Want)
			if isFinite(h.Timestamp) {
				wantSigned(t, c.vector, c.Signer, h.Canonical(), h.PubKey, h.Signature)
			}
		})
	}
}

func TestNumberVectors(t *testing.T) {
	for _, c := range loadVectors[helloFile](t, "hello.json").Numbers {
		if got, want := number(fromWire(c.Value)), answer[string](t, c.vector); got != want {
			t.Errorf("%s: got %s, JavaScript writes %s", c.Value, got, want)
		}
	}
	for x, want := range map[float64]string{math.Inf(1): "Infinity", math.Inf(-1): "-Infinity"} {
		if got := number(x); got != want {
			t.Errorf("got %s, JavaScript writes %s", got, want)
		}
	}
	if got := number(nan); got != "NaN" {
		t.Errorf("got %s, JavaScript writes NaN", got)
	}
}

func TestHelloRefusesTimesThatAreNone(t *testing.T) {
	for _, timestamp := range []float64{nan, math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64} {
		h := aliceHello()
		h.Timestamp = timestamp
		h.Sign(key(alice))
		wantCode(t, h.Verify(atTime()), "timestamp_skew")
	}
}

// TestSkewSaysHowToFixIt: the sentence has the amount, the direction and the cure.
func TestSkewSaysHowToFixIt(t *testing.T) {
	for _, c := range []struct {
		ahead float64
		want  []string
	}{
		{60001, []string{"60.001 s ahead of the broker's", "60 s are allowed", "NTP"}},
		{-60001, []string{"60.001 s behind the broker's", "NTP"}},
		{-60000.5, []string{"60.001 s behind"}},
		{3_600_000, []string{"3600 s ahead of", "NTP"}},
		{at/1000 - at, []string{"behind the broker's", "NTP", "milliseconds"}},
		{1e300, []string{"Unix milliseconds"}},
		{nan, []string{"Unix milliseconds"}},
	} {
		h := aliceHello()
		h.Timestamp += c.ahead
		err := h.Verify(atTime())
		wantCode(t, err, "timestamp_skew")
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v ms ahead: %q does not say %q", c.ahead, err, want)
			}
		}
		if len(err.Error()) > 300 {
			t.Errorf("%v ms ahead: %d characters", c.ahead, len(err.Error()))
		}
	}
}

var anyID = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)

func anyKey() *rapid.Generator[Key] {
	return rapid.Custom(func(t *rapid.T) Key {
		k, err := KeyFromSeed(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	})
}

// TestHelloSignedVerifies: what is signed verifies, until any one field changes.
func TestHelloSignedVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := anyKey().Draw(t, "key")
		now := rapid.Int64Range(0, 1<<45).Draw(t, "now")
		skew := rapid.Float64Range(-59999, 59999).Draw(t, "skew")
		h := Hello{MeshID: anyID.Draw(t, "mesh"), MemberID: anyID.Draw(t, "member"), PubKey: k.Public(), Timestamp: float64(now) + skew}
		h.Sign(k)
		wantCode(t, h.Verify(time.UnixMilli(now)), "")

		tampered := h
		switch rapid.IntRange(0, 4).Draw(t, "field") {
		case 0:
			tampered.MeshID = anyID.Draw(t, "other mesh")
		case 1:
			tampered.MemberID = anyID.Draw(t, "other member")
		case 2:
			tampered.PubKey = anyKey().Draw(t, "other key").Public()
		case 3:
			tampered.Timestamp = float64(now) + rapid.Float64Range(-59999, 59999).Draw(t, "other skew")
		case 4:
			tampered.Signature = flipBit(h.Signature, rapid.IntRange(0, 63).Draw(t, "byte"))
		}
		if tampered != h {
			wantCode(t, tampered.Verify(time.UnixMilli(now)), "bad_signature")
		}
	})
}
