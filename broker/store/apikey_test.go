package store

import (
	"errors"
	"testing"
	"time"
)

// issue keeps a key of a member, and returns it; its secret is its id.
func issue(t *testing.T, db *DB, m Member, change func(*APIKey)) APIKey {
	t.Helper()
	id := NewID()
	k := APIKey{ID: id, MeshID: m.MeshID, MemberID: m.ID, Label: "ci", Prefix: "cm_" + id[22:], Hash: HashAPIKey(id), Capabilities: []string{KeyRead}, CreatedAt: time.Now()}
	if change != nil {
		change(&k)
	}
	if err := db.CreateAPIKey(k); err != nil {
		t.Fatal(err)
	}
	return k
}

// wantKey checks whether a key works.
func wantKey(t *testing.T, db *DB, k APIKey, works bool, at time.Time) {
	t.Helper()
	got, m, err := db.LiveAPIKey(t.Context(), k.Hash, at)
	if works != (err == nil) || err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatalf("key of %s: %v, works: want %v", k.MemberID, err, works)
	}
	if works && (got.ID != k.ID || m.ID != k.MemberID || got.IssuedBy != m.DisplayName) {
		t.Errorf("key %+v of member %+v; want %+v", got, m, k)
	}
}

func TestAPIKeysDieWithTimeRevocationAndTheirMember(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	now := time.Now()
	lasting := issue(t, db, ann, func(k *APIKey) { k.TopicScopes = []string{"deploys"} })
	short := issue(t, db, ann, func(k *APIKey) { k.ExpiresAt = now.Add(time.Minute) })
	wantKey(t, db, lasting, true, now.Add(time.Hour))
	wantKey(t, db, short, true, now)
	wantKey(t, db, short, false, now.Add(time.Minute))
	if got, _, _ := db.LiveAPIKey(t.Context(), lasting.Hash, now); got.InScope("general") || !got.InScope("deploys") {
		t.Errorf("scopes %v", got.TopicScopes)
	}
	if _, named, err := db.RevokeAPIKey(meshID, bob.ID, lasting.ID, false, now); err != nil || named != 0 {
		t.Errorf("bob names a key of ann: %d, %v", named, err)
	}
	if _, _, err := db.RevokeAPIKey(meshID, bob.ID, lasting.ID, true, now); !errors.Is(err, ErrForbidden) {
		t.Errorf("bob revokes as a moderator: %v", err)
	}
	wantKey(t, db, lasting, true, now)
	for _, ref := range []string{lasting.ID, lasting.ID, lasting.ID[:29], lasting.Prefix} { // again is as well
		if got, named, err := db.RevokeAPIKey(meshID, ann.ID, ref, false, now); err != nil || named != 1 || got.ID != lasting.ID {
			t.Errorf("revoking %s: %d, %v", ref, named, err)
		}
	}
	wantKey(t, db, lasting, false, now)
	for _, c := range []struct {
		key  APIKey
		want error
	}{{lasting, ErrKeyDead}, {short, nil}} {
		p := topicPost(ann, "general", "eA==")
		p.APIKeyID, p.CreatedAt = c.key.ID, now
		if _, _, err := post(db, p); !errors.Is(err, c.want) {
			t.Errorf("a post in flight by %s: %v, want %v", c.key.ID, err, c.want)
		}
	}
	if _, named, _ := db.RevokeAPIKey(meshID, ann.ID, "", false, now); named != 0 {
		t.Errorf("nothing names %d keys", named)
	}
	if _, named, _ := db.RevokeAPIKey(meshID, ann.ID, short.ID[:2], false, now); named != 2 {
		t.Errorf("the beginning of two ids names %d keys", named)
	}
	if _, err := db.RevokeMember(Moderation{MeshID: meshID, MemberID: ann.ID, At: now}); err != nil {
		t.Fatal(err)
	}
	wantKey(t, db, short, false, now)
	if err := db.CreateAPIKey(APIKey{ID: NewID(), MeshID: meshID, MemberID: ann.ID}); !errors.Is(err, ErrMemberRevoked) {
		t.Errorf("a banned member makes a key: %v", err)
	}
	if _, err := db.RestoreMember(Moderation{MeshID: meshID, MemberID: ann.ID, At: now}); err != nil {
		t.Fatal(err)
	}
	wantKey(t, db, short, false, now) // it does not come back
}

func TestOnlyWhoRunsTheMeshHasAnAdminKey(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	if err := db.CreateAPIKey(APIKey{ID: NewID(), MeshID: meshID, MemberID: bob.ID, Capabilities: []string{KeyAdmin}}); !errors.Is(err, ErrForbidden) {
		t.Errorf("a member makes an admin key: %v", err)
	}
	role := func(role string) {
		t.Helper()
		if err := db.Update(func(tx *Tx) error { return tx.exec(`UPDATE member SET role = ? WHERE id = ?`, role, ann.ID) }); err != nil {
			t.Fatal(err)
		}
	}
	role(RoleAdmin)
	key := issue(t, db, ann, func(k *APIKey) { k.Capabilities = []string{KeyAdmin} })
	allows := func() (send, admin bool) {
		k, _, err := db.LiveAPIKey(t.Context(), key.Hash, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return k.Allows(KeySend), k.Allows(KeyAdmin)
	}
	if send, admin := allows(); !send || !admin {
		t.Errorf("send %v, admin %v", send, admin)
	}
	role(RoleMember)
	if send, admin := allows(); !send || admin {
		t.Errorf("of one who is no admin any more: send %v, admin %v", send, admin)
	}
}

func TestAPIKeysAreBoundedAndForgotten(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	now := time.Now()
	old := issue(t, db, ann, func(k *APIKey) { k.ExpiresAt = now.Add(time.Second) })
	for range MaxLiveKeys - 1 {
		issue(t, db, ann, nil)
	}
	k := APIKey{ID: NewID(), MeshID: meshID, MemberID: ann.ID, CreatedAt: now}
	if err := db.CreateAPIKey(k); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	listed := func() int {
		all, err := db.APIKeys(t.Context(), meshID, ann.ID, 2*MaxLiveKeys, now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > 0 && len(all) == MaxLiveKeys && all[len(all)-1].ID != old.ID {
			t.Error("the key that expired is not the last one")
		}
		return len(all)
	}
	if n := listed(); n != MaxLiveKeys {
		t.Errorf("%d keys are listed", n)
	}
	if err := db.DropAPIKeys(now.Add(DeadKeyTTL)); err != nil || listed() != MaxLiveKeys {
		t.Errorf("a month later, less a second: %d keys, %v", listed(), err)
	}
	if err := db.DropAPIKeys(now.Add(DeadKeyTTL + time.Minute)); err != nil || listed() != MaxLiveKeys-1 {
		t.Errorf("a month and a minute later: %d keys, %v", listed(), err)
	}
}
