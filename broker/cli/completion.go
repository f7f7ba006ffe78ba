package cli

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"meshbox/broker/clients"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// completionCommand is one command with an argument instead of cobra's four.
func (a *app) completionCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print a script that completes commands in bash, zsh, fish or powershell",
		Long: `Print a script that completes commands, flags, and what they take: names of meshes,
peers and topics, members and invites.

  bash        meshbox completion bash > ~/.local/share/bash-completion/completions/meshbox
  zsh         meshbox completion zsh > "${fpath[1]}/_meshbox"
  fish        meshbox completion fish > ~/.config/fish/completions/meshbox.fish
  powershell  meshbox completion powershell | Out-String | Invoke-Expression`,
		Args: arguments(1, 1, "bash|zsh|fish|powershell"),
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.out)
			}
			return usagef("the shell %q must be bash, zsh, fish or powershell", args[0])
		},
	}
}

// completeTime bounds what a person waits for a completion.
const completeTime = time.Second

// suggest returns what a flag or an argument may be. It may ask the data file or the
// broker, and returns nothing if that fails: who completes wants no errors.
type suggest func(ctx context.Context, c *cobra.Command) []string

func fixed(values ...string) suggest {
	return func(context.Context, *cobra.Command) []string { return values }
}

// flagValues are what flags take, by their names, which mean the same everywhere.
var flagValues = map[string]suggest{
	"cap":        fixed("send", "read", "state_write", "admin"),
	"client":     fixed(clients.Names()...),
	"log-format": fixed("text", "json"),
	"log-level":  fixed("debug", "info", "warn", "error"),
	"mesh":       meshNames,
	"role":       fixed(store.RoleMember, store.RoleAdmin),
	"topic":      topicNames,
	"type":       fixed(wire.PeerAI, wire.PeerHuman, wire.PeerConnector),
}

// folderFlags take a folder; db takes a file; the rest takes what nobody can guess.
var folderFlags = map[string]bool{"config": true, "dir": true}

// firstArguments are what commands take, by their path.
var firstArguments = map[string]suggest{
	"meshbox bench":          fixed(scenarios...),
	"meshbox completion":     fixed(shells...),
	"meshbox hook":           fixed("claude"),
	"meshbox invite revoke":  inviteCodes,
	"meshbox member restore": memberNames(true),
	"meshbox member revoke":  memberNames(false),
	"meshbox send":           targets,
	"meshbox tail":           topicNames,
}

// addCompletions says of each command what its flags and its argument take.
func addCompletions(root *cobra.Command) {
	for _, c := range root.Commands() {
		addCompletions(c)
	}
	c := root
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" || f.Name == "db" {
			return
		}
		complete := completion(flagValues[f.Name], cobra.ShellCompDirectiveNoFileComp)
		if folderFlags[f.Name] {
			complete = completion(nil, cobra.ShellCompDirectiveFilterDirs)
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // the flag is there, and has none yet
		}
	})
	if c.HasSubCommands() || c.ValidArgsFunction != nil {
		return
	}
	first := completion(firstArguments[c.CommandPath()], cobra.ShellCompDirectiveNoFileComp)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return first(c, args, typed)
	}
}

func completion(s suggest, directive cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) (fitting []string, _ cobra.ShellCompDirective) {
		if s == nil || fromEnvironment(c.Flags(), os.LookupEnv) != nil {
			return nil, directive
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeTime)
		defer cancel()
		for _, value := range s(ctx, c) {
			if strings.HasPrefix(value, typed) && simple(value) {
				fitting = append(fitting, value)
			}
		}
		return fitting, directive
	}
}

// simple reports whether a shell takes a name as it is: others gave it.
func simple(name string) bool {
	return shellWord(strings.TrimLeft(name, "#*")) == strings.TrimLeft(name, "#*")
}

// dataOf are the flags on the data file that a command was given so far.
func dataOf(c *cobra.Command) (f dataFlags) {
	f.db, _ = c.Flags().GetString("db")
	f.mesh, _ = c.Flags().GetString("mesh")
	return f
}

func clientOf(c *cobra.Command) (f clientFlags) {
	f.config, _ = c.Flags().GetString("config")
	f.mesh, _ = c.Flags().GetString("mesh")
	return f
}

// meshNames are those of the data file, or of one's identities.
func meshNames(ctx context.Context, c *cobra.Command) (names []string) {
	if c.Flags().Lookup("db") == nil {
		f := clientOf(c)
		if keyring, err := f.keyring(); err == nil {
			names = keyring.Meshes()
		}
		return names
	}
	f := dataOf(c)
	db, err := f.open()
	if err != nil {
		return nil
	}
	defer db.Close()
	meshes, _ := db.Meshes(ctx)
	for _, mesh := range meshes {
		names = append(names, mesh.Slug)
	}
	return names
}

// memberNames are those of the members who are revoked, or who are not.
func memberNames(revoked bool) suggest {
	return func(ctx context.Context, c *cobra.Command) (names []string) {
		f := dataOf(c)
		_ = f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
			members, err := db.Members(ctx, mesh.ID)
			for _, m := range members {
				if m.RevokedAt.IsZero() != revoked {
					names = append(names, m.DisplayName)
				}
			}
			return err
		})
		return names
	}
}

// inviteCodes are those that still work.
func inviteCodes(ctx context.Context, c *cobra.Command) (codes []string) {
	f := dataOf(c)
	_ = f.onMesh(ctx, func(db *store.DB, mesh store.Mesh) error {
		invites, err := db.Invites(ctx, mesh.ID, wire.MaxInvites, time.Now())
		for _, i := range invites {
			if i.State(time.Now()) == "open" {
				codes = append(codes, i.Code)
			}
		}
		return err
	})
	return codes
}

// targets are whom one can write to: topics, everyone, and who is connected.
func targets(ctx context.Context, c *cobra.Command) (names []string) {
	asking(ctx, c, func(conn *peer.Conn) {
		for _, topic := range topicsOf(ctx, conn) {
			names = append(names, "#"+topic)
		}
		others, _ := conn.Others(ctx)
		for _, other := range others {
			names = append(names, other.DisplayName)
		}
	})
	return append(names, "@all")
}

func topicNames(ctx context.Context, c *cobra.Command) (names []string) {
	asking(ctx, c, func(conn *peer.Conn) { names = topicsOf(ctx, conn) })
	return names
}

func topicsOf(ctx context.Context, conn *peer.Conn) (names []string) {
	answer, err := peer.Ask[*wire.TopicListResponse](ctx, conn, &wire.TopicList{})
	if err != nil {
		return nil
	}
	for _, topic := range answer.Topics {
		names = append(names, topic.Name)
	}
	return names
}

// asking connects as the member that the command would be.
func asking(ctx context.Context, c *cobra.Command, do func(*peer.Conn)) {
	f := clientOf(c)
	conn, err := f.connect(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	do(conn)
}
