package identity

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type attestationFile struct {
	About string              `json:"about"`
	Seeds map[string]string   `json:"seeds"`
	Now   int64               `json:"now"`
	Cases []attestationVector `json:"cases"`
}

type attestationVector struct {
	vector
	Signer      string          `json:"signer,omitempty"` // whose signature libsodium is asked for
	Attestation wireAttestation `json:"attestation"`
	Want        string          `json:"want"`          // error code, "" for accepted
	Allows      []string        `json:"allows"`        // of capabilities, when accepted
	All         bool            `json:"all,omitempty"` // instead of allows: everything
}

type wireAttestation struct {
	SessionPubKey      string     `json:"sessionPubkey"`
	ParentMemberPubKey string     `json:"parentMemberPubkey"`
	ExpiresAt          wireNumber `json:"expiresAt,omitempty"`
	Signature          string     `json:"signature"`
	Version            int        `json:"version,omitempty"`
	AllowedCaps        *[]string  `json:"allowed_caps,omitempty"` // nil: absent
}

func (w wireAttestation) attestation() Attestation {
	a := Attestation{w.SessionPubKey, w.ParentMemberPubKey, fromWire(w.ExpiresAt), w.Signature, w.Version, nil}
	if w.AllowedCaps != nil {
		a.AllowedCaps = *w.AllowedCaps
	}
	return a
}

func toWireAttestation(a Attestation) wireAttestation {
	w := wireAttestation{a.SessionPubKey, a.ParentMemberPubKey, nil, a.Signature, a.Version, nil}
	if isFinite(a.ExpiresAt) {
		w.ExpiresAt = toWire(a.ExpiresAt)
	}
	if a.AllowedCaps != nil {
		w.AllowedCaps = &a.AllowedCaps
	}
	return w
}

const hour = 60 * 60 * 1000 // ms

// protocolCaps are all capabilities the protocol names (§3).
var protocolCaps = []string{"dm", "broadcast", "state-read", "state-write", "grant", "kick", "ban", "profile-write", "service-deploy"}

// aliceVouches is alice's word for her session, good for 12 hours from the vectors' time on: version
// 1 when caps is nil, else 2.
func aliceVouches(caps []string) Attestation {
	a := Attestation{SessionPubKey: key(session).Public(), ParentMemberPubKey: key(alice).Public(), ExpiresAt: at + 12*hour, AllowedCaps: caps}
	if caps != nil {
		a.Version = 2
	}
	a.Sign(key(alice))
	return a
}

type attestationBuilder struct {
	said  answers
	cases []attestationVector
}

// signed adds an attestation with caps that was changed, then signed by signer.
func (b *attestationBuilder) signed(name, want, signer string, caps []string, change func(*Attestation)) {
	a := aliceVouches(caps)
	change(&a)
	a.Sign(key(signer))
	b.add(name, want, signer, toWireAttestation(a))
}

// changed adds an attestation with caps that alice signed and somebody changed afterwards.
func (b *attestationBuilder) changed(name, want string, caps []string, change func(*Attestation)) {
	a := aliceVouches(caps)
	change(&a)
	b.add(name, want, "", toWireAttestation(a))
}

func (b *attestationBuilder) add(name, want, signer string, w wireAttestation) {
	v := attestationVector{vector: vector{Name: name, Libsodium: b.said[name]}, Signer: signer, Attestation: w, Want: want, Allows: []string{}}
	if want == "" {
		v.All = w.AllowedCaps == nil && w.Version != 2
		if w.AllowedCaps != nil {
			v.Allows = append(v.Allows, strings.Fields(strings.ToLower(strings.Join(*w.AllowedCaps, " ")))...)
		}
	}
	b.cases = append(b.cases, v)
}

func (b *attestationBuilder) note(text string) { b.cases[len(b.cases)-1].Note = text }

func attestationVectors(said answers) any {
	b := &attestationBuilder{said: said}
	b.versions()
	b.times()
	b.shapes()
	b.forgeries()
	b.escalations()
	return attestationFile{
		About: "Attestations at the time now (Unix ms), the check that decides, and the capabilities granted (protocol section 3).",
		Seeds: seeds(alice, session, mallory),
		Now:   at,
		Cases: b.cases,
	}
}

func same(*Attestation) {}

func (b *attestationBuilder) versions() {
	b.signed("version 1, not said", "", alice, nil, same)
	b.signed("version 1, said", "", alice, nil, func(a *Attestation) { a.Version = 1 })
	b.signed("version 2", "", alice, []string{"dm", "state-read"}, same)
	b.signed("version 2, everything listed", "", alice, protocolCaps, same)
	b.signed("version 2, not said", "", alice, []string{"dm"}, func(a *Attestation) { a.Version = 0 })
	b.note("allowed_caps alone makes it version 2")
	b.signed("version 2 called 1", "", alice, []string{"dm"}, func(a *Attestation) { a.Version = 1 })
	b.signed("version 2, nothing allowed", "", alice, []string{}, same)
	b.signed("version 2 without allowed_caps", "", alice, nil, func(a *Attestation) { a.Version = 2 })
	b.note("grants nothing: the signed bytes are those of an empty list, from which the field may have been dropped")
	b.signed("caps not sorted", "", alice, []string{"state-read", "ban", "dm"}, same)
	b.signed("caps in upper case", "", alice, []string{"DM", "Ban"}, same)
	b.signed("caps sorted after lowering", "", alice, []string{"b", "A", "C"}, same)
	b.signed("a cap twice", "", alice, []string{"dm", "dm"}, same)
	b.note("signed as dm,dm: duplicates stay")
	b.signed("a cap nobody knows", "", alice, []string{"fly"}, same)
	b.signed("version 3", "malformed", alice, nil, func(a *Attestation) { a.Version = 3 })
	b.signed("version 3 with caps", "malformed", alice, []string{"dm"}, func(a *Attestation) { a.Version = 3 })
	b.signed("version -1", "malformed", alice, nil, func(a *Attestation) { a.Version = -1 })
}

func (b *attestationBuilder) times() {
	for _, c := range []struct {
		name, want string
		expiresAt  float64
	}{
		{"expires now", "expired", at},
		{"expires in 1 ms", "", at + 1},
		{"expires in half a millisecond", "", at + 0.5},
		{"expired 1 ms ago", "expired", at - 1},
		{"expired long ago", "expired", 0},
		{"expires in seconds, not milliseconds", "expired", at/1000 + 12*3600},
		{"expires in 24 h", "", at + 24*hour},
		{"expires in 24 h and 1 ms", "ttl_too_long", at + 24*hour + 1},
		{"expires in 24 h and half a millisecond", "ttl_too_long", at + 24*hour + 0.5},
		{"expires never", "ttl_too_long", 1e300},
	} {
		b.signed(c.name, c.want, alice, nil, func(a *Attestation) { a.ExpiresAt = c.expiresAt })
	}
	for _, c := range []struct{ name, text string }{
		{"a string", `"1767225601000"`}, {"null", `null`}, {"false", `false`}, {"beyond float64", `1e400`}, {"missing", ``},
	} {
		w := toWireAttestation(aliceVouches(nil))
		w.ExpiresAt = wireNumber(c.text)
		b.add("expiresAt "+c.name, "malformed", "", w)
	}
}

func (b *attestationBuilder) shapes() {
	for _, c := range malformedHex(key(session).Public()) {
		b.signed("sessionPubkey "+c.name, "malformed", alice, nil, func(a *Attestation) { a.SessionPubKey = c.hex })
	}
	for _, c := range malformedHex(key(alice).Public()) {
		b.signed("parentMemberPubkey "+c.name, "malformed", alice, nil, func(a *Attestation) { a.ParentMemberPubKey = c.hex })
	}
	for _, c := range malformedHex(aliceVouches(nil).Signature) {
		b.changed("signature "+c.name, "malformed", nil, func(a *Attestation) { a.Signature = c.hex })
	}
	for _, c := range []struct {
		name string
		cap  string
	}{
		{"a comma", "dm,ban"}, {"a bar", "dm|ban"}, {"nothing", ""}, {"a line feed", "dm\n"}, {"a NUL", "d\x00m"}, {"a DEL", "dm\x7f"},
		{"a letter outside ASCII", "dmé"}, {"a letter that lowers into ASCII", "\u212Aick"},
	} {
		b.signed("a cap with "+c.name, "malformed", alice, []string{"dm", c.cap}, same)
	}
	b.changed("expired and malformed", "malformed", nil, func(a *Attestation) { a.ExpiresAt, a.Signature = 0, "" })
	b.changed("expired and tampered with", "expired", nil, func(a *Attestation) { a.ExpiresAt = 0 })
	b.changed("too long and tampered with", "ttl_too_long", nil, func(a *Attestation) { a.ExpiresAt = at + 25*hour })
}

func (b *attestationBuilder) forgeries() {
	for _, c := range []struct {
		version string
		caps    []string
	}{{"version 1", nil}, {"version 2", []string{"dm", "grant"}}} {
		tampered := func(what string, change func(*Attestation)) {
			b.changed(c.version+", "+what, "bad_signature", c.caps, change)
		}
		tampered("tampered sessionPubkey", func(a *Attestation) { a.SessionPubKey = key(mallory).Public() })
		tampered("tampered parentMemberPubkey", func(a *Attestation) { a.ParentMemberPubKey = key(mallory).Public() })
		tampered("tampered expiresAt", func(a *Attestation) { a.ExpiresAt += hour })
		tampered("tampered R", func(a *Attestation) { a.Signature = flipBit(a.Signature, 0) })
		tampered("tampered S", func(a *Attestation) { a.Signature = flipBit(a.Signature, 32) })
		b.signed(c.version+", signed by another key", "bad_signature", mallory, c.caps, same)
		b.signed(c.version+", signed by the session itself", "bad_signature", session, c.caps, same)
	}
}

// escalations are attempts to make more of what a parent allowed.
func (b *attestationBuilder) escalations() {
	dm := []string{"dm"}
	b.changed("a cap added", "bad_signature", dm, func(a *Attestation) { a.AllowedCaps = []string{"dm", "ban"} })
	b.changed("a cap replaced", "bad_signature", dm, func(a *Attestation) { a.AllowedCaps = []string{"ban"} })
	b.changed("a cap removed", "bad_signature", []string{"dm", "ban"}, func(a *Attestation) { a.AllowedCaps = dm })
	b.changed("caps emptied", "bad_signature", dm, func(a *Attestation) { a.AllowedCaps = []string{} })
	b.changed("caps dropped", "bad_signature", dm, func(a *Attestation) { a.AllowedCaps = nil })
	b.changed("caps and version dropped", "bad_signature", dm, func(a *Attestation) { a.AllowedCaps, a.Version = nil, 0 })
	b.changed("version dropped", "", dm, func(a *Attestation) { a.Version = 0 })
	b.changed("no caps, field dropped", "", []string{}, func(a *Attestation) { a.AllowedCaps = nil })
	b.note("the trap: an absent field must not mean everything here")
	b.changed("no caps, field and version dropped", "bad_signature", []string{}, func(a *Attestation) { a.AllowedCaps, a.Version = nil, 0 })
	b.changed("no caps, called version 1", "bad_signature", []string{}, func(a *Attestation) { a.AllowedCaps, a.Version = nil, 1 })
	b.changed("version 1 given caps", "bad_signature", nil, func(a *Attestation) { a.AllowedCaps = dm })
	b.changed("version 1 given no caps", "bad_signature", nil, func(a *Attestation) { a.AllowedCaps = []string{} })
	b.changed("version 1 called 2", "bad_signature", nil, func(a *Attestation) { a.Version = 2 })
	b.changed("two caps joined into one", "malformed", []string{"ban", "dm"}, func(a *Attestation) { a.AllowedCaps = []string{"ban,dm"} })
	b.note("the same signed bytes")
}

func TestAttestationVectors(t *testing.T) {
	file := loadVectors[attestationFile](t, "attestation.json")
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			a := c.Attestation.attestation()
			wantCode(t, a.Verify(time.UnixMilli(file.Now)), c.Want)
			if c.Want == "" {
				wantCaps(t, a.Caps(), c.Allows, c.All)
			}
			if isFinite(a.ExpiresAt) {
				wantSigned(t, c.vector, c.Signer, a.Canonical(), a.ParentMemberPubKey, a.Signature)
			}
		})
	}
}

// wantCaps fails unless caps allows what is listed and nothing else, or all.
func wantCaps(t *testing.T, caps Caps, listed []string, all bool) {
	t.Helper()
	for _, capability := range slices.Concat(protocolCaps, listed, []string{"", "*", "no-such-cap"}) {
		if got, want := caps.Allows(capability), all || slices.Contains(listed, capability); got != want {
			t.Errorf("allows %q: %v, want %v", capability, got, want)
		}
	}
}

func TestCapsOfNothing(t *testing.T) {
	wantCaps(t, Caps{}, nil, false)
	wantCaps(t, AllCaps(), nil, true)
}

func TestAttestationRefusesTimesThatAreNone(t *testing.T) {
	for _, expiresAt := range []float64{nan, math.Inf(1), math.Inf(-1)} {
		a := aliceVouches(nil)
		a.ExpiresAt = expiresAt
		a.Sign(key(alice))
		wantCode(t, a.Verify(atTime()), "malformed")
	}
}

// TestCanonicalLeavesCapsAlone: building the text must not sort the caller's slice.
func TestCanonicalLeavesCapsAlone(t *testing.T) {
	a := aliceVouches([]string{"DM", "ban"})
	a.Canonical()
	a.Caps()
	if want := []string{"DM", "ban"}; !slices.Equal(a.AllowedCaps, want) {
		t.Errorf("caps are now %q, want %q", a.AllowedCaps, want)
	}
}

var anyCaps = rapid.SliceOfN(rapid.StringMatching(`[A-Za-z -]{1,12}`), 0, 6)

// TestAttestationSignedVerifies: what is signed verifies and grants exactly its list, until any one
// field changes.
func TestAttestationSignedVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parent := anyKey().Draw(t, "parent")
		now := rapid.Int64Range(0, 1<<45).Draw(t, "now")
		lifetime := rapid.Int64Range(1, 24*hour)
		a := Attestation{anyKey().Draw(t, "session").Public(), parent.Public(), float64(now + lifetime.Draw(t, "ttl")), "", 0, nil}
		if rapid.Bool().Draw(t, "v2") {
			a.Version, a.AllowedCaps = 2, anyCaps.Draw(t, "caps")
		}
		a.Sign(parent)
		wantCode(t, a.Verify(time.UnixMilli(now)), "")

		tampered := a
		switch rapid.IntRange(0, 4).Draw(t, "field") {
		case 0:
			tampered.SessionPubKey = anyKey().Draw(t, "other session").Public()
		case 1:
			tampered.ParentMemberPubKey = anyKey().Draw(t, "other parent").Public()
		case 2:
			tampered.ExpiresAt = float64(now + lifetime.Draw(t, "other ttl"))
		case 3:
			tampered.Signature = flipBit(a.Signature, rapid.IntRange(0, 63).Draw(t, "byte"))
		case 4:
			tampered.AllowedCaps = anyCaps.Draw(t, "other caps")
		}
		if tampered.Canonical() != a.Canonical() || tampered.Signature != a.Signature || tampered.ParentMemberPubKey != a.ParentMemberPubKey {
			wantCode(t, tampered.Verify(time.UnixMilli(now)), "bad_signature")
		}
	})
}

// TestNoWayToMoreCaps: of all frames that carry alice's signature of some list, none grants what is
// not on it.
func TestNoWayToMoreCaps(t *testing.T) {
	for _, caps := range [][]string{{}, {"dm"}, {"dm", "state-read"}} {
		signed := aliceVouches(caps)
		for version := -1; version <= 3; version++ {
			for _, claimed := range [][]string{nil, {}, {""}, {"dm"}, {"dm", "dm"}, {"dm,state-read"}, {"state-read", "dm"}, {"ban"}, protocolCaps} {
				a := signed
				a.Version, a.AllowedCaps = version, claimed
				if a.Verify(atTime()) != nil {
					continue
				}
				for _, capability := range protocolCaps {
					if a.Caps().Allows(capability) && !slices.Contains(caps, capability) {
						frame, _ := json.Marshal(toWireAttestation(a))
						t.Errorf("allowed %q, yet %s grants %s", caps, frame, capability)
					}
				}
			}
		}
	}
}
