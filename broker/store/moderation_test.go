package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// events are those of a mesh's chain from the one after the first skip, as
// "event actor".
func events(t *testing.T, db *DB, meshID string, skip int) (all []string) {
	t.Helper()
	for _, e := range chain(t, db, meshID)[skip:] {
		all = append(all, e.Event+" "+e.Actor)
	}
	return all
}

func by(actor, on Member) Moderation {
	return Moderation{MeshID: on.MeshID, MemberID: on.ID, By: actor.ID, At: time.Now()}
}

func operator(on Member) Moderation { return by(Member{}, on) }

// makeAdmin gives a member the role, which joining by an admin's invite does.
func makeAdmin(t *testing.T, db *DB, m Member) {
	t.Helper()
	if err := db.Update(func(tx *Tx) error { return tx.exec(`UPDATE member SET role = 'admin' WHERE id = ?`, m.ID) }); err != nil {
		t.Fatal(err)
	}
}

func mustChange(t *testing.T, want bool) func(bool, error) {
	return func(changed bool, err error) {
		t.Helper()
		if err != nil || changed != want {
			t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
	}
}

func TestWhoMayRevokeWhomIsDecidedWithTheChange(t *testing.T) {
	db, meshID := newDB(t)
	joined, err := db.Join(Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: "first", PubKey: keyOf("olga"), DisplayName: "olga"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	owner, ann, eve, bob := joined.Member, addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "eve"), addMember(t, db, meshID, "bob")
	makeAdmin(t, db, ann)
	makeAdmin(t, db, eve)
	before := len(chain(t, db, meshID))
	for name, tt := range map[string]struct {
		m    Moderation
		want error
	}{
		"a member":               {by(bob, eve), ErrForbidden},
		"an admin the owner":     {by(ann, owner), ErrOwner},
		"an admin herself":       {by(ann, ann), ErrSelf},
		"the owner herself":      {by(owner, owner), ErrSelf},
		"somebody who is no one": {by(Member{ID: "nobody"}, bob), ErrForbidden},
	} {
		if _, err := db.RevokeMember(tt.m); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err := db.RecordKick(tt.m, []string{"x"}); !errors.Is(err, tt.want) {
			t.Errorf("%s kicks: %v, want %v", name, err, tt.want)
		}
	}
	if after := len(chain(t, db, meshID)); after != before {
		t.Errorf("%d entries for what was refused", after-before)
	}
	mustChange(t, true)(db.RevokeMember(by(ann, eve)))
	if _, err := db.RevokeMember(by(eve, bob)); !errors.Is(err, ErrForbidden) {
		t.Errorf("a revoked admin: %v", err)
	}
	if _, err := db.RestoreMember(by(eve, eve)); !errors.Is(err, ErrForbidden) {
		t.Errorf("a revoked admin restores herself: %v", err)
	}
	mustChange(t, false)(db.RevokeMember(by(ann, eve)))
	mustChange(t, true)(db.RestoreMember(by(owner, eve)))
	mustChange(t, false)(db.RestoreMember(by(owner, eve)))
	mustChange(t, true)(db.RevokeMember(operator(owner))) // the operator may do all
	want := []string{EventMemberRevoked + " " + ann.PubKey, EventMemberRestored + " " + owner.PubKey, EventMemberRevoked + " " + ActorOperator}
	if got := events(t, db, meshID, before); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// The writer remembers senders and audiences; a ban in this process, and one in
// another, must reach that memory.
func TestRevokedMemberIsNoSenderAndInNoAudience(t *testing.T) {
	db, meshID := newDB(t)
	beside := mustOpen(t, db.Path(), Options{})
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	write := func(from Member, clientID string) (Posted, error) {
		_, posted, err := post(db, Post{TopicRef: "general", Message: Message{
			MeshID: meshID, SenderMemberID: from.ID, SenderPubKey: from.PubKey, SenderName: from.DisplayName, TargetSpec: "#general",
			BodyVersion: 1, ClientMessageID: clientID, CreatedAt: time.Now(),
		}})
		return posted, err
	}
	for _, by := range []*DB{db, beside} {
		id := NewID()
		if posted, err := write(bob, id); err != nil || !slices.Contains(posted.Audience, bob.ID) {
			t.Fatalf("%+v, %v", posted, err)
		}
		mustChange(t, true)(by.RevokeMember(operator(bob)))
		if _, err := write(bob, ""); !errors.Is(err, ErrMemberRevoked) {
			t.Errorf("a revoked sender: %v", err)
		}
		if posted, err := write(bob, id); err != nil || !posted.Duplicate {
			t.Errorf("what was stored before is denied: %+v, %v", posted, err)
		}
		if posted, err := write(ann, ""); err != nil || slices.Contains(posted.Audience, bob.ID) {
			t.Errorf("a revoked reader: %+v, %v", posted, err)
		}
		mustChange(t, true)(by.RestoreMember(operator(bob)))
		if _, err := write(bob, ""); err != nil {
			t.Errorf("a restored sender: %v", err)
		}
		if posted, err := write(ann, ""); err != nil || !slices.Contains(posted.Audience, bob.ID) {
			t.Errorf("a restored reader: %+v, %v", posted, err)
		}
	}
}

func TestRestoredMemberIsInGeneral(t *testing.T) {
	db, meshID := newDB(t)
	bob := addMember(t, db, meshID, "bob")
	general, _, err := db.Topic(t.Context(), meshID, bob.ID, "general")
	if err != nil {
		t.Fatal(err)
	}
	mustChange(t, true)(db.RevokeMember(operator(bob)))
	tamper(t, db, `DELETE FROM topic_member WHERE member_id = ?`, bob.ID)
	mustChange(t, true)(db.RestoreMember(operator(bob)))
	members, err := db.TopicMembers(t.Context(), general.ID)
	if err != nil || len(members) != 1 || members[0].MemberID != bob.ID {
		t.Errorf("in #general: %+v, %v", members, err)
	}
}

func TestMembersAreFoundByNameAndKey(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "Änn"), addMember(t, db, meshID, "bob")
	twin := Member{ID: NewID(), MeshID: meshID, PubKey: "feedbeef" + strings.Repeat("0", 56), DisplayName: "BOB", Role: RoleMember, JoinedAt: time.Now()}
	place := Member{ID: NewID(), MeshID: meshID, DisplayName: "bob", Role: RoleMember, JoinedAt: time.Now(), ClaimUntil: time.Now().Add(time.Hour)}
	err := db.Update(func(tx *Tx) error {
		return errors.Join(tx.insertMember(twin, "", false), tx.insertMember(place, "", false))
	})
	if err != nil {
		t.Fatal(err)
	}
	session := "cafe0123" + strings.Repeat("1", 56)
	if err := db.KeepEarned(Lease{MeshID: meshID, MemberID: ann.ID, SessionKey: session, Proven: true}, State{}, false, time.Now()); err != nil {
		t.Fatal(err)
	}
	mustChange(t, true)(db.RevokeMember(operator(bob)))
	for target, want := range map[string][]Member{
		"äNN": {ann}, ann.PubKey: {ann}, ann.ID: {ann}, session: {ann}, "CAFE0123": {ann}, "cafe012": nil,
		"bob": {bob, twin}, "feedbeef": {twin}, bob.PubKey: {bob}, "": nil, "%": nil, "________": nil, "nobody": nil,
	} {
		found, err := db.FindMembers(t.Context(), meshID, target)
		same := slices.EqualFunc(found, want, func(x, y Member) bool { return x.ID == y.ID })
		if err != nil || !same {
			t.Errorf("%q: %d found, %v; want %d", target, len(found), err, len(want))
		}
		switch _, err := OnlyMember(target, found); {
		case len(want) == 1 && err != nil, len(want) == 0 && !errors.Is(err, ErrNotFound):
			t.Errorf("%q: %v", target, err)
		case len(want) > 1 && (!errors.As(err, new(*AmbiguousError)) || !strings.Contains(err.Error(), bob.PubKey) || !strings.Contains(err.Error(), twin.PubKey)):
			t.Errorf("%q: %v", target, err)
		}
	}
	if found, _ := db.FindMembers(t.Context(), "another", "bob"); len(found) != 0 {
		t.Errorf("found in another mesh: %v", found)
	}
}

func TestFindingRevokedMembersUsesTheIndex(t *testing.T) {
	db, _ := newDB(t)
	var plan string
	var id, parent, unused int
	if err := db.read.QueryRow(`EXPLAIN QUERY PLAN `+revokedMembers).Scan(&id, &parent, &unused, &plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "member_revoked") {
		t.Errorf("plan %q", plan)
	}
}

// The story of a mesh, as its chain tells it.
func TestChangesAreInTheAuditChain(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	started := events(t, db, meshID, 0)
	want := []string{
		"mesh_created operator", "invite_created operator",
		"invite_created operator", "member_joined " + ann.PubKey, "invite_created operator", "member_joined " + bob.PubKey,
	}
	if !slices.Equal(started, want) {
		t.Errorf("it begins with %q, want %q", started, want)
	}
	topic, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "ops", Visibility: "public", CreatedAt: time.Now()}, ann.ID)
	now := time.Now()
	lease := Lease{ID: NewID(), MeshID: meshID, MemberID: bob.ID, Name: "bob-1", Client: "{}", Status: "idle", ConnectedAt: now}
	for range 2 { // what changes nothing is no event
		err = errors.Join(err,
			failed(db.JoinTopic(meshID, bob.ID, "ops", "member", now)), failed(db.LeaveTopic(meshID, ann.ID, topic.ID)),
			db.KeepEarned(lease, State{}, true, time.Now()), db.KeepEarned(lease, State{}, true, time.Now()))
	}
	err = errors.Join(err, failed(db.JoinTopic(meshID, ann.ID, "ops", "member", now)), failed(db.LeaveTopic(meshID, bob.ID, "ops")))
	err = errors.Join(err, db.Update(func(tx *Tx) error {
		return tx.exec(`UPDATE topic_member SET role = 'lead' WHERE topic_id = ? AND member_id = ?`, topic.ID, ann.ID)
	}))
	for range 2 {
		err = errors.Join(err, failed(db.InviteToTopic(meshID, ann.ID, "ops", bob.PubKey, "member", now)), db.DropLease(lease.ID))
	}
	err = errors.Join(err, db.KeepEarned(lease, State{}, true, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	mustChange(t, true)(db.RevokeMember(operator(bob)))
	want = []string{
		"topic_created " + ann.PubKey, "topic_joined " + bob.PubKey, "topic_left " + ann.PubKey, "peer_joined " + bob.PubKey,
		"topic_joined " + ann.PubKey, "topic_left " + bob.PubKey, "topic_invited " + ann.PubKey, "peer_left server",
		"peer_joined " + bob.PubKey, "member_revoked operator", "peer_left server",
	}
	if got := events(t, db, meshID, len(started)); !slices.Equal(got, want) {
		t.Errorf("it goes on with %q, want %q", got, want)
	}
	if verdict := mustVerify(t, db, meshID); !verdict.Valid() {
		t.Errorf("verdict %+v", verdict)
	}
	for _, e := range chain(t, db, meshID) {
		if !strings.HasPrefix(e.Payload, "{") || strings.Contains(e.Payload, `"first"`) {
			t.Errorf("%s has the payload %s", e.Event, e.Payload)
		}
	}
}

// A place claimed by short code is no member before it has its key.
func TestClaimedPlaceJoinsTheChainWithItsKey(t *testing.T) {
	db, meshID := newDB(t)
	now := time.Now()
	joined, err := db.Join(Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: "first", DisplayName: "olga"}, now)
	if err != nil {
		t.Fatal(err)
	}
	before := len(chain(t, db, meshID))
	if got := fmt.Sprint(events(t, db, meshID, 0)); strings.Contains(got, EventMemberJoined) {
		t.Errorf("before its key: %s", got)
	}
	if err := db.BindClaim(meshID, joined.Member.ID, keyOf("olga"), now); err != nil {
		t.Fatal(err)
	}
	entries := chain(t, db, meshID)[before:]
	if len(entries) != 1 || entries[0].Event != EventMemberJoined || entries[0].Actor != keyOf("olga") || !strings.Contains(entries[0].Payload, `"role":"owner"`) {
		t.Errorf("entries %+v", entries)
	}
}

// failed is the error of a call that also returns a topic.
func failed(_ Topic, err error) error { return err }
