package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// channel is what our own command-line peers call theirs.
const channel = "meshbox"

// clientFlags are those of commands that connect as a member.
type clientFlags struct {
	config string
	mesh   string
	json   bool
}

func (f *clientFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "folder of your identities (default: meshbox in your config folder)")
	c.Flags().StringVar(&f.mesh, "mesh", "", "the mesh, by name (default: the one joined last)")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

func (f *clientFlags) keyring() (*peer.Keyring, error) {
	folder, err := f.config, error(nil)
	if folder == "" {
		folder, err = peer.DefaultFolder()
	} else {
		folder, err = filepath.Abs(folder)
	}
	if err != nil {
		return nil, err
	}
	return peer.OpenKeyring(folder)
}

// options says who connects.
func (f *clientFlags) options() (peer.Options, error) {
	keyring, err := f.keyring()
	if err != nil {
		return peer.Options{}, err
	}
	id, err := keyring.Choose(f.mesh)
	if err != nil {
		return peer.Options{}, err
	}
	// One session id for all connections of a run: after a cut the new one takes
	// the place of the old one, which the broker may not have missed yet.
	client := wire.Client{PID: float64(os.Getpid()), Channel: channel, SessionID: rand.Text()}
	client.CWD, _ = os.Getwd()
	client.Hostname, _ = os.Hostname()
	return peer.Options{Identity: id, Client: client}, nil
}

// session is the connection of a command that asks and leaves.
type session struct {
	*peer.Conn
	id string
}

// connect dials once.
func (f *clientFlags) connect(ctx context.Context) (*session, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	o.Client.Capabilities = append(o.Client.Capabilities, wire.CapNoLease)
	c, err := peer.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	return &session{c, o.Client.SessionID}, nil
}

// others returns the peers that are connected, without this command itself.
func (s *session) others(ctx context.Context) ([]wire.Peer, error) {
	answer, err := s.Request(ctx, &wire.ListPeers{})
	if err != nil {
		return nil, err
	}
	list, ok := answer.(*wire.PeersList)
	if !ok {
		return nil, errors.New("the broker answered list_peers with something else; update meshbox on both sides")
	}
	others := []wire.Peer{}
	for _, p := range list.Peers {
		if p.SessionID != s.id {
			others = append(others, p)
		}
	}
	return others, nil
}

// minPrefix is how much of a key tells it from a name, in hex digits.
const minPrefix = 8

// resolve turns what a person calls a recipient into a target: "#topic",
// "@group", "*" and whole keys stay; a name, or the start of a key, must be that
// of exactly one connected peer, or else of one member.
func (s *session) resolve(ctx context.Context, name string) (string, error) {
	if name == "*" || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "@") || identity.IsPublicKey(name) {
		return name, nil
	}
	peers, err := s.others(ctx)
	if err != nil {
		return "", err
	}
	key, err := single(name, peers)
	if _, nobody := errors.AsType[*nobodyError](err); !nobody {
		return key, err
	}
	members, failed := s.members(ctx)
	if failed != nil {
		return "", failed
	}
	if key, late := single(name, members); late == nil {
		return key, nil
	}
	return "", err
}

// members returns all members, connected or not, as peers: everybody is in
// #general.
func (s *session) members(ctx context.Context) ([]wire.Peer, error) {
	answer, err := s.Request(ctx, &wire.TopicMembers{Topic: wire.General})
	if err != nil {
		return nil, err
	}
	list, ok := answer.(*wire.TopicMembersResponse)
	if !ok {
		return nil, errors.New("the broker answered topic_members with something else; update meshbox on both sides")
	}
	var members []wire.Peer
	for _, m := range list.Members {
		if m.Pubkey != "" {
			members = append(members, wire.Peer{Pubkey: m.Pubkey, DisplayName: m.DisplayName})
		}
	}
	return members, nil
}

// nobodyError says that a name is nobody's.
type nobodyError struct {
	name string
	here []string
}

func (e *nobodyError) Error() string {
	return fmt.Sprintf("nobody called %q is here; connected are: %s (topics start with #, groups with @)", e.name, or(strings.Join(e.here, ", "), "nobody"))
}

// single returns the key of the one peer called name.
func single(name string, peers []wire.Peer) (string, error) {
	found := map[string]string{} // key → how to tell it from others
	var here []string
	for _, p := range peers {
		if strings.EqualFold(p.DisplayName, name) || len(name) >= minPrefix && strings.HasPrefix(p.Pubkey, name) {
			found[p.Pubkey] = fmt.Sprintf("%s (%s, %s)", p.Pubkey, p.DisplayName, or(p.CWD, "no folder"))
		}
		here = append(here, p.DisplayName)
	}
	keys := slices.Sorted(maps.Keys(found))
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
