package broker

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/webhook"
	"meshbox/broker/wire"
)

// What services post to webhooks (protocol, services, section 3): it becomes a
// message of the webhook itself, so that the member who made it gets it as well. The
// member is who must be allowed to post, and whose rate it counts against.

const (
	hookPath    = "/hook/"
	maxDelivery = 1 << 20          // bytes of a body; GitHub's of large pushes are some hundred KB
	bodyTime    = 30 * time.Second // for a body to come
)

// delivered answers what was posted to a webhook: MessageID is of the message that is
// stored; there is none of what is not shown.
type delivered struct {
	OK        bool   `json:"ok"`
	MessageID string `json:"messageId,omitempty"`
	Ignored   string `json:"ignored,omitempty"` // why, in words
}

// notDelivered answers what was not taken.
type notDelivered struct {
	OK bool `json:"ok"` // false
	problem
}

// errNoWebhook is the same whatever is wrong, so that nobody finds a mesh by trying.
var errNoWebhook = &restError{status: http.StatusNotFound, problem: problem{Error: wire.NotFound,
	Message: "There is no such webhook, or not any more; meshbox webhook create makes one."}}

func (b *Broker) postWebhook(w http.ResponseWriter, r *http.Request) {
	if !b.enter() {
		webhookFailed(w, unavailable("meshbox is restarting; send it again in a moment."))
		return
	}
	defer b.serving.Done()
	c, hook, err := b.findWebhook(r, time.Now())
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // fails in tests without a connection
		var answer delivered
		if answer, err = c.takeDelivery(r, hook); err == nil {
			writeJSON(w, http.StatusOK, answer)
		}
	}
	if err != nil && r.Context().Err() == nil {
		webhookFailed(w, b.problemOf(err, c))
	}
}

func webhookFailed(w http.ResponseWriter, e *restError) {
	writeWithRetry(w, e, notDelivered{problem: e.problem})
}

// findWebhook finds out which webhook a request is for, and for whom that acts.
// Neither the secret nor the path is ever logged.
func (b *Broker) findWebhook(r *http.Request, now time.Time) (*caller, store.Webhook, error) {
	meshID, secret := r.PathValue("mesh"), r.PathValue("secret")
	if !isRandom(secret) {
		return nil, store.Webhook{}, errNoWebhook
	}
	hook, maker, err := b.db.LiveWebhook(r.Context(), meshID, store.HashAPIKey(secret))
	if errors.Is(err, store.ErrNotFound) {
		return nil, hook, errNoWebhook
	}
	if err != nil {
		return nil, hook, err
	}
	c := &caller{
		Broker: b, log: b.log.With("mesh", hook.MeshID, "member", maker.ID, "webhook", hook.ID),
		as: &presence{meshID: hook.MeshID, member: maker, rateKey: hooksOf(maker), name: maker.DisplayName, caps: identity.AllCaps(), visible: maker.Visible},
	}
	if wait := b.asked.take(hooksOf(maker), now); wait > 0 {
		return c, hook, tooManyRequests("These are too many requests.", wait)
	}
	return c, hook, nil
}

// hooksOf is whose rates count what the webhooks of a member say, all together: more of
// them are not more than one, and an address that leaked does not silence the member.
func hooksOf(m store.Member) string { return "webhooks of " + m.ID }

// takeDelivery makes a message of what was posted, and answers after its commit.
func (c *caller) takeDelivery(r *http.Request, hook store.Webhook) (delivered, error) {
	began := time.Now()
	send := &wire.Send{TargetSpec: "#" + hook.TopicID, BodyVersion: 1}
	text, err := c.renderDelivery(r, len(send.TargetSpec))
	if errors.Is(err, webhook.ErrUnspoken) {
		return delivered{OK: true, Ignored: sentence(err.Error())}, nil
	}
	if err != nil {
		return delivered{}, err
	}
	send.Ciphertext = base64.StdEncoding.EncodeToString([]byte(text))
	if send.ClientMessageID, err = deliveryID(r.Header); err != nil {
		return delivered{}, err
	}
	if send.ClientMessageID != "" {
		send.RequestFingerprint = fingerprint(send)
	}
	post, refused := c.draft(c.as, send, began)
	post.WebhookOf = hook.MemberID
	post.SenderMemberID, post.SenderPubKey, post.SenderType = hook.ID, hook.PubKey, wire.PeerConnector
	post.SenderName = hook.Name + " (webhook)" // never to be taken for a member
	_, err = c.commit(&presence{meshID: hook.MeshID}, post, refused, began)
	switch {
	case errors.Is(err, store.ErrNoWebhook), errors.Is(err, store.ErrMemberRevoked):
		return delivered{}, errNoWebhook // since this request began
	case errors.Is(err, store.ErrForbidden), errors.Is(err, store.ErrNotFound):
		return delivered{}, forbidden("The member that made this webhook may not post to #" + hook.Topic + " any more; it must join the topic again.")
	case err != nil:
		return delivered{}, c.postFailed(err, store.Topic{Name: hook.Topic})
	}
	return delivered{OK: true, MessageID: post.ID}, nil
}

// renderDelivery reads a body and returns what is to be said of it; targetLen is how
// many bytes the target takes of the message.
func (c *caller) renderDelivery(r *http.Request, targetLen int) (string, error) {
	body, err := io.ReadAll(r.Body)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "", tooLarge(large.Limit)
	}
	if err != nil {
		return "", badRequest("The body could not be read to its end.")
	}
	room := base64.StdEncoding.DecodedLen(c.cfg.Limits.MaxMessage-targetLen) - 3
	text, err := webhook.Render(webhook.Delivery{ContentType: r.Header.Get("Content-Type"), Event: r.Header.Get("X-GitHub-Event"), Body: body}, room)
	switch {
	case errors.Is(err, webhook.ErrTooLong):
		return "", tooLarge(int64(room))
	case err != nil && !errors.Is(err, webhook.ErrUnspoken):
		return "", badRequest("%s", sentence(err.Error()))
	}
	return text, err
}

// deliveryID is what all tries of one delivery have in common, "" if nothing is said:
// an Idempotency-Key, or GitHub's id.
func deliveryID(header http.Header) (string, error) {
	id := header.Get("Idempotency-Key")
	if delivery := header.Get("X-GitHub-Delivery"); id == "" && delivery != "" {
		id = "github:" + delivery
	}
	if len(id) > wire.MaxIDLen {
		return "", badRequest("The id of a delivery has at most %d bytes.", wire.MaxIDLen)
	}
	return strings.ToValidUTF8(id, "�"), nil
}
