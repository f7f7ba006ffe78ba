// Package cli is meshbox's commands: the wiring of the packages that do the
// work, what a person reads, and the exit codes a script relies on.
//
//	0  done
//	1  it did not work; standard error says why, in one sentence
//	2  the command line is wrong
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Assets are what main embeds.
type Assets struct {
	Schema string
	Web    fs.FS
}

// app is one run of the program.
type app struct {
	assets Assets
	in     io.Reader
	out    io.Writer
	err    io.Writer
}

// Main runs the command that args name and returns the exit code.
func Main(args []string, assets Assets) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	a := &app{assets: assets, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(a.err, "meshbox: %s\n", printable(err.Error())) // it may quote names and folders of others
	if len(args) > 0 && args[0] == "hook" {
		return 0 // 2 would stop the agent whose client calls it
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	return 1
}

// usageError is a wrong command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (a *app) root() *cobra.Command {
	root := a.serveCommand("meshbox")
	root.Short = "A message broker for your AI coding sessions and you: one binary, one file, one room"
	root.Long = `meshbox is a room for your AI coding sessions and you. It speaks the claudemesh
wire protocol, keeps everything in one SQLite file, and serves a web chat.

Without a command it serves, like "meshbox serve".`
	root.Version = version()
	root.SetVersionTemplate("meshbox {{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see: %s --help", badFlag(err), c.CommandPath())
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return fromEnvironment(c.Flags(), os.LookupEnv) }
	root.AddCommand(a.serveCommand("serve"), a.inviteCommand(), a.meshCommand(), a.memberCommand(), a.auditCommand(),
		a.backupCommand(), a.restoreCommand(), a.verifyCommand(), a.exportCommand(), a.importCommand(),
		a.joinCommand(), a.sendCommand(), a.tailCommand(), a.searchCommand(), a.statusCommand(), a.peersCommand(), a.topicCommand(), a.tokenCommand(), a.webhookCommand(), a.benchCommand(),
		a.mcpCommand(), a.hookCommand(), a.leaveCommand(),
		a.serviceCommand(), a.doctorCommand(), a.healthCommand(), a.versionCommand(), a.completionCommand(root), a.manCommand(root))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(helpCommand(root))
	addCompletions(root)
	return root
}

// fromEnvironment sets every flag that the command line did not set from its
// MESHBOX_… variable: --public-url is MESHBOX_PUBLIC_URL.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil || f.Name == "help" || f.Name == "version" || f.Name == "force" {
			return
		}
		name := environmentName(f.Name)
		if value, ok := lookup(name); ok && value != "" {
			if flags.Set(f.Name, value) != nil {
				err = usagef("the environment variable %s: %w", name, badValue(f, value))
			}
		}
	})
	return err
}

func environmentName(flag string) string {
	return "MESHBOX_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// badFlag makes a sentence of what pflag says of a command line.
func badFlag(err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return badValue(bad.GetFlag(), bad.GetValue())
	}
	return err
}

// badValue says what a flag takes, instead of how Go failed to parse it.
func badValue(f *pflag.Flag, value string) error {
	takes := map[string]string{"int": "a whole number", "float64": "a number", "duration": "a time such as 30s, 10m or 168h", "bool": "true or false", "stringSlice": "a list with commas between"}
	return fmt.Errorf("--%s %q must be %s", f.Name, value, takes[f.Value.Type()])
}

// arguments checks the number of arguments; names describe them in errors.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || (most >= 0 && len(args) > most) {
			return usagef("usage: %s %s", c.CommandPath(), names)
		}
		return nil
	}
}

// noArguments is for commands that take none, groups of commands included.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.HasSubCommands() {
		return usagef("there is no command %q; see: %s --help", args[0], c.CommandPath())
	}
	return usagef("%s takes no arguments; see: %s --help", c.CommandPath(), c.CommandPath())
}

// helpCommand replaces cobra's own, which calls a wrong name a success.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Say more about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q; see: %s --help", strings.Join(args, " "), root.Name())
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
