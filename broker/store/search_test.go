package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"
)

// said posts a text to a topic and returns the message's id.
func said(t testing.TB, db *DB, m Member, ref, text string) string {
	t.Helper()
	p, _, err := post(db, topicPost(m, ref, base64.StdEncoding.EncodeToString([]byte(text))))
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

// texts are the readable bodies of messages.
func texts(messages []Message) (all []string) {
	for _, m := range messages {
		all = append(all, plaintext(m.Ciphertext))
	}
	return all
}

func TestSearchFindsWordsAndBeginningsOfWords(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	all := []string{
		"The importer swallows the line number", "see parse_row() in import/reader.go", `he said "stop the importer now"`,
		"Café is CLOSED today", "x marks the spot", "日本語 の メッセージ", "naïve AND (broken) NOT used* NEAR^2 {a}: -b",
	}
	for _, text := range all {
		said(t, db, olga, "general", text)
	}
	for query, want := range map[string][]int{
		"importer":            {2, 0},
		"IMPORT":              {2, 1, 0},
		"im":                  nil, // two letters are a word, not the beginning of one
		"line swallows":       {0},
		"line nothing":        nil,
		"parse_row":           {1},
		"row reader":          {1},
		`"the importer"`:      {2, 0},
		`"importer the"`:      nil,
		`"the importer" stop`: {2},
		`"unclosed stop`:      nil,
		"cafe":                {3},
		"CAFÉ closed":         {3},
		"x":                   {4},
		"日本語":                 {5},
		"メッセ":                 {5},
		"AND":                 {6},
		"broken) NOT (used":   {6},
		"used* NEAR^2 {a}:":   {6},
		"text:importer":       nil,
		"!!! importer ???":    {2, 0},
	} {
		found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: query, Limit: 10})
		if err != nil {
			t.Errorf("%q: %v", query, err)
			continue
		}
		var wanted []string
		for _, at := range want {
			wanted = append(wanted, all[at])
		}
		if got := texts(found); !slices.Equal(got, wanted) {
			t.Errorf("%q found %q, want %q", query, got, wanted)
		}
	}
	for _, query := range []string{"", "  ", "!?*", `"`, `""`, `"…"`, "\x00"} {
		if _, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: query, Limit: 10}); !errors.Is(err, ErrNoWords) {
			t.Errorf("%q: %v, want ErrNoWords", query, err)
		}
	}
}

func TestSearchStaysWithinWhatOneMaySee(t *testing.T) {
	db, meshID := newDB(t)
	other := home()
	other.Mesh.Slug, other.Invites[0].Token = "lab", "lab-first"
	if err := db.CreateMesh(*other); err != nil {
		t.Fatal(err)
	}
	olga, adam := addMember(t, db, meshID, "olga"), addMember(t, db, meshID, "adam")
	stranger := addMember(t, db, other.Mesh.ID, "stranger")
	for _, topic := range []Topic{{Name: "open", Visibility: "public"}, {Name: "secret", Visibility: "private"}} {
		topic.ID, topic.MeshID, topic.CreatedAt = NewID(), meshID, time.Now()
		if _, _, err := db.CreateTopic(topic, olga.ID); err != nil {
			t.Fatal(err)
		}
		said(t, db, olga, topic.Name, "needle in "+topic.Name)
	}
	said(t, db, stranger, "general", "needle in the lab")
	said(t, db, adam, "general", "needle in general")
	direct := Post{Message: Message{MeshID: meshID, SenderMemberID: olga.ID, TargetSpec: adam.PubKey, Ciphertext: base64.StdEncoding.EncodeToString([]byte("needle, for you"))}, Recipients: []Recipient{{MemberID: adam.ID}}}
	if _, _, err := post(db, direct); err != nil {
		t.Fatal(err)
	}
	sealed := topicPost(olga, "general", base64.StdEncoding.EncodeToString([]byte("needle, sealed")))
	sealed.BodyVersion = 2
	if _, _, err := post(db, sealed); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who   Member
		topic string
		want  []string
	}{
		{olga, "", []string{"needle in general", "needle in secret", "needle in open"}},
		{adam, "", []string{"needle in general", "needle in open"}},
		{stranger, "", []string{"needle in the lab"}},
		{adam, "general", []string{"needle in general"}},
	} {
		s := Search{MeshID: c.who.MeshID, MemberID: c.who.ID, Query: "needle", Limit: 10}
		if c.topic != "" {
			topic, _, err := db.Topic(t.Context(), meshID, c.who.ID, c.topic)
			if err != nil {
				t.Fatal(err)
			}
			s.TopicID = topic.ID
		}
		found, err := db.Search(t.Context(), s)
		if err != nil || !slices.Equal(texts(found), c.want) {
			t.Errorf("%s in %q found %q, %v; want %q", c.who.DisplayName, c.topic, texts(found), err, c.want)
		}
	}
	// Whoever names the id of a private topic finds nothing in it.
	secret, _, _ := db.Topic(t.Context(), meshID, olga.ID, "secret")
	found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: adam.ID, TopicID: secret.ID, Query: "needle", Limit: 10})
	if err != nil || len(found) != 0 {
		t.Errorf("adam found %q, %v in a topic that is not his to see", texts(found), err)
	}
}

func TestSearchGoesBackPageByPage(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	for i := range 25 {
		said(t, db, olga, "general", fmt.Sprintf("step %d", i))
		said(t, db, olga, "general", "something else")
	}
	var all []string
	for before := ""; ; {
		page, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: "step", BeforeID: before, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all, before = append(all, texts(page)...), page[len(page)-1].ID
	}
	if len(all) != 25 || all[0] != "step 24" || all[24] != "step 0" {
		t.Errorf("found %q", all)
	}
	if _, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: "step", BeforeID: "nowhere", Limit: 10}); !errors.Is(err, ErrNotFound) {
		t.Errorf("before an unknown message: %v, want ErrNotFound", err)
	}
}

// Whatever is typed is a search and not an error of SQLite, and finds the text it
// was taken from.
func TestEveryQueryIsUnderstood(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab Zé_-.:*^\"'(){}+\x00\n日9"), unicode.Letter), 1, 40, -1).Draw(r, "text")
		id := said(t, db, olga, "general", text)
		words := strings.Fields(strings.ReplaceAll(text, `"`, " "))
		if _, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: text, Limit: 1}); errors.Is(err, ErrNoWords) {
			return
		} else if err != nil {
			r.Fatalf("%q: %v", text, err)
		}
		for _, word := range words {
			found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: word, Limit: 1})
			if errors.Is(err, ErrNoWords) {
				continue
			}
			if err != nil || len(found) != 1 || found[0].ID != id {
				r.Fatalf("%q of %q found %q, %v", word, text, texts(found), err)
			}
		}
	})
}

func TestOldMessagesCanBeFoundAfterTheUpdate(t *testing.T) {
	db := mustOpen(t, oldFile(t, "v4.sql"), Options{Schema: schemaText(t), Server: true})
	const meshID, adam = "00Vmesh0home0000000000000000aa", "00Vmember0adam00000000000000aa"
	for query, want := range map[string]string{"importer": "00Vmessage0one00000000000000aa", "cafe": "00Vmessage0five0000000000000aa"} {
		found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: adam, Query: query, Limit: 10})
		if err != nil || len(found) != 1 || found[0].ID != want {
			t.Errorf("%q found %+v, %v; want %s alone", query, found, err, want)
		}
	}
	topics, err := db.Topics(t.Context(), meshID, adam)
	if err != nil || len(topics) != 1 || topics[0].Mentions != 1 || topics[0].Unread != 2 || topics[0].ReadUpTo != "00Vmessage0one00000000000000aa" {
		t.Errorf("topics = %+v, %v", topics, err)
	}
}

// A message that could not be stored is not found either.
func TestARefusedMessageIsNotIndexed(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	first := topicPost(olga, "general", base64.StdEncoding.EncodeToString([]byte("once")))
	first.ClientMessageID = "same"
	stored, _, err := post(db, first)
	if err != nil {
		t.Fatal(err)
	}
	again, posted, err := post(db, first)
	if err != nil || !posted.Duplicate || again.ID != stored.ID {
		t.Fatalf("again: %+v, %v", posted, err)
	}
	if found, err := db.Search(t.Context(), Search{MeshID: meshID, MemberID: olga.ID, Query: "once", Limit: 10}); err != nil || len(found) != 1 {
		t.Errorf("found %d, %v; want 1", len(found), err)
	}
}

func TestHistoryIsReadInBothDirections(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	var ids []string
	for i := range 20 {
		ids = append(ids, said(t, db, olga, "general", fmt.Sprint(i)))
	}
	general, _, _ := db.Topic(t.Context(), meshID, olga.ID, "general")
	for _, c := range []struct {
		page Page
		want string
	}{
		{Page{Limit: 3}, "19 18 17"},
		{Page{From: ids[3], Limit: 5}, "2 1 0"},
		{Page{From: ids[3], Side: After, Limit: 3}, "6 5 4"},
		{Page{From: ids[18], Side: After, Limit: 3}, "19"},
		{Page{From: ids[19], Side: After, Limit: 3}, ""},
		{Page{From: ids[10], Side: Around, Limit: 5}, "12 11 10 9 8"},
		{Page{From: ids[10], Side: Around, Limit: 4}, "12 11 10 9"},
		{Page{From: ids[10], Side: Around, Limit: 1}, "10"},
		{Page{From: ids[0], Side: Around, Limit: 5}, "2 1 0"},
		{Page{From: ids[19], Side: Around, Limit: 5}, "19 18 17"},
	} {
		found, err := db.History(t.Context(), general.ID, c.page)
		if got := strings.Join(texts(found), " "); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.page, got, err, c.want)
		}
	}
	if _, err := db.History(t.Context(), general.ID, Page{From: "nowhere", Side: Around, Limit: 3}); !errors.Is(err, ErrNotFound) {
		t.Errorf("around an unknown message: %v, want ErrNotFound", err)
	}
	found, err := db.MessagesByID(t.Context(), general.ID, []string{ids[7], "nowhere", ids[2]})
	if got := strings.Join(texts(found), " "); err != nil || got != "7 2" {
		t.Errorf("by id: %q, %v", got, err)
	}
	if found, err := db.MessagesByID(t.Context(), NewID(), ids); err != nil || len(found) != 0 {
		t.Errorf("by id, from another topic: %d, %v", len(found), err)
	}
}

func TestAQueryHasSoManyWords(t *testing.T) {
	db, meshID := newDB(t)
	olga := addMember(t, db, meshID, "olga")
	said(t, db, olga, "general", strings.Repeat("word ", MaxTerms))
	search := Search{MeshID: meshID, MemberID: olga.ID, Query: strings.Repeat("word ", MaxTerms), Limit: 10}
	if found, err := db.Search(t.Context(), search); err != nil || len(found) != 1 {
		t.Errorf("found %d, %v", len(found), err)
	}
	search.Query += "word"
	if _, err := db.Search(t.Context(), search); !errors.Is(err, ErrTooMany) {
		t.Errorf("one word more: %v, want ErrTooMany", err)
	}
}

// An index finds the message of a read mark: the writer has no time to look for it.
func TestReadMarksAreFoundByIndex(t *testing.T) {
	db, meshID := newDB(t)
	olga, adam := addMember(t, db, meshID, "olga"), addMember(t, db, meshID, "adam")
	first, second := said(t, db, adam, "general", "@olga one"), said(t, db, adam, "general", "two")
	mark := func(id string) bool {
		t.Helper()
		_, moved, err := db.MarkRead(meshID, olga.ID, "general", id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return moved
	}
	if !mark(first) || mark(first) || !mark("") || mark(second) || mark(first) {
		t.Error("a mark that is there already moves again, or one that is new does not")
	}
	if _, _, err := db.MarkRead(meshID, olga.ID, "general", NewID(), time.Now()); !errors.Is(err, ErrNoMessage) {
		t.Errorf("an unknown message: %v, want ErrNoMessage", err)
	}
	var plan string
	var id, parent, unused int
	err := db.read.QueryRow(`EXPLAIN QUERY PLAN SELECT seq FROM message WHERE id = '' AND topic_id = ''`).Scan(&id, &parent, &unused, &plan)
	if err != nil || !strings.Contains(plan, "sqlite_autoindex_message_1 (id=?)") {
		t.Errorf("plan: %s, %v", plan, err)
	}
}

// Who leaves and comes back has nothing to read of the time before.
func TestMentionsOfAnEarlierStayAreRead(t *testing.T) {
	db, meshID := newDB(t)
	olga, adam := addMember(t, db, meshID, "olga"), addMember(t, db, meshID, "adam")
	topic, _, err := db.CreateTopic(Topic{ID: NewID(), MeshID: meshID, Name: "ops", Visibility: "public", CreatedAt: time.Now()}, adam.ID)
	err = errors.Join(err, failed(db.JoinTopic(meshID, olga.ID, "ops", "member", time.Now())))
	said(t, db, adam, "ops", "@olga")
	p := topicPost(adam, "ops", base64.StdEncoding.EncodeToString([]byte("@olga")))
	p.Mentions = []string{"olga"}
	_, _, posted := post(db, p)
	err = errors.Join(err, posted, failed(db.LeaveTopic(meshID, olga.ID, topic.ID)), failed(db.JoinTopic(meshID, olga.ID, "ops", "member", time.Now())))
	topics, read := db.Topics(t.Context(), meshID, olga.ID)
	if err != nil || read != nil || len(topics) != 2 || topics[1].Unread != 0 || topics[1].Mentions != 0 {
		t.Errorf("%+v, %v, %v", topics, err, read)
	}
}

// Receipts are what the ledger says of each message, in numbers.
func TestReceiptsAgreeWithTheLedger(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		db, err := Open(filepath.Join(t.TempDir(), "meshbox.db"), Options{Schema: schemaText(t), Server: true, First: home()})
		if err != nil {
			r.Fatal(err)
		}
		defer db.Close()
		meshes, err := db.Meshes(t.Context())
		if err != nil {
			r.Fatal(err)
		}
		meshID := meshes[0].ID
		var members []Member
		for i := range 5 {
			members = append(members, addMember(t, db, meshID, fmt.Sprint("m", i)))
		}
		general, _, err := db.Topic(t.Context(), meshID, members[0].ID, "general")
		if err != nil {
			r.Fatal(err)
		}
		began := time.Now().Add(-time.Hour)
		for i := range 10 {
			p := topicPost(members[rapid.IntRange(0, 1).Draw(r, "sender")], "general", base64.StdEncoding.EncodeToString([]byte("hi")))
			p.CreatedAt = began.Add(time.Duration(i) * time.Minute)
			if who := rapid.IntRange(2, 8).Draw(r, "denied"); who < len(members) {
				p.Denied = map[string]bool{members[who].ID: true}
			}
			if _, _, err := post(db, p); err != nil {
				r.Fatal(err)
			}
		}
		seq := rapid.IntRange(0, 11)
		err = db.Update(func(tx *Tx) error {
			for _, m := range members {
				var marked any
				if rapid.Bool().Draw(r, "marks") {
					marked = 7
				}
				err := tx.exec(`UPDATE topic_member SET since_seq = ?, delivered_seq = ?, read_seq = ?, last_read_at = ?, delivered_at = 5 WHERE topic_id = ? AND member_id = ?`,
					seq.Draw(r, "since"), seq.Draw(r, "delivered"), seq.Draw(r, "read"), marked, general.ID, m.ID)
				if from := seq.Draw(r, "gap"); err == nil && from > 5 {
					err = tx.exec(`INSERT INTO topic_gap VALUES (?, ?, ?, ?, 9)`, general.ID, m.ID, from, from+2)
				}
				if rapid.IntRange(0, 3).Draw(r, "revoked") == 0 && err == nil && m.ID != members[0].ID {
					err = tx.exec(`UPDATE member SET revoked_at = ? WHERE id = ?`, began.Add(time.Duration(seq.Draw(r, "at"))*time.Minute).UnixMilli(), m.ID)
				}
				if rapid.IntRange(0, 5).Draw(r, "left") == 0 && err == nil && m.ID != members[0].ID {
					err = tx.exec(`DELETE FROM topic_member WHERE topic_id = ? AND member_id = ?`, general.ID, m.ID)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
		cursors, err := db.TopicCursors(t.Context(), general.ID)
		if err != nil {
			r.Fatal(err)
		}
		receipts, err := db.Receipts(t.Context(), cursors, members[0].ID, 50)
		if err != nil {
			r.Fatal(err)
		}
		for _, got := range receipts {
			m, err := db.FindMessage(t.Context(), meshID, members[0].ID, got.MessageID)
			if err != nil {
				r.Fatal(err)
			}
			copies, err := db.Copies(t.Context(), m)
			if err != nil {
				r.Fatal(err)
			}
			want := Receipt{MessageID: m.ID, Recipients: len(copies)}
			for _, c := range copies {
				if c.Seen {
					want.Seen++
				}
				if c.Seen || c.Outcome == OutcomeAcked {
					want.Acked++
				}
			}
			if got != want {
				r.Fatalf("receipt %+v, the ledger says %+v: %+v", got, want, copies)
			}
		}
	})
}
