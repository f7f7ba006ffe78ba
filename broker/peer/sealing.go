package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

// Handing on the keys of encrypted topics to members that have none yet.

// SealPending seals the key of a topic for those of its members who have no copy, and
// returns for how many. Who has no key, or is not in the topic, gets its error.
func (c *Conn) SealPending(ctx context.Context, topic string) (sealed int, err error) {
	key, err := c.topicKey(ctx, topic)
	if err != nil || key.IsZero() {
		return 0, err
	}
	for {
		answer, err := Ask[*wire.TopicPendingSealsResponse](ctx, c, &wire.TopicPendingSeals{Topic: strings.TrimPrefix(topic, "#")})
		if err != nil {
			return sealed, err
		}
		n, err := c.sealAll(ctx, answer, key)
		sealed += n
		if err != nil || n == 0 || len(answer.Pending) < wire.MaxPendingSeals {
			return sealed, err
		}
	}
}

// sealAll seals a key for one page of members; those for whom that cannot be done are
// left out.
func (c *Conn) sealAll(ctx context.Context, answer *wire.TopicPendingSealsResponse, key identity.TopicKey) (sealed int, err error) {
	for _, member := range answer.Pending {
		err := c.sealKey(ctx, answer.TopicID, key, member)
		for ; isRateLimit(err); err = c.sealKey(ctx, answer.TopicID, key, member) {
			if !c.pause(ctx, time.Second) {
				return sealed, err
			}
		}
		_, refused := errors.AsType[*wire.Error](err)
		switch {
		case err == nil:
			sealed++
		case !refused && !errors.Is(err, errRecipientKey):
			return sealed, err
		}
	}
	return sealed, nil
}

func isRateLimit(err error) bool {
	refused, ok := errors.AsType[*wire.Error](err)
	return ok && refused.Code == wire.RateLimit
}

var errRecipientKey = errors.New("nothing can be sealed for this member")

// sealKey gives one member its copy of a key.
func (c *Conn) sealKey(ctx context.Context, topicID string, key identity.TopicKey, member wire.PendingSeal) error {
	encrypted, nonce, err := c.member.SealTopicKey(member.Pubkey, key)
	if err != nil {
		return fmt.Errorf("%w: %w", errRecipientKey, err)
	}
	_, err = c.Request(ctx, &wire.TopicSeal{Topic: topicID, MemberID: member.MemberID, EncryptedKey: encrypted, Nonce: nonce})
	return err
}

// keepKeys seals the keys of this member's topics for who has none, now and whenever
// the broker tells of somebody, until the connection ends.
func (c *Conn) keepKeys() {
	ctx := context.Background() // requests end with the connection
	topics, err := c.encryptedTopics(ctx)
	for ; err != nil; topics, err = c.encryptedTopics(ctx) {
		if !c.pause(ctx, sealRetry) {
			return
		}
	}
	for {
		var failed []string
		for _, topic := range topics {
			if _, err := c.SealPending(ctx, topic); passes(err) {
				failed = append(failed, topic)
			}
		}
		if !c.awaitKeyNews(ctx, len(failed) > 0) {
			return
		}
		topics = append(failed, c.keys.takeNews()...)
	}
}

const (
	maxSealPause = 250 * time.Millisecond // of who hears that somebody needs a key
	sealRetry    = 5 * time.Second        // after a failure that passes
)

// passes reports an error that is worth another try: not that there is no key, nor
// that the topic is no longer this member's.
func passes(err error) bool {
	refused, ok := errors.AsType[*wire.Error](err)
	return err != nil && !errors.Is(err, ErrSealed) && (!ok || refused.Code == wire.Busy)
}

// awaitKeyNews waits until something happened with keys, or if again is set until it is
// time for another try. It reports false if the connection ended.
func (c *Conn) awaitKeyNews(ctx context.Context, again bool) bool {
	var retry <-chan time.Time
	if again {
		retry = time.After(sealRetry)
	}
	select {
	case <-c.done:
		return false
	case <-retry:
		return true
	case <-c.keys.bell:
	}
	// Of many who hear of it at once, the first may have done it for the others.
	return c.pause(ctx, rand.N(maxSealPause))
}

// pause waits, and reports false if the connection or ctx ended meanwhile.
func (c *Conn) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-c.done:
	case <-ctx.Done():
	}
	return false
}

// encryptedTopics returns the names of those this member is in.
func (c *Conn) encryptedTopics(ctx context.Context) (names []string, err error) {
	list, err := Ask[*wire.TopicListResponse](ctx, c, &wire.TopicList{})
	if err != nil {
		return nil, err
	}
	for _, t := range list.Topics {
		if t.Keyed && t.Role != "" {
			names = append(names, t.Name)
		}
	}
	return names, nil
}
