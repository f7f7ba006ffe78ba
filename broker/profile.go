package broker

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"meshbox/broker/wire"
)

// What a peer says of itself (protocol section 6). Each change is saved, so that
// the next hello restores it.

func (r request) setSummary(m *wire.SetSummary) {
	r.change(func(p *presence) { p.summary = wire.CleanLine(m.Summary, wire.MaxSummaryLen) })
	r.b.saveState(r.presence)
	r.done()
}

// setVisible hides or shows the presence; the others are told once per change.
func (r request) setVisible(m *wire.SetVisible) {
	var changed bool
	var event wire.PeerEvent
	r.change(func(p *presence) {
		changed, event = p.visible != m.Visible, p.event()
		p.visible = m.Visible
	})
	r.hide(!m.Visible)
	r.b.saveState(r.presence)
	r.answer(&wire.Ack{ID: r.id, Queued: false})
	if !changed {
		return
	}
	name := wire.EventPeerHidden
	if m.Visible {
		name = wire.EventPeerVisible
	}
	r.b.tellOthers(r.presence, name, event)
}

func (r request) setProfile(m *wire.SetProfile) {
	profile := wire.Profile{
		Avatar: wire.CleanLine(m.Avatar, wire.MaxTextLen), Title: wire.CleanLine(m.Title, wire.MaxNameLen),
		Bio: wire.CleanLine(m.Bio, wire.MaxTextLen), Capabilities: tidyWords(m.Capabilities, wire.MaxGroups),
	}
	if err := r.b.db.SaveProfile(r.presence.member.ID, toJSON(profile)); err != nil {
		r.storeFailed(err)
		return
	}
	r.change(func(p *presence) { // a profile belongs to the member: all its presences show it
		for sibling := range r.b.rooms[p.meshID].siblings(p) {
			sibling.profile = &profile
		}
	})
	r.answer(&wire.Ack{ID: r.id, Queued: false})
}

func (r request) setStats(m *wire.SetStats) {
	var stats map[string]json.RawMessage
	if len(m.Stats) > wire.MaxObject || json.Unmarshal(m.Stats, &stats) != nil {
		r.fail(wire.InvalidArgs, "The stats must be a JSON object of at most 8 KiB.")
		return
	}
	r.b.mu.Lock()
	r.presence.stats = m.Stats // too often, and too small, to tell anybody
	r.b.mu.Unlock()
	r.presence.spoke.Store(true)
	r.done()
}

func (r request) joinGroup(m *wire.JoinGroup) {
	group, ok := tidyGroup(wire.Group(*m))
	if !ok {
		r.fail(wire.InvalidArgs, "A group needs a name of 1 to 64 characters.")
		return
	}
	full := false
	r.change(func(p *presence) {
		kept := slices.DeleteFunc(slices.Clone(p.groups), func(g wire.Group) bool { return g.Name == group.Name })
		if full = len(kept) >= wire.MaxGroups; !full {
			p.groups = append(kept, group)
		}
	})
	if full {
		r.fail(wire.InvalidArgs, "A peer can be in 32 groups at most; leave one first.")
		return
	}
	r.b.saveState(r.presence)
	r.done()
}

func (r request) leaveGroup(m *wire.LeaveGroup) {
	name := groupName(m.Name)
	r.change(func(p *presence) {
		p.groups = slices.DeleteFunc(slices.Clone(p.groups), func(g wire.Group) bool { return g.Name == name })
	})
	r.b.saveState(r.presence)
	r.done()
}

// change applies f to the presence while nobody else reads it, and tells those
// who want to know if it shows.
func (r request) change(f func(*presence)) {
	p := r.presence
	r.b.mu.Lock()
	before := p.listing()
	f(p)
	after := p.listing()
	r.b.mu.Unlock()
	if (before.Visible || after.Visible) && !reflect.DeepEqual(before, after) {
		r.b.changed(p.meshID, wire.ChangedPeers)
	}
}

// groupName cleans a group's name; the @ of an address does not belong to it.
func groupName(name string) string {
	return strings.Trim(wire.CleanLine(strings.TrimPrefix(strings.TrimSpace(name), "@"), wire.MaxNameLen), "/")
}

func tidyGroup(g wire.Group) (wire.Group, bool) {
	g.Name, g.Role = groupName(g.Name), wire.CleanLine(g.Role, wire.MaxNameLen)
	return g, g.Name != ""
}

// tidyGroups cleans the groups of a hello; nil stays nil, which means "restore".
func tidyGroups(said []wire.Group) []wire.Group {
	if said == nil {
		return nil
	}
	groups := []wire.Group{}
	for _, g := range said {
		g, ok := tidyGroup(g)
		if ok && len(groups) < wire.MaxGroups && !slices.ContainsFunc(groups, func(other wire.Group) bool { return other.Name == g.Name }) {
			groups = append(groups, g)
		}
	}
	return groups
}

// tidyWords bounds a list of short words.
func tidyWords(words []string, most int) []string {
	if len(words) > most {
		words = words[:most]
	}
	clean := make([]string, 0, len(words))
	for _, word := range words {
		if word = wire.CleanLine(word, wire.MaxNameLen); word != "" {
			clean = append(clean, word)
		}
	}
	return clean
}
