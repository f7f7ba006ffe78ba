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

// changeDelay is how long changes of a mesh wait for more of them: one event
// then tells of a thousand arrivals, and who is told asks once.
const changeDelay = 200 * time.Millisecond

// changes are what those connections are to be told that asked for mesh events.
// The events say what to ask for again, not what it is now: nothing is told to
// who may not see it, and nothing is lost when many come at once.
type changes struct {
	mu   sync.Mutex
	what map[string][]string // by mesh id; a mesh is in it while its timer runs
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
		time.AfterFunc(changeDelay, func() { b.tellChanges(meshID) })
	}
}

func (b *Broker) tellChanges(meshID string) {
	b.changes.mu.Lock()
	what := b.changes.what[meshID]
	delete(b.changes.what, meshID)
	b.changes.mu.Unlock()
	change := wire.MeshChange{What: what}
	if slices.Contains(what, wire.ChangedMesh) {
		if mesh, err := b.db.MeshByID(context.Background(), meshID); err == nil {
			change.MeshName = mesh.Slug
		}
	}
	b.tellChange(meshID, change, func(p *presence) bool { return true })
}

// tellChange sends mesh_changed to the connections that asked for such events
// and that include picks. It is called without locks.
func (b *Broker) tellChange(meshID string, change wire.MeshChange, include func(*presence) bool) {
	conns := b.connsIn(meshID, func(p *presence) bool { return p.wants(wire.CapMeshEvents) && include(p) })
	if len(conns) == 0 {
		return
	}
	frame := wire.Encode(&wire.Push{
		Subtype: "system", Event: wire.EventMeshChanged, EventData: json.RawMessage(toJSON(change)), MessageID: store.NewID(),
		MeshID: meshID, SenderPubkey: "system", Priority: wire.PriorityLow, CreatedAt: wire.Time(time.Now()),
	}, "")
	for _, c := range conns {
		if !c.out.add(frame) {
			c.cut(wire.SlowConsumer)
		}
	}
}

// wants reports whether the hello of p named a capability.
func (p *presence) wants(capability string) bool {
	return slices.Contains(p.client.Capabilities, capability)
}
