package broker

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	// changeDelay is how long changes of a mesh wait for more of them: one event
	// then tells of a thousand arrivals, and who is told asks once.
	changeDelay = 200 * time.Millisecond

	// changePause is how much longer they wait for each presence that each listener
	// will ask about: what is told costs the broker some 5 µs for each in a list,
	// and that should be a twentieth of its time at most.
	changePause    = 100 * time.Microsecond
	maxChangePause = 30 * time.Second
)

// changes are what those connections are to be told that asked for mesh events.
// The events say what to ask for again, not what it is now: nothing is told to
// who may not see it, and nothing is lost when many come at once.
type changes struct {
	mu    sync.Mutex
	what  map[string][]string      // by mesh id; a mesh is in it while its timer runs
	pause map[string]time.Duration // by mesh id: what the last event told how long to wait with the next
}

func newChanges() changes {
	return changes{what: map[string][]string{}, pause: map[string]time.Duration{}}
}

// changed says that a mesh is not as it was. It does not block.
func (b *Broker) changed(meshID, what string) {
	c := &b.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting, running := c.what[meshID]
	if !slices.Contains(waiting, what) {
		c.what[meshID] = append(waiting, what)
	}
	if !running {
		time.AfterFunc(changeDelay+c.pause[meshID], func() { b.tellChanges(meshID) })
	}
}

// tellChanges tells what has changed since the last time.
func (b *Broker) tellChanges(meshID string) {
	here, listeners := b.listeners(meshID)
	b.changes.mu.Lock()
	what := b.changes.what[meshID]
	delete(b.changes.what, meshID)
	b.changes.pause[meshID] = min(time.Duration(here*len(listeners))*changePause, maxChangePause)
	if here == 0 {
		delete(b.changes.pause, meshID)
	}
	b.changes.mu.Unlock()
	change := wire.MeshChange{What: what}
	if slices.Contains(what, wire.ChangedMesh) {
		if mesh, err := b.db.MeshByID(context.Background(), meshID); err == nil {
			change.MeshName = mesh.Slug
		}
	}
	if !slices.Contains(what, wire.ChangedInvites) {
		b.tellChange(meshID, change, listeners)
		return
	}
	running, others := split(listeners, func(p *presence) bool { return p.runsMesh })
	b.tellChange(meshID, change, running)
	change.What = slices.DeleteFunc(slices.Clone(what), func(part string) bool { return part == wire.ChangedInvites })
	if len(change.What) > 0 {
		b.tellChange(meshID, change, others)
	}
}

// listeners returns how many presences a mesh has, and those of them that asked
// for mesh events.
func (b *Broker) listeners(meshID string) (here int, all []*presence) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil {
		return 0, nil
	}
	for _, p := range r.all {
		if p.conn != nil && p.wants(wire.CapMeshEvents) {
			all = append(all, p)
		}
	}
	return len(r.all), all
}

// presencesOf returns the presences of members, except one.
func (b *Broker) presencesOf(meshID string, memberIDs []string, except *presence) (all []*presence) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil {
		return nil
	}
	for _, id := range memberIDs {
		for p := range r.byMember[id] {
			if p != except {
				all = append(all, p)
			}
		}
	}
	return all
}

// tellChange sends mesh_changed to those of presences that asked for such events.
// It is called without locks.
func (b *Broker) tellChange(meshID string, change wire.MeshChange, to []*presence) {
	b.tellChangeTo(wire.CapMeshEvents, meshID, change, to)
}

// tellChangeTo sends mesh_changed to those of presences whose hello named a
// capability. It is called without locks.
func (b *Broker) tellChangeTo(capability, meshID string, change wire.MeshChange, to []*presence) {
	var frame []byte
	for _, p := range to {
		c := b.connOf(p)
		if c == nil || !p.wants(capability) {
			continue
		}
		if frame == nil {
			frame = wire.Encode(&wire.Push{
				Subtype: "system", Event: wire.EventMeshChanged, EventData: json.RawMessage(toJSON(change)), MessageID: store.NewID(),
				MeshID: meshID, SenderPubkey: "system", Priority: wire.PriorityLow, CreatedAt: wire.Time(time.Now()),
			}, "")
		}
		if !c.out.add(frame) {
			c.cut(wire.SlowConsumer)
		}
	}
}

// wants reports whether the hello of p named a capability.
func (p *presence) wants(capability string) bool {
	return slices.Contains(p.client.Capabilities, capability)
}

// split returns those for whom it is true, and the others.
func split(all []*presence, test func(*presence) bool) (yes, no []*presence) {
	for _, p := range all {
		if test(p) {
			yes = append(yes, p)
		} else {
			no = append(no, p)
		}
	}
	return yes, no
}
