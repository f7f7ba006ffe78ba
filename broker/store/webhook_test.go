package store

import (
	"errors"
	"testing"
	"time"
)

// hook keeps a webhook of a member for a topic; its secret is its id.
func hook(t *testing.T, db *DB, m Member, name, topic string) (Webhook, error) {
	t.Helper()
	id := NewID()
	return db.CreateWebhook(Webhook{ID: id, MeshID: m.MeshID, MemberID: m.ID, TopicID: topic, Name: name, PubKey: keyOf(name), Hash: HashAPIKey(id), CreatedAt: time.Now()})
}

// hookPost is a message of a webhook.
func hookPost(w Webhook) Post {
	return Post{Message: Message{MeshID: w.MeshID, SenderMemberID: w.ID, SenderPubKey: w.PubKey, SenderName: w.Name, TargetSpec: "#" + w.TopicID, Ciphertext: "eA==", BodyVersion: 1},
		TopicRef: w.TopicID, WebhookOf: w.MemberID}
}

// wantHook checks whether a webhook is found by its secret, in its mesh alone.
func wantHook(t *testing.T, db *DB, w Webhook, lives bool) {
	t.Helper()
	got, m, err := db.LiveWebhook(t.Context(), w.MeshID, w.Hash)
	if lives != (err == nil) || err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatalf("webhook %s: %v, lives: want %v", w.Name, err, lives)
	}
	if lives && (got.ID != w.ID || m.ID != w.MemberID || got.MadeBy != m.DisplayName || got.Topic == "") {
		t.Errorf("webhook %+v of %+v, want %+v", got, m, w)
	}
	if _, _, err := db.LiveWebhook(t.Context(), "elsewhere", w.Hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("in another mesh: %v", err)
	}
}

func TestWebhookSpeaksForItsMember(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	topic, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "alerts", Visibility: "private", CreatedAt: time.Now()}, ann.ID)
	if err != nil {
		t.Fatal(err)
	}
	w, err := hook(t, db, ann, "grafana", "alerts")
	if err != nil || w.TopicID != topic.ID || w.Topic != "alerts" || !w.Active {
		t.Fatalf("made %+v, %v", w, err)
	}
	wantHook(t, db, w, true)
	first, posted, err := post(db, hookPost(w))
	if err != nil || first.TopicID != topic.ID || len(posted.Audience) != 1 {
		t.Errorf("posted %+v, %v", posted, err)
	}
	for what, want := range map[error]func() error{
		ErrNotFound: func() error { _, err := hook(t, db, bob, "spy", "alerts"); return err },
		ErrExists:   func() error { _, err := hook(t, db, bob, "grafana", "general"); return err },
	} {
		if err := want(); !errors.Is(err, what) {
			t.Errorf("%v, want %v", err, what)
		}
	}
	if views, err := db.Topics(t.Context(), meshID, ann.ID); err != nil || views[1].Unread != 1 {
		t.Errorf("what a webhook says is not unread for who made it: %+v, %v", views, err)
	}
	if _, err := db.LeaveTopic(meshID, ann.ID, "alerts"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(db, hookPost(w)); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its member left the private topic: %v", err)
	}
	if listed, err := db.Webhooks(t.Context(), meshID, ann.ID); err != nil || len(listed) != 1 || listed[0].Active {
		t.Errorf("listed %+v, %v", listed, err)
	}
}

func TestWebhooksDieByDeletionAndWithTheirMember(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	one, err := hook(t, db, ann, "one", "general")
	if err != nil {
		t.Fatal(err)
	}
	two, err := hook(t, db, ann, "two", "general")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteWebhook(meshID, bob.ID, "one", false); !errors.Is(err, ErrNoWebhook) {
		t.Errorf("bob deletes a webhook of ann: %v", err)
	}
	if err := db.DeleteWebhook(meshID, bob.ID, "one", true); !errors.Is(err, ErrForbidden) {
		t.Errorf("bob deletes as a moderator: %v", err)
	}
	wantHook(t, db, one, true)
	if err := db.DeleteWebhook(meshID, ann.ID, "one", false); err != nil {
		t.Fatal(err)
	}
	wantHook(t, db, one, false)
	if _, _, err := post(db, hookPost(one)); !errors.Is(err, ErrNoWebhook) {
		t.Errorf("a post in flight: %v", err)
	}
	if _, err = hook(t, db, ann, "one", "general"); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
	if _, err := db.RevokeMember(Moderation{MeshID: meshID, MemberID: ann.ID, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	wantHook(t, db, two, false)
	if _, _, err := post(db, hookPost(two)); !errors.Is(err, ErrMemberRevoked) {
		t.Errorf("a post of a banned member in flight: %v", err)
	}
	if _, err := hook(t, db, ann, "three", "general"); !errors.Is(err, ErrMemberRevoked) {
		t.Errorf("a banned member makes a webhook: %v", err)
	}
	if _, err := db.RestoreMember(Moderation{MeshID: meshID, MemberID: ann.ID, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	wantHook(t, db, two, false) // it does not come back
}

func TestWebhooksAreBounded(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	for range MaxWebhooks {
		if _, err := hook(t, db, ann, NewID(), "general"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hook(t, db, ann, "more", "general"); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
}
