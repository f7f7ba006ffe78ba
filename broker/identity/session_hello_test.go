package identity

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type sessionHelloFile struct {
	About string               `json:"about"`
	Seeds map[string]string    `json:"seeds"`
	Now   int64                `json:"now"`
	Cases []sessionHelloVector `json:"cases"`
}

type sessionHelloVector struct {
	vector
	Signer string           `json:"signer,omitempty"` // whose signature of the hello libsodium is asked for
	Hello  wireSessionHello `json:"hello"`
	Want   string           `json:"want"` // <check>:<code>, checks being binding, attestation and session; "" for accepted
}

type wireSessionHello struct {
	MeshID             string          `json:"meshId"`
	ParentMemberPubKey string          `json:"parentMemberPubkey"`
	SessionPubKey      string          `json:"sessionPubkey"`
	Timestamp          wireNumber      `json:"timestamp,omitempty"`
	Signature          string          `json:"signature"`
	Attestation        wireAttestation `json:"parentAttestation"`
}

func (w wireSessionHello) hello() SessionHello {
	return SessionHello{w.MeshID, w.ParentMemberPubKey, w.SessionPubKey, fromWire(w.Timestamp), w.Signature, w.Attestation.attestation()}
}

// sessionsHello is the hello of alice's session, with an attestation for caps.
func sessionsHello(caps []string) SessionHello {
	s := SessionHello{
		MeshID: aliceHello().MeshID, ParentMemberPubKey: key(alice).Public(), SessionPubKey: key(session).Public(),
		Timestamp: at, Attestation: aliceVouches(caps),
	}
	s.Sign(key(session))
	return s
}

// verifySession makes the checks in the broker's order and returns the first that fails, with its
// error.
func verifySession(s SessionHello, now time.Time) (check string, err error) {
	if err = s.CheckBinding(); err != nil {
		return "binding", err
	}
	if err = s.Attestation.Verify(now); err != nil {
		return "attestation", err
	}
	return "session", s.VerifySignature(now)
}

// wantSession makes the checks and wants "" or the named one to fail with the named code.
func wantSession(t tester, s SessionHello, now time.Time, want string) {
	t.Helper()
	wantedCheck, code, _ := strings.Cut(want, ":")
	check, err := verifySession(s, now)
	wantCode(t, err, code)
	if err != nil && check != wantedCheck {
		t.Errorf("refused by check %q, want %q", check, wantedCheck)
	}
}

type sessionHelloBuilder struct {
	said  answers
	cases []sessionHelloVector
}

// signed adds a hello that was changed, then signed by signer.
func (b *sessionHelloBuilder) signed(name, want, signer string, change func(*SessionHello)) {
	s := sessionsHello(nil)
	change(&s)
	s.Sign(key(signer))
	b.add(name, want, signer, s, toWire(s.Timestamp))
}

// changed adds a hello that the session signed and somebody changed afterwards.
func (b *sessionHelloBuilder) changed(name, want string, change func(*SessionHello)) {
	s := sessionsHello(nil)
	change(&s)
	b.add(name, want, "", s, toWire(s.Timestamp))
}

func (b *sessionHelloBuilder) add(name, want, signer string, s SessionHello, timestamp wireNumber) {
	b.cases = append(b.cases, sessionHelloVector{vector{Name: name, Libsodium: b.said[name]}, signer,
		wireSessionHello{s.MeshID, s.ParentMemberPubKey, s.SessionPubKey, timestamp, s.Signature, toWireAttestation(s.Attestation)}, want})
}

func (b *sessionHelloBuilder) note(text string) { b.cases[len(b.cases)-1].Note = text }

func sessionHelloVectors(said answers) any {
	b := &sessionHelloBuilder{said: said}
	b.signed("a session's hello", "", session, func(s *SessionHello) {})
	b.signed("a session's hello with capabilities", "", session, func(s *SessionHello) { s.Attestation = aliceVouches([]string{"dm"}) })
	b.bindings()
	b.attestations()
	b.timestamps()
	b.shapes()
	b.forgeries()
	return sessionHelloFile{
		About: "Session hellos at the time now (Unix ms), and the check that decides (protocol section 3).",
		Seeds: seeds(alice, bob, session, mallory),
		Now:   at,
		Cases: b.cases,
	}
}

func (b *sessionHelloBuilder) bindings() {
	for _, c := range malformedHex(key(session).Public()) {
		b.signed("sessionPubkey "+c.name, "binding:bad_session_pubkey", session, func(s *SessionHello) { s.SessionPubKey, s.Attestation.SessionPubKey = c.hex, c.hex })
	}
	for _, c := range malformedHex(key(alice).Public()) {
		b.signed("parentMemberPubkey "+c.name, "binding:bad_parent_pubkey", session, func(s *SessionHello) { s.ParentMemberPubKey, s.Attestation.ParentMemberPubKey = c.hex, c.hex })
	}
	b.signed("both keys malformed", "binding:bad_session_pubkey", session, func(s *SessionHello) { s.SessionPubKey, s.ParentMemberPubKey = "", "" })
	b.signed("attestation for another session", "binding:attestation_mismatch", session, func(s *SessionHello) {
		s.Attestation.SessionPubKey = key(mallory).Public()
		s.Attestation.Sign(key(alice))
	})
	b.signed("attestation by another parent", "binding:attestation_mismatch", session, func(s *SessionHello) {
		s.Attestation.ParentMemberPubKey = key(bob).Public()
		s.Attestation.Sign(key(bob))
	})
	b.signed("captured attestation, own session key", "binding:attestation_mismatch", mallory, func(s *SessionHello) { s.SessionPubKey = key(mallory).Public() })
	b.changed("no attestation", "binding:attestation_mismatch", func(s *SessionHello) { s.Attestation = Attestation{} })
	b.changed("tampered sessionPubkey", "binding:attestation_mismatch", func(s *SessionHello) { s.SessionPubKey = key(mallory).Public() })
	b.changed("tampered parentMemberPubkey", "binding:attestation_mismatch", func(s *SessionHello) { s.ParentMemberPubKey = key(bob).Public() })
	b.changed("mismatch and expired", "binding:attestation_mismatch", func(s *SessionHello) {
		s.Attestation.SessionPubKey, s.Attestation.ExpiresAt = key(mallory).Public(), 0
	})
}

func (b *sessionHelloBuilder) attestations() {
	for _, c := range []struct {
		name, code string
		change     func(*Attestation)
	}{
		{"attestation malformed", "malformed", func(a *Attestation) { a.Version = 7 }},
		{"attestation without expiresAt", "malformed", func(a *Attestation) { a.ExpiresAt = nan }},
		{"attestation expired", "expired", func(a *Attestation) { a.ExpiresAt = at }},
		{"attestation for 24 h", "", func(a *Attestation) { a.ExpiresAt = at + 24*hour }},
		{"attestation for more than 24 h", "ttl_too_long", func(a *Attestation) { a.ExpiresAt = at + 24*hour + 1 }},
	} {
		want := c.code
		if want != "" {
			want = "attestation:" + want
		}
		b.signed(c.name, want, session, func(s *SessionHello) {
			c.change(&s.Attestation)
			s.Attestation.Sign(key(alice))
		})
	}
	b.signed("attestation signed by the session", "attestation:bad_signature", session, func(s *SessionHello) { s.Attestation.Sign(key(session)) })
	b.signed("attestation signed by mallory", "attestation:bad_signature", session, func(s *SessionHello) { s.Attestation.Sign(key(mallory)) })
	b.signed("attestation with a cap added", "attestation:bad_signature", session, func(s *SessionHello) {
		s.Attestation = aliceVouches([]string{"dm"})
		s.Attestation.AllowedCaps = []string{"dm", "ban"}
	})
	b.signed("attestation expired and clock off", "attestation:expired", session, func(s *SessionHello) { s.Attestation.ExpiresAt, s.Timestamp = at, 0 })
	b.note("the attestation is checked before the hello")
}

func (b *sessionHelloBuilder) timestamps() {
	for _, c := range []struct {
		name, want string
		timestamp  float64
	}{
		{"clock 60 s ahead", "", at + 60000},
		{"clock 60 s behind", "", at - 60000},
		{"clock 60.001 s ahead", "session:timestamp_skew", at + 60001},
		{"clock 60.001 s behind", "session:timestamp_skew", at - 60001},
		{"timestamp with a fraction", "", at + 0.5},
		{"timestamp in seconds", "session:timestamp_skew", at / 1000},
	} {
		b.signed(c.name, c.want, session, func(s *SessionHello) { s.Timestamp = c.timestamp })
	}
	for _, c := range []struct{ name, text string }{{"a string", `"1767225600000"`}, {"null", `null`}, {"beyond float64", `1e400`}, {"missing", ``}} {
		b.add("timestamp "+c.name, "session:timestamp_skew", "", sessionsHello(nil), wireNumber(c.text))
	}
}

func (b *sessionHelloBuilder) shapes() {
	for _, c := range []struct{ name, id string }{{"empty", ""}, {"too long", strings.Repeat("x", 65)}, {"with |", "a|b"}, {"with a space", "a b"}} {
		b.signed("meshId "+c.name, "session:malformed", session, func(s *SessionHello) { s.MeshID = c.id })
	}
	for _, c := range malformedHex(sessionsHello(nil).Signature) {
		b.changed("signature "+c.name, "session:malformed", func(s *SessionHello) { s.Signature = c.hex })
	}
	b.changed("clock off and malformed", "session:timestamp_skew", func(s *SessionHello) { s.Timestamp, s.Signature = 0, "" })
	b.changed("malformed and tampered with", "session:malformed", func(s *SessionHello) { s.MeshID, s.Signature = "other", "" })
}

func (b *sessionHelloBuilder) forgeries() {
	b.signed("captured attestation, without the session key", "session:bad_signature", mallory, func(s *SessionHello) {})
	b.note("whoever saw an attestation can present it, but not sign for its session")
	b.signed("signed by the parent", "session:bad_signature", alice, func(s *SessionHello) {})
	b.changed("tampered meshId", "session:bad_signature", func(s *SessionHello) { s.MeshID = "another" })
	b.changed("tampered timestamp", "session:bad_signature", func(s *SessionHello) { s.Timestamp++ })
	b.changed("tampered R", "session:bad_signature", func(s *SessionHello) { s.Signature = flipBit(s.Signature, 0) })
	b.changed("tampered S", "session:bad_signature", func(s *SessionHello) { s.Signature = flipBit(s.Signature, 32) })
	b.changed("signed as a plain hello", "session:bad_signature", func(s *SessionHello) {
		s.Signature = key(session).Sign(strings.TrimPrefix(s.Canonical(), "claudemesh-session-hello|"))
	})
}

func TestSessionHelloVectors(t *testing.T) {
	file := loadVectors[sessionHelloFile](t, "session_hello.json")
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			s := c.Hello.hello()
			wantSession(t, s, time.UnixMilli(file.Now), c.Want)
			if isFinite(s.Timestamp) {
				wantSigned(t, c.vector, c.Signer, s.Canonical(), s.SessionPubKey, s.Signature)
			}
		})
	}
}

// TestVerifySignatureAloneChecksKeys: a caller that forgot CheckBinding is not handed ambiguous text.
func TestVerifySignatureAloneChecksKeys(t *testing.T) {
	for _, change := range []func(*SessionHello){
		func(s *SessionHello) { s.ParentMemberPubKey = "a|" + s.ParentMemberPubKey },
		func(s *SessionHello) { s.SessionPubKey = "" },
	} {
		s := sessionsHello(nil)
		change(&s)
		s.Sign(key(session))
		wantCode(t, s.VerifySignature(atTime()), "malformed")
	}
}

// TestSessionHelloSignedVerifies: what is signed verifies, until any one field changes.
func TestSessionHelloSignedVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := anyKey().Draw(t, "session")
		s := sessionsHello(nil)
		s.MeshID, s.SessionPubKey = anyID.Draw(t, "mesh"), k.Public()
		s.Attestation.SessionPubKey = k.Public()
		s.Attestation.Sign(key(alice))
		s.Sign(k)
		wantSession(t, s, atTime(), "")

		tampered, want := s, "session:bad_signature"
		switch rapid.IntRange(0, 4).Draw(t, "field") {
		case 0:
			tampered.MeshID = anyID.Draw(t, "other mesh")
		case 1:
			tampered.Timestamp += rapid.Float64Range(-59999, 59999).Draw(t, "later")
		case 2:
			tampered.Signature = flipBit(s.Signature, rapid.IntRange(0, 63).Draw(t, "byte"))
		case 3:
			tampered.SessionPubKey, want = key(mallory).Public(), "binding:attestation_mismatch"
		case 4:
			tampered.ParentMemberPubKey, want = key(bob).Public(), "binding:attestation_mismatch"
		}
		if tampered.Canonical() != s.Canonical() || tampered.Signature != s.Signature {
			wantSession(t, tampered, atTime(), want)
		}
	})
}
