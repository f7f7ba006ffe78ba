package broker

import (
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// keys asks for those one may see.
func (g *guest) keys() []wire.APIKey {
	g.t.Helper()
	return ask[*wire.APIKeyListResponse](g, &wire.APIKeyList{}).Keys
}

func TestAPIKeyIsShownOnce(t *testing.T) {
	h := newHouse(t)
	ann, adam := h.arrive("ann"), h.arriveAdmin("adam")
	expires := "2099-01-02T03:04:05+01:00"
	made := ask[*wire.APIKeyCreated](ann, &wire.APIKeyCreate{Label: " ci\u202e\n", Capabilities: []string{"send", "read", "send"}, TopicScopes: []string{"#deploys", "deploys"}, ExpiresAt: &expires})
	if !isSecret(made.Secret) || len(made.Secret) != 46 || made.Prefix != made.Secret[:11] || made.Label != "ci" || strings.Join(made.Capabilities, " ") != "send read" ||
		strings.Join(made.TopicScopes, " ") != "deploys" || *made.ExpiresAt != "2099-01-02T02:04:05.000Z" || made.CreatedAt == "" {
		t.Errorf("made %+v", made)
	}
	listed := ann.keys()
	if len(listed) != 1 || listed[0].ID != made.ID || listed[0].Prefix != made.Prefix || listed[0].LastUsedAt != nil || listed[0].RevokedAt != nil || *listed[0].ExpiresAt != *made.ExpiresAt {
		t.Errorf("listed %+v", listed)
	}
	own := adam.key("admin")
	if all := adam.keys(); len(all) != 2 || all[0].ID != own.ID || all[0].TopicScopes != nil || all[1].IssuedBy != "ann" {
		t.Errorf("an admin sees %+v", all)
	}
	entry := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventKeyCreated}).Entries[1]
	if text := string(entry.Payload); entry.Actor != ann.id.Key.Public() || !strings.Contains(text, made.ID) || strings.Contains(text, "cm_") || strings.Contains(text, store.HashAPIKey(made.Secret)) {
		t.Errorf("audited %s by %s", text, entry.Actor)
	}
}

func TestWhatAnAPIKeyCanNotBe(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	past, nonsense := wire.Time(time.Now().Add(-time.Minute)), "tomorrow"
	read := []string{"read"}
	for _, m := range []wire.APIKeyCreate{
		{}, {Capabilities: []string{"write"}}, {Capabilities: []string{""}}, {Capabilities: read, TopicScopes: []string{"No Topic"}},
		{Capabilities: read, TopicScopes: make([]string, wire.MaxKeyScope+1)}, {Capabilities: read, ExpiresAt: &past}, {Capabilities: read, ExpiresAt: &nonsense},
	} {
		ann.wantRefused(&m, wire.InvalidArgs)
	}
	ann.wantRefused(&wire.APIKeyCreate{Capabilities: []string{"read", "admin"}}, wire.Forbidden)
	if _, problem := scopesOf([]string{}); problem == "" {
		t.Error("an empty list of topics is taken")
	}
	if got := ann.keys(); len(got) != 0 {
		t.Errorf("keys %+v", got)
	}
}

func TestAPIKeyOfASessionIsNoMoreThanTheSession(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	session := func(caps ...string) *guest {
		return h.dial(adam.id, peer.Options{Session: identity.NewKey(), AllowedCaps: caps})
	}
	hour, week := wire.Time(time.Now().Add(time.Hour)), wire.Time(time.Now().Add(7*24*time.Hour))
	create := func(expires string, capabilities ...string) *wire.APIKeyCreate {
		m := &wire.APIKeyCreate{Capabilities: capabilities}
		if expires != "" {
			m.ExpiresAt = &expires
		}
		return m
	}
	reader, sender, runner := session("dm"), session("broadcast"), session("admin", "broadcast", "state-write")
	ask[*wire.APIKeyCreated](reader, create(hour, "read"))
	reader.wantRefused(create(hour, "read", "send"), wire.Forbidden)
	reader.wantRefused(create("", "read"), wire.Forbidden)
	reader.wantRefused(create(week, "read"), wire.Forbidden)
	ask[*wire.APIKeyCreated](sender, create(hour, "send"))
	sender.wantRefused(create(hour, "state_write"), wire.Forbidden)
	sender.wantRefused(create(hour, "admin"), wire.Forbidden)
	runner.wantRefused(create(hour, "admin"), wire.Forbidden)
	ask[*wire.APIKeyCreated](h.dial(adam.id, peer.Options{Session: identity.NewKey()}), create("", "admin"))

	other := h.arrive("ann").key("read")
	if got := ask[*wire.APIKeyRevokeResponse](sender, &wire.APIKeyRevoke{ID: other.ID}); got.Status != wire.KeyNotFound {
		t.Errorf("a session that may not run the mesh revokes a key of another member: %+v", got)
	}
	if got := ask[*wire.APIKeyRevokeResponse](runner, &wire.APIKeyRevoke{ID: other.ID}); got.Status != wire.KeyRevoked {
		t.Errorf("one that may does not: %+v", got)
	}
}

func TestRevokingAPIKeys(t *testing.T) {
	h := newHouse(t)
	ann, bob, adam := h.arrive("ann"), h.arrive("bob"), h.arriveAdmin("adam")
	first, second := ann.key("read"), ann.key("read")
	revoke := func(g *guest, id string) *wire.APIKeyRevokeResponse {
		return ask[*wire.APIKeyRevokeResponse](g, &wire.APIKeyRevoke{ID: id})
	}
	for _, id := range []string{"", "zzzzzzzzzz", "'%'", first.Secret} {
		if got := revoke(ann, id); got.Status != wire.KeyNotFound || got.ID != "" {
			t.Errorf("revoking %q: %+v", id, got)
		}
	}
	if got := revoke(bob, first.ID); got.Status != wire.KeyNotFound {
		t.Errorf("bob revokes a key of ann: %+v", got)
	}
	if got := revoke(ann, first.ID[:4]); got.Status != wire.KeyNotUnique || got.Matches != 2 {
		t.Errorf("revoking two: %+v", got)
	}
	for range 2 {
		if got := revoke(ann, first.ID[:29]); got.Status != wire.KeyRevoked || got.ID != first.ID {
			t.Errorf("revoking: %+v", got)
		}
	}
	if got := revoke(adam, second.ID); got.Status != wire.KeyRevoked {
		t.Errorf("an admin revokes: %+v", got)
	}
	for _, k := range ann.keys() {
		if k.RevokedAt == nil {
			t.Errorf("not revoked: %+v", k)
		}
	}
	if n := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventKeyRevoked}).Total; n != 2 {
		t.Errorf("%d revocations are audited", n)
	}
}

// The time of the last use is told at once, and written with the next sweep.
func TestLastUseOfAnAPIKeyCostsNoCommit(t *testing.T) {
	h := newHouse(t)
	ann := h.arrive("ann")
	key := ann.key("read")
	stored := func() time.Time {
		k, _, err := h.db.LiveAPIKey(t.Context(), store.HashAPIKey(key.Secret), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return k.LastUsedAt
	}
	wantOK[any](h.rest(key.Secret, "GET /topics", ""))
	if used := ann.keys()[0].LastUsedAt; used == nil {
		t.Error("the use is not listed")
	}
	if err := h.keepUses(); err != nil || stored().IsZero() {
		t.Errorf("the use is not stored: %v", err)
	}
	var uses keyUses
	now := time.Now()
	uses.note("k", store.Member{ID: "m", MeshID: "mesh"}, now)
	if at := uses.take(now); len(at) != 1 || len(uses.take(now)) != 0 {
		t.Errorf("taken: %v, and again", at)
	}
	uses.retry(map[string]time.Time{"k": now})
	if at := uses.take(now.Add(time.Hour)); len(at) != 1 || len(uses.lately("mesh", now)) != 1 || len(uses.lately("mesh", now.Add(usedLately))) != 0 {
		t.Errorf("after what was not stored: %v", at)
	}
	if uses.take(now.Add(time.Hour)); len(uses.byKey) != 0 {
		t.Error("an old use is kept")
	}
}
