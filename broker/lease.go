package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Presence is a lease (protocol section 4): when its connection breaks, a peer
// stays listed for a while, and when it comes back in time nobody else notices.
// A lease is earned by a message or by having lived for earnAfter: the one-shot
// commands that come and go many times a minute must not linger as peers, nor
// fill the store with session keys nobody will ever write to.

// earnInTime gives leases to those who have lived long enough, until ctx ends:
// one after the other, because when thousands came at once they all get there in
// the same moment.
func (b *Broker) earnInTime(ctx context.Context) {
	tick := time.NewTicker(earnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, p := range b.due(now) {
				if ctx.Err() == nil {
					b.earn(p)
				}
			}
		}
	}
}

// due returns the presences that have lived long enough and have no lease.
func (b *Broker) due(now time.Time) (all []*presence) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.rooms {
		for _, p := range r.all {
			if p.conn != nil && !p.earned.Load() && now.Sub(p.conn.opened) >= earnAfter {
				all = append(all, p)
			}
		}
	}
	return all
}

// earn gives p a lease, once, and has the store remember its session key.
func (b *Broker) earn(p *presence) {
	if !p.earned.Swap(true) {
		b.keepEarned(p)
	}
}

// keepEarned stores what p has earned. If the store is in trouble it is tried
// again later: a session key that is not remembered could not be written to once
// its presence is over.
func (b *Broker) keepEarned(p *presence) {
	now := time.Now()
	b.mu.RLock()
	state := p.state(now)
	b.mu.RUnlock()
	err := b.db.KeepEarned(b.leaseOf(p), state, p.leases(), now)
	if errors.Is(err, store.ErrExists) {
		p.earned.Store(false) // no lease keeps what is another member's
		b.dismiss(p)
		return
	}
	if err != nil {
		b.log.Warn("lease not saved", "member", p.member.ID, "err", err)
	}
	b.dropIfGone(p)
	b.keepLater(p, err)
}

// keepLater has keepEarned tried again after err, for p or who took its place.
func (b *Broker) keepLater(p *presence, err error) {
	if err == nil || errors.Is(err, store.ErrClosed) {
		return
	}
	time.AfterFunc(retryWrite, func() {
		b.mu.RLock()
		var here *presence
		if r := b.rooms[p.meshID]; r != nil {
			here = r.all[p.id]
		}
		b.mu.RUnlock()
		if here != nil {
			b.keepEarned(here)
		}
	})
}

// leases reports whether p may outlive its connection.
func (p *presence) leases() bool { return !slices.Contains(p.client.Capabilities, wire.CapNoLease) }

// dismiss ends the connection of p, if it has one, for the session key it named.
func (b *Broker) dismiss(p *presence) {
	if c := b.connOf(p); c != nil {
		c.end(wire.BadSessionPubkey)
	}
}

// detach leaves p without its connection until its lease ends.
func (b *Broker) detach(p *presence) {
	b.mu.Lock()
	r := b.rooms[p.meshID]
	present := r != nil && r.all[p.id] == p && p.conn != nil
	if present {
		p.left = p.conn.feed.Load().remains()
		p.conn, p.leaseUntil = nil, time.Now().Add(b.cfg.Limits.Lease)
		r.live--
	}
	b.mu.Unlock()
	if !present {
		return
	}
	if err := b.db.UpdateLease(b.leaseOf(p)); err != nil {
		b.log.Warn("lease not saved", "member", p.member.ID, "err", err)
	}
}

// leaseOf is p as it is kept for a restart of the broker.
func (b *Broker) leaseOf(p *presence) store.Lease {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return store.Lease{
		ID: p.id, MeshID: p.meshID, MemberID: p.member.ID, SessionKey: p.sessionKey, Proven: p.proven, Name: p.name,
		Client: toJSON(p.client), Status: p.status, ConnectedAt: p.connectedAt,
	}
}

// dropIfGone ends a lease that was just saved, if meanwhile p was ended (expel)
// and nobody took its place.
func (b *Broker) dropIfGone(p *presence) {
	b.mu.RLock()
	r := b.rooms[p.meshID]
	gone := r == nil || r.all[p.id] == nil
	b.mu.RUnlock()
	if gone {
		b.dropLease(p.id)
	}
}

// endLeases ends the presences that nobody came back to.
func (b *Broker) endLeases(now time.Time) error {
	var over []*presence
	b.mu.RLock()
	for _, r := range b.rooms {
		for _, p := range r.all {
			if p.conn == nil && !now.Before(p.leaseUntil) {
				over = append(over, p)
			}
		}
	}
	b.mu.RUnlock()
	for _, p := range over {
		if !b.end(p) {
			continue // its peer came back in this moment
		}
		b.dropLease(p.id)
	}
	return nil
}

// dropLease ends a lease in the store. If that fails it is tried again: a lease
// that stayed would bring the peer back with the next start.
func (b *Broker) dropLease(id string) {
	if err := b.db.DropLease(id); err != nil && !errors.Is(err, store.ErrClosed) {
		b.log.Warn("lease not dropped", "presence", id, "err", err)
		time.AfterFunc(retryWrite, func() { b.dropLease(id) })
	}
}

// resumeLeases takes up the leases that were running when the broker ended, by
// whatever end: their peers have the whole time to come back.
func (b *Broker) resumeLeases() {
	leases, err := b.db.Leases(context.Background())
	if err != nil {
		b.log.Error("leases could not be read; peers that come back will be announced", "err", err)
		return
	}
	for _, l := range leases {
		p, err := b.resumed(l)
		if err != nil {
			b.log.Info("lease dropped", "member", l.MemberID, "err", err)
			if !store.IsTrouble(err) {
				b.dropLease(l.ID)
			}
			continue
		}
		r := b.rooms[l.MeshID]
		if r == nil {
			r = newRoom()
			b.rooms[l.MeshID] = r
		}
		r.add(p)
	}
}

// resumed is the presence of a lease.
func (b *Broker) resumed(l store.Lease) (*presence, error) {
	member, err := b.db.MemberByID(context.Background(), l.MeshID, l.MemberID)
	if err == nil && !member.RevokedAt.IsZero() {
		err = errors.New("the member was revoked")
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p := &presence{
		id: l.ID, meshID: l.MeshID, member: member, sessionKey: l.SessionKey, proven: l.Proven, name: l.Name, connectedAt: l.ConnectedAt,
		status: l.Status, since: now, leaseUntil: now.Add(b.cfg.Limits.Lease), // who said the status is not kept: anybody may say otherwise
	}
	_ = json.Unmarshal([]byte(l.Client), &p.client) // written by saveLease
	p.left.since = b.newest.Load() + 1              // of what came after the broker ended nothing is missed
	p.earned.Store(true)
	state := member.State
	if l.Proven {
		known, err := b.db.SessionKeyByKey(context.Background(), l.MeshID, l.SessionKey)
		if err != nil {
			return nil, err
		}
		state = known.State
	}
	p.restore(state)
	p.groups = fromJSON(state.Groups)
	return p, nil
}
