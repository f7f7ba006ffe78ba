package broker

import (
	"errors"
	"net/http"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// The keys of encrypted topics over HTTP: for programs that do the encrypting
// themselves, with the secret key of the member that issued the API key.

func (c *caller) getKey(r *http.Request) (any, error) {
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	answer, err := c.keyFor(r.Context(), c.as, topic.ID)
	return answer, c.sealFailed(err, topic)
}

func (c *caller) postClaimKey(r *http.Request) (any, error) {
	var own wire.OwnSeal
	topic, err := c.sealBody(r, &own)
	if err != nil {
		return nil, err
	}
	answer, err := c.claimKey(c.as, c.key.ID, topic.ID, own)
	return answer, c.sealFailed(err, topic)
}

func (c *caller) getPendingSeals(r *http.Request) (any, error) {
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	answer, err := c.pendingSeals(r.Context(), c.as, topic.ID)
	return answer, c.sealFailed(err, topic)
}

func (c *caller) postSeal(r *http.Request) (any, error) {
	var body wire.TopicSeal
	topic, err := c.sealBody(r, &body)
	if err != nil {
		return nil, err
	}
	body.Topic = topic.ID // that of the address
	answer, err := c.sealFor(c.as, c.key.ID, &body)
	return answer, c.sealFailed(err, topic)
}

// sealBody reads the body of a request that changes something about the key of a
// topic, and returns the topic. It counts as a message, as it does on a connection.
func (c *caller) sealBody(r *http.Request, body any) (store.Topic, error) {
	if err := readBody(r, body); err != nil {
		return store.Topic{}, err
	}
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return topic, err
	}
	if fast, ok := errors.AsType[*tooFast](c.rates.take(c.as.member.ID, time.Now())); ok {
		return topic, tooManyRequests("You send too fast.", fast.wait)
	}
	return topic, nil
}

// sealStatus is the HTTP status of a refusal.
var sealStatus = map[string]int{
	wire.InvalidArgs: http.StatusBadRequest, wire.Forbidden: http.StatusForbidden, wire.TopicUnencrypted: http.StatusConflict,
	wire.AlreadyEncrypted: http.StatusConflict, wire.KeyNotSealed: http.StatusNotFound, wire.NotInTopic: http.StatusNotFound,
}

// sealFailed makes an answer of a refusal about a topic; nil stays nil.
func (c *caller) sealFailed(err error, topic store.Topic) error {
	refused, isRefusal := errors.AsType[*sealRefusal](err)
	switch {
	case isRefusal:
		failed := &restError{status: sealStatus[refused.code], problem: problem{Error: refused.code, Topic: topic.Name, Message: refused.sentence}}
		if refused.code == wire.AlreadyEncrypted {
			failed.problem.SenderPubkey = refused.topic.SealerKey
		}
		return failed
	case errors.Is(err, store.ErrKeyDead), errors.Is(err, store.ErrMemberRevoked): // since this request began
		return errInvalidKey
	case errors.Is(err, store.ErrNotFound): // likewise
		return topicNotFound(topic.Name)
	}
	return err
}
