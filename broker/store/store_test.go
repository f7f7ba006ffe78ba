package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// schemaText is what main embeds.
func schemaText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// home is a first mesh with recognisable keys.
func home() *FirstMesh {
	now := time.Now()
	m := Mesh{ID: NewID(), Slug: "home", OwnerPubKey: strings.Repeat("a", 64), OwnerSeed: make([]byte, 32), RootKey: make([]byte, 32), CreatedAt: now}
	return &FirstMesh{Mesh: m, Invites: []Invite{{ID: NewID(), MeshID: m.ID, Code: NewCode(), Token: "first", Role: RoleAdmin, GrantsOwner: true, MaxUses: 1, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour)}}}
}

// newDB opens a fresh file with one mesh and returns that mesh's id.
func newDB(t testing.TB) (*DB, string) {
	t.Helper()
	first := home()
	db := mustOpen(t, filepath.Join(t.TempDir(), "meshbox.db"), Options{Schema: schemaText(t), Server: true, First: first})
	return db, first.Mesh.ID
}

func mustOpen(t testing.TB, path string, o Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// addMember joins somebody by a fresh invite.
func addMember(t testing.TB, db *DB, meshID, name string) Member {
	t.Helper()
	now := time.Now()
	invite := Invite{ID: NewID(), MeshID: meshID, Code: NewCode(), Token: NewID(), Role: RoleMember, MaxUses: 1, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := db.CreateInvite(invite, ""); err != nil {
		t.Fatal(err)
	}
	joined, err := db.Join(Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: invite.Token, PubKey: keyOf(name), DisplayName: name}, now)
	if err != nil {
		t.Fatal(err)
	}
	return joined.Member
}

// keyOf makes a well-formed key of a name.
func keyOf(name string) string {
	return fmt.Sprintf("%064s", hex.EncodeToString([]byte(name)))
}

// post appends and waits.
func post(db *DB, p Post) (Post, Posted, error) {
	type outcome struct {
		posted Posted
		err    error
	}
	done := make(chan outcome, 1)
	if p.ID == "" {
		p.ID = NewID()
	}
	if p.Priority == "" {
		p.Priority = "next"
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = time.Now()
	}
	db.Append(&p, nil, func(posted Posted, err error) { done <- outcome{posted, err} })
	o := <-done
	return p, o.posted, o.err
}

func topicPost(m Member, ref, text string) Post {
	return Post{Message: Message{MeshID: m.MeshID, SenderMemberID: m.ID, SenderPubKey: m.PubKey, SenderName: m.DisplayName, TargetSpec: "#" + ref, Ciphertext: text, BodyVersion: 1}, TopicRef: ref}
}

func TestGeneralExistsFromTheCreationOfEveryMesh(t *testing.T) {
	db, meshID := newDB(t)
	second := home()
	second.Mesh.Slug, second.Invites[0].Token = "lab", "lab-first"
	if err := db.CreateMesh(*second); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{meshID, second.Mesh.ID} {
		general, _, err := db.Topic(t.Context(), id, "", "general")
		if err != nil || general.Description != GeneralDescription || general.Visibility != "public" {
			t.Errorf("mesh %s: general = %+v, %v", id, general, err)
		}
	}
	if err := db.CreateMesh(*second); !errors.Is(err, ErrExists) {
		t.Errorf("creating a mesh twice: %v, want ErrExists", err)
	}
}

func TestFirstLinkMakesTheOwnerAndLeadOfGeneral(t *testing.T) {
	db, meshID := newDB(t)
	join := Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: "first", PubKey: keyOf("olga"), DisplayName: "olga"}
	joined, err := db.Join(join, time.Now())
	if err != nil || joined.Member.Role != RoleAdmin {
		t.Fatalf("joined = %+v, %v", joined, err)
	}
	addMember(t, db, meshID, "adam")
	mesh, _ := db.MeshByID(t.Context(), meshID)
	if mesh.OwnerMemberID != joined.Member.ID {
		t.Errorf("owner = %q, want olga", mesh.OwnerMemberID)
	}
	general, _, _ := db.Topic(t.Context(), meshID, joined.Member.ID, "general")
	members, err := db.TopicMembers(t.Context(), general.ID)
	if err != nil || len(members) != 2 || members[0].Role != "lead" || members[1].Role != "member" {
		t.Fatalf("members of general = %+v, %v", members, err)
	}

	again, err := db.Join(join, time.Now())
	if err != nil || !again.Already || again.Member.ID != joined.Member.ID {
		t.Errorf("the same key again = %+v, %v", again, err)
	}
	join.PubKey = keyOf("eve")
	if _, err := db.Join(join, time.Now()); !errors.Is(err, ErrInviteExhausted) {
		t.Errorf("another key by the used link: %v, want ErrInviteExhausted", err)
	}
}

func TestInviteUsesAreConsumedAtomically(t *testing.T) {
	db, meshID := newDB(t)
	now := time.Now()
	const uses, tries = 5, 40
	if err := db.CreateInvite(Invite{ID: NewID(), MeshID: meshID, Code: NewCode(), Token: "five", Role: RoleMember, MaxUses: uses, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, ""); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	outcomes := make([]error, tries)
	for i := range tries {
		wg.Go(func() {
			_, outcomes[i] = db.Join(Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: "five", PubKey: keyOf(fmt.Sprint(i)), DisplayName: "x"}, now)
		})
	}
	wg.Wait()
	joined := 0
	for _, err := range outcomes {
		if err == nil {
			joined++
		} else if !errors.Is(err, ErrInviteExhausted) {
			t.Error(err)
		}
	}
	if joined != uses {
		t.Errorf("%d joined by an invite for %d", joined, uses)
	}
}

func TestClaimedPlaceIsVoidAfterTenMinutes(t *testing.T) {
	db, meshID := newDB(t)
	now := time.Now()
	claim := func() Member {
		joined, err := db.Join(Joining{MeshID: meshID, OwnerPubKey: strings.Repeat("a", 64), Token: "first", DisplayName: "later"}, now)
		if err != nil {
			t.Fatal(err)
		}
		return joined.Member
	}
	late := claim()
	if err := db.BindClaim(meshID, late.ID, keyOf("late"), now.Add(ClaimTime)); !errors.Is(err, ErrNotFound) {
		t.Errorf("binding after the time: %v, want ErrNotFound", err)
	}
	if err := db.DropClaims(now.Add(ClaimTime)); err != nil {
		t.Fatal(err)
	}
	inTime := claim() // the use was given back, and with it the ownership
	if err := db.BindClaim(meshID, inTime.ID, keyOf("intime"), now.Add(ClaimTime-time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := db.BindClaim(meshID, inTime.ID, keyOf("thief"), now); !errors.Is(err, ErrNotFound) {
		t.Errorf("binding twice: %v, want ErrNotFound", err)
	}
	if err := db.DropClaims(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	mesh, _ := db.MeshByID(t.Context(), meshID)
	if mesh.OwnerMemberID != inTime.ID {
		t.Errorf("owner = %q, want the one who came in time", mesh.OwnerMemberID)
	}
}

func TestRepeatedClientMessageIDIsOneMessage(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	p := topicPost(ann, "general", "aGk=")
	p.ClientMessageID, p.Fingerprint = "c1", "f1"
	first, _, err := post(db, p)
	if err != nil {
		t.Fatal(err)
	}
	second, posted, err := post(db, p)
	if err != nil || !posted.Duplicate || second.ID != first.ID {
		t.Errorf("repeated: id %s duplicate %v err %v; want id %s", second.ID, posted.Duplicate, err, first.ID)
	}
	p.Fingerprint = "f2"
	if _, _, err := post(db, p); !errors.Is(err, ErrConflict) {
		t.Errorf("another fingerprint: %v, want ErrConflict", err)
	}
	p.CreatedAt = time.Now().Add(IdempotencyWindow + time.Minute)
	if _, posted, err := post(db, p); err != nil || posted.Duplicate {
		t.Errorf("a day later: duplicate %v err %v; want a new message", posted.Duplicate, err)
	}
	messages, _ := db.History(t.Context(), first.TopicID, Page{Limit: 10})
	if len(messages) != 2 {
		t.Errorf("%d messages stored, want 2", len(messages))
	}
}

func TestOneBadWriteDoesNotFailItsNeighbours(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	blocked, release := make(chan struct{}), make(chan struct{})
	go db.Update(func(*Tx) error { close(blocked); <-release; return nil })
	<-blocked // what follows waits and becomes one batch
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		wg.Go(func() {
			if i == 2 {
				errs[i] = db.Update(func(tx *Tx) error {
					if err := tx.exec(`UPDATE member SET display_name = 'gone' WHERE id = ?`, ann.ID); err != nil {
						return err
					}
					return tx.exec(`INSERT INTO no_such_table VALUES (1)`)
				})
				return
			}
			_, _, errs[i] = post(db, topicPost(ann, "general", "aGk="))
		})
	}
	for len(db.writer.ops) < len(errs) {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 2) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if m, _ := db.MemberByID(t.Context(), meshID, ann.ID); m.DisplayName != "ann" {
		t.Errorf("the failed write left %q behind", m.DisplayName)
	}
}

func TestRefusedOperationIsUndone(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	refusal := errors.New("no")
	err := db.Update(func(tx *Tx) error {
		if err := tx.exec(`UPDATE member SET display_name = 'gone' WHERE id = ?`, ann.ID); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("err = %v, want the refusal", err)
	}
	if m, _ := db.MemberByID(t.Context(), meshID, ann.ID); m.DisplayName != "ann" {
		t.Errorf("display name = %q, want ann", m.DisplayName)
	}
}

func TestAudienceFollowsSubscriptionsOfAnotherProcess(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	_, posted, err := post(db, topicPost(ann, "general", "aGk="))
	if err != nil || len(posted.Audience) != 1 {
		t.Fatalf("audience = %v, %v; want ann alone", posted.Audience, err)
	}
	beside := mustOpen(t, db.Path(), Options{})
	addMember(t, beside, meshID, "bob")
	_, posted, err = post(db, topicPost(ann, "general", "aGk="))
	if err != nil || len(posted.Audience) != 2 {
		t.Errorf("audience = %v, %v; want ann and bob", posted.Audience, err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	early, late := newID(time.UnixMilli(1_700_000_000_000)), newID(time.UnixMilli(1_700_000_000_001))
	if early >= late || len(early) != 30 {
		t.Errorf("%s is not before %s, or not 30 characters", early, late)
	}
	seen := map[string]bool{}
	for range 10_000 {
		id := NewID()
		if seen[id] || strings.Trim(id, base62) != "" {
			t.Fatalf("id %q repeats or holds other characters", id)
		}
		seen[id] = true
	}
}

func TestAcksCountOnlyFromTheAddressed(t *testing.T) {
	db, meshID := newDB(t)
	ann, bob, eve := addMember(t, db, meshID, "ann"), addMember(t, db, meshID, "bob"), addMember(t, db, meshID, "eve")
	p := topicPost(ann, "", "aGk=")
	p.TopicRef, p.TargetSpec, p.Recipients = "", bob.PubKey, []Recipient{{MemberID: bob.ID}}
	sent, _, err := post(db, p)
	if err != nil {
		t.Fatal(err)
	}
	settled := func(memberID string) int {
		done := make(chan error, 1)
		db.SettleByID(Mailbox{MemberID: memberID}, sent.ID, "", time.Now(), func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		n, err := db.QueueDepth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if settled(eve.ID) != 1 || settled(ann.ID) != 1 {
		t.Error("one who was not addressed settled the delivery")
	}
	if settled(bob.ID) != 0 {
		t.Error("the recipient could not settle the delivery")
	}
}

// BenchmarkAppend is the durable path alone: what one message costs when many
// senders share the group commits.
func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 50} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			db, meshID := newDB(b)
			ann, bob := addMember(b, db, meshID, "ann"), addMember(b, db, meshID, "bob")
			body := strings.Repeat("x", 400)
			b.SetParallelism(max(1, senders/2))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p := topicPost(ann, "", body)
					p.TopicRef, p.Recipients, p.ClientMessageID = "", []Recipient{{MemberID: bob.ID}}, NewID()
					if _, _, err := post(db, p); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// A command finds its turn beside a server that writes all the time.
func TestCommandBesideABusyServer(t *testing.T) {
	db, meshID := newDB(t)
	ann := addMember(t, db, meshID, "ann")
	beside := mustOpen(t, db.Path(), Options{})
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 32 {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, _, err := post(db, topicPost(ann, "general", "aGk=")); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for i := range 20 {
		if err := beside.SetSetting("turn", fmt.Sprint(i)); err != nil {
			t.Errorf("turn %d: %v", i, err)
		}
	}
	close(stop)
	busy.Wait()
}
