package broker

import (
	"slices"
	"sync"
	"time"

	"meshbox/broker/store"
)

// usedLately is how long after its last request an API key counts as a peer that
// is here (protocol, services, section 2).
const usedLately = 5 * time.Minute

// keyUses are when API keys were used last. They are written with the next sweep,
// as lastSeen is: a request that reads must not cost a commit.
type keyUses struct {
	mu    sync.Mutex
	byKey map[string]keyUse // by key id; those of the last usedLately, and what is not stored yet
}

type keyUse struct {
	member store.Member // as it was then
	at     time.Time
	stored bool
}

// note says that a key of a member was used.
func (u *keyUses) note(keyID string, by store.Member, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byKey == nil {
		u.byKey = map[string]keyUse{}
	}
	u.byKey[keyID] = keyUse{member: by, at: now}
}

// newest returns the later of what was noted of a key and what is stored.
func (u *keyUses) newest(keyID string, stored time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if noted := u.byKey[keyID].at; noted.After(stored) {
		return noted
	}
	return stored
}

// lately returns the members of a mesh whose keys were used lately, by their ids.
func (u *keyUses) lately(meshID string, now time.Time) map[string]store.Member {
	u.mu.Lock()
	defer u.mu.Unlock()
	members := map[string]store.Member{}
	for _, use := range u.byKey {
		if use.member.MeshID == meshID && now.Sub(use.at) < usedLately {
			members[use.member.ID] = use.member
		}
	}
	return members
}

// take returns what is to be stored, and forgets what is and is old.
func (u *keyUses) take(now time.Time) map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := map[string]time.Time{}
	for id, use := range u.byKey {
		switch {
		case !use.stored:
			at[id] = use.at
			use.stored = true
			u.byKey[id] = use
		case now.Sub(use.at) >= usedLately:
			delete(u.byKey, id)
		}
	}
	return at
}

// retry says that what take returned was not stored after all.
func (u *keyUses) retry(at map[string]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id := range at {
		if use, ok := u.byKey[id]; ok {
			use.stored = false
			u.byKey[id] = use
		}
	}
}

// forget drops what was noted of members.
func (u *keyUses) forget(memberIDs []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, use := range u.byKey {
		if slices.Contains(memberIDs, use.member.ID) {
			delete(u.byKey, id)
		}
	}
}

// keepUses stores what was noted. What cannot be stored is tried again.
func (b *Broker) keepUses() error {
	at := b.uses.take(time.Now())
	if len(at) == 0 {
		return nil
	}
	err := b.db.SaveKeyUses(at)
	if err != nil {
		b.uses.retry(at)
	}
	return err
}

// forgetKeys ends what the keys of banned members do here. The store knows that
// they work no more, and a stream that is rung asks it.
func (b *Broker) forgetKeys(memberIDs []string) {
	b.uses.forget(memberIDs)
	b.streams.ring(func(s *stream) bool { return slices.Contains(memberIDs, s.memberID) })
}
