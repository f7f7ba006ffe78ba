package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Recipient grants (protocol section 5): a member may say what a given peer may
// do to it. Who is not listed may do everything, so most meshes have none, and
// asking costs one look into an empty map.
//
//	dm          direct messages
//	broadcast   messages to everyone, to a group, and to topics
//	read        seeing in lists and events that the member is here
//	state-read  kept for the shared state, which does not exist yet
var grantCaps = []string{"read", "dm", "broadcast", "state-read"}

const maxGrants = 1000 // entries of one member

// grants are all entries of the data file. Nothing but set_grants changes them,
// so what is in memory is what is on disk.
type grants struct {
	mu     sync.RWMutex
	byPeer map[string]map[string][]string // the peer's member key → member id → what that one allows
}

// loadGrants reads them when the broker starts.
func loadGrants(db *store.DB) (*grants, error) {
	g := &grants{byPeer: map[string]map[string][]string{}}
	all, err := db.Grants(context.Background())
	for _, entry := range all {
		g.set(entry.MemberID, entry.PeerKey, entry.Caps)
	}
	return g, err
}

// set changes one entry; nil caps remove it.
func (g *grants) set(memberID, peerKey string, caps []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.byPeer[peerKey]
	switch {
	case caps == nil:
		if delete(of, memberID); len(of) == 0 {
			delete(g.byPeer, peerKey)
		}
		return
	case of == nil:
		of = map[string][]string{}
		g.byPeer[peerKey] = of
	}
	of[memberID] = caps
}

// deny returns the ids of the members that do not allow a peer to do something,
// nil if there are none.
func (g *grants) deny(peerKey, what string) (members map[string]bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for memberID, caps := range g.byPeer[peerKey] {
		if !slices.Contains(caps, what) {
			if members == nil {
				members = map[string]bool{}
			}
			members[memberID] = true
		}
	}
	return members
}

// hides reports whether a member does not let a peer see it.
func (g *grants) hides(memberID, peerKey string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	caps, listed := g.byPeer[peerKey][memberID]
	return listed && !slices.Contains(caps, "read")
}

// of returns the entries of one member.
func (g *grants) of(memberID string) map[string][]string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	own := map[string][]string{}
	for peerKey, members := range g.byPeer {
		if caps, listed := members[memberID]; listed {
			own[peerKey] = caps
		}
	}
	return own
}

// applyGrants finds out whose grants keep a message out. A direct message that
// its recipient does not allow is refused; of a message for many the others get
// theirs, and the sender is not told.
func (b *Broker) applyGrants(p *presence, post *store.Post, needed string) error {
	post.Denied = b.grants.deny(p.member.PubKey, needed)
	delete(post.Denied, post.SenderMemberID)
	if needed == "dm" && len(post.Recipients) == 1 && post.Denied[post.Recipients[0].MemberID] {
		b.metrics.droppedByGrant.WithLabelValues(needed).Inc()
		return &refusal{wire.Forbidden, "blocked by recipient grants; this peer does not take direct messages from you"}
	}
	return nil
}

func (r request) getGrants() { r.answer(&wire.Grants{Grants: r.b.grants.of(r.presence.member.ID)}) }

func (r request) setGrants(m *wire.SetGrants) {
	p := r.presence
	changes, problem := tidyGrants(m.Grants, p.member.PubKey)
	if problem != "" {
		r.fail(wire.InvalidArgs, problem)
		return
	}
	err := r.b.db.SetGrants(p.meshID, p.member.ID, changes, maxGrants, func() {
		for key, caps := range changes {
			r.b.grants.set(p.member.ID, key, caps)
		}
	})
	switch {
	case errors.Is(err, store.ErrNoMember):
		r.fail(wire.InvalidArgs, "A key is no member's; name peers by their member keys (memberPubkey in list_peers).")
	case errors.Is(err, store.ErrTooMany):
		r.fail(wire.InvalidArgs, fmt.Sprintf("At most %d peers can be listed; remove some with null first.", maxGrants))
	case err != nil:
		r.storeFailed(err)
	default:
		r.answer(&wire.Ack{ID: r.id, Queued: false})
	}
}

// tidyGrants checks what a member asks for, and says what is wrong with it.
func tidyGrants(asked map[string][]string, own string) (changes map[string][]string, problem string) {
	if len(asked) == 0 {
		return nil, `Send {"grants": {"<member key>": ["dm", …]}}; null instead of a list removes the entry.`
	}
	changes = map[string][]string{}
	for key, caps := range asked {
		switch {
		case !identity.IsPublicKey(key):
			return nil, "Each peer is named by its member key, 64 lowercase hex digits."
		case key == own:
			return nil, "Grants are about other members; your own connections may do everything to each other."
		}
		for _, name := range caps {
			if !slices.Contains(grantCaps, name) {
				return nil, fmt.Sprintf("There is no capability %q; use read, dm, broadcast and state-read.", wire.CleanLine(name, wire.MaxNameLen))
			}
		}
		if changes[key] = caps; caps != nil {
			changes[key] = slices.Compact(slices.Sorted(slices.Values(caps)))
			if changes[key] == nil {
				changes[key] = []string{} // nothing is allowed; nil would remove the entry
			}
		}
	}
	return changes, ""
}
