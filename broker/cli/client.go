package cli

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

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

// folder is where the identities are.
func (f *clientFlags) folder() (string, error) {
	if f.config == "" {
		return peer.DefaultFolder()
	}
	return filepath.Abs(f.config)
}

func (f *clientFlags) keyring() (*peer.Keyring, error) {
	folder, err := f.folder()
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

// connect dials once, for a command that asks and leaves.
func (f *clientFlags) connect(ctx context.Context) (*peer.Conn, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	o.Client.Capabilities = append(o.Client.Capabilities, wire.CapNoLease)
	return peer.Dial(ctx, o)
}
