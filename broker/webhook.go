package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Webhooks on the wire (protocol, services, section 3): how a member makes, lists
// and deletes them. What is posted to them is in webhookpost.go.

// webhookURL is the address of a webhook.
func (b *Broker) webhookURL(meshID, secret string) string {
	return b.cfg.PublicURL + hookPath + meshID + "/" + secret
}

func (r request) createWebhook(m *wire.CreateWebhook) {
	p := r.presence
	switch {
	case !wire.ValidTopicName(m.Name):
		r.fail(wire.InvalidArgs, "A webhook's name is 1 to 50 of a-z, 0-9, _ and -, and starts with a letter or digit.")
		return
	case !p.caps.All():
		r.fail(wire.Forbidden, "A session with restricted capabilities can not make a webhook, which lasts longer than the session.")
		return
	}
	topic := m.Topic
	if topic == "" {
		topic = wire.General
	}
	secret := newRandom()
	hook, err := r.b.db.CreateWebhook(store.Webhook{
		ID: store.NewID(), MeshID: p.meshID, MemberID: p.member.ID, TopicID: strings.TrimPrefix(topic, "#"), Name: m.Name,
		PubKey: identity.NewKey().Public(), Hash: store.HashAPIKey(secret), CreatedAt: time.Now(),
	})
	switch {
	case errors.Is(err, store.ErrExists):
		r.fail(wire.WebhookExists, fmt.Sprintf("This mesh has a webhook called %s; choose another name, or delete that one.", m.Name))
	case errors.Is(err, store.ErrTooMany):
		r.fail(wire.Capacity, fmt.Sprintf("You have %d webhooks; delete some with delete_webhook.", store.MaxWebhooks))
	case errors.Is(err, store.ErrMemberRevoked):
		r.fail(wire.Forbidden, "Your key was removed from the mesh; ask an admin to restore it.")
	case err != nil:
		r.topicFailed(err, topic, "You may not post to this topic; join it as a member first.")
	default:
		r.answer(&wire.WebhookAck{Name: hook.Name, URL: r.b.webhookURL(hook.MeshID, secret), Secret: secret, Topic: hook.Topic})
	}
}

func (r request) listWebhooks() {
	all, ok := r.runsKeys()
	if !ok {
		return
	}
	whose := r.presence.member.ID
	if all {
		whose = ""
	}
	hooks, err := r.b.db.Webhooks(context.Background(), r.presence.meshID, whose)
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.WebhookList{Webhooks: make([]wire.Webhook, len(hooks))}
	for i, w := range hooks {
		response.Webhooks[i] = wire.Webhook{
			Name: w.Name, URL: r.b.webhookURL(w.MeshID, "…"), Active: w.Active, CreatedAt: wire.Time(w.CreatedAt), Topic: w.Topic, MadeBy: w.MadeBy,
		}
	}
	r.answer(response)
}

func (r request) deleteWebhook(m *wire.DeleteWebhook) {
	all, ok := r.runsKeys()
	if !ok {
		return
	}
	err := r.b.db.DeleteWebhook(r.presence.meshID, r.presence.member.ID, m.Name, all)
	switch {
	case errors.Is(err, store.ErrNoWebhook):
		r.fail(wire.NotFound, fmt.Sprintf("There is no webhook called %q that is yours to delete; list_webhooks shows those that are.", short(m.Name)))
	case err != nil:
		r.moderationFailed(err, "")
	default:
		r.answer(&wire.WebhookAck{Name: m.Name})
	}
}
