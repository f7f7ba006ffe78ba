package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

type joinFlags struct {
	clientFlags
	setupFlags
	name        string
	kind        string
	fingerprint string
}

func (a *app) joinCommand() *cobra.Command {
	f := &joinFlags{}
	c := &cobra.Command{
		Use: "join LINK", Short: "Join a mesh by an invite link, keep the identity, and set up agents",
		Long: `Join a mesh by an invite link and keep the identity. Then the clients of agents that
are installed are shown what would let them start "meshbox mcp", and are changed
if you agree; "meshbox leave" undoes that.`,
		Args: arguments(1, 1, "LINK"),
		RunE: func(c *cobra.Command, args []string) error { return a.join(c.Context(), f, args[0]) },
	}
	f.setupFlags.add(c, "change the settings of agents' clients")
	c.Flags().StringVar(&f.config, "config", "", "folder to keep the identity in (default: meshbox in your config folder)")
	c.Flags().StringVar(&f.name, "name", "", "the name others see (default: your user name)")
	c.Flags().StringVar(&f.kind, "type", wire.PeerAI, "what joins: ai, human or connector")
	c.Flags().StringVar(&f.fingerprint, "fingerprint", "", "trust the certificate with this SHA-256 fingerprint, which meshbox prints when it starts with --tls-self-signed")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// joinResult is what "join --json" prints.
type joinResult struct {
	Mesh     string `json:"mesh"`
	MeshID   string `json:"mesh_id"`
	MemberID string `json:"member_id"`
	Pubkey   string `json:"pubkey"`
	Name     string `json:"name"`
	Config   string `json:"config"` // the file the identity is kept in

	Clients []setupResult `json:"clients,omitempty"` // what was done to clients of agents
}

func (a *app) join(ctx context.Context, f *joinFlags, link string) error {
	if wire.PeerType(f.kind) == "" {
		return usagef("--type %q must be ai, human or connector", f.kind)
	}
	name := wire.CleanLine(or(f.name, userName()), wire.MaxNameLen)
	if name == "" {
		return usagef("--name is empty; name yourself as others shall see you")
	}
	set, err := a.newSetup(&f.setupFlags, f.json)
	if err != nil {
		return err
	}
	keyring, err := f.keyring()
	if err != nil {
		return err
	}
	trust := peer.Trust{}
	if f.fingerprint != "" {
		if trust.Fingerprint, err = peer.ParseFingerprint(f.fingerprint); err != nil {
			return usagef("--fingerprint: %w", err)
		}
	}
	invitation, err := peer.Resolve(ctx, link, trust)
	if err != nil {
		return err
	}
	if f.dryRun {
		err := set.joinUnlessHuman(ctx, f.config, peer.Identity{BrokerURL: invitation.BrokerURL, PeerType: f.kind})
		if f.json {
			err = errors.Join(err, printJSON(a.out, joinResult{Mesh: invitation.MeshSlug, MeshID: invitation.MeshID, Name: name, Config: keyring.Path(), Clients: set.done}))
		}
		return err
	}
	// With a new key, joining the same mesh again would make a second member and
	// lose the first one's key.
	before, again := keyring.Find(invitation.MeshID)
	key := before.Key
	if !again {
		key = identity.NewKey()
	} else if f.name == "" {
		name = before.DisplayName
	}
	id, err := invitation.Join(ctx, name, key)
	if err != nil {
		return err
	}
	id.PeerType = f.kind
	if err := keyring.Add(id); err != nil {
		return err
	}
	result := joinResult{Mesh: id.MeshSlug, MeshID: id.MeshID, MemberID: id.MemberID, Pubkey: id.Key.Public(), Name: id.DisplayName, Config: keyring.Path()}
	if f.json {
		err := set.joinUnlessHuman(ctx, f.config, id)
		result.Clients = set.done
		return errors.Join(err, printJSON(a.out, result))
	}
	fmt.Fprintf(a.out, "You are in the mesh %q as %s. Your key is kept in %s.\n", printable(id.MeshSlug), id.DisplayName, keyring.Path())
	if again {
		fmt.Fprintln(a.out, "It was there before: you are the same member. To be another one, use another folder with --config.")
	}
	fmt.Fprintln(a.out)
	if err := table(a.out, nil, hints(f.config)); err != nil {
		return err
	}
	return set.joinUnlessHuman(ctx, f.config, id)
}

// hints are what to do next, as the person may copy it.
func hints(config string) [][]string {
	with := ""
	if config != "" {
		with = " --config " + shellWord(config)
	}
	return [][]string{
		{"  " + self() + " tail" + with, "read along in #general"},
		{"  " + self() + " send" + with + " '#general' hi", "say something there"},
		{"  " + self() + " peers" + with, "see who is connected"},
	}
}

// userName is what the system calls the user, else the machine.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	host, _ := os.Hostname()
	return host
}
