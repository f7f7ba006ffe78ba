package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// sealed is a file with a private, encrypted topic of ann's, and bob in it, who has
// no key yet.
type sealed struct {
	*DB
	t        *testing.T
	meshID   string
	topic    Topic
	ann, bob Member
}

func newSealed(t *testing.T) *sealed {
	t.Helper()
	db, meshID := newDB(t)
	f := &sealed{DB: db, t: t, meshID: meshID, ann: addMember(t, db, meshID, "ann"), bob: addMember(t, db, meshID, "bob")}
	var created bool
	var err error
	f.topic, created, err = db.CreateEncryptedTopic(Topic{ID: NewID(), MeshID: meshID, Name: "plans", Visibility: "private", CreatedAt: time.Now(), SealerKey: strings.Repeat("a", 64)},
		f.ann.ID, Seal{EncryptedKey: "ann's", Nonce: "n", At: time.Now(), Proven: true})
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	f.invite(f.bob)
	return f
}

func (f *sealed) invite(m Member) {
	f.t.Helper()
	if _, err := f.InviteToTopic(f.meshID, f.ann.ID, "plans", m.ID, "member", time.Now()); err != nil {
		f.t.Fatal(err)
	}
}

// seal has by make a copy for to.
func (f *sealed) seal(by, to Member, text string) (bool, error) {
	_, _, fresh, err := f.SealTopic(Sealing{MeshID: f.meshID, By: by.ID, TopicRef: "plans", Seal: Seal{EncryptedKey: text, Nonce: "n", At: time.Now(), Proven: true}}, to.ID)
	return fresh, err
}

func (f *sealed) wantKey(m Member, text string, want error) {
	f.t.Helper()
	_, s, err := f.TopicKey(f.t.Context(), f.meshID, m.ID, "plans")
	if !errors.Is(err, want) || s.EncryptedKey != text {
		f.t.Errorf("%s has %q, %v; want %q, %v", m.DisplayName, s.EncryptedKey, err, text, want)
	}
}

func (f *sealed) wantPending(names ...string) {
	f.t.Helper()
	_, pending, err := f.PendingSeals(f.t.Context(), f.meshID, f.ann.ID, f.topic.ID, 50)
	var got []string
	for _, m := range pending {
		got = append(got, m.DisplayName)
		if m.PubKey != keyOf(m.DisplayName) {
			f.t.Errorf("key of %s is %s", m.DisplayName, m.PubKey)
		}
	}
	if err != nil || strings.Join(got, " ") != strings.Join(names, " ") {
		f.t.Errorf("pending are %v, %v; want %v", got, err, names)
	}
}

func TestAKeyIsSealedByWhoHasItForWhoIsThere(t *testing.T) {
	f := newSealed(t)
	eve := addMember(t, f.DB, f.meshID, "eve")
	f.wantKey(f.ann, "ann's", nil)
	f.wantKey(f.bob, "", ErrNotSealed)
	f.wantKey(eve, "", ErrNotFound)
	f.wantPending("bob")
	for _, c := range []struct {
		by, to Member
		want   error
	}{{f.bob, f.bob, ErrNotSealed}, {f.bob, f.ann, ErrNotSealed}, {eve, f.bob, ErrNotFound}, {f.ann, eve, ErrNoMember}, {f.ann, Member{ID: "nobody"}, ErrNoMember}} {
		if _, err := f.seal(c.by, c.to, "x"); !errors.Is(err, c.want) {
			t.Errorf("%s for %s: %v, want %v", c.by.DisplayName, c.to.DisplayName, err, c.want)
		}
	}
	if fresh, err := f.seal(f.ann, f.bob, "bob's"); err != nil || !fresh {
		t.Errorf("sealed: fresh %v, %v", fresh, err)
	}
	f.wantKey(f.bob, "bob's", nil)
	f.wantPending()
}

func TestACopyThatCountsStays(t *testing.T) {
	f := newSealed(t)
	if _, err := f.seal(f.ann, f.bob, "first"); err != nil {
		t.Fatal(err)
	}
	cat := addMember(t, f.DB, f.meshID, "cat")
	f.invite(cat)
	if _, err := f.seal(f.bob, cat, "cat's"); err != nil {
		t.Fatal(err)
	}
	if fresh, err := f.seal(cat, f.bob, "second"); err != nil || fresh {
		t.Errorf("a second one: fresh %v, %v", fresh, err)
	}
	f.wantKey(f.bob, "first", nil)
	if fresh, err := f.seal(f.bob, f.bob, "own"); err != nil || !fresh {
		t.Errorf("one's own: fresh %v, %v", fresh, err)
	}
	f.wantKey(f.bob, "own", nil)
}

// A copy that names a sealer nobody knows is kept for clients that do not mind, until one
// comes that counts.
func TestACopyOfAnUnknownSealerDoesNotCount(t *testing.T) {
	f := newSealed(t)
	unproven := func(by, to Member, text string) bool {
		t.Helper()
		_, _, fresh, err := f.SealTopic(Sealing{MeshID: f.meshID, By: by.ID, TopicRef: "plans", Seal: Seal{EncryptedKey: text, Nonce: "n", At: time.Now()}}, to.ID)
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	if !unproven(f.ann, f.bob, "first") || unproven(f.ann, f.bob, "again") {
		t.Error("the first one is kept, and no other like it")
	}
	f.wantKey(f.bob, "first", nil)
	f.wantPending("bob")
	if fresh, err := f.seal(f.ann, f.bob, "proven"); err != nil || !fresh {
		t.Errorf("one that counts: fresh %v, %v", fresh, err)
	}
	f.wantPending()
	if unproven(f.ann, f.bob, "worse") {
		t.Error("one that counts was replaced")
	}
	f.wantKey(f.bob, "proven", nil)
	if !unproven(f.bob, f.bob, "own") {
		t.Error("one's own was not replaced")
	}
	f.wantPending("bob")
}

// Whose sealer is gone is sealed for again, unless it made a copy itself.
func TestTheSealerGoes(t *testing.T) {
	f := newSealed(t)
	cat, dan := addMember(t, f.DB, f.meshID, "cat"), addMember(t, f.DB, f.meshID, "dan")
	f.invite(cat)
	f.invite(dan)
	for _, c := range []struct{ by, to Member }{{f.ann, f.bob}, {f.bob, cat}, {f.bob, dan}, {dan, dan}} {
		if _, err := f.seal(c.by, c.to, c.by.DisplayName+"'s"); err != nil {
			t.Fatal(err)
		}
	}
	f.wantPending()
	if _, err := f.RevokeMember(Moderation{MeshID: f.meshID, MemberID: f.bob.ID, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	f.wantKey(f.bob, "", ErrNotSealed) // who was revoked is handed nothing
	f.wantKey(cat, "bob's", nil)       // it is still there, for clients that do not mind
	f.wantPending("cat")
	if _, err := f.seal(f.bob, cat, "x"); !errors.Is(err, ErrMemberRevoked) {
		t.Errorf("who was revoked seals: %v", err)
	}
	if _, err := f.seal(f.ann, f.bob, "x"); !errors.Is(err, ErrNoMember) {
		t.Errorf("for who was revoked: %v", err)
	}
	if fresh, err := f.seal(f.ann, cat, "ann's"); err != nil || !fresh {
		t.Errorf("again: fresh %v, %v", fresh, err)
	}
	f.wantKey(cat, "ann's", nil)
	f.wantPending()
	if _, err := f.RestoreMember(Moderation{MeshID: f.meshID, MemberID: f.bob.ID, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	f.wantKey(f.bob, "ann's", nil)
}

func TestWhoLeavesLeavesTheKeyToTheOthers(t *testing.T) {
	f := newSealed(t)
	if _, err := f.LeaveTopic(f.meshID, f.ann.ID, "plans"); err != nil {
		t.Fatal(err)
	}
	f.wantKey(f.ann, "", ErrNotFound)
	var kept int
	if err := f.row(t.Context(), &kept, `SELECT count(*) FROM topic_seal`); err != nil || kept != 1 {
		t.Errorf("%d copies are left, %v: without the last one the topic is lost", kept, err)
	}
	f = newSealed(t)
	if _, err := f.seal(f.ann, f.bob, "bob's"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.LeaveTopic(f.meshID, f.bob.ID, "plans"); err != nil {
		t.Fatal(err)
	}
	f.invite(f.bob)
	f.wantKey(f.bob, "", ErrNotSealed)
	f.wantPending("bob")
}

func TestATopicIsClaimedOnce(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	topic, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "ops", Visibility: "public", CreatedAt: time.Now()}, ann.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.JoinTopic(meshID, bob.ID, "ops", "member", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.TopicKey(t.Context(), meshID, ann.ID, "ops"); !errors.Is(err, ErrUnencrypted) {
		t.Errorf("the key of an open topic: %v", err)
	}
	if _, _, err := db.PendingSeals(t.Context(), meshID, ann.ID, "ops", 50); !errors.Is(err, ErrUnencrypted) {
		t.Errorf("what is pending in an open topic: %v", err)
	}
	claim := func(by Member, ref string) (Topic, error) {
		return db.ClaimTopic(Sealing{MeshID: meshID, By: by.ID, TopicRef: ref, Seal: Seal{EncryptedKey: "own", Nonce: "n", At: time.Now(), Proven: true}}, strings.Repeat("b", 64))
	}
	for _, c := range []struct {
		by   Member
		ref  string
		want error
	}{{bob, "ops", ErrForbidden}, {ann, "general", ErrForbidden}, {ann, "nowhere", ErrNotFound}} {
		if _, err := claim(c.by, c.ref); !errors.Is(err, c.want) {
			t.Errorf("%s claims %s: %v, want %v", c.by.DisplayName, c.ref, err, c.want)
		}
	}
	if _, _, err := post(db, topicPost(bob, "ops", "aGk=")); err != nil {
		t.Errorf("before: %v", err)
	}
	if claimed, err := claim(ann, "ops"); err != nil || claimed.SealerKey != strings.Repeat("b", 64) || claimed.ID != topic.ID {
		t.Errorf("claimed %+v, %v", claimed, err)
	}
	if again, err := claim(ann, "ops"); !errors.Is(err, ErrEncrypted) || again.SealerKey != strings.Repeat("b", 64) {
		t.Errorf("again %+v, %v", again, err)
	}
	if _, _, err := post(db, topicPost(bob, "ops", "aGk=")); !errors.Is(err, ErrPlaintext) {
		t.Errorf("readable, afterwards: %v", err)
	}
	encrypted := topicPost(bob, "ops", "aGk=")
	encrypted.BodyVersion = EncryptedBody
	if _, _, err := post(db, encrypted); err != nil {
		t.Errorf("encrypted, afterwards: %v", err)
	}
	views, err := db.Topics(t.Context(), meshID, bob.ID)
	if err != nil || views[0].Encrypted() || !views[1].Encrypted() {
		t.Errorf("views %+v, %v", views, err)
	}
	entries, _, err := db.AuditEntries(t.Context(), meshID, AuditQuery{Event: EventTopicEncrypted, Limit: 10})
	if err != nil || len(entries) != 1 || entries[0].Actor != keyOf("ann") || strings.Contains(entries[0].Payload, "own") {
		t.Errorf("audit %+v, %v", entries, err)
	}
}
