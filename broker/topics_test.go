package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

func TestEveryMemberIsInGeneralAndCannotLeave(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	topics := ask[*wire.TopicListResponse](ann, &wire.TopicList{}).Topics
	if len(topics) != 1 || topics[0].Name != "general" || topics[0].MemberCount != 2 || topics[0].Visibility != "public" || *topics[0].Description != store.GeneralDescription {
		t.Fatalf("topics = %+v", topics)
	}
	bob.wantRefused(&wire.TopicLeave{Topic: "general"}, wire.Forbidden)
	bob.wantRefused(&wire.TopicLeave{Topic: topics[0].ID}, wire.Forbidden)
	again := ask[*wire.TopicCreated](bob, &wire.TopicCreate{Name: "general", Visibility: "private"})
	if again.Created || again.Topic.Visibility != "public" || again.Topic.ID != topics[0].ID {
		t.Errorf("creating general again = %+v", again)
	}
}

func TestTopicLife(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	made := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys", Description: "what went out"})
	if !made.Created || made.Topic.Name != "deploys" || made.Topic.Visibility != "public" {
		t.Fatalf("created = %+v", made)
	}
	bob.wantUnsent("#deploys", "x", wire.Forbidden) // not in it yet
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	ask[*wire.Ack](cat, &wire.TopicJoin{Topic: made.Topic.ID, Role: wire.TopicObserver})
	ask[*wire.Ack](cat, &wire.TopicJoin{Topic: "deploys", Role: wire.TopicMember}) // an observer does not promote itself
	cat.wantUnsent("#deploys", "x", wire.Forbidden)

	ann.say("#"+made.Topic.ID, "v1 is out")
	bob.wantPush("v1 is out")
	if push := cat.wantPush("v1 is out"); push.Topic != "deploys" {
		t.Errorf("topic = %q", push.Topic)
	}
	members := ask[*wire.TopicMembersResponse](ann, &wire.TopicMembers{Topic: "deploys"}).Members
	roles := ""
	for _, m := range members {
		roles += m.DisplayName + ":" + m.Role + " "
	}
	if roles != "ann:lead bob:member cat:observer " {
		t.Errorf("members = %s", roles)
	}

	unread := func(g *guest) int {
		for _, topic := range ask[*wire.TopicListResponse](g, &wire.TopicList{}).Topics {
			if topic.Name == "deploys" {
				return topic.Unread
			}
		}
		return -1
	}
	if unread(bob) != 1 || unread(ann) != 0 {
		t.Errorf("unread: bob %d, ann %d; want 1, 0", unread(bob), unread(ann))
	}
	ask[*wire.Ack](bob, &wire.TopicMarkRead{Topic: "deploys"})
	if unread(bob) != 0 {
		t.Errorf("bob has %d unread after marking", unread(bob))
	}
	ask[*wire.Ack](bob, &wire.TopicLeave{Topic: "deploys"})
	bob.drain()
	ann.say("#deploys", "v2 is out")
	cat.wantPush("v2 is out")
	bob.wantQuiet()
}

func TestTopicNamesAndArguments(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	for _, name := range []string{"", "-x", "_x", "Upper", "ä", "a b", "x'; DROP TABLE topic;--", fmt.Sprintf("%051d", 0)} {
		ann.wantRefused(&wire.TopicCreate{Name: name}, wire.InvalidArgs)
	}
	ann.wantRefused(&wire.TopicCreate{Name: "x", Visibility: "secret"}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicJoin{Topic: "general", Role: "lead"}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicHistory{Topic: "general", Limit: 201}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicHistory{Topic: "general", Limit: -1}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicHistory{Topic: "general", BeforeID: "nosuchmessage"}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicHistory{Topic: "nosuch"}, wire.TopicNotFound)
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "0_-" + fmt.Sprintf("%047d", 0)})
}

func TestPrivateTopicsAreInvisible(t *testing.T) {
	h := newHouse(t)
	ann, bob, eve := h.arrive("ann"), h.arrive("bob"), h.arrive("eve")
	secret := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: "private"}).Topic
	ann.say("#secret", "the plan")
	for _, ref := range []string{"secret", secret.ID} {
		eve.wantRefused(&wire.TopicJoin{Topic: ref}, wire.TopicNotFound)
		eve.wantRefused(&wire.TopicHistory{Topic: ref}, wire.TopicNotFound)
		eve.wantRefused(&wire.TopicMembers{Topic: ref}, wire.TopicNotFound)
		eve.wantRefused(&wire.TopicMarkRead{Topic: ref}, wire.TopicNotFound)
		eve.wantRefused(&wire.TopicLeave{Topic: ref}, wire.TopicNotFound)
		eve.wantRefused(&wire.TopicInvite{Topic: ref, Member: eve.Key()}, wire.TopicNotFound)
		eve.wantUnsent("#"+ref, "x", wire.TargetNotFound)
	}
	eve.wantRefused(&wire.TopicCreate{Name: "secret"}, wire.Forbidden)
	if topics := ask[*wire.TopicListResponse](eve, &wire.TopicList{}).Topics; len(topics) != 1 {
		t.Errorf("eve sees %+v", topics)
	}
	ask[*wire.Ack](ann, &wire.TopicInvite{Topic: "secret", Member: bob.Key()})
	if got := ask[*wire.TopicHistoryResponse](bob, &wire.TopicHistory{Topic: "secret"}).Messages; len(got) != 1 {
		t.Errorf("bob reads %+v", got)
	}
	bob.wantRefused(&wire.TopicInvite{Topic: "secret", Member: eve.Key()}, wire.Forbidden) // leads only
	eve.wantQuiet()
}

func TestTopicsOfAnotherMeshDoNotExist(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	lab := NewMesh("lab", h.url, time.Now())
	if err := h.db.CreateMesh(lab); err != nil {
		t.Fatal(err)
	}
	other, _, err := h.db.Topic(t.Context(), lab.Mesh.ID, "", "general")
	if err != nil {
		t.Fatal(err)
	}
	ann.wantUnsent("#"+other.ID, "x", wire.TargetNotFound)
	ann.wantRefused(&wire.TopicHistory{Topic: other.ID}, wire.TopicNotFound)
	ann.wantRefused(&wire.TopicJoin{Topic: other.ID}, wire.TopicNotFound)
	if stored, err := h.db.History(t.Context(), other.ID, store.Page{Limit: 10}); err != nil || len(stored) != 0 {
		t.Errorf("the other mesh's general has %v, %v", stored, err)
	}
}

func TestHistoryPages(t *testing.T) {
	h := newHouse(t)
	ann := h.arriveAs("ann", wire.Client{PeerType: wire.PeerAI})
	for i := range 25 {
		ann.say("#general", fmt.Sprint(i))
	}
	var seen []string
	before := ""
	for {
		page := ask[*wire.TopicHistoryResponse](ann, &wire.TopicHistory{Topic: "general", Limit: 10, BeforeID: before}).Messages
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			seen = append(seen, m.Ciphertext)
			if m.SenderName != "ann" || m.SenderMemberID != ann.id.MemberID || m.SenderPubkey != ann.Key() || m.BodyVersion != 1 || m.SenderPeerType != wire.PeerAI {
				t.Fatalf("message = %+v", m)
			}
		}
		before = page[len(page)-1].ID
	}
	if len(seen) != 25 || seen[0] != "MjQ=" || seen[24] != "MA==" {
		t.Errorf("seen %d messages, newest %s, oldest %s", len(seen), seen[0], seen[len(seen)-1])
	}
}

func TestRepliesStayInTheirTopic(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "other"})
	elsewhere := ann.say("#other", "elsewhere")
	here := ann.say("#general", "here")
	bob.drain()
	for parent, want := range map[string]string{here: here, elsewhere: "", "nosuch": ""} {
		if ack, err := ann.Send(t.Context(), wire.Send{TargetSpec: "#general", Priority: "next", Ciphertext: "aGk=", ReplyToID: parent}); err != nil || !ack.Queued {
			t.Fatalf("ack %+v, %v", ack, err)
		}
		if push := bob.wantPush("hi"); push.ReplyToID != want {
			t.Errorf("reply to %q came as a reply to %q", parent, push.ReplyToID)
		}
	}
}

func TestMentions(t *testing.T) {
	for text, want := range map[string][]string{
		"@bob and @Bob, see @cat.":         {"bob", "cat"},
		"mail me at ann@example.org":       nil,
		"(@x-1) @@y @ z @émile @a.b. @c_d": {"x-1", "émile", "a.b", "c_d"},
		"no mention":                       nil,
	} {
		if got := wire.MentionsIn(text); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("MentionsIn(%q) = %q, want %q", text, got, want)
		}
	}
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("Bob")
	count := func() int {
		n, err := h.db.CountNotifications(t.Context(), bob.id.MemberID)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ann.say("#general", "ping @bob, yes @BOB")
	if n := count(); n != 1 {
		t.Errorf("%d notifications after a mention in the text, want 1", n)
	}
	if _, err := ann.Send(t.Context(), wire.Send{TargetSpec: "#general", Priority: "next", Ciphertext: "eA==", BodyVersion: 2, Mentions: []string{"bob", "nobody", "ann"}}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 2 {
		t.Errorf("%d notifications after a mention in the list, want 2", n)
	}
}

func TestWhoLeadsSaysWhatATopicIsFor(t *testing.T) {
	h := newHouse(t)
	ann, bob, adam := h.arrive("ann"), h.arrive("bob"), h.arriveAdmin("adam")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	description := func() *string {
		for _, topic := range ask[*wire.TopicListResponse](bob, &wire.TopicList{}).Topics {
			if topic.Name == "deploys" {
				return topic.Description
			}
		}
		return nil
	}
	ask[*wire.Ack](ann, &wire.TopicDescribe{Topic: "deploys", Description: "  what went\nout  "})
	if d := description(); d == nil || *d != "what went out" {
		t.Errorf("description %v", d)
	}
	bob.wantRefused(&wire.TopicDescribe{Topic: "deploys", Description: "mine"}, wire.Forbidden)
	bob.wantRefused(&wire.TopicDescribe{Topic: "secret", Description: "mine"}, wire.TopicNotFound)
	adam.wantRefused(&wire.TopicDescribe{Topic: "secret", Description: "mine"}, wire.TopicNotFound)
	ask[*wire.Ack](adam, &wire.TopicDescribe{Topic: "deploys"})
	if d := description(); d != nil {
		t.Errorf("removed, but it is %q", *d)
	}
}

func TestSearchOnTheWire(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	first := ann.say("#general", "The **importer** is green")
	second := ann.say("#secret", "the importer key is under the mat")
	found := ask[*wire.TopicSearchResponse](ann, &wire.TopicSearch{Query: "import"})
	if len(found.Messages) != 2 || found.More || found.Messages[0].ID != second || found.Messages[0].Topic != "secret" || found.Messages[1].ID != first || found.Messages[1].SenderName != "ann" {
		t.Errorf("ann found %+v", found)
	}
	found = ask[*wire.TopicSearchResponse](ann, &wire.TopicSearch{Query: "import", Limit: 1})
	if len(found.Messages) != 1 || !found.More {
		t.Errorf("one of two: %+v", found)
	}
	found = ask[*wire.TopicSearchResponse](ann, &wire.TopicSearch{Query: "import", Limit: 1, BeforeID: found.Messages[0].ID})
	if len(found.Messages) != 1 || found.More || found.Messages[0].ID != first {
		t.Errorf("the other one: %+v", found)
	}
	if found := ask[*wire.TopicSearchResponse](bob, &wire.TopicSearch{Query: "importer"}); len(found.Messages) != 1 || found.Messages[0].ID != first {
		t.Errorf("bob found %+v", found)
	}
	bob.wantRefused(&wire.TopicSearch{Query: "importer", Topic: "secret"}, wire.TopicNotFound)
	for _, m := range []wire.TopicSearch{{Query: ""}, {Query: "?!"}, {Query: strings.Repeat("x", 201)}, {Query: "x", Limit: 201}, {Query: "x", BeforeID: "nowhere"}} {
		bob.wantRefused(&m, wire.InvalidArgs)
	}
}

func TestHistoryOnTheWireGoesBothWays(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	var ids []string
	for i := range 9 {
		ids = append(ids, ann.say("#general", fmt.Sprint(i)))
	}
	page := func(m wire.TopicHistory) (got []string) {
		m.Topic = "general"
		for _, entry := range ask[*wire.TopicHistoryResponse](ann, &m).Messages {
			got = append(got, entry.ID)
		}
		return got
	}
	for _, c := range []struct {
		m    wire.TopicHistory
		want []string
	}{
		{wire.TopicHistory{AfterID: ids[6]}, []string{ids[8], ids[7]}},
		{wire.TopicHistory{AroundID: ids[4], Limit: 3}, []string{ids[5], ids[4], ids[3]}},
		{wire.TopicHistory{IDs: []string{ids[2], "nowhere", ids[5]}}, []string{ids[5], ids[2]}},
	} {
		if got := page(c.m); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.m, got, c.want)
		}
	}
	for _, m := range []wire.TopicHistory{{BeforeID: ids[1], AfterID: ids[2]}, {AroundID: ids[1], IDs: ids}, {AroundID: "nowhere"}, {IDs: make([]string, 201)}} {
		m.Topic = "general"
		ann.wantRefused(&m, wire.InvalidArgs)
	}
}
