package broker

import (
	"context"
	"encoding/json"
	"fmt"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// The audit chain on the wire (protocol, services), for those who may moderate.

func (r request) auditQuery(m *wire.AuditQuery) {
	limit := m.Limit
	switch {
	case limit == 0:
		limit = wire.DefaultAudit
	case limit < 0 || limit > wire.MaxAudit:
		r.fail(wire.InvalidArgs, fmt.Sprintf("The limit must be 1 to %d.", wire.MaxAudit))
		return
	}
	if m.Offset < 0 {
		r.fail(wire.InvalidArgs, "The offset must not be negative.")
		return
	}
	if !r.moderates() {
		return
	}
	entries, total, err := r.b.db.AuditEntries(context.Background(), r.presence.meshID, store.AuditQuery{Event: m.EventType, Limit: limit, Offset: m.Offset})
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.AuditResult{Entries: make([]wire.AuditEntry, len(entries)), Total: total}
	for i, e := range entries {
		response.Entries[i] = wire.AuditEntry{
			ID: e.ID, EventType: e.Event, Actor: e.Actor, Payload: payloadOf(e), Hash: e.Hash, CreatedAt: wire.Time(e.CreatedAt),
		}
	}
	r.answer(response)
}

// payloadOf is the payload of an entry for the wire. One that somebody changed
// in the file may be no JSON any more; it is shown as the text that it is.
func payloadOf(e store.AuditEntry) json.RawMessage {
	if json.Valid([]byte(e.Payload)) {
		return json.RawMessage(e.Payload)
	}
	return json.RawMessage(toJSON(e.Payload))
}

func (r request) auditVerify() {
	if !r.moderates() {
		return
	}
	verdict, err := r.b.db.VerifyAudit(context.Background(), r.presence.meshID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	r.answer(&wire.AuditVerifyResult{Valid: verdict.Valid(), Entries: verdict.Entries, BrokenAt: verdict.BrokenAt.ID})
}
