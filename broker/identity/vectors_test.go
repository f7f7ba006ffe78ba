package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	update    = flag.Bool("update", false, "rewrite the vector files")
	libsodium = flag.String("libsodium", "", "with -update: a file of answers made by libsodium.cjs, see there")
)

const vectorDir = "../../testdata/identity"

// at is the broker's clock in all vectors, Unix ms: 2026-01-01T00:00:00Z.
const at = 1767225600000

func atTime() time.Time { return time.UnixMilli(at) }

// vector is what all cases have in common.
type vector struct {
	Name      string          `json:"name"` // unique in its file
	Note      string          `json:"note,omitempty"`
	Libsodium json.RawMessage `json:"libsodium,omitempty"` // what libsodium, or JavaScript, says to the case
}

// signedAnswer is libsodium's answer to a signed text.
type signedAnswer struct {
	Canonical string `json:"canonical"` // as JavaScript builds it
	Verifies  bool   `json:"verifies"`
	Signature string `json:"signature"` // by the case's signer; "" when it has none
	Token     string `json:"token"`     // of an invite
}

// answers are libsodium's, by name of the case.
type answers map[string]json.RawMessage

// vectorFiles makes each file from its name. A case that libsodium has not answered yet has no answer.
var vectorFiles = map[string]func(answers) any{
	"hello.json":         helloVectors,
	"attestation.json":   attestationVectors,
	"session_hello.json": sessionHelloVectors,
	"invite.json":        inviteVectors,
	"verify.json":        verifyVectors,
	"box.json":           boxVectors,
	"topickey.json":      topicKeyVectors,
}

// TestVectorFiles proves that the files are those that -update writes.
func TestVectorFiles(t *testing.T) {
	for name, make := range vectorFiles {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(vectorDir, name)
			want := encodeVectors(t, make(answersFor(t, name)))
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what its generator makes: run go test -run TestVectorFiles -update, and see libsodium.cjs", path)
			}
		})
	}
}

func encodeVectors(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// answersFor returns the answers on file, or those of -libsodium.
func answersFor(t *testing.T, name string) answers {
	t.Helper()
	if *update && *libsodium != "" {
		return loadJSON[map[string]answers](t, *libsodium)[name]
	}
	return filedAnswers(t, name)
}

// filedAnswers collects the answers from all lists of cases in a vector file, if there is one yet.
func filedAnswers(t *testing.T, name string) answers {
	t.Helper()
	path := filepath.Join(vectorDir, name)
	if _, err := os.Stat(path); *update && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	said := answers{}
	for _, list := range loadJSON[map[string]json.RawMessage](t, path) {
		var cases []vector
		if json.Unmarshal(list, &cases) != nil {
			continue // not a list of cases
		}
		for _, c := range cases {
			said[c.Name] = c.Libsodium
		}
	}
	return said
}

func loadJSON[T any](t testing.TB, path string) (v T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func loadVectors[T any](t testing.TB, name string) T {
	t.Helper()
	return loadJSON[T](t, filepath.Join(vectorDir, name))
}

// answer decodes libsodium's answer to a case. A case without one is a failure: it was added, and
// libsodium.cjs not run since.
func answer[T any](t testing.TB, v vector) (said T) {
	t.Helper()
	if v.Libsodium == nil {
		t.Fatalf("libsodium was not asked about %q: see libsodium.cjs", v.Name)
	}
	if err := json.Unmarshal(v.Libsodium, &said); err != nil {
		t.Fatal(err)
	}
	return said
}

// names of the keys in the vectors
const (
	alice   = "alice"   // a member, parent of session
	bob     = "bob"     // another member
	session = "session" // alice's session
	owner   = "owner"   // owner of the mesh
	mallory = "mallory" // up to no good
)

// key returns the key a name stands for in the vectors.
func key(name string) Key {
	seed := sha256.Sum256([]byte("meshbox test key: " + name))
	k, err := KeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// seeds lists the seeds of keys, for libsodium to sign with.
func seeds(names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = hex.EncodeToString(key(name).Seed())
	}
	return out
}

// wireNumber is a field that should be a JSON number, as text.
type wireNumber = json.RawMessage

func toWire(x float64) wireNumber { return wireNumber(strconv.FormatFloat(x, 'f', -1, 64)) }

// fromWire reads a field as the broker's decoder does: NaN for what is not a finite number.
func fromWire(text wireNumber) float64 {
	var x *float64
	if err := json.Unmarshal(text, &x); err != nil || x == nil {
		return nan
	}
	return *x
}

// flipBit returns hex text with the lowest bit of the byte at index i flipped.
func flipBit(hexText string, i int) string {
	b, err := hex.DecodeString(hexText)
	if err != nil {
		panic(err)
	}
	b[i] ^= 1
	return hex.EncodeToString(b)
}

// tester is what testing.TB and *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// wantCode fails unless err is nil for "", or else an *Error with that code and a sentence.
func wantCode(t tester, err error, code string) {
	t.Helper()
	if err == nil && code == "" {
		return
	}
	refusal, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		t.Errorf("accepted, want %s", code)
	case !ok:
		t.Errorf("got %T %v, want an *Error", err, err)
	case refusal.Code != code:
		t.Errorf("got %v, want code %q", err, code)
	case !strings.HasSuffix(refusal.Message, "."):
		t.Errorf("%q is not a sentence", refusal.Message)
	}
}

// wantSigned compares one signed text with libsodium's answer: the same bytes, the same verdict, and,
// when the signer of the case is known, the same signature. Only verdicts on well-formed keys and
// signatures are libsodium's; shapes are ours.
func wantSigned(t *testing.T, v vector, signer, canonical, pub, sig string) {
	t.Helper()
	said := answer[signedAnswer](t, v)
	if canonical != said.Canonical {
		t.Errorf("signed text\n got %q\nwant %q", canonical, said.Canonical)
	}
	if got := VerifyHex(pub, canonical, sig); got != said.Verifies {
		t.Errorf("signature verifies: %v, libsodium: %v", got, said.Verifies)
	}
	if signer == "" {
		return
	}
	if got := key(signer).Sign(canonical); got != said.Signature {
		t.Errorf("signature of %s\n got %s\nwant %s", signer, got, said.Signature)
	}
}
