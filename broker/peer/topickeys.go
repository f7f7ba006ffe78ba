package peer

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

// Encrypted topics (protocol, services, section 2). Their keys are sealed between member
// keys, for sessions too: a connection fetches one when it is needed first, and keeps
// it in memory.
//
// A copy names its sealer itself, so whoever can reach the broker's data could put in
// one with a key of their own. It is used only if its sealer is this member, or a
// member of the topic; then it is sealed anew by this member for itself, and from then
// on nobody else can make it.

// sealedError says why a message of an encrypted topic cannot be read; it is an
// ErrSealed.
type sealedError struct{ text string }

func (e *sealedError) Error() string        { return e.text }
func (e *sealedError) Is(target error) bool { return target == ErrSealed }

// Why a message of an encrypted topic cannot be read, or written.
var (
	ErrNoTopicKey      error = &sealedError{"this topic is encrypted and you have no key of it yet; you get it when a member who has it is connected"}
	ErrForeignTopicKey error = &sealedError{"this topic is encrypted, and its key was sealed for you by somebody who is not in it; it is not used, and you get another copy when a member who has the key is connected"}
	errOtherTopicKey   error = &sealedError{"the message was encrypted with another key than that of the topic"}
)

// topicKeys are the keys of topics that a connection has asked for.
type topicKeys struct {
	mu    sync.Mutex
	held  map[string]heldKey // by the topic's name or id, as it was asked for
	epoch int                // counts how often answers without a key were forgotten
	told  bool               // the broker tells of news: that there is no key need not be asked again until then

	news map[string]bool // names of topics with whose keys something happened
	bell chan struct{}   // rings when news has some; capacity 1
}

// heldKey is what the broker said of the key of a topic: without a key and an error,
// that it is not encrypted.
type heldKey struct {
	key identity.TopicKey
	err error
}

func newTopicKeys(told bool) topicKeys {
	return topicKeys{held: map[string]heldKey{}, told: told, news: map[string]bool{}, bell: make(chan struct{}, 1)}
}

func (k *topicKeys) get(ref string) (held heldKey, known bool, epoch int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held, known = k.held[ref]
	return held, known, k.epoch
}

// put keeps an answer, unless something happened since it was asked for.
func (k *topicKeys) put(epoch int, held heldKey, refs ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if held.key.IsZero() && epoch != k.epoch {
		return
	}
	for _, ref := range refs {
		k.held[ref] = held
	}
}

// forget has what is not known to have a key asked for again. A key stays: a topic
// has one for ever.
func (k *topicKeys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLocked()
}

func (k *topicKeys) forgetLocked() {
	k.epoch++
	for ref, held := range k.held {
		if held.key.IsZero() {
			delete(k.held, ref)
		}
	}
}

// note takes the news about the key of a topic. It is called by the read loop and does
// not block.
func (k *topicKeys) note(topic string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLocked()
	k.news[topic] = true
	select {
	case k.bell <- struct{}{}:
	default:
	}
}

// takeNews returns the topics with news.
func (k *topicKeys) takeNews() (topics []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for topic := range k.news {
		topics = append(topics, topic)
	}
	clear(k.news)
	return topics
}

// KeyNews returns the name of the topic whose keys a push tells about: somebody waits
// for one, or this member got one. "" for other pushes.
func KeyNews(p *wire.Push) string {
	var change wire.MeshChange
	if p.Event != wire.EventMeshChanged || json.Unmarshal(p.EventData, &change) != nil || !slices.Contains(change.What, wire.ChangedSeals) {
		return ""
	}
	return change.Topic
}

// FetchKey finds out the key of a topic, named with or without #, by name or id: then
// messages of it can be read. It is nil also for a topic that is not encrypted.
// Errors: ErrNoTopicKey, ErrForeignTopicKey, a *wire.Error of the broker, or the
// connection's.
func (c *Conn) FetchKey(ctx context.Context, topic string) error {
	_, err := c.topicKey(ctx, topic)
	return err
}

// topicKey returns the key of a topic, the zero one if it is not encrypted.
func (c *Conn) topicKey(ctx context.Context, ref string) (identity.TopicKey, error) {
	ref = strings.TrimPrefix(ref, "#")
	if ref == wire.General {
		return identity.TopicKey{}, nil // never encrypted
	}
	held, known, epoch := c.keys.get(ref)
	if known && (held.err == nil || c.keys.told) {
		return held.key, held.err
	}
	answer, err := Ask[*wire.TopicKeyResponse](ctx, c, &wire.TopicKey{Topic: ref})
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		return c.noKey(ref, refused, epoch)
	}
	if err != nil {
		return identity.TopicKey{}, err
	}
	key, err := c.openKey(ctx, answer)
	if err == nil || errors.Is(err, ErrSealed) {
		c.keys.put(epoch, heldKey{key, err}, ref, answer.Topic, answer.TopicID)
	}
	return key, err
}

// noKey understands why there is no key.
func (c *Conn) noKey(ref string, refused *wire.Error, epoch int) (none identity.TopicKey, err error) {
	switch refused.Code {
	case wire.TopicUnencrypted, wire.UnknownMessageType: // the latter of brokers that have no encrypted topics
		c.keys.put(epoch, heldKey{}, ref)
		return none, nil
	case wire.TopicNotFound:
		return none, nil // what is to be done with the topic will say so, too
	case wire.KeyNotSealed:
		c.keys.put(epoch, heldKey{err: ErrNoTopicKey}, ref)
		return none, ErrNoTopicKey
	}
	return none, refused
}

// openKey opens one's copy of a key. If another member sealed it, it is sealed anew by
// this one.
func (c *Conn) openKey(ctx context.Context, answer *wire.TopicKeyResponse) (identity.TopicKey, error) {
	key, _, err := c.member.OpenTopicKey(answer.EncryptedKey, answer.Nonce, c.member.Public())
	if !errors.Is(err, identity.ErrUnknownSealer) {
		return key, unusable(err)
	}
	list, err := Ask[*wire.TopicMembersResponse](ctx, c, &wire.TopicMembers{Topic: answer.TopicID})
	if err != nil {
		return key, err
	}
	sealers := make([]string, len(list.Members))
	for i, m := range list.Members {
		sealers[i] = m.Pubkey
	}
	if key, _, err = c.member.OpenTopicKey(answer.EncryptedKey, answer.Nonce, sealers...); err != nil {
		return key, unusable(err)
	}
	// If that fails, the next connection tries again: the key itself is here.
	_ = c.sealKey(ctx, answer.TopicID, key, wire.PendingSeal{MemberID: c.memberID, Pubkey: c.member.Public()})
	return key, nil
}

// unusable says of a copy that cannot be opened what that means for messages.
func unusable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, identity.ErrUnknownSealer):
		return ErrForeignTopicKey
	}
	return &sealedError{"this topic is encrypted, and your copy of its key cannot be opened (" + err.Error() + "); leave the topic and join it again to get another one"}
}

// TopicText returns the text of a message of a topic: of an encrypted one if FetchKey
// was asked before, else the error is an ErrSealed that says why there is none.
func (c *Conn) TopicText(topic, nonce, ciphertext string, bodyVersion int) (string, error) {
	if bodyVersion != 2 {
		return Decode(ciphertext, bodyVersion)
	}
	held, _, _ := c.keys.get(topic)
	switch {
	case held.err != nil:
		return "", held.err
	case held.key.IsZero():
		return "", ErrSealed
	}
	text, err := held.key.Open(nonce, ciphertext)
	if err != nil || !utf8.Valid(text) {
		return "", errOtherTopicKey
	}
	return string(text), nil
}

// CreateTopic makes a topic. For an encrypted one it makes a key; the broker is given
// only the copy that is sealed for this member.
func (c *Conn) CreateTopic(ctx context.Context, m wire.TopicCreate) (*wire.TopicCreated, error) {
	if !m.Encrypted {
		return Ask[*wire.TopicCreated](ctx, c, &m)
	}
	key := identity.NewTopicKey()
	encrypted, nonce, err := c.member.SealTopicKey(c.member.Public(), key)
	if err != nil {
		return nil, err
	}
	m.OwnSeal = wire.OwnSeal{EncryptedKeyPubkey: c.member.SealerKey(), EncryptedKey: encrypted, Nonce: nonce}
	made, err := Ask[*wire.TopicCreated](ctx, c, &m)
	if err == nil && made.Created {
		_, _, epoch := c.keys.get(made.Topic.ID)
		c.keys.put(epoch, heldKey{key: key}, made.Topic.ID, made.Topic.Name)
	}
	return made, err
}
