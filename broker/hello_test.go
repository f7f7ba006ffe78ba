package broker

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// memberHello is a valid plain hello of id, changed and then signed.
func memberHello(id peer.Identity, at time.Time, change func(*wire.Hello)) *wire.Hello {
	h := &wire.Hello{
		MeshID: id.MeshID, MemberID: id.MemberID, Pubkey: id.Key.Public(), Timestamp: wire.At(at),
		Client: wire.Client{SessionID: store.NewID(), DisplayName: id.DisplayName},
	}
	if change != nil {
		change(h)
	}
	signed := identity.Hello{MeshID: h.MeshID, MemberID: h.MemberID, PubKey: h.Pubkey, Timestamp: h.Timestamp.Float()}
	signed.Sign(id.Key)
	h.Signature = signed.Signature
	return h
}

// sessionParts are the pieces of a session hello that tests tamper with.
type sessionParts struct {
	parent   peer.Identity
	session  identity.Key
	at       time.Time
	ttl      time.Duration
	caps     []string
	attest   func(*identity.Attestation) // before it is signed
	unsigned func(*wire.SessionHello)    // after all is signed
}

func sessionHello(p sessionParts) *wire.SessionHello {
	if p.at.IsZero() {
		p.at = time.Now()
	}
	if p.ttl == 0 {
		p.ttl = time.Hour
	}
	a := identity.Attestation{
		SessionPubKey: p.session.Public(), ParentMemberPubKey: p.parent.Key.Public(),
		ExpiresAt: float64(p.at.Add(p.ttl).UnixMilli()), AllowedCaps: p.caps,
	}
	if p.caps != nil {
		a.Version = 2
	}
	if p.attest != nil {
		p.attest(&a)
	}
	a.Sign(p.parent.Key)
	s := identity.SessionHello{
		MeshID: p.parent.MeshID, ParentMemberPubKey: p.parent.Key.Public(), SessionPubKey: p.session.Public(), Timestamp: float64(p.at.UnixMilli()),
	}
	s.Sign(p.session)
	expires := wire.Millis(a.ExpiresAt)
	h := &wire.SessionHello{
		MeshID: s.MeshID, ParentMemberID: p.parent.MemberID, ParentMemberPubkey: s.ParentMemberPubKey, SessionPubkey: s.SessionPubKey,
		Client: wire.Client{SessionID: store.NewID(), DisplayName: p.parent.DisplayName}, Timestamp: wire.At(p.at), Signature: s.Signature,
		ParentAttestation: wire.Attestation{
			SessionPubkey: a.SessionPubKey, ParentMemberPubkey: a.ParentMemberPubKey, ExpiresAt: &expires,
			Signature: a.Signature, Version: a.Version, AllowedCaps: a.AllowedCaps,
		},
	}
	if p.unsigned != nil {
		p.unsigned(h)
	}
	return h
}

// wantRejected sends a hello that must fail: error frame, close code and
// reason, and one more on the metrics.
func (h *house) wantRejected(hello wire.Message, code string, closeCode int, reason string) {
	h.t.Helper()
	h.wantRejectedFrame(string(wire.Encode(hello, "q1")), code, closeCode, reason)
}

func (h *house) wantRejectedFrame(frame, code string, closeCode int, reason string) {
	h.t.Helper()
	line := fmt.Sprintf(`broker_connections_rejected_total{reason="%s"}`, reason)
	before := h.metric(line)
	socket := h.raw()
	socket.sendText(frame)
	got := socket.wantError(code)
	if got["_reqId"] != "q1" {
		h.t.Errorf("_reqId = %v, want it echoed", got["_reqId"])
	}
	socket.wantClosed(closeCode, code)
	if after := h.metric(line); after != before+1 {
		h.t.Errorf("%s went from %v to %v", line, before, after)
	}
}

func TestMemberHelloRejections(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	eve := h.join("eve")
	h.revoke(eve)
	stranger := ann
	stranger.Key = identity.NewKey()
	text := func(hello *wire.Hello, old, new string) string {
		return strings.Replace(string(wire.Encode(hello, "q1")), old, new, 1)
	}
	now := time.Now
	smallOrder := "0100000000000000000000000000000000000000000000000000000000000000"

	tests := []struct {
		name   string
		frame  string
		code   string
		close  int
		reason string
	}{
		{"session key of 63 digits", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.SessionPubkey = ptr(strings.Repeat("a", 63)) }), "q1")), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
		{"upper-case session key", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.SessionPubkey = ptr(strings.Repeat("A", 64)) }), "q1")), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
		{"empty session key", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.SessionPubkey = ptr("") }), "q1")), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
		{"session key is a member key", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.SessionPubkey = ptr(bob.Key.Public()) }), "q1")), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
		{"clock behind", string(wire.Encode(memberHello(ann, now().Add(-identity.MaxSkew-time.Second), nil), "q1")), wire.TimestampSkew, 1008, wire.TimestampSkew},
		{"clock ahead", string(wire.Encode(memberHello(ann, now().Add(identity.MaxSkew+time.Second), nil), "q1")), wire.TimestampSkew, 1008, wire.TimestampSkew},
		{"timestamp is text", text(memberHello(ann, now(), nil), `"timestamp":`, `"timestamp":"x","t":`), wire.TimestampSkew, 1008, wire.TimestampSkew},
		{"timestamp is missing", text(memberHello(ann, now(), nil), `"timestamp":`, `"t":`), wire.TimestampSkew, 1008, wire.TimestampSkew},
		{"upper-case key", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.Pubkey = strings.ToUpper(m.Pubkey) }), "q1")), wire.Malformed, 1008, wire.Malformed},
		{"short signature", text(memberHello(ann, now(), nil), `"signature":"`, `"signature":"ab","s":"`), wire.Malformed, 1008, wire.Malformed},
		{"field of a wrong type", text(memberHello(ann, now(), nil), `"memberId":`, `"memberId":7,"m":`), wire.Malformed, 1008, wire.Malformed},
		{"signed by another key", string(wire.Encode(memberHello(stranger, now(), func(m *wire.Hello) { m.Pubkey = ann.Key.Public() }), "q1")), wire.BadSignature, 1008, wire.BadSignature},
		{"key of small order", text(memberHello(ann, now(), nil), ann.Key.Public(), smallOrder), wire.BadSignature, 1008, wire.BadSignature},
		{"unknown key", string(wire.Encode(memberHello(stranger, now(), nil), "q1")), wire.Unauthorized, 1008, wire.Unauthorized},
		{"unknown mesh", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.MeshID = "nosuchmesh" }), "q1")), wire.Unauthorized, 1008, wire.Unauthorized},
		{"another member's id", string(wire.Encode(memberHello(ann, now(), func(m *wire.Hello) { m.MemberID = bob.MemberID }), "q1")), wire.Unauthorized, 1008, wire.Unauthorized},
		{"revoked member", string(wire.Encode(memberHello(eve, now(), nil), "q1")), wire.Revoked, 4002, "banned"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.t = t
			h.wantRejectedFrame(tt.frame, tt.code, tt.close, tt.reason)
		})
	}
	h.t = t
	for _, field := range []string{"meshId", "memberId", "pubkey", "timestamp"} {
		t.Run("signed field tampered: "+field, func(t *testing.T) {
			h.t = t
			hello := memberHello(ann, now(), nil)
			switch field {
			case "meshId":
				hello.MeshID += "x"
			case "memberId":
				hello.MemberID = bob.MemberID
			case "pubkey":
				hello.Pubkey = bob.Key.Public()
			case "timestamp":
				*hello.Timestamp++
			}
			h.wantRejected(hello, wire.BadSignature, 1008, wire.BadSignature)
		})
	}
}

func TestSessionHelloRejections(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	eve := h.join("eve")
	h.revoke(eve)
	fresh := identity.NewKey
	stranger := ann
	stranger.Key = identity.NewKey()
	annKey := ann.Key.Public()
	thief := fresh()

	tests := []struct {
		name   string
		hello  *wire.SessionHello
		code   string
		close  int
		reason string
	}{
		{"session key shape", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.SessionPubkey = strings.ToUpper(m.SessionPubkey) }}), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
		{"parent key shape", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.ParentMemberPubkey = "00" }}), wire.BadParentPubkey, 1008, wire.BadParentPubkey},
		{"attestation for another session", sessionHello(sessionParts{parent: ann, session: fresh(), attest: func(a *identity.Attestation) { a.SessionPubKey = fresh().Public() }}), wire.AttestationMismatch, 1008, wire.AttestationMismatch},
		{"attestation by another parent", sessionHello(sessionParts{parent: ann, session: fresh(), attest: func(a *identity.Attestation) { a.ParentMemberPubKey = bob.Key.Public() }}), wire.AttestationMismatch, 1008, wire.AttestationMismatch},
		{"expiresAt is missing", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.ParentAttestation.ExpiresAt = nil }}), wire.Malformed, 1008, "attestation_malformed"},
		{"attestation signature shape", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.ParentAttestation.Signature = "zz" }}), wire.Malformed, 1008, "attestation_malformed"},
		{"expired", sessionHello(sessionParts{parent: ann, session: fresh(), ttl: -time.Millisecond}), wire.Expired, 1008, "attestation_expired"},
		{"over 24 h", sessionHello(sessionParts{parent: ann, session: fresh(), ttl: 24*time.Hour + time.Minute}), wire.TTLTooLong, 1008, "attestation_ttl_too_long"},
		{"attestation not by the parent", sessionHello(sessionParts{parent: stranger, session: fresh(),
			attest:   func(a *identity.Attestation) { a.ParentMemberPubKey = annKey },
			unsigned: func(m *wire.SessionHello) { m.ParentMemberPubkey = annKey }}), wire.BadSignature, 1008, "attestation_bad_signature"},
		{"attestation prolonged", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { *m.ParentAttestation.ExpiresAt++ }}), wire.BadSignature, 1008, "attestation_bad_signature"},
		{"capabilities added", sessionHello(sessionParts{parent: ann, session: fresh(), caps: []string{"dm"}, unsigned: func(m *wire.SessionHello) { m.ParentAttestation.AllowedCaps = []string{"dm", "kick"} }}), wire.BadSignature, 1008, "attestation_bad_signature"},
		{"version 2 shown as 1", sessionHello(sessionParts{parent: ann, session: fresh(), caps: []string{"dm"}, unsigned: func(m *wire.SessionHello) { m.ParentAttestation.AllowedCaps, m.ParentAttestation.Version = nil, 0 }}), wire.BadSignature, 1008, "attestation_bad_signature"},
		{"clock behind", sessionHello(sessionParts{parent: ann, session: fresh(), at: time.Now().Add(-62 * time.Second)}), wire.TimestampSkew, 1008, "session_timestamp_skew"},
		{"session signature shape", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.Signature = strings.ToUpper(m.Signature) }}), wire.Malformed, 1008, "session_malformed"},
		{"captured attestation without the session key", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) {
			forged := identity.SessionHello{MeshID: m.MeshID, ParentMemberPubKey: m.ParentMemberPubkey, SessionPubKey: m.SessionPubkey, Timestamp: m.Timestamp.Float()}
			forged.Sign(thief)
			m.Signature = forged.Signature
		}}), wire.BadSignature, 1008, "session_bad_signature"},
		{"mesh tampered", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.MeshID += "x" }}), wire.BadSignature, 1008, "session_bad_signature"},
		{"timestamp tampered", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { *m.Timestamp++ }}), wire.BadSignature, 1008, "session_bad_signature"},
		{"parent is no member", sessionHello(sessionParts{parent: stranger, session: fresh()}), wire.Unauthorized, 1008, wire.Unauthorized},
		{"parent is revoked", sessionHello(sessionParts{parent: eve, session: fresh()}), wire.Revoked, 4002, "banned"},
		{"another parent's id", sessionHello(sessionParts{parent: ann, session: fresh(), unsigned: func(m *wire.SessionHello) { m.ParentMemberID = bob.MemberID }}), wire.ParentMemberIDMismatch, 1008, wire.ParentMemberIDMismatch},
		{"session key is a member key", sessionHello(sessionParts{parent: ann, session: bob.Key}), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.t = t
			h.wantRejected(tt.hello, tt.code, tt.close, tt.reason)
		})
	}
}

func TestReplayedHelloIsRejected(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	plain := memberHello(ann, time.Now(), nil)
	session := sessionHello(sessionParts{parent: ann, session: identity.NewKey()})
	for _, hello := range []wire.Message{plain, session} {
		first := h.raw()
		first.send(hello)
		if got := first.frame(); got["type"] != "hello_ack" {
			t.Fatalf("got %v, want hello_ack", got)
		}
		h.wantRejected(hello, wire.Replayed, 1008, wire.Replayed)
		first.CloseNow()
		h.wantRejected(hello, wire.Replayed, 1008, wire.Replayed)
	}
}

func TestSilentConnectionIsClosed(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.HelloTimeout = 50 * time.Millisecond })
	socket := h.raw()
	socket.wantError(wire.HelloTimeout)
	socket.wantClosed(1008, wire.HelloTimeout)
	if n := h.metric(`broker_connections_rejected_total{reason="hello_timeout"}`); n != 1 {
		t.Errorf("rejected %v times, want 1", n)
	}
}

func TestHelloComesFirst(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	socket := h.raw()
	socket.sendText(`{"type":"list_peers","_reqId":"r1"}`)
	if got := socket.wantError(wire.NoHello); got["_reqId"] != "r1" {
		t.Errorf("_reqId = %v, want r1", got["_reqId"])
	}
	socket.sendText(`{"type":"no_such_thing"}`)
	socket.wantError(wire.NoHello)
	socket.sendText(`{]`)
	socket.wantError(wire.Malformed)
	socket.send(memberHello(ann, time.Now(), nil)) // the connection stayed open
	if got := socket.frame(); got["type"] != "hello_ack" {
		t.Errorf("got %v, want hello_ack", got)
	}
}

func TestMalformedFramesEndAConnectionAfterFive(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	socket := h.raw()
	socket.send(memberHello(ann, time.Now(), nil))
	socket.frame()
	for range 4 {
		socket.sendText(`{"type":`)
		socket.wantError(wire.Malformed)
	}
	socket.sendText(`{"type":"list_peers"}`) // a good one starts the count again
	socket.frame()
	for i, frame := range []string{`[]`, `{}`, `{"type":7}`, `{"type":"nosuch"}`, `{"type":"send","nonce":1}`} {
		socket.sendText(frame)
		code := wire.Malformed
		if i == 3 {
			code = wire.UnknownMessageType
		}
		socket.wantError(code)
	}
	socket.wantClosed(1008, wire.Malformed)
}

func TestFrameAboveTheLimitIsTooBig(t *testing.T) {
	h := newHouse(t)
	socket := h.raw()
	socket.sendText(`{"type":"` + strings.Repeat("x", wire.DefaultMaxMessage+wire.FrameOverhead) + `"}`)
	socket.wantClosedCode(1009)
}

func TestSessionKeyTakesOverSilently(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.arrive("bob")
	key := identity.NewKey()
	first := h.dial(ann, peer.Options{Session: key})
	bob.wantEvent(wire.EventPeerJoined, "ann")
	second := h.dial(ann, peer.Options{Session: key})
	first.wantClosed(1000, wire.SessionReplaced)
	bob.wantNoEvents()
	bob.say(key.Public(), "psst")
	second.wantPush("psst")
	if n := h.countPresences(); n != 2 {
		t.Errorf("%v presences, want 2", n)
	}
}

func TestSameSessionIDReplacesOnlyOnesOwn(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	client := wire.Client{SessionID: "daemon-1"}
	first := h.dial(ann, peer.Options{Client: client})
	other := h.dial(bob, peer.Options{Client: client})
	second := h.dial(ann, peer.Options{Client: client})
	first.wantClosed(1000, wire.SessionReplaced)
	ask[*wire.PeersList](other, &wire.ListPeers{}) // another member's is never touched
	ask[*wire.PeersList](second, &wire.ListPeers{})
}

func TestPlainHelloNeverTakesOverAProvenSession(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	key := identity.NewKey()
	session := h.dial(ann, peer.Options{Session: key, Client: wire.Client{SessionID: "s1"}})
	label := key.Public()
	// The same member may name it, even with its session id, but takes nothing.
	own := h.raw()
	own.send(memberHello(ann, time.Now(), func(m *wire.Hello) { m.SessionPubkey, m.SessionID = &label, "s1" }))
	if got := own.frame(); got["type"] != "hello_ack" {
		t.Fatalf("got %v, want hello_ack", got)
	}
	// Another member is refused.
	h.wantRejected(memberHello(bob, time.Now(), func(m *wire.Hello) { m.SessionPubkey = &label }), wire.BadSessionPubkey, 1008, wire.BadSessionPubkey)
	ben := h.dial(bob, peer.Options{})
	ben.say(label, "for the session")
	session.wantPush("for the session")
}

func TestProofOutranksALabel(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.join("bob")
	key := identity.NewKey()
	label := key.Public()
	squatter := h.raw()
	squatter.send(memberHello(bob, time.Now(), func(m *wire.Hello) { m.SessionPubkey = &label }))
	squatter.frame()
	session := h.dial(ann, peer.Options{Session: key})
	squatter.wantClosed(1008, wire.BadSessionPubkey)
	cat := h.arrive("cat")
	cat.say(label, "hello ann")
	session.wantPush("hello ann")
}

func TestCapacityCountsLiveSocketsAndDoesNotDrift(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.MaxConnections = 2 })
	ann, bob := h.join("ann"), h.join("bob")
	key := identity.NewKey()
	first := h.dial(ann, peer.Options{Session: key})
	second := h.dial(bob, peer.Options{})
	h.wantRejected(memberHello(bob, time.Now(), nil), wire.Capacity, 1008, wire.Capacity)
	h.wantRejected(sessionHello(sessionParts{parent: bob, session: identity.NewKey()}), wire.Capacity, 1008, wire.Capacity)
	for range 20 { // every way to leave gives the place back
		second.Close()
		eventually(t, "the place is free", func() bool { return h.countPresences() == 1 })
		second = h.dial(bob, peer.Options{})
	}
	again := h.dial(ann, peer.Options{Session: key}) // taking over needs no place
	first.wantClosed(1000, wire.SessionReplaced)
	ask[*wire.PeersList](again, &wire.ListPeers{})
	if n := h.metric("broker_connections_active"); n != 2 {
		t.Errorf("broker_connections_active = %v, want 2", n)
	}
}

func TestHelloRestoresWhatWasLeft(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.join("ann"), h.arrive("bob")
	first := h.dial(ann, peer.Options{})
	bob.wantEvent(wire.EventPeerJoined, "ann")
	if first.Hello.Restored || first.Hello.MemberProfile.MessageMode != "push" {
		t.Errorf("first hello_ack = %+v", first.Hello)
	}
	ask[*wire.Ack](first, &wire.SetSummary{Summary: "mending the roof"})
	ask[*wire.Ack](first, &wire.JoinGroup{Name: "@core/backend", Role: "lead"})
	first.Close()
	bob.wantEvent(wire.EventPeerLeft, "ann")
	second := h.dial(ann, peer.Options{})
	got := second.Hello
	if !got.Restored || got.LastSummary != "mending the roof" || got.LastSeenAt == "" || len(got.RestoredGroups) != 1 || got.RestoredGroups[0] != (wire.Group{Name: "core/backend", Role: "lead"}) {
		t.Errorf("second hello_ack = %+v", got)
	}
	if event := bob.wantEvent(wire.EventPeerReturned, "ann"); event.LastSeenAt == "" || event.Summary != "mending the roof" {
		t.Errorf("event = %+v", event)
	}
	second.Close()
	bob.wantEvent(wire.EventPeerLeft, "ann")
	third := h.dial(ann, peer.Options{Client: wire.Client{Groups: []wire.Group{{Name: "ops"}}}})
	if listed := peerOf(t, third, third.Key()); len(listed.Groups) != 1 || listed.Groups[0].Name != "ops" {
		t.Errorf("groups of the hello must win: %+v", listed.Groups)
	}
}

func TestSessionsShowNothingOfTheirSiblings(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	k1, k2 := identity.NewKey(), identity.NewKey()
	one := h.dial(ann, peer.Options{Session: k1, Client: wire.Client{CWD: "/one"}})
	two := h.dial(ann, peer.Options{Session: k2, Client: wire.Client{CWD: "/two"}})
	ask[*wire.Ack](one, &wire.SetSummary{Summary: "secret of one"})
	ask[*wire.Ack](one, &wire.SetStatus{Status: wire.StatusWorking})
	listed := peerOf(t, two, k2.Public())
	if listed.Summary != nil || listed.Status != wire.StatusIdle || listed.CWD != "/two" || listed.PeerRole != wire.RoleSession {
		t.Errorf("two is listed as %+v", listed)
	}
	if mine := peerOf(t, two, k1.Public()); mine.Summary == nil || *mine.Summary != "secret of one" || mine.Status != wire.StatusWorking {
		t.Errorf("one is listed as %+v", mine)
	}
}

func TestSessionCapabilities(t *testing.T) {
	h := newHouse(t)
	bob := h.arrive("bob")
	open := func(caps []string) *guest {
		return h.dial(h.join("ann"), peer.Options{Session: identity.NewKey(), AllowedCaps: caps})
	}
	none := open([]string{})
	wantMissing := func(g *guest, target, capability string) {
		t.Helper()
		_, err := g.SendText(t.Context(), target, "x")
		if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.Forbidden || refused.Message != `missing session capability "`+capability+`"` || refused.ID == "" {
			t.Errorf("→ %s: %v, want the missing capability %s", target, err, capability)
		}
	}
	wantMissing(none, "#general", "broadcast")
	wantMissing(none, bob.Key(), "dm")
	none.wantRefused(&wire.SetSummary{Summary: "x"}, wire.Forbidden)
	ask[*wire.TopicHistoryResponse](none, &wire.TopicHistory{Topic: "general"})
	some := open([]string{"dm", "PROFILE-WRITE"})
	wantMissing(some, "*", "broadcast")
	some.say(bob.Key(), "x")
	ask[*wire.Ack](some, &wire.SetSummary{Summary: "x"})
	all := open(nil)
	all.say("#general", "x")
}

func TestAThousandHandshakesInParallel(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.HelloTimeout = time.Minute }) // the race detector makes clients slow, too
	const n = 1000
	members := make([]peer.Identity, 20)
	for i := range members {
		members[i] = h.join(fmt.Sprint("m", i))
	}
	took := make([]time.Duration, n)
	base := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { // none parses what it is pushed: the broker is under test
			socket := h.raw()
			began := time.Now()
			if i%2 == 0 {
				socket.send(sessionHello(sessionParts{parent: members[i%20], session: identity.NewKey()}))
			} else { // two of one member in one millisecond would be a replay
				socket.send(memberHello(members[i%20], base.Add(time.Duration(i)*time.Millisecond), nil))
			}
			if got := socket.frame(); got["type"] != "hello_ack" {
				t.Errorf("connection %d: %v", i, got)
			}
			took[i] = time.Since(began)
		})
	}
	wg.Wait()
	if got := h.countPresences(); got != n {
		t.Errorf("%v presences, want %d", got, n)
	}
	t.Logf("slowest hello: %v", slices.Max(took))
	last := h.dial(members[0], peer.Options{})
	if list := ask[*wire.PeersList](last, &wire.ListPeers{}); len(list.Peers) != n+1 {
		t.Errorf("%d peers listed, want %d", len(list.Peers), n+1)
	}
}

func TestUpgradeFromAnotherOriginIsRefused(t *testing.T) {
	h := newHouse(t)
	request, _ := http.NewRequest("GET", h.url+"/ws", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "https://evil.example",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", response.StatusCode)
	}
}

// peerOf returns how g sees the peer that lists under key.
func peerOf(t testing.TB, g *guest, key string) wire.Peer {
	t.Helper()
	for _, p := range ask[*wire.PeersList](g, &wire.ListPeers{}).Peers {
		if p.Pubkey == key {
			return p
		}
	}
	t.Fatalf("%s does not see %s", g.id.DisplayName, key)
	return wire.Peer{}
}

func ptr[T any](v T) *T { return &v }
