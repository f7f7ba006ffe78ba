package broker

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// presence is one peer that is here: a connection, and what it says of itself.
type presence struct {
	// fixed at the hello
	id          string
	meshID      string
	member      store.Member // as it was at the hello; its State is not kept up to date
	sessionKey  string       // "" for a member connection without one; fixed by arrive
	proven      bool         // the session key was proven by session_hello
	name        string
	client      wire.Client
	caps        identity.Caps
	connectedAt time.Time
	rateKey     string // whose rate of messages counts; "": the member's
	runsMesh    bool   // as its owner or an admin, and its session may; known of who asked for mesh events

	// owned by Broker.mu
	conn       *conn     // nil: the presence is leased
	leaseUntil time.Time // of a leased one
	left       remains   // of a leased one
	status     string
	saidBy     source    // who set it, see status.go
	since      time.Time // when it was set
	summary    string
	groups     []wire.Group
	visible    bool
	stats      json.RawMessage
	profile    *wire.Profile

	rekeyed bool // it took the place of one with another session key; fixed by arrive

	earned atomic.Bool // it has a lease: it outlives its connection for a while
	spoke  atomic.Bool // it said something of itself that is to be kept
}

// key is what the presence lists and sends under.
func (p *presence) key() string {
	if p.sessionKey != "" {
		return p.sessionKey
	}
	return p.member.PubKey
}

// role is session for a proven session, else control-plane.
func (p *presence) role() string {
	if p.proven {
		return wire.RoleSession
	}
	return wire.RoleControlPlane
}

// listing is the presence as peers_list shows it. Broker.mu is held.
func (p *presence) listing() wire.Peer {
	peer := wire.Peer{
		Pubkey: p.key(), MemberPubkey: p.member.PubKey, DisplayName: p.name, Status: p.status,
		Groups: slices.Clone(p.groups), SessionID: p.client.SessionID, ConnectedAt: wire.Time(p.connectedAt), CWD: p.client.CWD,
		PeerRole: p.role(), Hostname: p.client.Hostname, PeerType: p.client.PeerType, Channel: p.client.Channel,
		Model: p.client.Model, Stats: p.stats, Visible: p.visible, Profile: p.profile,
	}
	if peer.Groups == nil {
		peer.Groups = []wire.Group{}
	}
	if p.summary != "" {
		summary := p.summary // the listing outlives the lock
		peer.Summary = &summary
	}
	return peer
}

// state is what is kept of the presence for its next hello. Broker.mu is held.
func (p *presence) state(now time.Time) store.State {
	return store.State{Groups: toJSON(p.groups), Summary: p.summary, Visible: p.visible, Stats: string(p.stats), LastSeenAt: now}
}

// inGroup reports whether the presence is in group or one below it
// ("core/backend" is in "core"). Broker.mu is held.
func (p *presence) inGroup(group string) bool {
	return slices.ContainsFunc(p.groups, func(g wire.Group) bool { return isWithin(g.Name, group) })
}

// isWithin reports whether the group called name is group or lies below it.
func isWithin(name, group string) bool {
	return name == group || strings.HasPrefix(name, group+"/")
}

// saveState saves what others see of p now.
func (b *Broker) saveState(p *presence) {
	b.mu.RLock()
	state := p.state(time.Now())
	b.mu.RUnlock()
	b.keepState(p, state)
}

// keepState saves what a presence leaves behind. A session's state is kept
// under its key once that is remembered, never under its member.
func (b *Broker) keepState(p *presence, s store.State) {
	key := ""
	if p.proven {
		key = p.sessionKey
	}
	if err := b.db.SaveState(p.meshID, p.member.ID, key, s); err != nil {
		b.log.Warn("state of a presence not saved", "member", p.member.ID, "err", err)
	}
}

// event is the eventData that announces p. Broker.mu is held, or p not yet
// present.
func (p *presence) event() wire.PeerEvent {
	e := wire.PeerEvent{Name: p.name, Pubkey: p.key(), Groups: slices.Clone(p.groups)}
	if e.Groups == nil {
		e.Groups = []wire.Group{}
	}
	return e
}

// tellOthers pushes an event to every connection of the mesh but those of p's
// own member, and of members that p's does not let see it. It may take eventDelay: when a thousand peers arrive at once, each
// of a thousand write loops then wakes a few times instead of a thousand times,
// and the hellos behind them are answered in time.
func (b *Broker) tellOthers(p *presence, event string, data wire.PeerEvent) {
	frame := wire.Encode(&wire.Push{
		Subtype: "system", Event: event, EventData: json.RawMessage(toJSON(data)), MessageID: store.NewID(), MeshID: p.meshID,
		SenderPubkey: "system", Priority: wire.PriorityLow, CreatedAt: wire.Time(time.Now()),
	}, "")
	others := b.connsIn(p.meshID, func(o *presence) bool {
		return o.member.ID != p.member.ID && !b.grants.hides(p.member.ID, o.member.PubKey)
	})
	for _, c := range others {
		if !c.out.addQuietly(frame) {
			c.cut(wire.SlowConsumer)
		}
	}
	b.ringLater(p.meshID)
}

// ringLater wakes all write loops of a mesh after eventDelay, once for all the
// events until then.
func (b *Broker) ringLater(meshID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ringing[meshID] {
		return
	}
	b.ringing[meshID] = true
	time.AfterFunc(eventDelay, func() {
		b.mu.Lock()
		delete(b.ringing, meshID)
		b.mu.Unlock()
		for _, c := range b.connsIn(meshID, func(*presence) bool { return true }) {
			c.out.ringIfWaiting()
		}
	})
}

// toJSON is the text of v for a JSON column or field, "" for an empty list.
func toJSON(v any) string {
	if groups, ok := v.([]wire.Group); ok && groups == nil {
		return ""
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic("broker: " + err.Error()) // only structs and lists of ours come here
	}
	return string(text)
}
