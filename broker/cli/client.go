package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	folder := f.config
	if folder == "" {
		var err error
		if folder, err = peer.DefaultFolder(); err != nil {
			return nil, err
		}
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
	client := wire.Client{PID: float64(os.Getpid()), Channel: channel}
	client.CWD, _ = os.Getwd()
	client.Hostname, _ = os.Hostname()
	return peer.Options{Identity: id, Client: client}, nil
}

// connect dials once, for commands that ask and leave.
func (f *clientFlags) connect(ctx context.Context) (*peer.Conn, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	return peer.Dial(ctx, o)
}

// resolve turns what a person calls a recipient into a target: "#topic",
// "@group", "*" and keys stay, a name must be that of exactly one peer.
func resolve(ctx context.Context, c *peer.Conn, name string) (string, error) {
	switch {
	case name == "":
		return "", usagef("the recipient is missing")
	case name == "*", strings.HasPrefix(name, "#"), strings.HasPrefix(name, "@"), identity.IsPublicKey(name):
		return name, nil
	}
	peers, err := listPeers(ctx, c)
	if err != nil {
		return "", err
	}
	found := map[string]string{} // key → how to tell it from others
	var here []string
	for _, p := range peers {
		if p.Pubkey == c.Key() {
			continue
		}
		if strings.EqualFold(p.DisplayName, name) {
			found[p.Pubkey] = fmt.Sprintf("%s (%s, %s)", p.Pubkey, p.DisplayName, or(p.CWD, "no folder"))
		}
		here = append(here, p.DisplayName)
	}
	return single(name, found, here)
}

func single(name string, found map[string]string, here []string) (string, error) {
	switch len(found) {
	case 0:
		return "", fmt.Errorf("nobody called %q is here; connected are: %s (topics start with #, groups with @)", name, or(strings.Join(here, ", "), "nobody"))
	case 1:
		for key := range found {
			return key, nil
		}
	}
	var candidates []string
	for _, candidate := range found {
		candidates = append(candidates, candidate)
	}
	return "", fmt.Errorf("%d peers are called %q; name one by its key: %s", len(found), name, strings.Join(candidates, ", "))
}

func listPeers(ctx context.Context, c *peer.Conn) ([]wire.Peer, error) {
	answer, err := c.Request(ctx, &wire.ListPeers{})
	if err != nil {
		return nil, err
	}
	list, ok := answer.(*wire.PeersList)
	if !ok {
		return nil, errors.New("the broker answered list_peers with something else; update meshbox on both sides")
	}
	return list.Peers, nil
}
