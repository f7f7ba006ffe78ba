package broker

import (
	"time"

	"meshbox/broker/wire"
)

// Status (protocol section 4): what a peer is doing, which decides what it is
// pushed. Three sources say so, and not all of them know it equally well.

// source is who said a status. While what it said is fresh, no lower one
// overwrites it.
type source int

const (
	unsaid source = iota // nobody: a new presence, one of before a restart, or a status that fell back
	byLog                // "jsonl": a program that reads the agent's log
	byHand               // set_status: the agent, or its person
	byHook               // the agent's own program, see hook.go
)

// statusFresh is how long a status holds against lower sources.
const statusFresh = 30 * time.Second

func (r request) setStatus(m *wire.SetStatus) {
	by := byHand
	switch {
	case !wire.ValidStatus(m.Status):
		r.fail(wire.InvalidArgs, "The status must be idle, working or dnd.")
		return
	case m.Source == wire.SourceJSONL:
		by = byLog
	case m.Source != "":
		r.fail(wire.InvalidArgs, "The source of a status can only be jsonl; leave it out for what a person or an agent says.")
		return
	}
	var was string
	r.change(func(p *presence) {
		was = p.status
		p.say(m.Status, by, time.Now())
	})
	if (was == wire.StatusDND) != (m.Status == wire.StatusDND) {
		r.b.keepWish(r.presence)
	}
	r.done()
}

// say sets the status if by may do so. Broker.mu is held.
func (p *presence) say(status string, by source, at time.Time) {
	if p.heeds(status, by, at) {
		p.become(status, by, at)
	}
}

// heeds reports whether by may set the status now. dnd is a person's wish: by
// hand it is set over anything, a fresh hook included, and only by hand it is
// lifted. Broker.mu is held.
func (p *presence) heeds(status string, by source, at time.Time) bool {
	if p.status == wire.StatusDND || status == wire.StatusDND && by == byHand {
		return by == byHand
	}
	return by >= p.saidBy || at.Sub(p.since) >= statusFresh
}

// become sets the status and with it the gate of the feed. Both change under
// Broker.mu, which is held: of two sources at once one would else set the status
// and the other the gate, and a peer listed as idle would get nothing.
func (p *presence) become(status string, by source, at time.Time) {
	p.status, p.saidBy, p.since = status, by, at
	if p.conn != nil && p.conn.feed.Load() != nil { // a feed that is to come asks the presence
		p.conn.gate(status != wire.StatusIdle)
	}
}

// relax lets presences that are working for too long fall back to idle: an agent
// that was interrupted does not say so, and its messages would be held for ever.
func (b *Broker) relax(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for meshID, r := range b.rooms {
		for _, p := range r.all {
			if p.status == wire.StatusWorking && now.Sub(p.since) >= b.cfg.Limits.WorkingTTL {
				p.become(wire.StatusIdle, unsaid, now)
				if p.visible {
					b.changed(meshID, wire.ChangedPeers)
				}
			}
		}
	}
}

// keepWish saves that dnd was set or lifted: if the broker is killed, the lease
// must not come back with what the person wished before. Other statuses do not
// last long enough to be worth a write.
func (b *Broker) keepWish(p *presence) {
	if p.earned.Load() && p.leases() && b.isHere(p) {
		if err := b.db.UpdateLease(b.leaseOf(p)); err != nil {
			b.log.Warn("lease not saved", "member", p.member.ID, "err", err)
		}
	}
}
