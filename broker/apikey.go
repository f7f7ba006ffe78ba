package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// API keys on the wire (protocol, services, section 1): how a member makes, lists
// and revokes them. What they are good for is in rest.go.

const (
	keyPrefix     = "cm_"
	keyPrefixLen  = 11                         // characters of a secret that are kept, to tell keys apart
	keySecretLen  = 32                         // random bytes of a secret
	restrictedTTL = identity.MaxAttestationTTL // how long the key of a restricted session works, as long as an attestation
)

// newSecret returns the secret of a new key.
func newSecret() string { return keyPrefix + newRandom() }

// newRandom returns keySecretLen random bytes in base64url.
func newRandom() string {
	var random [keySecretLen]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// isSecret reports whether text has the form of a secret. What has not is not
// looked up.
func isSecret(text string) bool {
	random, ok := strings.CutPrefix(text, keyPrefix)
	return ok && isRandom(random)
}

// isRandom reports whether text is as long as what newRandom returns.
func isRandom(text string) bool { return len(text) == base64.RawURLEncoding.EncodedLen(keySecretLen) }

func (r request) apiKeyCreate(m *wire.APIKeyCreate) {
	now := time.Now()
	key, problem := keyOf(m, now)
	if problem != "" {
		r.fail(wire.InvalidArgs, problem)
		return
	}
	if missing := r.presence.mayNotPassOn(key, now); missing != "" {
		r.fail(wire.Forbidden, missing)
		return
	}
	secret := newSecret()
	key.ID, key.MeshID, key.MemberID, key.CreatedAt = store.NewID(), r.presence.meshID, r.presence.member.ID, now
	key.Prefix, key.Hash = secret[:keyPrefixLen], store.HashAPIKey(secret)
	switch err := r.b.db.CreateAPIKey(key); {
	case errors.Is(err, store.ErrTooMany):
		r.fail(wire.Capacity, fmt.Sprintf("You have %d keys that work; revoke some with apikey_revoke, or give them an expiresAt.", store.MaxLiveKeys))
		return
	case errors.Is(err, store.ErrForbidden):
		r.fail(wire.Forbidden, "Only the owner and the admins of the mesh can make keys with the capability admin.")
		return
	case errors.Is(err, store.ErrMemberRevoked):
		r.fail(wire.Forbidden, "Your key was removed from the mesh; ask an admin to restore it.")
		return
	case err != nil:
		r.storeFailed(err)
		return
	}
	r.answer(&wire.APIKeyCreated{
		ID: key.ID, Secret: secret, Label: key.Label, Prefix: key.Prefix, Capabilities: key.Capabilities, TopicScopes: key.TopicScopes,
		CreatedAt: wire.Time(key.CreatedAt), ExpiresAt: wire.OptionalTime(key.ExpiresAt),
	})
}

// keyOf reads what a key is to be; problem is a sentence, or "".
func keyOf(m *wire.APIKeyCreate, now time.Time) (key store.APIKey, problem string) {
	key.Label = wire.CleanLine(m.Label, wire.MaxNameLen)
	for _, capability := range m.Capabilities {
		if !slices.Contains([]string{store.KeySend, store.KeyRead, store.KeyStateWrite, store.KeyAdmin}, capability) {
			return key, fmt.Sprintf("There is no capability %q; use send, read, state_write and admin.", short(capability))
		}
		if !slices.Contains(key.Capabilities, capability) {
			key.Capabilities = append(key.Capabilities, capability)
		}
	}
	if key.Capabilities == nil {
		return key, "The capabilities are missing; name at least one of send, read, state_write and admin."
	}
	if key.TopicScopes, problem = scopesOf(m.TopicScopes); problem != "" {
		return key, problem
	}
	if m.ExpiresAt != nil {
		at, err := time.Parse(time.RFC3339, *m.ExpiresAt)
		if err != nil || !at.After(now) || at.Year() > 9999 {
			return key, "The expiresAt must be a time to come in RFC 3339, such as 2030-12-31T23:59:00Z, or left out."
		}
		key.ExpiresAt = at
	}
	return key, ""
}

// scopesOf reads the topics that a key is confined to. They need not exist yet. An
// empty list is refused: whether that is all or none should not be a guess.
func scopesOf(asked []string) (scopes []string, problem string) {
	switch {
	case asked == nil:
		return nil, ""
	case len(asked) == 0:
		return nil, "The topicScopes are empty; name topics, or leave it out for all of them."
	case len(asked) > wire.MaxKeyScope:
		return nil, fmt.Sprintf("A key can be confined to %d topics at most.", wire.MaxKeyScope)
	}
	for _, topic := range asked {
		name := strings.TrimPrefix(topic, "#")
		if !wire.ValidTopicName(name) {
			return nil, fmt.Sprintf("The topicScopes are names of topics; %q can not be one.", short(topic))
		}
		if !slices.Contains(scopes, name) {
			scopes = append(scopes, name)
		}
	}
	return scopes, ""
}

// neededFor is what a session must be allowed to pass a capability on. A session
// may read whatever it is allowed.
var neededFor = map[string]string{store.KeySend: "broadcast", store.KeyStateWrite: "state-write", store.KeyAdmin: capAdmin}

// mayNotPassOn says why a session that its member restricted may not make a key,
// "" if it may: the key must be no more than the session, nor last much longer.
func (p *presence) mayNotPassOn(key store.APIKey, now time.Time) string {
	if p.caps.All() {
		return ""
	}
	for _, capability := range key.Capabilities {
		if needed := neededFor[capability]; needed != "" && !p.caps.Allows(needed) {
			return missingCapability(needed)
		}
	}
	if key.Allows(store.KeyAdmin) {
		return "A session with restricted capabilities can not make a key with the capability admin, which implies all."
	}
	if key.ExpiresAt.IsZero() || key.ExpiresAt.Sub(now) > restrictedTTL {
		return "A session with restricted capabilities can make keys for 24 hours at most; give an expiresAt."
	}
	return ""
}

// runsKeys reports whether this connection sees and ends the keys of all members.
// It answers, and ok is false, if that could not be found out.
func (r request) runsKeys() (may, ok bool) {
	if !r.presence.caps.Allows(capAdmin) {
		return false, true
	}
	may, err := r.b.db.Moderates(context.Background(), r.presence.meshID, r.presence.member.ID)
	if err != nil {
		r.storeFailed(err)
	}
	return may, err == nil
}

func (r request) apiKeyList() {
	all, ok := r.runsKeys()
	if !ok {
		return
	}
	whose := r.presence.member.ID
	if all {
		whose = ""
	}
	keys, err := r.b.db.APIKeys(context.Background(), r.presence.meshID, whose, wire.MaxAPIKeys, time.Now())
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.APIKeyListResponse{Keys: make([]wire.APIKey, len(keys))}
	for i, k := range keys {
		response.Keys[i] = wire.APIKey{
			ID: k.ID, Label: k.Label, Prefix: k.Prefix, Capabilities: k.Capabilities, TopicScopes: k.TopicScopes, CreatedAt: wire.Time(k.CreatedAt),
			LastUsedAt: wire.OptionalTime(r.b.uses.newest(k.ID, k.LastUsedAt)), RevokedAt: wire.OptionalTime(k.RevokedAt),
			ExpiresAt: wire.OptionalTime(k.ExpiresAt), IssuedBy: k.IssuedBy,
		}
	}
	r.answer(response)
}

func (r request) apiKeyRevoke(m *wire.APIKeyRevoke) {
	all, ok := r.runsKeys()
	if !ok {
		return
	}
	key, named, err := r.b.db.RevokeAPIKey(r.presence.meshID, r.presence.member.ID, m.ID, all, time.Now())
	switch {
	case err != nil:
		r.moderationFailed(err, "")
	case named == 0:
		r.answer(&wire.APIKeyRevokeResponse{Status: wire.KeyNotFound})
	case named > 1:
		r.answer(&wire.APIKeyRevokeResponse{Status: wire.KeyNotUnique, Matches: named})
	default:
		r.b.streams.ring(func(s *stream) bool { return s.keyID == key.ID })
		r.answer(&wire.APIKeyRevokeResponse{Status: wire.KeyRevoked, ID: key.ID})
	}
}
