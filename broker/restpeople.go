package broker

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"meshbox/broker/wire"
)

// restMember is a member as GET /members has it.
type restMember struct {
	MemberID    string  `json:"memberId"`
	Pubkey      string  `json:"pubkey"`
	DisplayName string  `json:"displayName"`
	Role        string  `json:"role"`    // owner, admin or member
	IsHuman     bool    `json:"isHuman"` // it is connected as one
	JoinedAt    string  `json:"joinedAt"`
	Online      bool    `json:"online"`
	Status      *string `json:"status"`  // null: it is away
	Summary     *string `json:"summary"` // null: it has none, or is away
}

func (c *caller) getMembers(r *http.Request) (any, error) {
	mesh, err := c.db.MeshByID(r.Context(), c.as.meshID)
	if err != nil {
		return nil, err
	}
	members, err := c.db.Members(r.Context(), mesh.ID)
	if err != nil {
		return nil, err
	}
	here, online := c.here(), c.connectedMembers(c.as)
	list := []restMember{}
	for _, m := range members {
		if m.PubKey == "" || m.Revoked() {
			continue // a place that was claimed; its id is the secret of who claimed it
		}
		entry := restMember{
			MemberID: m.ID, Pubkey: m.PubKey, DisplayName: m.DisplayName, Role: mesh.RoleOf(m), JoinedAt: wire.Time(m.JoinedAt), Online: online[m.ID],
		}
		if peers := here[m.PubKey]; len(peers) > 0 {
			entry.Status, entry.Summary = &peers[0].Status, summaryOf(peers)
			entry.IsHuman = slices.ContainsFunc(peers, func(p wire.Peer) bool { return p.PeerType == wire.PeerHuman })
		}
		list = append(list, entry)
	}
	return map[string]any{"members": list}, nil
}

// here returns the presences that the caller may see by their member keys. The first
// of each member is the one that is busiest.
func (c *caller) here() map[string][]wire.Peer {
	here := map[string][]wire.Peer{}
	for _, p := range c.peers(c.as) {
		here[p.MemberPubkey] = append(here[p.MemberPubkey], p)
	}
	busy := []string{wire.StatusIdle, wire.StatusDND, wire.StatusWorking}
	for _, peers := range here {
		slices.SortStableFunc(peers, func(x, y wire.Peer) int {
			return cmp.Compare(slices.Index(busy, y.Status), slices.Index(busy, x.Status))
		})
	}
	return here
}

// summaryOf is the first summary of peers, nil if there is none.
func summaryOf(peers []wire.Peer) *string {
	for _, p := range peers {
		if p.Summary != nil {
			return p.Summary
		}
	}
	return nil
}

// restPeer is who is here as GET /peers has it: one per member.
type restPeer struct {
	Pubkey      string       `json:"pubkey"` // the member's
	DisplayName string       `json:"displayName"`
	Status      string       `json:"status"`
	Summary     *string      `json:"summary"`
	Groups      []wire.Group `json:"groups"`
	Via         string       `json:"via"` // ws, or rest for who used a key lately
}

func (c *caller) getPeers(r *http.Request) (any, error) {
	members, err := c.db.Members(r.Context(), c.as.meshID)
	if err != nil {
		return nil, err
	}
	names := map[string]string{} // of members: presences may go by others
	for _, m := range members {
		names[m.PubKey] = m.DisplayName
	}
	hiding := c.grants.deny(c.as.member.PubKey, "read")
	here := c.here()
	list := []restPeer{}
	for _, key := range slices.Sorted(maps.Keys(here)) {
		peers := here[key]
		list = append(list, restPeer{key, names[key], peers[0].Status, summaryOf(peers), groupsOf(peers), "ws"})
	}
	for id, m := range c.uses.lately(c.as.meshID, time.Now()) {
		own := id == c.as.member.ID
		if here[m.PubKey] == nil && (own || m.Visible && !hiding[id]) {
			list = append(list, restPeer{m.PubKey, m.DisplayName, wire.StatusIdle, nil, []wire.Group{}, "rest"})
		}
	}
	slices.SortFunc(list, func(x, y restPeer) int {
		return cmp.Or(strings.Compare(x.DisplayName, y.DisplayName), strings.Compare(x.Pubkey, y.Pubkey))
	})
	return map[string]any{"peers": list}, nil
}

// groupsOf returns the distinct groups of peers.
func groupsOf(peers []wire.Peer) []wire.Group {
	groups := []wire.Group{}
	for _, p := range peers {
		for _, g := range p.Groups {
			if !slices.ContainsFunc(groups, func(known wire.Group) bool { return known.Name == g.Name }) {
				groups = append(groups, g)
			}
		}
	}
	return groups
}
