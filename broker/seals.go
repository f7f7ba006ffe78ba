package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// The keys of encrypted topics (protocol, services, section 2). The broker has none
// of them: members seal them for each other, and it keeps the copies and hands each to
// whom it is for. Over a connection (here) and over HTTP (restseals.go) it is the same.

// sealRefusal is why a key of a topic is not given, or not taken.
type sealRefusal struct {
	code     string
	sentence string
	topic    store.Topic // as far as it is known
}

func (s *sealRefusal) Error() string { return s.code + ": " + s.sentence }

// sealRefused makes a refusal of what the store said, if it is one; other errors
// stay.
func sealRefused(err error, t store.Topic) error {
	refused := func(code, sentence string) error { return &sealRefusal{code, sentence, t} }
	switch {
	case errors.Is(err, store.ErrUnencrypted):
		return refused(wire.TopicUnencrypted, "This topic is not encrypted; it has no key.")
	case errors.Is(err, store.ErrEncrypted):
		return refused(wire.AlreadyEncrypted, "This topic is encrypted already; ask a member of it for the key.")
	case errors.Is(err, store.ErrNotSealed):
		return refused(wire.KeyNotSealed, "You have no key of this topic yet; you get it when a member who has it is connected.")
	case errors.Is(err, store.ErrNoMember):
		return refused(wire.NotInTopic, "There is no member with this id in the topic; topic_members lists them.")
	case errors.Is(err, store.ErrForbidden) && t.General():
		return refused(wire.Forbidden, "#general stays readable for everyone in the mesh; make an encrypted topic instead.")
	case errors.Is(err, store.ErrForbidden):
		return refused(wire.Forbidden, "You are not in this topic; join it first.")
	}
	return err
}

// checkSeal refuses a copy that does not have the form of one. sealer is the key that it
// must begin with, "" for any.
func checkSeal(encryptedKey, nonce, sealer string) error {
	named, err := identity.SealerOf(encryptedKey, nonce)
	switch {
	case err != nil:
		return &sealRefusal{code: wire.InvalidArgs, sentence: "The encryptedKey must be base64 of 32 bytes of the sealer's X25519 key and a box of 48, its nonce base64 of 24 bytes."}
	case sealer != "" && sealer != named:
		return &sealRefusal{code: wire.InvalidArgs, sentence: "The encryptedKeyPubkey must be 64 lowercase hex digits, and the X25519 key that encryptedKey begins with."}
	}
	return nil
}

// checkOwn is checkSeal of the copy of who makes a topic's key.
func checkOwn(own wire.OwnSeal) error {
	if !identity.IsPublicKey(own.EncryptedKeyPubkey) {
		return &sealRefusal{code: wire.InvalidArgs, sentence: "The encryptedKeyPubkey is missing; it is your X25519 key, 64 lowercase hex digits."}
	}
	return checkSeal(own.EncryptedKey, own.Nonce, own.EncryptedKeyPubkey)
}

// sealing is what p does to a topic, by an API key if keyID names one.
func sealing(p *presence, keyID, topic, encryptedKey, nonce string) store.Sealing {
	return store.Sealing{MeshID: p.meshID, By: p.member.ID, APIKeyID: keyID, TopicRef: topic, Seal: sealOf(p, encryptedKey, nonce, time.Now())}
}

// sealOf is a copy that p brought. The protocol leaves open which key it is sealed with;
// ours is always the member's, and by that a recipient knows who sealed it.
func sealOf(p *presence, encryptedKey, nonce string, now time.Time) store.Seal {
	named, err := identity.SealerOf(encryptedKey, nonce)
	return store.Seal{EncryptedKey: encryptedKey, Nonce: nonce, At: now, Proven: err == nil && identity.IsSealerKey(named, p.member.PubKey)}
}

// keyFor answers topic_key.
func (b *Broker) keyFor(ctx context.Context, p *presence, ref string) (*wire.TopicKeyResponse, error) {
	topic, s, err := b.db.TopicKey(ctx, p.meshID, p.member.ID, ref)
	if err != nil {
		return nil, sealRefused(err, topic)
	}
	return &wire.TopicKeyResponse{
		Topic: topic.Name, TopicID: topic.ID, EncryptedKey: s.EncryptedKey, Nonce: s.Nonce, SenderPubkey: topic.SealerKey, CreatedAt: wire.Time(s.At),
	}, nil
}

// claimKey answers topic_claim_key.
func (b *Broker) claimKey(p *presence, keyID, ref string, own wire.OwnSeal) (*wire.TopicClaimKeyResponse, error) {
	if err := checkOwn(own); err != nil {
		return nil, err
	}
	topic, err := b.db.ClaimTopic(sealing(p, keyID, ref, own.EncryptedKey, own.Nonce), own.EncryptedKeyPubkey)
	if errors.Is(err, store.ErrForbidden) && !topic.General() {
		return nil, &sealRefusal{wire.Forbidden, "Only who leads the topic can have it encrypted.", topic}
	}
	if err != nil {
		return nil, sealRefused(err, topic)
	}
	b.topicChanged(p, topic)
	return &wire.TopicClaimKeyResponse{Topic: topic.Name, TopicID: topic.ID, SenderPubkey: topic.SealerKey, MemberID: p.member.ID, Claimed: true}, nil
}

// pendingSeals answers topic_pending_seals.
func (b *Broker) pendingSeals(ctx context.Context, p *presence, ref string) (*wire.TopicPendingSealsResponse, error) {
	topic, members, err := b.db.PendingSeals(ctx, p.meshID, p.member.ID, ref, wire.MaxPendingSeals)
	response := &wire.TopicPendingSealsResponse{Topic: topic.Name, TopicID: topic.ID, Pending: []wire.PendingSeal{}}
	if errors.Is(err, store.ErrUnencrypted) {
		return response, nil
	}
	if err != nil {
		return nil, sealRefused(err, topic)
	}
	response.SenderPubkey = &topic.SealerKey
	for _, m := range members {
		response.Pending = append(response.Pending, wire.PendingSeal{MemberID: m.MemberID, Pubkey: m.PubKey, DisplayName: m.DisplayName})
	}
	return response, nil
}

// sealFor answers topic_seal, and tells the recipient that it has its key.
func (b *Broker) sealFor(p *presence, keyID string, m *wire.TopicSeal) (*wire.TopicSealResponse, error) {
	if m.MemberID == "" {
		return nil, &sealRefusal{code: wire.InvalidArgs, sentence: "The memberId is missing; topic_pending_seals names who waits for a key."}
	}
	if err := checkSeal(m.EncryptedKey, m.Nonce, ""); err != nil {
		return nil, err
	}
	topic, since, fresh, err := b.db.SealTopic(sealing(p, keyID, m.Topic, m.EncryptedKey, m.Nonce), m.MemberID)
	if err != nil {
		return nil, sealRefused(err, topic)
	}
	if fresh && m.MemberID != p.member.ID {
		b.tellSeals(topic, []string{m.MemberID})
	}
	return &wire.TopicSealResponse{Topic: topic.Name, TopicID: topic.ID, MemberID: m.MemberID, SealedAt: wire.Time(since)}, nil
}

// sealsChanged tells the members of an encrypted topic that somebody may wait for its
// key, or that it has one now.
func (b *Broker) sealsChanged(t store.Topic) {
	members, err := b.db.TopicMembers(context.Background(), t.ID)
	if err != nil {
		b.log.Warn("members of a topic could not be read, nor told that somebody waits for its key", "err", err)
		return
	}
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.MemberID
	}
	b.tellSeals(t, ids)
}

func (b *Broker) tellSeals(t store.Topic, memberIDs []string) {
	b.tellChangeTo(wire.CapTopicKeys, t.MeshID, wire.MeshChange{What: []string{wire.ChangedSeals}, Topic: t.Name}, b.presencesOf(t.MeshID, memberIDs, nil))
}

func (r request) topicKey(m *wire.TopicKey) {
	answer, err := r.b.keyFor(context.Background(), r.presence, m.Topic)
	answerSeal(r, answer, err, m.Topic)
}

func (r request) topicClaimKey(m *wire.TopicClaimKey) {
	answer, err := r.b.claimKey(r.presence, "", m.Topic, m.OwnSeal)
	answerSeal(r, answer, err, m.Topic)
}

func (r request) topicPendingSeals(m *wire.TopicPendingSeals) {
	answer, err := r.b.pendingSeals(context.Background(), r.presence, m.Topic)
	answerSeal(r, answer, err, m.Topic)
}

func (r request) topicSeal(m *wire.TopicSeal) {
	answer, err := r.b.sealFor(r.presence, "", m)
	answerSeal(r, answer, err, m.Topic)
}

// answerSeal answers a request about a key, or says why not.
func answerSeal[T wire.Message](r request, answer T, err error, ref string) {
	refused, isRefusal := errors.AsType[*sealRefusal](err)
	switch {
	case err == nil:
		r.answer(answer)
	case isRefusal:
		r.fail(refused.code, refused.sentence)
	case errors.Is(err, store.ErrMemberRevoked):
		r.fail(wire.Forbidden, fmt.Sprintf("Your key was removed from the mesh; nothing in %q was changed.", short(ref)))
	default:
		r.topicFailed(err, ref, "")
	}
}
