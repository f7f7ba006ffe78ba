package broker

import (
	"strings"
	"testing"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// hook makes a webhook as a member.
func (g *guest) hook(name, topic string) *wire.WebhookAck {
	g.t.Helper()
	return ask[*wire.WebhookAck](g, &wire.CreateWebhook{Name: name, Topic: topic})
}

// hooks asks for those one may see.
func (g *guest) hooks() []wire.Webhook {
	g.t.Helper()
	return ask[*wire.WebhookList](g, &wire.ListWebhooks{}).Webhooks
}

func TestWebhookIsShownOnce(t *testing.T) {
	h := newHouse(t)
	ann, bob, adam := h.arrive("ann"), h.arrive("bob"), h.arriveAdmin("adam")
	made := ann.hook("grafana", "")
	address := h.url + "/hook/" + h.mesh.ID + "/"
	if !isRandom(made.Secret) || made.URL != address+made.Secret || made.Topic != "general" || made.Name != "grafana" {
		t.Errorf("made %+v", made)
	}
	for _, g := range []*guest{ann, adam} {
		listed := g.hooks()
		if len(listed) != 1 || listed[0].Name != "grafana" || listed[0].URL != address+"…" || !listed[0].Active || listed[0].Topic != "general" || listed[0].MadeBy != "ann" || listed[0].CreatedAt == "" {
			t.Errorf("%s sees %+v", g.id.DisplayName, listed)
		}
	}
	if listed := bob.hooks(); len(listed) != 0 {
		t.Errorf("bob sees %+v", listed)
	}
	bob.wantRefused(&wire.DeleteWebhook{Name: "grafana"}, wire.NotFound)
	bob.wantRefused(&wire.CreateWebhook{Name: "grafana"}, wire.WebhookExists)
	if gone := ask[*wire.WebhookAck](adam, &wire.DeleteWebhook{Name: "grafana"}); *gone != (wire.WebhookAck{Name: "grafana"}) {
		t.Errorf("deleted %+v", gone)
	}
	adam.wantRefused(&wire.DeleteWebhook{Name: "grafana"}, wire.NotFound)
	for event, by := range map[string]*guest{store.EventWebhookCreated: ann, store.EventWebhookDeleted: adam} {
		entries := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: event}).Entries
		if len(entries) != 1 || entries[0].Actor != by.id.Key.Public() {
			t.Fatalf("%s is audited as %+v", event, entries)
		}
		if text := string(entries[0].Payload); !strings.Contains(text, `"name":"grafana"`) || strings.Contains(text, made.Secret) || strings.Contains(text, store.HashAPIKey(made.Secret)) {
			t.Errorf("%s is audited with %s", event, text)
		}
	}
}

func TestWhatAWebhookCanNotBe(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	ask[*wire.Ack](bob, &wire.TopicJoin{Topic: "deploys", Role: wire.TopicObserver})
	for _, name := range []string{"", "Grafana", "a b", "ann\u202e", strings.Repeat("x", 51), "-x"} {
		ann.wantRefused(&wire.CreateWebhook{Name: name}, wire.InvalidArgs)
	}
	ann.wantRefused(&wire.CreateWebhook{Name: "x", Topic: "nowhere"}, wire.TopicNotFound)
	bob.wantRefused(&wire.CreateWebhook{Name: "x", Topic: "secret"}, wire.TopicNotFound)
	bob.wantRefused(&wire.CreateWebhook{Name: "x", Topic: "#deploys"}, wire.Forbidden) // an observer
	session := h.dial(ann.id, peer.Options{Session: identity.NewKey(), AllowedCaps: []string{"broadcast", "dm"}})
	session.wantRefused(&wire.CreateWebhook{Name: "x"}, wire.Forbidden)
	if listed := ann.hooks(); len(listed) != 0 {
		t.Errorf("listed %+v", listed)
	}
	if made := ann.hook("x", "#deploys"); made.Topic != "deploys" {
		t.Errorf("made %+v", made)
	}
}
