package store

import (
	"testing"
	"time"
)

func TestNotificationsAreFoundAndRead(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob")
	if _, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "deploys", Visibility: "public", CreatedAt: time.Now()}, ann.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := db.JoinTopic(meshID, bob.ID, "deploys", "member", time.Now()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, topic := range []string{"general", "deploys", "general"} {
		p := topicPost(ann, topic, "eA==")
		p.Mentions = []string{"bob", "nobody"}
		stored, posted, err := post(db, p)
		if err != nil || posted.Notified != 1 {
			t.Fatalf("%+v, %v", posted, err)
		}
		ids = append(ids, stored.ID)
	}
	find := func(which Noted) (found []string) {
		t.Helper()
		which.MemberID = bob.ID
		all, err := db.Notifications(t.Context(), which, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			found = append(found, n.Message.ID)
		}
		return found
	}
	if got := find(Noted{}); len(got) != 3 || got[0] != ids[2] {
		t.Errorf("all: %v of %v", got, ids)
	}
	if got := find(Noted{Topics: []string{"deploys"}}); len(got) != 1 || got[0] != ids[1] {
		t.Errorf("of one topic: %v", got)
	}
	if got := find(Noted{Since: time.Now().Add(time.Hour)}); len(got) != 0 {
		t.Errorf("of the future: %v", got)
	}
	if n, err := db.ReadNotifications(Noted{MemberID: bob.ID, IDs: []string{ids[0], "nowhere"}}, time.Now()); err != nil || n != 1 {
		t.Errorf("marked %d, %v", n, err)
	}
	if got := find(Noted{Unread: true}); len(got) != 2 {
		t.Errorf("unread: %v", got)
	}
	if n, err := db.ReadNotifications(Noted{MemberID: bob.ID, Until: time.Now()}, time.Now()); err != nil || n != 2 {
		t.Errorf("marked %d, %v", n, err)
	}
	if got := find(Noted{Unread: true}); len(got) != 0 {
		t.Errorf("unread: %v", got)
	}
}
