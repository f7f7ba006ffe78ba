package broker

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func TestTopicsAndTheirMessages(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys", Description: "what went out"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	var ids []string
	for i := range 5 {
		ids = append(ids, ann.say("#deploys", fmt.Sprint(i)))
	}
	key := bob.key("read").Secret
	topics := func(key string) []restTopic {
		return wantOK[struct{ Topics []restTopic }](h.rest(key, "GET /topics", "")).Topics
	}
	all := topics(key)
	if len(all) != 2 || all[0].Name != "general" || all[1].Name != "deploys" || all[1].Unread != 5 || *all[1].Description != "what went out" || all[1].Visibility != "public" {
		t.Errorf("topics %+v", all)
	}
	if confined := topics(bob.scoped("deploys").Secret); len(confined) != 1 || confined[0].Name != "deploys" {
		t.Errorf("confined: %+v", confined)
	}
	page := func(query string) (got []string) {
		t.Helper()
		body := wantOK[struct {
			Topic, TopicID string
			Messages       []map[string]any
		}](h.rest(key, "GET /topics/deploys/messages"+query, ""))
		for _, m := range body.Messages {
			if keys := slices.Sorted(maps.Keys(m)); strings.Join(keys, " ") != "bodyVersion ciphertext createdAt id nonce replyToId senderMemberId senderName senderPubkey" || m["replyToId"] != nil || m["senderName"] != "ann" {
				t.Errorf("message %v", m)
			}
			got = append(got, m["id"].(string))
		}
		if body.Topic != "deploys" || body.TopicID != all[1].ID {
			t.Errorf("topic %s %s", body.Topic, body.TopicID)
		}
		return got
	}
	if got := page(""); len(got) != 5 || got[0] != ids[4] {
		t.Errorf("page %v of %v", got, ids)
	}
	if got := page("?limit=2&before=" + ids[3]); !slices.Equal(got, []string{ids[2], ids[1]}) {
		t.Errorf("page %v of %v", got, ids)
	}
	for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?before=nowhere"} {
		h.rest(key, "GET /topics/deploys/messages"+query, "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	}
	read := wantOK[map[string]string](h.rest(key, "PATCH /topics/deploys/read", ""))
	if read["topic"] != "deploys" || read["topicId"] != all[1].ID || read["readAt"] == "" || topics(key)[1].Unread != 0 {
		t.Errorf("read %v, then %+v", read, topics(key))
	}
	ask[*wire.Ack](bob, &wire.TopicLeave{Topic: "deploys"})
	h.rest(key, "PATCH /topics/deploys/read", "").wantProblem(http.StatusForbidden, wire.Forbidden)
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	h.rest(key, "GET /topics/secret/messages", "").wantProblem(http.StatusNotFound, wire.TopicNotFound)
	h.rest(bob.scoped("general").Secret, "GET /topics/nowhere/messages", "").wantProblem(http.StatusForbidden, "error.api_key_topic_out_of_scope")
}

func TestMembersAndPeers(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	id := h.join("bea")
	bea := h.dial(id, peer.Options{Client: wire.Client{PeerType: wire.PeerHuman, DisplayName: "bea at home"}})
	ask[*wire.Ack](bea, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.Ack](bea, &wire.SetSummary{Summary: "the importer"})
	ask[*wire.Ack](bea, &wire.JoinGroup{Name: "core"})
	carl := h.arrive("carl")
	h.arrive("gone")
	ask[*wire.BanAck](adam, &wire.Ban{Target: "gone"})
	key := adam.key("read").Secret
	carlsKey := carl.key("read").Secret
	carl.Close()
	eventually(t, "carl is gone", func() bool {
		return !wantOK[struct{ Members []restMember }](h.rest(key, "GET /members", "")).Members[2].Online
	})
	members := wantOK[struct{ Members []restMember }](h.rest(key, "GET /members", "")).Members
	if len(members) != 3 {
		t.Fatalf("members %+v", members)
	}
	if m := members[0]; m.DisplayName != "adam" || m.Role != store.RoleAdmin || !m.Online || m.IsHuman || *m.Status != wire.StatusIdle || m.Summary != nil || m.MemberID != adam.id.MemberID {
		t.Errorf("adam is %+v", m)
	}
	if m := members[1]; m.DisplayName != "bea" || m.Role != store.RoleMember || !m.Online || !m.IsHuman || *m.Status != wire.StatusWorking || *m.Summary != "the importer" {
		t.Errorf("bea is %+v", m)
	}
	if m := members[2]; m.DisplayName != "carl" || m.Online || m.Status != nil || m.Pubkey != carl.id.Key.Public() {
		t.Errorf("carl is %+v", m)
	}
	peers := func() (lines []string) {
		for _, p := range wantOK[struct{ Peers []restPeer }](h.rest(key, "GET /peers", "")).Peers {
			lines = append(lines, fmt.Sprint(p.DisplayName, " ", p.Status, " ", p.Groups, " ", p.Via))
		}
		return lines
	}
	want := []string{"adam idle [] ws", "bea working [{core }] ws"}
	if got := peers(); !slices.Equal(got, want) {
		t.Errorf("peers %q, want %q", got, want)
	}
	wantOK[any](h.rest(carlsKey, "GET /topics", ""))
	if got := peers(); !slices.Equal(got, append(want, "carl idle [] rest")) {
		t.Errorf("peers %q after a request of carl", got)
	}
	ask[*wire.Ack](bea, &wire.SetVisible{Visible: false})
	ask[*wire.BanAck](adam, &wire.Ban{Target: "carl"})
	if got := peers(); !slices.Equal(got, want[:1]) {
		t.Errorf("peers %q after a ban and hiding", got)
	}
}

func TestNotificationsOverREST(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	first, second := ann.say("#general", "one @bob"), ann.say("#deploys", "two @bob")
	key, confined := bob.key("read").Secret, bob.scoped("deploys").Secret
	type listed struct {
		Notifications []restNotification
		Since         *string
		MentionedAs   string
	}
	list := func(key, query string) []restNotification {
		t.Helper()
		return wantOK[listed](h.rest(key, "GET /notifications"+query, "")).Notifications
	}
	all := list(key, "")
	if len(all) != 2 || all[0].ID != second || all[1].ID != first || all[1].TopicName != "general" || all[1].SenderName != "ann" ||
		all[1].Ciphertext != base64.StdEncoding.EncodeToString([]byte("one @bob")) || all[1].Kind != "mention" || all[1].ReadAt != nil || all[1].NotificationID == first {
		t.Errorf("all: %+v", all)
	}
	if got := list(confined, ""); len(got) != 1 || got[0].ID != second {
		t.Errorf("confined: %+v", got)
	}
	if got := wantOK[listed](h.rest(key, "GET /notifications?since=2099-01-01T00:00:00Z", "")); len(got.Notifications) != 0 || *got.Since != "2099-01-01T00:00:00.000Z" || got.MentionedAs != "bob" {
		t.Errorf("of the future: %+v", got)
	}
	mark := func(key, body string) map[string]any {
		t.Helper()
		return wantOK[map[string]any](h.rest(key, "POST /notifications/read", body))
	}
	if got := mark(confined, `{"ids":["`+first+`"]}`); got["marked"] != 0.0 {
		t.Errorf("a confined key marks what it does not see: %v", got)
	}
	if got := mark(key, `{"ids":["`+all[1].NotificationID+`"]}`); got["marked"] != 1.0 || got["readAt"] == nil {
		t.Errorf("marked %v", got)
	}
	if got := list(key, "?unread=1"); len(got) != 1 || got[0].ID != second {
		t.Errorf("unread: %+v", got)
	}
	if got := mark(key, `{"all":true,"before":"2020-01-01T00:00:00Z"}`); got["marked"] != "all" || got["before"] != "2020-01-01T00:00:00Z" || len(list(key, "?unread=1")) != 1 {
		t.Errorf("marked %v", got)
	}
	if got := mark(key, `{"all":true}`); got["before"] != nil || len(list(key, "?unread=1")) != 0 {
		t.Errorf("marked %v", got)
	}
	for _, body := range []string{`{}`, `{"ids":["x"],"all":true}`, `{"ids":["x"],"before":"2020-01-01T00:00:00Z"}`, `{"all":true,"before":"x"}`, `{"ids":"x"}`} {
		h.rest(key, "POST /notifications/read", body).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	}
	h.rest(key, "GET /notifications?since=yesterday", "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	h.rest(key, "GET /notifications?unread=x", "").wantProblem(http.StatusBadRequest, wire.InvalidArgs)
}
