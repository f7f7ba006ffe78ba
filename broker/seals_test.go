package broker

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// ownSeal is a topic's key as g seals it for itself.
func (g *guest) ownSeal(key identity.TopicKey) wire.OwnSeal {
	g.t.Helper()
	encrypted, nonce := g.sealed(g, key)
	return wire.OwnSeal{EncryptedKeyPubkey: g.id.Key.SealerKey(), EncryptedKey: encrypted, Nonce: nonce}
}

// sealed is a topic's key as g seals it for somebody.
func (g *guest) sealed(to *guest, key identity.TopicKey) (encrypted, nonce string) {
	g.t.Helper()
	encrypted, nonce, err := g.id.Key.SealTopicKey(to.id.Key.Public(), key)
	if err != nil {
		g.t.Fatal(err)
	}
	return encrypted, nonce
}

// encrypts makes an encrypted topic.
func (g *guest) encrypts(topic, visibility string) identity.TopicKey {
	g.t.Helper()
	key := identity.NewTopicKey()
	made := ask[*wire.TopicCreated](g, &wire.TopicCreate{Name: topic, Visibility: visibility, Encrypted: true, OwnSeal: g.ownSeal(key)})
	if !made.Created || !made.Topic.Keyed {
		g.t.Fatalf("made %+v", made)
	}
	return key
}

// wantTold waits for the event that the keys of a topic changed.
func (g *guest) wantTold(topic string) {
	g.t.Helper()
	for {
		push := g.next()
		if push == nil {
			g.t.Fatalf("%s was told nothing about the key of %s", g.id.DisplayName, topic)
		}
		var change wire.MeshChange
		if push.Event == wire.EventMeshChanged && json.Unmarshal(push.EventData, &change) == nil && slices.Contains(change.What, wire.ChangedSeals) {
			if change.Topic != topic {
				g.t.Errorf("%s was told about the key of %q, want %q", g.id.DisplayName, change.Topic, topic)
			}
			return
		}
	}
}

// arriveKeeping joins and connects as one that has a use for topic keys.
func (h *house) arriveKeeping(name string) *guest {
	return h.dial(h.join(name), peer.Options{Client: wire.Client{Capabilities: []string{wire.CapTopicKeys}}})
}

func TestAnEncryptedTopicOnTheWire(t *testing.T) {
	h := newHouse(t)
	ann, bob, eve := h.arriveKeeping("ann"), h.arriveKeeping("bob"), h.arriveKeeping("eve")
	key := ann.encrypts("plans", wire.VisibilityPrivate)
	ann.wantTold("plans")
	ask[*wire.Ack](ann, &wire.TopicInvite{Topic: "plans", Member: bob.Key()})
	ann.wantTold("plans")
	bob.wantTold("plans")
	for _, m := range []wire.Message{&wire.TopicKey{Topic: "plans"}, &wire.TopicPendingSeals{Topic: "plans"}, &wire.TopicSeal{Topic: "plans", MemberID: "x", EncryptedKey: ann.ownSeal(key).EncryptedKey, Nonce: ann.ownSeal(key).Nonce},
		&wire.TopicClaimKey{Topic: "plans", OwnSeal: eve.ownSeal(key)}} {
		eve.wantRefused(m, wire.TopicNotFound)
	}
	bob.wantRefused(&wire.TopicKey{Topic: "plans"}, wire.KeyNotSealed)
	pending := ask[*wire.TopicPendingSealsResponse](ann, &wire.TopicPendingSeals{Topic: "plans"})
	if len(pending.Pending) != 1 || pending.Pending[0] != (wire.PendingSeal{MemberID: bob.id.MemberID, Pubkey: bob.Key(), DisplayName: "bob"}) || *pending.SenderPubkey != ann.id.Key.SealerKey() {
		t.Fatalf("pending %+v", pending)
	}
	encrypted, nonce := ann.sealed(bob, key)
	done := ask[*wire.TopicSealResponse](ann, &wire.TopicSeal{Topic: "plans", MemberID: bob.id.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	bob.wantTold("plans")
	got := ask[*wire.TopicKeyResponse](bob, &wire.TopicKey{Topic: "plans"})
	if got.EncryptedKey != encrypted || got.Nonce != nonce || got.SenderPubkey != ann.id.Key.SealerKey() || got.CreatedAt != done.SealedAt || got.Topic != "plans" {
		t.Errorf("key %+v, sealed %+v", got, done)
	}
	if _, sealer, err := bob.id.Key.OpenTopicKey(got.EncryptedKey, got.Nonce, ann.Key()); err != nil || sealer != ann.Key() {
		t.Errorf("opened as of %s, %v", sealer, err)
	}
	again := ask[*wire.TopicSealResponse](bob, &wire.TopicSeal{Topic: "plans", MemberID: ann.id.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	if kept := ask[*wire.TopicKeyResponse](ann, &wire.TopicKey{Topic: "plans"}); kept.EncryptedKey == encrypted || kept.CreatedAt != again.SealedAt {
		t.Errorf("bob replaced the key of ann: %+v", kept)
	}
	topics := ask[*wire.TopicListResponse](bob, &wire.TopicList{}).Topics
	if topics[0].Keyed || !topics[1].Keyed || topics[1].Encrypted {
		t.Errorf("topics %+v", topics)
	}
	eve.wantQuiet()
}

// What is not encrypted is refused in an encrypted topic, whichever way it comes.
func TestNothingReadableGoesIntoAnEncryptedTopic(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	ann.encrypts("plans", wire.VisibilityPublic)
	nonce, text := peer.Plain("in the clear")
	for _, version := range []int{0, 1} {
		ack, err := ann.Send(t.Context(), wire.Send{TargetSpec: "#plans", Nonce: nonce, Ciphertext: text, BodyVersion: version})
		if err != nil || ack.Queued || !strings.HasPrefix(ack.Error, wire.TopicEncrypted+": invalid ") {
			t.Errorf("version %d: %+v, %v", version, ack, err)
		}
	}
	secret := ann.key("send").Secret
	h.rest(secret, "POST /messages", `{"topic":"plans","text":"in the clear"}`).wantProblem(http.StatusConflict, wire.TopicEncrypted)
	h.rest(secret, "POST /messages", fmt.Sprintf(`{"topic":"plans","ciphertext":%q,"nonce":%q}`, text, nonce)).wantProblem(http.StatusConflict, wire.TopicEncrypted)
	posted := wantOK[postResponse](h.rest(secret, "POST /messages", fmt.Sprintf(`{"topic":"plans","ciphertext":"c2VjcmV0","nonce":%q,"bodyVersion":2}`, nonce)))
	history := ask[*wire.TopicHistoryResponse](ann, &wire.TopicHistory{Topic: "plans"}).Messages
	if len(history) != 1 || history[0].ID != posted.MessageID || history[0].BodyVersion != 2 {
		t.Errorf("history %+v", history)
	}
}

func TestAnEncryptedTopicIsMadeWithItsKey(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	good := ann.ownSeal(identity.NewTopicKey())
	for name, own := range map[string]wire.OwnSeal{
		"no key":          {},
		"no sealer":       {EncryptedKey: good.EncryptedKey, Nonce: good.Nonce},
		"another sealer":  {EncryptedKeyPubkey: bob.id.Key.SealerKey(), EncryptedKey: good.EncryptedKey, Nonce: good.Nonce},
		"upper case":      {EncryptedKeyPubkey: strings.ToUpper(good.EncryptedKeyPubkey), EncryptedKey: good.EncryptedKey, Nonce: good.Nonce},
		"a short key":     {EncryptedKeyPubkey: good.EncryptedKeyPubkey, EncryptedKey: good.EncryptedKey[:64], Nonce: good.Nonce},
		"a nonce of none": {EncryptedKeyPubkey: good.EncryptedKeyPubkey, EncryptedKey: good.EncryptedKey},
	} {
		if _, err := ann.Request(t.Context(), &wire.TopicCreate{Name: "plans", Encrypted: true, OwnSeal: own}); err == nil || !strings.HasPrefix(err.Error(), wire.InvalidArgs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ann.wantRefused(&wire.TopicCreate{Name: "plans", OwnSeal: good}, wire.InvalidArgs)
	ann.wantRefused(&wire.TopicHistory{Topic: "plans"}, wire.TopicNotFound) // none was made
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "open"})
	for _, taken := range []string{"open", "general"} { // it says that it is not what was asked for
		if made := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: taken, Encrypted: true, OwnSeal: good}); made.Created || made.Topic.Keyed {
			t.Errorf("%s: %+v", taken, made)
		}
	}
}

// The members hear of who needs a key, and nobody else does.
func TestWhoHasTheKeyIsToldWhoNeedsOne(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	ann, bob, cat := h.arriveKeeping("ann"), h.arriveKeeping("bob"), h.arriveKeeping("cat")
	key := ann.encrypts("plans", wire.VisibilityPublic)
	ann.wantTold("plans")
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "plans"})
	ann.wantTold("plans")
	encrypted, nonce := ann.sealed(bob, key)
	ask[*wire.TopicSealResponse](ann, &wire.TopicSeal{Topic: "plans", MemberID: bob.id.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	ask[*wire.BanAck](adam, &wire.Ban{Target: "ann"}) // bob's copy counts no more
	bob.drain()
	if pending := ask[*wire.TopicPendingSealsResponse](bob, &wire.TopicPendingSeals{Topic: "plans"}).Pending; len(pending) != 1 || pending[0].MemberID != bob.id.MemberID {
		t.Errorf("pending %+v", pending)
	}
	encrypted, nonce = bob.sealed(bob, key)
	ask[*wire.TopicSealResponse](bob, &wire.TopicSeal{Topic: "plans", MemberID: bob.id.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	ask[*wire.UnbanAck](adam, &wire.Unban{Target: "ann"})
	bob.wantTold("plans")
	cat.drain()
	ask[*wire.TopicPendingSealsResponse](bob, &wire.TopicPendingSeals{Topic: "plans"})
	cat.wantRefused(&wire.TopicKey{Topic: "plans"}, wire.Forbidden) // public, and she is not in it
	cat.wantRefused(&wire.TopicPendingSeals{Topic: "plans"}, wire.Forbidden)
	cat.wantRefused(&wire.TopicSeal{Topic: "plans", MemberID: cat.id.MemberID, EncryptedKey: encrypted, Nonce: nonce}, wire.Forbidden)
}

func TestKeysOverREST(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	topic := ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"}).Topic
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys"})
	anns, bobs := ann.key("read", "send").Secret, bob.key("read", "send").Secret
	key := identity.NewTopicKey()
	own := ann.ownSeal(key)
	claim := func(o wire.OwnSeal) string { return toJSON(o) }

	h.rest(anns, "GET /topics/deploys/key", "").wantProblem(http.StatusConflict, wire.TopicUnencrypted)
	open := wantOK[map[string]any](h.rest(anns, "GET /topics/deploys/pending-seals", ""))
	if pending, ok := open["pending"].([]any); !ok || len(pending) != 0 || open["senderPubkey"] != nil {
		t.Errorf("pending in an open topic: %v", open)
	}
	seal := func(to *guest) string {
		encrypted, nonce := ann.sealed(to, key)
		return fmt.Sprintf(`{"memberId":%q,"encryptedKey":%q,"nonce":%q}`, to.id.MemberID, encrypted, nonce)
	}
	h.rest(anns, "POST /topics/deploys/seal", seal(bob)).wantProblem(http.StatusConflict, wire.TopicUnencrypted)
	h.rest(bobs, "POST /topics/deploys/claim-key", claim(bob.ownSeal(key))).wantProblem(http.StatusForbidden, wire.Forbidden)
	h.rest(anns, "POST /topics/general/claim-key", claim(own)).wantProblem(http.StatusForbidden, wire.Forbidden)
	for _, bad := range []string{`{}`, `{"encryptedKeyPubkey":7}`, claim(wire.OwnSeal{EncryptedKeyPubkey: own.EncryptedKeyPubkey, EncryptedKey: "AAAA", Nonce: own.Nonce}),
		claim(wire.OwnSeal{EncryptedKeyPubkey: strings.Repeat("0", 64), EncryptedKey: own.EncryptedKey, Nonce: own.Nonce})} {
		h.rest(anns, "POST /topics/deploys/claim-key", bad).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	}

	claimed := wantOK[map[string]any](h.rest(anns, "POST /topics/deploys/claim-key", claim(own)))
	if want := map[string]any{"topic": "deploys", "topicId": topic.ID, "senderPubkey": own.EncryptedKeyPubkey, "memberId": ann.id.MemberID, "claimed": true}; !maps.Equal(claimed, want) {
		t.Errorf("claimed %v, want %v", claimed, want)
	}
	again := h.rest(bobs, "POST /topics/deploys/claim-key", claim(bob.ownSeal(key)))
	again.wantProblem(http.StatusConflict, wire.AlreadyEncrypted)
	if again.body["senderPubkey"] != own.EncryptedKeyPubkey {
		t.Errorf("already encrypted: %s", again.text)
	}
	got := wantOK[map[string]any](h.rest(anns, "GET /topics/"+topic.ID+"/key", ""))
	if keys := slices.Sorted(maps.Keys(got)); strings.Join(keys, " ") != "createdAt encryptedKey nonce senderPubkey topic topicId" || got["encryptedKey"] != own.EncryptedKey || got["nonce"] != own.Nonce {
		t.Errorf("key %v", got)
	}
	missing := h.rest(bobs, "GET /topics/deploys/key", "")
	missing.wantProblem(http.StatusNotFound, wire.KeyNotSealed)
	if missing.body["topic"] != "deploys" {
		t.Errorf("no key: %s", missing.text)
	}
	pending := wantOK[wire.TopicPendingSealsResponse](h.rest(bobs, "GET /topics/deploys/pending-seals", ""))
	if len(pending.Pending) != 1 || pending.Pending[0].Pubkey != bob.Key() || *pending.SenderPubkey != own.EncryptedKeyPubkey || pending.TopicID != topic.ID {
		t.Errorf("pending %+v", pending)
	}
	h.rest(bobs, "POST /topics/deploys/seal", seal(ann)).wantProblem(http.StatusNotFound, wire.KeyNotSealed)
	outsider := h.arrive("cat")
	h.rest(anns, "POST /topics/deploys/seal", seal(outsider)).wantProblem(http.StatusNotFound, wire.NotInTopic)
	h.rest(anns, "POST /topics/deploys/seal", `{"encryptedKey":"AAAA","nonce":"AAAA"}`).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	h.rest(anns, "POST /topics/deploys/seal", fmt.Sprintf(`{"memberId":%q,"encryptedKey":"AAAA","nonce":"AAAA"}`, bob.id.MemberID)).wantProblem(http.StatusBadRequest, wire.InvalidArgs)
	done := wantOK[map[string]any](h.rest(anns, "POST /topics/deploys/seal", seal(bob)))
	if _, err := time.Parse(time.RFC3339, done["sealedAt"].(string)); err != nil || len(done) != 4 || done["memberId"] != bob.id.MemberID || done["topicId"] != topic.ID {
		t.Errorf("sealed %v", done)
	}
	theirs := wantOK[wire.TopicKeyResponse](h.rest(bobs, "GET /topics/deploys/key", ""))
	if _, sealer, err := bob.id.Key.OpenTopicKey(theirs.EncryptedKey, theirs.Nonce, ann.Key()); err != nil || sealer != ann.Key() {
		t.Errorf("opened as of %s, %v", sealer, err)
	}
	h.rest(outsider.key("read").Secret, "GET /topics/deploys/key", "").wantProblem(http.StatusForbidden, wire.Forbidden)
}

// A claim and a seal count as messages do.
func TestChangesOfKeysAreLimited(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 0.001, 4 })
	ann := h.arrive("ann")
	key := ann.encrypts("plans", wire.VisibilityPublic)
	secret := ann.key("send").Secret
	own := ann.ownSeal(key)
	body := fmt.Sprintf(`{"memberId":%q,"encryptedKey":%q,"nonce":%q}`, ann.id.MemberID, own.EncryptedKey, own.Nonce)
	wantOK[any](h.rest(secret, "POST /topics/plans/seal", body))
	wantOK[any](h.rest(secret, "POST /topics/plans/seal", body))
	h.rest(secret, "POST /topics/plans/seal", body).wantProblem(http.StatusTooManyRequests, wire.RateLimit)
	ann.wantRefused(&wire.TopicSeal{Topic: "plans", MemberID: ann.id.MemberID, EncryptedKey: own.EncryptedKey, Nonce: own.Nonce}, wire.RateLimit)
}
