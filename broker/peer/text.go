package peer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

// Plain makes the body of a message that everybody may read: nonce and
// base64 of UTF-8 text (protocol section 10).
func Plain(text string) (nonce, ciphertext string) {
	random := make([]byte, 24)
	rand.Read(random) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(random), base64.StdEncoding.EncodeToString([]byte(text))
}

// SendText sends text to target: sealed if that is a key, encrypted if it is an
// encrypted topic, else readable by everybody it reaches. The ack may be a refusal.
func (c *Conn) SendText(ctx context.Context, target, text string) (*wire.Ack, error) {
	m, err := c.Compose(ctx, target, text)
	if err != nil {
		return nil, err
	}
	ack, err := c.Send(ctx, m)
	if err != nil || !strings.HasPrefix(ack.Error, wire.TopicEncrypted+":") {
		return ack, err
	}
	c.keys.forget() // it has just been encrypted
	if m, err = c.Compose(ctx, target, text); err != nil {
		return nil, err
	}
	return c.Send(ctx, m)
}

// Compose makes the message that SendText sends. For a topic it asks the broker whether
// it is encrypted, and for its key; errors are those of FetchKey.
func (c *Conn) Compose(ctx context.Context, target, text string) (m wire.Send, err error) {
	if target == "" {
		return m, errors.New("the recipient is missing")
	}
	m = wire.Send{TargetSpec: target, Priority: wire.PriorityNext, ClientMessageID: rand.Text()}
	if identity.IsPublicKey(target) {
		m.Nonce, m.Ciphertext, err = c.key.Seal(target, []byte(text))
		return m, err
	}
	if target[0] == '#' {
		key, err := c.topicKey(ctx, target)
		if err != nil {
			return m, err
		}
		if !key.IsZero() {
			m.BodyVersion = 2
			m.Mentions = wire.MentionsIn(text) // the broker cannot look for them itself
			m.Nonce, m.Ciphertext, err = key.Seal([]byte(text))
			return m, err
		}
		m.BodyVersion = 1
	}
	m.Nonce, m.Ciphertext = Plain(text)
	return m, nil
}

// ErrSealed says that a body cannot be read with the keys at hand.
var ErrSealed = errors.New("the message is encrypted for another key")

// Text returns the text of a push; of a topic see TopicText. Other pushes do not say
// whether they were sealed, so that is tried first, for all keys at hand; what is
// sealed for another key is ErrSealed.
func (c *Conn) Text(p *wire.Push) (string, error) {
	if p.Topic != "" {
		return c.TopicText(p.Topic, p.Nonce, p.Ciphertext, p.BodyVersion)
	}
	for _, key := range slices.Concat([]identity.Key{c.key}, c.opens) {
		if text, err := key.Open(p.SenderPubkey, p.Nonce, p.Ciphertext); err == nil {
			return string(text), nil
		}
	}
	return Decode(p.Ciphertext, p.BodyVersion)
}

// Decode returns the text of a readable body (version 0 or 1).
func Decode(ciphertext string, bodyVersion int) (string, error) {
	text, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil || bodyVersion > 1 || !utf8.Valid(text) {
		return "", ErrSealed
	}
	return string(text), nil
}
