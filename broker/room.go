package broker

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"meshbox/broker/wire"
)

// room is one mesh's presences, indexed by all that addresses them. Broker.mu
// guards it.
type room struct {
	all       map[string]*presence              // by presence id; leased ones too
	live      int                               // of them, those with a connection
	bySession map[string]*presence              // by session key: one at most
	byID      map[sessionID]*presence           // by session id within a member: the latest
	byMember  map[string]map[*presence]struct{} // by member id
	members   map[string]string                 // ids of the members that are here, by their key
}

// sessionID is what a member's client calls one of its connections. Proven
// sessions and member connections are told apart.
type sessionID struct {
	memberID, id string
	proven       bool
}

func (p *presence) sessionID() sessionID {
	return sessionID{p.member.ID, p.client.SessionID, p.proven}
}

func newRoom() *room {
	return &room{all: map[string]*presence{}, bySession: map[string]*presence{}, byID: map[sessionID]*presence{}, byMember: map[string]map[*presence]struct{}{}, members: map[string]string{}}
}

// replaced returns the presence whose place a new one takes: that of the same
// session key, or of the same member with the same session id. It is never
// another member's, so nobody can close anybody else's socket, and never a
// proven one when the new one proved only the member.
func (r *room) replaced(by *presence) *presence {
	may := func(old *presence) bool { return old.member.ID == by.member.ID && (by.proven || !old.proven) }
	if old := r.bySession[by.sessionKey]; old != nil && may(old) {
		return old
	}
	if by.client.SessionID == "" {
		return nil
	}
	return r.byID[by.sessionID()]
}

func (r *room) add(p *presence) {
	r.all[p.id] = p
	if p.conn != nil {
		r.live++
	}
	if p.sessionKey != "" {
		r.bySession[p.sessionKey] = p
	}
	r.byID[p.sessionID()] = p
	if r.byMember[p.member.ID] == nil {
		r.byMember[p.member.ID] = map[*presence]struct{}{}
		r.members[p.member.PubKey] = p.member.ID
	}
	r.byMember[p.member.ID][p] = struct{}{}
}

// siblings returns the presences of p's member, p included if it is here.
func (r *room) siblings(p *presence) map[*presence]struct{} {
	if r == nil {
		return map[*presence]struct{}{p: {}}
	}
	return r.byMember[p.member.ID]
}

// remove takes p out and reports whether it was in.
func (r *room) remove(p *presence) bool {
	if r.all[p.id] != p {
		return false
	}
	delete(r.all, p.id)
	if p.conn != nil {
		r.live--
	}
	if r.bySession[p.sessionKey] == p {
		delete(r.bySession, p.sessionKey)
	}
	if r.byID[p.sessionID()] == p {
		delete(r.byID, p.sessionID())
	}
	delete(r.byMember[p.member.ID], p)
	if len(r.byMember[p.member.ID]) == 0 {
		delete(r.byMember, p.member.ID)
		delete(r.members, p.member.PubKey)
	}
	return true
}

// full reports whether the mesh has no place for the peer that a hello claims
// to be. The hello asks before it spends time on signatures; arrive has the last
// word.
func (b *Broker) full(meshID, memberKey, sessionKey, sessionID string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil || r.live < b.cfg.Limits.MaxConnections {
		return false
	}
	if p := r.bySession[sessionKey]; p != nil && p.conn != nil {
		return false // it may take over
	}
	for p := range r.byMember[r.members[memberKey]] {
		if p.conn != nil && p.client.SessionID == sessionID {
			return false
		}
	}
	return true
}

// arrive makes p present and queues its first frame, in one step: nothing can
// reach its connection before, and nothing is missed after. If p takes the place
// of a presence, it does so silently; replaced is the connection of that one,
// nil if it was leased. refusal is an error code why there is no place.
func (b *Broker) arrive(p *presence, first func() []byte) (silent bool, replaced *conn, refusal string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[p.meshID]
	if r == nil {
		r = newRoom()
		b.rooms[p.meshID] = r
	}
	old := r.replaced(p)
	if (old == nil || old.conn == nil) && r.live >= b.cfg.Limits.MaxConnections {
		return false, nil, wire.Capacity
	}
	if refusal := r.claimKey(p, old); refusal != "" {
		return false, nil, refusal
	}
	if old != nil {
		replaced = old.conn
		r.remove(old)
		if old.conn != nil {
			old.left = old.conn.feed.Load().remains()
		}
		p.inherit(old)
		if p.rekeyed && old.sessionKey != "" {
			b.sessionsEnded.Store(true) // what waits for the old key is for the member now
		}
	}
	b.applyReport(p, time.Now())
	r.add(p)
	p.conn.sendFrame(first())
	p.conn.feed.Store(b.newFeed(p, old)) // after that pushes follow
	return old != nil, replaced, ""
}

// newFeed is that of p, which goes on where old was, if it took its place. Broker.mu
// is held.
func (b *Broker) newFeed(p, old *presence) *feed {
	since := b.newest.Load() + 1
	if old == nil {
		return newFeed(p, since)
	}
	if old.left.since > 0 {
		since = min(since, old.left.since)
	}
	f := newFeed(p, since)
	maps.Copy(f.mine, old.left.mine)
	return f
}

// claimKey settles who routes under p's session key if somebody else does. A
// proof outranks a label; a label never takes from anyone.
func (r *room) claimKey(p, old *presence) (refusal string) {
	holder := r.bySession[p.sessionKey]
	if holder == nil || holder == old {
		return ""
	}
	switch {
	case p.proven && !holder.proven:
		if holder.conn != nil {
			holder.conn.end(wire.BadSessionPubkey)
		}
	case holder.member.ID == p.member.ID:
		p.sessionKey = "" // its proven session is here: the label is not needed
	default:
		return wire.BadSessionPubkey
	}
	return ""
}

// yieldKey ends the presence that labelled itself with what is now the key of a
// member.
func (b *Broker) yieldKey(meshID, key string) {
	b.mu.Lock()
	var p *presence
	if r := b.rooms[meshID]; r != nil && key != "" {
		p = r.bySession[key]
		delete(r.bySession, key)
	}
	b.mu.Unlock()
	if p == nil {
		return
	}
	b.expel(p, func(c *conn) { c.end(wire.BadSessionPubkey) }) // no lease keeps the label
}

// inherit continues what a replaced presence of the same peer showed.
func (p *presence) inherit(old *presence) {
	p.id, p.connectedAt = old.id, old.connectedAt
	p.rekeyed = p.sessionKey != old.sessionKey
	p.earned.Store(old.earned.Load())
	p.status, p.saidBy, p.since = old.status, old.saidBy, old.since
	p.summary, p.visible, p.stats, p.profile = old.summary, old.visible, old.stats, old.profile
	if p.client.Groups == nil {
		p.groups = old.groups
	}
}

// leave ends the presence of a connection, if it still has one, and tells the
// others.
func (b *Broker) leave(c *conn) {
	p := c.presence
	if p == nil {
		return
	}
	if !b.isHere(p) {
		return // replaced: who took the place goes on with the state
	}
	if time.Since(c.opened) >= earnAfter {
		b.earn(p)
	}
	if p.earned.Load() && p.leases() {
		b.saveState(p) // first: messages to its groups find it here or there
		b.detach(p)
		return
	}
	b.end(p) // first: nobody lists a command that has left
	if p.earned.Load() || p.spoke.Load() {
		b.saveState(p)
		return
	}
	b.seen.note(p.member.ID, time.Now())
}

// end takes a presence out and tells the others. It reports whether p was in.
func (b *Broker) end(p *presence) bool {
	b.mu.Lock()
	r := b.rooms[p.meshID]
	present := r != nil && r.remove(p)
	if present && len(r.all) == 0 {
		delete(b.rooms, p.meshID)
	}
	if present && p.sessionKey != "" {
		b.sessionsEnded.Store(true)
	}
	event, visible := p.event(), p.visible
	told := visible && !b.draining // nobody is left to be told then
	b.mu.Unlock()
	if present && told {
		b.tellOthers(p, wire.EventPeerLeft, event)
	}
	if present && visible {
		b.changed(p.meshID, wire.ChangedPeers)
	}
	return present
}

// isHere reports whether p is present.
func (b *Broker) isHere(p *presence) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[p.meshID]
	return r != nil && r.all[p.id] == p
}

// connsIn returns the connections of a mesh that include picks.
func (b *Broker) connsIn(meshID string, include func(*presence) bool) []*conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil {
		return nil
	}
	conns := make([]*conn, 0, len(r.all))
	for _, p := range r.all {
		if p.conn != nil && include(p) {
			conns = append(conns, p.conn)
		}
	}
	return conns
}

// connsOf returns the connections of a member.
func (b *Broker) connsOf(memberID string) (conns []*conn) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.rooms {
		conns = r.appendConns(conns, memberID, false)
	}
	return conns
}

// isKnown reports whether a session of the member with that key is here, or
// leased.
func (b *Broker) isKnown(memberID, sessionKey string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.rooms {
		if p := r.bySession[sessionKey]; p != nil && p.member.ID == memberID {
			return true
		}
	}
	return false
}

// peers returns the listings that the member of p may see, in the order they
// came.
func (b *Broker) peers(asking *presence) []wire.Peer {
	hiding := b.grants.deny(asking.member.PubKey, "read")
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := []wire.Peer{}
	if r := b.rooms[asking.meshID]; r != nil {
		for _, p := range r.all {
			if p.member.ID == asking.member.ID || p.visible && !hiding[p.member.ID] {
				list = append(list, p.listing())
			}
		}
	}
	slices.SortFunc(list, func(x, y wire.Peer) int {
		return cmp.Or(strings.Compare(x.ConnectedAt, y.ConnectedAt), strings.Compare(x.Pubkey, y.Pubkey))
	})
	return list
}

func (b *Broker) countPresences() float64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := 0
	for _, r := range b.rooms {
		n += r.live
	}
	return float64(n)
}
