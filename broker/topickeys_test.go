package broker

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// What our own peers make of encrypted topics (broker/peer/topickeys.go).

// keeper joins and connects as a peer that stays and hands on topic keys.
func (h *house) keeper(name string) *guest {
	return h.dial(h.join(name), peer.Options{KeepKeys: true})
}

// makes creates an encrypted topic as a peer does.
func (g *guest) makes(topic, visibility string, members ...*guest) {
	g.t.Helper()
	made, err := g.CreateTopic(g.t.Context(), wire.TopicCreate{Name: topic, Visibility: visibility, Encrypted: true})
	if err != nil || !made.Created || !made.Topic.Keyed {
		g.t.Fatalf("made %+v, %v", made, err)
	}
	for _, m := range members {
		ask[*wire.Ack](g, &wire.TopicInvite{Topic: topic, Member: m.id.MemberID})
	}
}

// wantKey waits until g has the key of a topic.
func (g *guest) wantKey(topic string) {
	g.t.Helper()
	eventually(g.t, g.id.DisplayName+" has the key of "+topic, func() bool {
		err := g.FetchKey(g.t.Context(), topic)
		if err != nil && !errors.Is(err, peer.ErrSealed) {
			g.t.Fatal(err)
		}
		return err == nil
	})
}

// reads returns the texts of a topic, oldest first, "?" for what cannot be read.
func (g *guest) reads(topic string) (texts []string) {
	g.t.Helper()
	history := ask[*wire.TopicHistoryResponse](g, &wire.TopicHistory{Topic: topic}).Messages
	for i := len(history) - 1; i >= 0; i-- {
		text, err := g.TopicText(topic, history[i].Nonce, history[i].Ciphertext, history[i].BodyVersion)
		if err != nil {
			text = "?"
		}
		texts = append(texts, text)
	}
	return texts
}

func (g *guest) wantReads(topic, want string) {
	g.t.Helper()
	if got := strings.Join(g.reads(topic), " | "); got != want {
		g.t.Errorf("%s reads %q in %s, want %q", g.id.DisplayName, got, topic, want)
	}
}

func TestSendingToAnEncryptedTopicIsLikeAnyOther(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.keeper("ann"), h.keeper("bob")
	ann.makes("plans", wire.VisibilityPrivate, bob)
	bob.wantKey("plans")
	const text = "The unspeakable plan, @bob"
	id := ann.say("#plans", text)
	push := bob.wantPush(text)
	if push.BodyVersion != 2 || push.MessageID != id || strings.Contains(push.Ciphertext, "VGhl") {
		t.Errorf("push %+v", push)
	}
	bob.say("#"+ask[*wire.TopicKeyResponse](bob, &wire.TopicKey{Topic: "plans"}).TopicID, "by its id")
	ann.wantPush("by its id")
	ann.wantReads("plans", text+" | by its id")
	if n, err := h.db.CountNotifications(t.Context(), bob.id.MemberID); err != nil || n != 1 {
		t.Errorf("%d mentions of bob, %v: the sender has to tell of them", n, err)
	}
	if found := ask[*wire.TopicSearchResponse](ann, &wire.TopicSearch{Query: "unspeakable"}).Messages; len(found) != 0 {
		t.Errorf("search finds %+v", found)
	}
	files, _ := filepath.Glob(h.db.Path() + "*")
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && (bytes.Contains(content, []byte("unspeakable")) || bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString([]byte(text))))) {
			t.Errorf("%s holds the text", file)
		}
	}
}

// A member that comes later reads what was said before, once anybody with the key is
// there: not only who made it.
func TestWhoComesLaterGetsTheKeyFromAnybody(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.keeper("ann"), h.keeper("bob")
	ann.makes("plans", wire.VisibilityPublic)
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "plans"})
	bob.wantKey("plans")
	ann.say("#plans", "before")
	ann.Close()
	bob.Close()

	cat := h.keeper("cat")
	ask[*wire.Ack](cat, &wire.TopicJoin{Topic: "plans"})
	if err := cat.FetchKey(t.Context(), "plans"); !errors.Is(err, peer.ErrNoTopicKey) {
		t.Errorf("nobody is there: %v", err)
	}
	cat.wantReads("plans", "?")
	if _, err := cat.SendText(t.Context(), "#plans", "x"); !errors.Is(err, peer.ErrNoTopicKey) {
		t.Errorf("writing without the key: %v", err)
	}
	again := h.dial(bob.id, peer.Options{KeepKeys: true}) // finds out by itself that somebody waits
	cat.wantKey("plans")
	cat.wantReads("plans", "before")
	cat.say("#plans", "after")
	again.wantPush("before")
	again.wantPush("after")
}

// A session has the keys of its member.
func TestSessionsReadWhatTheirMemberReads(t *testing.T) {
	h := newHouse(t)
	ann := h.keeper("ann")
	id := h.join("bob")
	session := h.dial(id, peer.Options{Session: identity.NewKey(), KeepKeys: true})
	ann.makes("plans", wire.VisibilityPrivate, &guest{id: id})
	session.wantKey("plans")
	session.say("#plans", "as a session")
	ann.wantPush("as a session")
}

// sealedBy is who sealed a member's copy, as the data file has it.
func (h *house) sealedBy(g *guest) (id string) {
	h.t.Helper()
	raw := h.openRaw()
	defer raw.Close()
	if err := raw.QueryRow(`SELECT sealed_by FROM topic_seal WHERE member_id = ?`, g.id.MemberID).Scan(&id); err != nil {
		h.t.Fatal(err)
	}
	return id
}

// Who opened its copy seals it for itself: it then depends on nobody.
func TestACopyIsSealedAnewByWhoseItIs(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.keeper("ann"), h.keeper("bob")
	adam := h.arriveAdmin("adam")
	ann.makes("plans", wire.VisibilityPrivate, bob)
	bob.wantKey("plans")
	if by := h.sealedBy(bob); by != bob.id.MemberID {
		t.Errorf("sealed by %s, ann is %s, bob is %s", by, ann.id.MemberID, bob.id.MemberID)
	}
	bob.say("#plans", "still here")
	ask[*wire.BanAck](adam, &wire.Ban{Target: "ann"})
	again := h.dial(bob.id, peer.Options{})
	if err := again.FetchKey(t.Context(), "plans"); err != nil {
		t.Error(err)
	}
	again.wantReads("plans", "still here")
}

// Whoever writes into the data file can put a key of their own there. It is not used,
// and the members mend it.
func TestAKeyOfAStrangerIsNotUsed(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.keeper("ann"), h.arrive("bob")
	mallory, eve := h.join("mallory"), identity.NewKey()
	ann.makes("plans", wire.VisibilityPrivate, bob)
	bob.wantKey("plans")
	forge := func(key identity.Key, sealer string) *guest {
		t.Helper()
		encrypted, nonce, err := key.SealTopicKey(bob.Key(), identity.NewTopicKey())
		if err != nil {
			t.Fatal(err)
		}
		raw := h.openRaw()
		defer raw.Close()
		if _, err := raw.Exec(`UPDATE topic_seal SET encrypted_key = ?, nonce = ?, sealed_by = ? WHERE member_id = ?`, encrypted, nonce, sealer, bob.id.MemberID); err != nil {
			t.Fatal(err)
		}
		return h.dial(bob.id, peer.Options{})
	}
	for _, by := range []struct {
		key    identity.Key
		sealer string
	}{{eve, bob.id.MemberID}, {mallory.Key, mallory.MemberID}} {
		if _, err := forge(by.key, by.sealer).SendText(t.Context(), "#plans", "x"); !errors.Is(err, peer.ErrForeignTopicKey) || !errors.Is(err, peer.ErrSealed) {
			t.Errorf("as of %s: %v", by.sealer, err)
		}
	}
	again := h.dial(bob.id, peer.Options{})
	h.dial(ann.id, peer.Options{KeepKeys: true}) // sees that bob's copy counts no more
	eventually(t, "bob's copy is mended", func() bool { return h.sealedBy(bob) != mallory.MemberID })
	if err := again.FetchKey(t.Context(), "plans"); err != nil {
		t.Error(err)
	}
	again.say("#plans", "safe")
	ann.wantPush("safe")
}

// Another client may have sealed with a key that is not its member's. Ours does not use
// that, and another member mends it.
func TestACopyOfAnotherKindIsMended(t *testing.T) {
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.arrive("bob"), h.arrive("cat")
	ann.makes("plans", wire.VisibilityPrivate, bob)
	encrypted, nonce, err := identity.NewKey().SealTopicKey(bob.Key(), identity.NewTopicKey())
	if err != nil {
		t.Fatal(err)
	}
	ask[*wire.TopicSealResponse](ann, &wire.TopicSeal{Topic: "plans", MemberID: bob.id.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	if err := bob.FetchKey(t.Context(), "plans"); !errors.Is(err, peer.ErrForeignTopicKey) {
		t.Errorf("bob uses it: %v", err)
	}
	if sealed, err := ann.SealPending(t.Context(), "plans"); sealed != 1 || err != nil {
		t.Errorf("sealed for %d, %v", sealed, err)
	}
	if err := bob.FetchKey(t.Context(), "plans"); err != nil {
		t.Error(err)
	}
	if _, err := cat.SealPending(t.Context(), "plans"); err != nil { // not hers to see
		t.Error(err)
	}
}

// A topic that is encrypted while somebody writes to it gets nothing readable.
func TestATopicBecomesEncrypted(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.keeper("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "ops"})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "ops"})
	bob.say("#ops", "in the open")
	ann.wantPush("in the open")
	ask[*wire.TopicClaimKeyResponse](ann, &wire.TopicClaimKey{Topic: "ops", OwnSeal: ann.ownSeal(identity.NewTopicKey())})
	eventually(t, "bob has a copy", func() bool {
		_, err := bob.Request(t.Context(), &wire.TopicKey{Topic: "ops"})
		return err == nil
	})
	bob.say("#ops", "not any more") // it thought that the topic was open
	if push := ann.wantPush("not any more"); push.BodyVersion != 2 {
		t.Errorf("push %+v", push)
	}
	ann.wantReads("ops", "in the open | not any more")
}

// Many members, more than one answer names, get their keys in one go.
func TestAllWhoWaitGetTheKey(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 200, 60 })
	ann := h.arrive("ann")
	ann.makes("plans", wire.VisibilityPublic)
	const members = wire.MaxPendingSeals + 20
	for range members {
		id := h.join("one of many")
		if _, err := h.db.JoinTopic(id.MeshID, id.MemberID, "plans", wire.TopicMember, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := ann.SealPending(t.Context(), "#plans")
	if err != nil || sealed != members {
		t.Errorf("sealed for %d, %v; want %d", sealed, err, members)
	}
	if pending := ask[*wire.TopicPendingSealsResponse](ann, &wire.TopicPendingSeals{Topic: "plans"}).Pending; len(pending) != 0 {
		t.Errorf("%d still wait", len(pending))
	}
}

// A broker that knows no topic keys has no encrypted topics.
func TestTopicsThatAreNotThere(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ann.wantUnsent("#nowhere", "x", wire.TargetNotFound)
	if sealed, err := ann.SealPending(t.Context(), "general"); sealed != 0 || err != nil {
		t.Errorf("general: %d, %v", sealed, err)
	}
}
