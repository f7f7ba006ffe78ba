package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"filippo.io/edwards25519"
)

type verifyFile struct {
	About string         `json:"about"`
	Cases []verifyVector `json:"cases"`
}

// verifyVector's verdict is libsodium's.
type verifyVector struct {
	vector
	Public    string `json:"public"`    // hex, as are the next two
	Message   string `json:"message"`   //
	Signature string `json:"signature"` //
	Plain     bool   `json:"plain"`     // what crypto/ed25519 alone says
}

func (v verifyVector) bytes(t testing.TB) (pub, message, sig []byte) {
	t.Helper()
	for text, field := range map[string]*[]byte{v.Public: &pub, v.Message: &message, v.Signature: &sig} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		*field = b
	}
	return pub, message, sig
}

// The curve, for the tests: points and scalars by name.

func scalar(n int64) *edwards25519.Scalar {
	var le [32]byte
	big.NewInt(n).FillBytes(le[:])
	slices.Reverse(le[:])
	s, err := edwards25519.NewScalar().SetCanonicalBytes(le[:])
	if err != nil {
		panic(err)
	}
	return s
}

// secretScalar is a fixed scalar by name.
func secretScalar(name string) *edwards25519.Scalar {
	digest := sha512.Sum512([]byte("meshbox test scalar: " + name))
	s, err := edwards25519.NewScalar().SetUniformBytes(digest[:])
	if err != nil {
		panic(err)
	}
	return s
}

func identityPoint() *edwards25519.Point { return edwards25519.NewIdentityPoint() }

func plus(p, q *edwards25519.Point) *edwards25519.Point { return new(edwards25519.Point).Add(p, q) }

// timesB returns s·B.
func timesB(s *edwards25519.Scalar) *edwards25519.Point {
	return new(edwards25519.Point).ScalarBaseMult(s)
}

// torsionPoints returns the 8 points whose order divides 8, as multiples 0..7 of one of order 8.
func torsionPoints() []*edwards25519.Point {
	points := []*edwards25519.Point{identityPoint()}
	for generator := orderEight(); len(points) < 8; {
		points = append(points, plus(points[len(points)-1], generator))
	}
	return points
}

// orderEight finds a point of order 8: L times any point has an order that divides 8.
func orderEight() *edwards25519.Point {
	for y := byte(2); ; y++ {
		p, err := new(edwards25519.Point).SetBytes(append([]byte{y}, make([]byte, 31)...))
		if err != nil {
			continue
		}
		p = plus(new(edwards25519.Point).ScalarMult(minusOne, p), p) // (L-1)·p + p
		four := plus(plus(p, p), plus(p, p))
		if four.Equal(identityPoint()) == 0 {
			return p
		}
	}
}

// groupOrder is L, fieldPrime p.
var (
	groupOrder, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	fieldPrime    = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
)

// littleEndian encodes n in 32 bytes and ors the sign bit in.
func littleEndian(n *big.Int, sign byte) []byte {
	le := n.FillBytes(make([]byte, 32))
	slices.Reverse(le)
	le[31] |= sign << 7
	return le
}

// crafted is a signature made with full knowledge: the key is A = a·B + tA, R = r·B + tR, encoded as
// encA and encR say (nil for canonically), and S = r + k·a.
type crafted struct {
	a, r       *edwards25519.Scalar
	tA, tR     *edwards25519.Point
	encA, encR []byte
}

// sign searches a message for which the equation S·B = R + k·A holds, or not: with torsion in A or R
// that depends on k. Multiplied by 8 it always holds.
func (c crafted) sign(holds bool) (pub, message, sig []byte) {
	A, R := plus(timesB(c.a), c.tA), plus(timesB(c.r), c.tR)
	pub, encR := cmpOr(c.encA, A.Bytes()), cmpOr(c.encR, R.Bytes())
	for i := 0; i < 1000; i++ {
		message = fmt.Appendf(nil, "message %d", i)
		k := challenge(encR, pub, message)
		S := edwards25519.NewScalar().MultiplyAdd(k, c.a, c.r)
		rest := new(edwards25519.Point).Subtract(timesB(S), plus(R, new(edwards25519.Point).ScalarMult(k, A)))
		if new(edwards25519.Point).MultByCofactor(rest).Equal(identityPoint()) == 0 {
			panic("the equation does not hold even when multiplied by 8")
		}
		if (rest.Equal(identityPoint()) == 1) == holds {
			return pub, message, slices.Concat(encR, S.Bytes())
		}
	}
	panic("no message found: the equation does not depend on it")
}

func cmpOr(enc, otherwise []byte) []byte {
	if enc != nil {
		return enc
	}
	return otherwise
}

// challenge is k of RFC 8032: SHA-512 of R, A and the message, modulo L.
func challenge(R, A, message []byte) *edwards25519.Scalar {
	digest := sha512.Sum512(slices.Concat(R, A, message))
	k, err := edwards25519.NewScalar().SetUniformBytes(digest[:])
	if err != nil {
		panic(err)
	}
	return k
}

type verifyBuilder struct {
	said  answers
	cases []verifyVector
}

func (b *verifyBuilder) add(name, note string, pub, message, sig []byte) {
	plain := len(pub) == ed25519.PublicKeySize && ed25519.Verify(pub, message, sig)
	b.cases = append(b.cases, verifyVector{vector{name, note, b.said[name]}, hex.EncodeToString(pub), hex.EncodeToString(message), hex.EncodeToString(sig), plain})
}

func verifyVectors(said answers) any {
	b := &verifyBuilder{said: said}
	b.honest()
	b.lengths()
	b.malleated()
	b.smallOrderKeys()
	b.smallOrderRs()
	b.mixedOrder()
	b.notReduced()
	return verifyFile{
		About: "Ed25519 signatures and what libsodium's crypto_sign_verify_detached says to them. plain is what Go's crypto/ed25519 alone says.",
		Cases: b.cases,
	}
}

// aliceSigned is an honest signature over text.
func aliceSigned(text string) (pub, message, sig []byte) {
	k := key(alice)
	pub, _ = hex.DecodeString(k.Public())
	sig, _ = hex.DecodeString(k.Sign(text))
	return pub, []byte(text), sig
}

func (b *verifyBuilder) honest() {
	for _, text := range []string{"hello", "", strings.Repeat("long ", 200), "\x00\xff"} {
		pub, message, sig := aliceSigned(text)
		b.add(fmt.Sprintf("valid, %d bytes", len(text)), "", pub, message, sig)
	}
	pub, message, sig := aliceSigned("hello")
	b.add("message changed", "", pub, []byte("hallo"), sig)
	b.add("message longer", "", pub, append(message, 0), sig)
	b.add("message empty", "", pub, nil, sig)
	bobs, _ := hex.DecodeString(key(bob).Public())
	b.add("another key", "", bobs, message, sig)
	for _, i := range []int{0, 15, 31, 32, 47, 63} {
		tampered := bytes.Clone(sig)
		tampered[i] ^= 1
		b.add(fmt.Sprintf("bit flipped in byte %d", i), "", pub, message, tampered)
	}
	signOfR, signOfA := bytes.Clone(sig), bytes.Clone(pub)
	signOfR[31] ^= 0x80
	signOfA[31] ^= 0x80
	b.add("sign of R flipped", "", pub, message, signOfR)
	b.add("sign of the key flipped", "", signOfA, message, sig)
	b.add("R and S swapped", "", pub, message, slices.Concat(sig[32:], sig[:32]))
}

func (b *verifyBuilder) lengths() {
	pub, message, sig := aliceSigned("hello")
	b.add("signature a byte short", "", pub, message, sig[:63])
	b.add("signature a byte long", "", pub, message, append(bytes.Clone(sig), 0))
	b.add("signature empty", "", pub, message, nil)
	b.add("key a byte short", "", pub[:31], message, sig)
	b.add("key a byte long", "", append(bytes.Clone(pub), 0), message, sig)
	b.add("key empty", "", nil, message, sig)
	b.add("everything empty", "", nil, nil, nil)
	b.add("everything zero", "y = 0 has order 4", make([]byte, 32), make([]byte, 32), make([]byte, 64))
}

// malleated are other spellings of a valid S.
func (b *verifyBuilder) malleated() {
	pub, message, sig := aliceSigned("hello")
	le := bytes.Clone(sig[32:])
	slices.Reverse(le)
	S := new(big.Int).SetBytes(le)
	for n := int64(1); n <= 15; n++ {
		twin := new(big.Int).Add(S, new(big.Int).Mul(big.NewInt(n), groupOrder))
		if twin.BitLen() > 256 {
			break
		}
		b.add(fmt.Sprintf("S + %d L", n), "the same S modulo L", pub, message, slices.Concat(sig[:32], littleEndian(twin, 0)))
	}
	for _, c := range []struct {
		name string
		S    *big.Int
	}{{"L", groupOrder}, {"L - 1", new(big.Int).Sub(groupOrder, big.NewInt(1))}, {"L + 1", new(big.Int).Add(groupOrder, big.NewInt(1))}, {"0", new(big.Int)}} {
		b.add("S = "+c.name, "", pub, message, slices.Concat(sig[:32], littleEndian(c.S, 0)))
	}
	for bit := 5; bit < 8; bit++ {
		high := bytes.Clone(sig)
		high[63] |= 1 << bit
		b.add(fmt.Sprintf("S with bit %d", 248+bit), "", pub, message, high)
	}
	b.add("S all ones", "", pub, message, slices.Concat(sig[:32], bytes.Repeat([]byte{0xff}, 32)))
}

// oddEncoding is an encoding of a small-order point that is not canonical.
type oddEncoding struct {
	name string
	enc  []byte
}

// oddSmallOrder returns all of them: y = p and p + 1 for 0 and 1, and x = 0 with the sign bit set.
func oddSmallOrder() []oddEncoding {
	one := big.NewInt(1)
	minusOne, plusOne := new(big.Int).Sub(fieldPrime, one), new(big.Int).Add(fieldPrime, one)
	return []oddEncoding{
		{"y = p", littleEndian(fieldPrime, 0)}, {"y = p, negative", littleEndian(fieldPrime, 1)},
		{"y = p + 1", littleEndian(plusOne, 0)}, {"y = p + 1, negative", littleEndian(plusOne, 1)},
		{"y = 1, negative", littleEndian(one, 1)}, {"y = -1, negative", littleEndian(minusOne, 1)},
	}
}

func decodePoint(enc []byte) *edwards25519.Point {
	p, err := new(edwards25519.Point).SetBytes(enc)
	if err != nil {
		panic(err)
	}
	return p
}

func (b *verifyBuilder) smallOrderKeys() {
	r := secretScalar("r")
	for i, p := range torsionPoints() {
		pub, message, sig := crafted{a: scalar(0), r: r, tA: p, tR: identityPoint()}.sign(true)
		b.add(fmt.Sprintf("small-order key %d/8", i), "anyone can make this signature", pub, message, sig)
	}
	for _, odd := range oddSmallOrder() {
		pub, message, sig := crafted{a: scalar(0), r: r, tA: decodePoint(odd.enc), tR: identityPoint(), encA: odd.enc}.sign(true)
		b.add("small-order key, "+odd.name, "not canonical either", pub, message, sig)
	}
}

func (b *verifyBuilder) smallOrderRs() {
	a, torsion := secretScalar("a"), torsionPoints()
	pub, message, sig := crafted{a: a, r: scalar(0), tA: identityPoint(), tR: torsion[0]}.sign(true)
	b.add("small-order R 0/8", "made by the key's holder", pub, message, sig)
	for i, p := range torsion {
		pub, message, sig := crafted{a: a, r: scalar(0), tA: torsion[1], tR: p}.sign(true)
		b.add(fmt.Sprintf("small-order R %d/8, mixed-order key", i), "made by the key's holder", pub, message, sig)
	}
	for _, odd := range oddSmallOrder() {
		pub, message, sig := crafted{a: a, r: scalar(0), tA: torsion[1], tR: decodePoint(odd.enc), encR: odd.enc}.sign(true)
		b.add("small-order R, "+odd.name, "not canonical either", pub, message, sig)
	}
	b.add("small-order key and R", "", torsion[0].Bytes(), []byte("any"), slices.Concat(torsion[0].Bytes(), make([]byte, 32)))
}

// mixedOrder are keys and Rs with a component of small order beside an honest one. Their holders made
// them so on purpose.
func (b *verifyBuilder) mixedOrder() {
	a, r, torsion := secretScalar("a"), secretScalar("r"), torsionPoints()
	const note = "verifies only when multiplied by the cofactor, which libsodium does not do, nor we"
	for _, i := range []int{1, 2, 4} {
		pub, message, sig := crafted{a: a, r: r, tA: torsion[i], tR: identityPoint()}.sign(true)
		b.add(fmt.Sprintf("mixed-order key %d/8, equation holds", i), "", pub, message, sig)
		pub, message, sig = crafted{a: a, r: r, tA: torsion[i], tR: identityPoint()}.sign(false)
		b.add(fmt.Sprintf("mixed-order key %d/8, equation holds times 8", i), note, pub, message, sig)
		pub, message, sig = crafted{a: a, r: r, tA: identityPoint(), tR: torsion[i]}.sign(false)
		b.add(fmt.Sprintf("mixed-order R %d/8, equation holds times 8", i), note, pub, message, sig)
	}
	pub, message, sig := crafted{a: a, r: r, tA: torsion[1], tR: torsion[3]}.sign(true)
	b.add("mixed-order key and R, equation holds", "", pub, message, sig)
}

// notReduced are encodings with y ≥ p, and some that are no points. Nobody can sign for those points,
// so that they are refused shows little here; TestStrictPoint has the check by itself.
func (b *verifyBuilder) notReduced() {
	_, message, sig := aliceSigned("hello")
	pub, _, _ := aliceSigned("hello")
	for i := range int64(19) {
		enc := littleEndian(new(big.Int).Add(fieldPrime, big.NewInt(i)), 0)
		b.add(fmt.Sprintf("key with y = p + %d", i), "", enc, message, sig)
		b.add(fmt.Sprintf("R with y = p + %d", i), "", pub, message, slices.Concat(enc, sig[32:]))
	}
	none := append([]byte{2}, make([]byte, 31)...)
	b.add("key that is no point", "", none, message, sig)
	b.add("R that is no point", "", pub, message, slices.Concat(none, sig[32:]))
}

func TestVerifyVectors(t *testing.T) {
	for _, c := range loadVectors[verifyFile](t, "verify.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			pub, message, sig := c.bytes(t)
			want := answer[bool](t, c.vector)
			if got := Verify(pub, message, sig); got != want {
				t.Errorf("verifies: %v, libsodium says %v", got, want)
			}
			if got := verifySlowly(pub, message, sig); got != want {
				t.Errorf("verifies by the reference: %v, libsodium says %v", got, want)
			}
			if want && !c.Plain {
				t.Error("libsodium accepts what crypto/ed25519 refuses: Verify can not follow")
			}
		})
	}
}

// TestVectorsNeedOurChecks: there are forgeries on file that crypto/ed25519 alone accepts.
func TestVectorsNeedOurChecks(t *testing.T) {
	forgeries := 0
	for _, c := range loadVectors[verifyFile](t, "verify.json").Cases {
		if c.Plain && !answer[bool](t, c.vector) {
			forgeries++
		}
	}
	if forgeries < 8+6+8 { // small-order keys, oddly encoded ones, small-order Rs
		t.Errorf("only %d", forgeries)
	}
}

// verifySlowly is what Verify is held against: the rules one after the other, on decoded points.
func verifySlowly(pub, message, sig []byte) bool {
	if len(pub) != 32 || len(sig) != 64 {
		return false
	}
	A, okA := decodeStrictly(pub)
	R, okR := decodeStrictly(sig[:32])
	S, err := edwards25519.NewScalar().SetCanonicalBytes(sig[32:])
	if !okA || !okR || err != nil {
		return false
	}
	k := challenge(sig[:32], pub, message)
	return timesB(S).Equal(plus(R, new(edwards25519.Point).ScalarMult(k, A))) == 1
}

// decodeStrictly decodes a point that is encoded canonically and not of small order.
func decodeStrictly(enc []byte) (*edwards25519.Point, bool) {
	p, err := new(edwards25519.Point).SetBytes(enc)
	if err != nil || !bytes.Equal(p.Bytes(), enc) {
		return nil, false
	}
	return p, new(edwards25519.Point).MultByCofactor(p).Equal(identityPoint()) == 0
}

// TestSmallOrderTable proves that the table has the y of every small-order point and of no other.
func TestSmallOrderTable(t *testing.T) {
	found := map[[32]byte]bool{}
	for _, p := range torsionPoints() {
		y := [32]byte(p.Bytes())
		y[31] &= 0x7f
		found[y] = true
	}
	if len(found) != len(smallOrderY) {
		t.Errorf("%d y-coordinates in the table, %d on the curve", len(smallOrderY), len(found))
	}
	for _, y := range smallOrderY {
		if !found[y] {
			t.Errorf("%x is of no small-order point", y)
		}
	}
}

// TestStrictPoint holds the check on bytes against decoding, where they can differ: at both ends of
// the field, around its prime, and at the torsion points, with either sign.
func TestStrictPoint(t *testing.T) {
	var encodings [][]byte
	for i := range int64(300) {
		for _, y := range []*big.Int{big.NewInt(i), new(big.Int).Sub(fieldPrime, big.NewInt(i)), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(i+1))} {
			encodings = append(encodings, littleEndian(y, 0), littleEndian(y, 1))
		}
	}
	for _, p := range torsionPoints() {
		enc := p.Bytes()
		negative := bytes.Clone(enc)
		negative[31] ^= 0x80
		encodings = append(encodings, enc, negative)
	}
	points := 0
	for _, enc := range encodings {
		if _, err := new(edwards25519.Point).SetBytes(enc); err != nil {
			continue // not a point at all: crypto/ed25519 refuses it
		}
		points++
		if _, want := decodeStrictly(enc); isStrictPoint(enc) != want {
			t.Errorf("%x: strict %v, want %v", enc, !want, want)
		}
	}
	if points < 100 {
		t.Errorf("only %d points tried", points)
	}
}

func TestVerifyHexRefusesShapes(t *testing.T) {
	pub, sig := key(alice).Public(), key(alice).Sign("hello")
	if !VerifyHex(pub, "hello", sig) {
		t.Fatal("an honest signature is refused")
	}
	for _, c := range malformedHex(pub) {
		if VerifyHex(c.hex, "hello", sig) {
			t.Errorf("verifies with a key %s", c.name)
		}
	}
	for _, c := range malformedHex(sig) {
		if VerifyHex(pub, "hello", c.hex) {
			t.Errorf("verifies with a signature %s", c.name)
		}
	}
}

// FuzzVerify holds Verify against the reference on anything, and wants no change to an honest
// signature, its text or its key to verify.
func FuzzVerify(f *testing.F) {
	for _, c := range loadVectors[verifyFile](f, "verify.json").Cases {
		pub, message, sig := c.bytes(f)
		f.Add(pub, message, sig)
	}
	f.Fuzz(func(t *testing.T, pub, message, sig []byte) {
		if got, want := Verify(pub, message, sig), verifySlowly(pub, message, sig); got != want {
			t.Fatalf("verifies: %v, by the reference: %v", got, want)
		}
		fuzzMutations(t, pub, message, sig)
	})
}

// fuzzMutations signs message honestly, then uses pub and sig as masks over key and signature.
func fuzzMutations(t *testing.T, pub, message, sig []byte) {
	seed := sha256.Sum256(pub)
	private := ed25519.NewKeyFromSeed(seed[:])
	honestPub, honest := private[32:], ed25519.Sign(private, message)
	if !Verify(honestPub, message, honest) {
		t.Fatal("an honest signature is refused")
	}
	if mutant := masked(honest, sig); !bytes.Equal(mutant, honest) && Verify(honestPub, message, mutant) {
		t.Fatalf("signature %x verifies after change to %x", honest, mutant)
	}
	if mutant := masked(honestPub, pub); !bytes.Equal(mutant, honestPub) && Verify(mutant, message, honest) {
		t.Fatalf("signature of %x verifies under %x", honestPub, mutant)
	}
	if Verify(honestPub, append(bytes.Clone(message), 0), honest) {
		t.Fatal("the signature of a text verifies over a longer one")
	}
}

// masked returns b with as much of mask as fits xored in.
func masked(b, mask []byte) []byte {
	out := bytes.Clone(b)
	for i := range min(len(out), len(mask)) {
		out[i] ^= mask[i]
	}
	return out
}

func BenchmarkVerify(b *testing.B) {
	pub, message, sig := aliceSigned(aliceHello().Canonical())
	b.Run("strict", func(b *testing.B) {
		for b.Loop() {
			if !Verify(pub, message, sig) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("plain", func(b *testing.B) { // the least it can cost
		for b.Loop() {
			if !ed25519.Verify(pub, message, sig) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("decoding", func(b *testing.B) { // the alternative that Verify's comment rejects
		for b.Loop() {
			_, okA := decodeStrictly(pub)
			_, okR := decodeStrictly(sig[:32])
			if !okA || !okR || !ed25519.Verify(pub, message, sig) {
				b.Fatal("refused")
			}
		}
	})
}
