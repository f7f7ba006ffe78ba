package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/clients"
	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

// setupFlags say what is done to the clients of agents.
type setupFlags struct {
	clients []string
	yes     bool
	dryRun  bool
}

func (f *setupFlags) add(c *cobra.Command, does string) {
	c.Flags().StringArrayVar(&f.clients, "client", nil, "only this client: "+strings.Join(clients.Names(), ", ")+"; may be repeated (default: those that are installed)")
	c.Flags().BoolVar(&f.yes, "yes", false, does+" without asking")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be changed, and change nothing")
}

// setup is one run of what changes clients.
type setup struct {
	a      *app
	out    io.Writer // what a person reads
	flags  *setupFlags
	system clients.System
	done   []setupResult
	failed bool // something has to be done by hand
}

// errByHand is the end of a run that left something to do.
var errByHand = errors.New("not all was done; see above for what is left to do by hand")

// setupResult is what --json prints of each change.
type setupResult struct {
	Client  string `json:"client"`
	Path    string `json:"path"`
	State   string `json:"state"` // done, unchanged, declined, planned or failed
	Problem string `json:"problem,omitempty"`
}

// newSetup prepares a run. With JSON, what a person reads goes to standard error.
func (a *app) newSetup(f *setupFlags, asJSON bool) (*setup, error) {
	for _, name := range f.clients {
		if !slices.Contains(clients.Names(), name) {
			return nil, usagef("--client: there is no client %q; known are %s", name, strings.Join(clients.Names(), ", "))
		}
	}
	system, err := clients.ThisSystem()
	if err != nil {
		return nil, err
	}
	system.Own, _ = os.Executable()
	s := &setup{a: a, out: a.out, flags: f, system: system, done: []setupResult{}}
	if asJSON {
		s.out = a.err
	}
	return s, nil
}

// join lets clients start "meshbox mcp" for an identity.
func (s *setup) join(ctx context.Context, config string, id peer.Identity) (failure error) {
	names := s.flags.clients
	if names == nil {
		names = s.system.Installed()
	}
	if len(names) == 0 {
		return nil
	}
	binary, err := ownPath()
	if err != nil {
		fmt.Fprintf(s.a.err, "meshbox: clients of agents are not set up: %s\n", err)
		return nil
	}
	// Some clients hand down little of the environment: the folder is always named.
	if config == "" {
		config, err = peer.DefaultFolder()
	} else {
		config, err = filepath.Abs(config)
	}
	if err != nil {
		return err
	}
	entry := clients.Entry{Command: binary, Args: []string{"mcp", "--config", config}}
	defer s.finish(&failure)
	for _, name := range names {
		change, err := s.system.Add(name, entry)
		if err != nil {
			return err
		}
		if err := s.handle(ctx, change, "start meshbox, so that its agents get tools for the mesh"); err != nil {
			return err
		}
		hook := shellWord(binary) + clients.HookArgs(name) + " --config " + shellWord(config)
		if err := s.handle(ctx, s.system.AddHooks(name, hook), hookPurpose(id)); err != nil {
			return err
		}
		if slices.ContainsFunc(s.done, func(r setupResult) bool {
			return r.Path == change.Path && (r.State == "done" || r.State == "unchanged")
		}) {
			if err := s.tellHearing(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// hookPurpose is what hooks are for: the status endpoint answers this machine alone.
func hookPurpose(id peer.Identity) string {
	const tell = "tell its agent of new messages when its turn ends"
	if isHere(id) {
		return tell + ", and others when it is busy"
	}
	return tell
}

// tellHearing says how the agents of a client come to hear of messages.
func (s *setup) tellHearing(ctx context.Context, name string) error {
	hearing, err := s.system.Hearing(ctx, name)
	if err != nil {
		return err
	}
	s.printf("Its agents %s: %s.\n", map[wake.Tier]string{
		wake.Woken:        "are woken when a message is for them",
		wake.AtTurnEnd:    "are told when their turn ends that a message is for them",
		wake.NextToolCall: "hear of messages with their next tool call",
	}[hearing.Tier], hearing.Why)
	return nil
}

// finish makes an error of what was left to do.
func (s *setup) finish(err *error) {
	if *err == nil && s.failed {
		*err = errByHand
	}
}

// joinUnlessHuman is join for an agent: a person who joins needs no tools, unless
// clients are named.
func (s *setup) joinUnlessHuman(ctx context.Context, config string, id peer.Identity) error {
	if id.PeerType == wire.PeerHuman && s.flags.clients == nil {
		return nil
	}
	return s.join(ctx, config, id)
}

// leave undoes what join did.
func (s *setup) leave(ctx context.Context) (failure error) {
	names := s.flags.clients
	if names == nil {
		names = clients.Names()
	}
	defer s.finish(&failure)
	for _, name := range names {
		for _, plan := range []func() (clients.Change, error){
			func() (clients.Change, error) { return s.system.Remove(name) },
			func() (clients.Change, error) { return s.system.RemoveHooks(name), nil }, // perhaps of the same file
		} {
			change, err := plan()
			if err != nil {
				return err
			}
			if change.IsNothing() || change.Problem != nil && !change.Mentions() {
				continue
			}
			if err := s.handle(ctx, change, "no longer start meshbox"); err != nil {
				return err
			}
		}
	}
	return nil
}

// handle shows one change, asks, and makes it.
func (s *setup) handle(ctx context.Context, c clients.Change, purpose string) error {
	switch {
	case c.Problem != nil:
		s.say(c, "failed", c.Problem)
		s.failed = true
		s.printf("%s: %s\n", c.Title, printable(c.Problem.Error()))
		if c.Snippet == "" {
			s.printf("Take meshbox out of the file yourself.\n")
		} else {
			s.printf("Put this into the file yourself:\n%s\n", indented(c.Snippet))
		}
		return nil
	case c.IsNothing():
		s.say(c, "unchanged", nil)
		s.printf("%s: there is nothing to change.\n", c.Title)
		return nil
	}
	s.show(c, purpose)
	agreed, err := s.agree(ctx)
	switch {
	case err != nil:
		return err
	case s.flags.dryRun:
		s.say(c, "planned", nil)
		return nil
	case !agreed:
		s.say(c, "declined", nil)
		s.printf("It is left as it is.\n")
		return nil
	}
	if err := s.system.Apply(ctx, c); err != nil {
		s.say(c, "failed", err)
		return fmt.Errorf("%s: %w", c.Title, err)
	}
	s.say(c, "done", nil)
	s.printf("%s\n", strings.TrimSpace("Done. "+c.Then))
	return nil
}

// show prints exactly what would be done.
func (s *setup) show(c clients.Change, purpose string) {
	s.printf("\n%s would %s.\n", c.Title, purpose)
	for _, command := range c.Commands {
		words := make([]string, len(command))
		for i, word := range command {
			words[i] = shellWord(word)
		}
		s.printf("  $ %s\n", strings.Join(words, " "))
	}
	if len(c.Commands) == 0 {
		s.printf("In %s:\n%s", c.Path, indented(strings.Join(c.Lines(), "\n")))
	}
}

func indented(text string) string {
	var all strings.Builder
	for line := range strings.Lines(text) {
		all.WriteString("  " + printable(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return all.String()
}

// agree asks a person. Nobody else is asked, and nothing is done then.
func (s *setup) agree(ctx context.Context) (bool, error) {
	switch {
	case s.flags.dryRun:
		return false, nil
	case s.flags.yes:
		return true, nil
	case !isTerminal(s.a.in):
		s.printf("Give --yes to have it done.\n")
		return false, nil
	}
	s.printf("Do it? [Y/n] ")
	answer := make(chan string, 1)
	go func() { // a terminal cannot be told to stop reading
		line, err := bufio.NewReader(s.a.in).ReadString('\n')
		if err != nil {
			line = "n"
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case said := <-answer:
		return said == "" || said == "y" || said == "yes", nil
	}
}

func (s *setup) say(c clients.Change, state string, problem error) {
	result := setupResult{Client: c.Client, Path: c.Path, State: state}
	if problem != nil {
		result.Problem = problem.Error()
	}
	s.done = append(s.done, result)
}

func (s *setup) printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// ownPath is the absolute path of this program, which clients can start at any time.
func ownPath() (string, error) {
	path, err := os.Executable()
	if err == nil && strings.Contains(path, string(filepath.Separator)+"go-build") {
		err = errors.New(`"go run" makes a program that is gone afterwards. Build one that stays: go build -o meshbox . && ./meshbox join LINK`)
	}
	return path, err
}

// isHere reports whether the broker of an identity is on this machine, where alone
// its status hook answers.
func isHere(id peer.Identity) bool {
	u, err := url.Parse(id.BrokerURL)
	return err == nil && (u.Hostname() == "localhost" || strings.HasPrefix(u.Hostname(), "127.") || u.Hostname() == "::1")
}
