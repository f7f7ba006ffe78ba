package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshbox/broker/identity"
	"meshbox/broker/wire"
)

// Ask sends a request and returns the answer that its kind has.
func Ask[T wire.Message](ctx context.Context, c *Conn, m wire.Message) (answer T, err error) {
	got, err := c.Request(ctx, m)
	if err != nil {
		return answer, err
	}
	answer, ok := got.(T)
	if !ok {
		return answer, fmt.Errorf("the broker answered %s with %s; update meshbox on both sides", m.Type(), got.Type())
	}
	return answer, nil
}

// Others returns the peers that are here, without this connection itself.
func (c *Conn) Others(ctx context.Context) ([]wire.Peer, error) {
	list, err := Ask[*wire.PeersList](ctx, c, &wire.ListPeers{})
	if err != nil {
		return nil, err
	}
	others := []wire.Peer{}
	for _, p := range list.Peers {
		if p.SessionID != c.sessionID {
			others = append(others, p)
		}
	}
	return others, nil
}

// Members returns all members that have a key, connected or not: everybody is in
// #general.
func (c *Conn) Members(ctx context.Context) ([]wire.TopicMemberInfo, error) {
	list, err := Ask[*wire.TopicMembersResponse](ctx, c, &wire.TopicMembers{Topic: wire.General})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Members, func(m wire.TopicMemberInfo) bool { return m.Pubkey == "" }), nil
}

// FindMember returns the one member that has a name, in any case, or a key that begins
// so. An error lists who could be meant.
func (c *Conn) FindMember(ctx context.Context, name string) (found wire.TopicMemberInfo, err error) {
	members, err := c.Members(ctx)
	if err != nil {
		return found, err
	}
	key, err := single(name, asPeers(members))
	if nobody, ok := errors.AsType[*nobodyError](err); ok {
		return found, fmt.Errorf("there is no member called %q; there are: %s", name, strings.Join(nobody.here, ", "))
	}
	if err != nil {
		return found, err
	}
	return members[slices.IndexFunc(members, func(m wire.TopicMemberInfo) bool { return m.Pubkey == key })], nil
}

func asPeers(members []wire.TopicMemberInfo) []wire.Peer {
	peers := make([]wire.Peer, len(members))
	for i, m := range members {
		peers[i] = wire.Peer{Pubkey: m.Pubkey, DisplayName: m.DisplayName}
	}
	return peers
}

// Resolve turns what a person calls a recipient into a target: "#topic",
// "@group", "*" and whole keys stay; a name, or the start of a key, must be that
// of exactly one peer that is here, or else of one member. An error lists who
// could be meant.
func (c *Conn) Resolve(ctx context.Context, name string) (string, error) {
	if name == "*" || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "@") || identity.IsPublicKey(name) {
		return name, nil
	}
	peers, err := c.Others(ctx)
	if err != nil {
		return "", err
	}
	key, err := single(name, peers)
	if _, nobody := errors.AsType[*nobodyError](err); !nobody {
		return key, err
	}
	members, failed := c.Members(ctx)
	if failed != nil {
		return "", failed
	}
	if key, late := single(name, asPeers(members)); late == nil {
		return key, nil
	}
	return "", err
}

// minPrefix is how much of a key tells it from a name, in hex digits.
const minPrefix = 8

// nobodyError says that a name is nobody's.
type nobodyError struct {
	name string
	here []string
}

func (e *nobodyError) Error() string {
	here := strings.Join(e.here, ", ")
	if here == "" {
		here = "nobody"
	}
	return fmt.Sprintf("nobody called %q is here; connected are: %s (topics start with #, groups with @)", e.name, here)
}

// single returns the key of the one peer called name. Of several sessions of one
// member in one folder it is the latest: the others have ended, and are listed for a
// while only.
func single(name string, peers []wire.Peer) (string, error) {
	found := map[string]string{} // key → how to tell it from others
	places := map[string]bool{}  // member and folder of those
	var latest wire.Peer
	var here []string
	for _, p := range peers {
		if strings.EqualFold(p.DisplayName, name) || len(name) >= minPrefix && strings.HasPrefix(p.Pubkey, name) {
			folder := p.CWD
			if folder == "" {
				folder = "no folder"
			}
			places[p.MemberPubkey+" "+p.CWD] = true
			if latest.Pubkey == "" || p.ConnectedAt > latest.ConnectedAt {
				latest = p
			}
			found[p.Pubkey] = fmt.Sprintf("%s (%s, %s)", p.Pubkey, p.DisplayName, folder)
		}
		here = append(here, p.DisplayName)
	}
	keys := slices.Sorted(maps.Keys(found))
	if len(keys) > 1 && len(places) == 1 && latest.MemberPubkey != "" && latest.CWD != "" {
		return latest.Pubkey, nil
	}
	switch len(keys) {
	case 0:
		slices.Sort(here)
		return "", &nobodyError{name: name, here: slices.Compact(here)}
	case 1:
		return keys[0], nil
	}
	candidates := slices.Sorted(maps.Values(found))
	return "", fmt.Errorf("%d peers are called %q; name one by its key: %s", len(keys), name, strings.Join(candidates, ", "))
}
