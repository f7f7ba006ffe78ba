package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ServerName is what clients call the server; each of them takes it.
const ServerName = "meshbox"

// System is what of the machine the package uses.
type System struct {
	Home     string                                                                 // the user's folder
	Getenv   func(string) string                                                    // "" for what is not set
	LookPath func(string) (string, error)                                           // where a program is
	Run      func(ctx context.Context, name string, args ...string) (string, error) // what it printed

	Own string // path of this program, by which its own entries are known

	kept map[string]bool // files whose content from before this run is kept beside them
}

// ThisSystem is the machine the program runs on.
func ThisSystem() (System, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return System{}, err
	}
	return System{Home: home, Getenv: os.Getenv, LookPath: exec.LookPath, Run: run}, nil
}

const runTime = time.Minute // what a client's own program may take

func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(output), err
}

// Entry is what a client is to start.
type Entry struct {
	Command string // absolute path of the binary
	Args    []string
}

// Change is what there is to be done to a client.
type Change struct {
	Client string // claude, codex, gemini or cursor
	Title  string
	Path   string // the file that changes, if it is done here

	Before, After []byte     // its content; Before is nil if there is none
	Commands      [][]string // or what the client's own program is called with
	Then          string     // what a person has to do then, a sentence

	// Problem says why it cannot be done; Snippet is what to put into the file by hand.
	Problem error
	Snippet string

	verify []string // the client's own program, which fails if the file is not to its liking
	undo   []string // puts back what the first command removed, if the second fails
}

// IsNothing reports whether the client is as it should be.
func (c *Change) IsNothing() bool {
	return c.Problem == nil && len(c.Commands) == 0 && bytes.Equal(c.Before, c.After)
}

// Mentions reports whether meshbox stands in a file, perhaps one that cannot be read.
func (c *Change) Mentions() bool { return bytes.Contains(c.Before, []byte(ServerName)) }

// client is one kind of client.
type client struct {
	name, title string
	folder      func(*System) string // where its settings are
	programs    []string             // that show that it is installed
	add         func(*System, Entry) Change
	remove      func(*System) Change
}

var all = []client{claude, codex, gemini, cursor}

// Names are those of the clients that are known.
func Names() []string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return names
}

// Installed returns the names of the clients whose settings or program are there.
func (s *System) Installed() (names []string) {
	for _, c := range all {
		_, err := os.Stat(c.folder(s))
		found := err == nil
		for _, program := range c.programs {
			_, err := s.LookPath(program)
			found = found || err == nil
		}
		if found {
			names = append(names, c.name)
		}
	}
	return names
}

// Add says what makes a client start the entry.
func (s *System) Add(name string, entry Entry) (Change, error) {
	return s.plan(name, func(c client) Change { return c.add(s, entry) })
}

// Remove says what undoes Add.
func (s *System) Remove(name string) (Change, error) {
	return s.plan(name, func(c client) Change { return c.remove(s) })
}

func (s *System) plan(name string, of func(client) Change) (Change, error) {
	at := slices.IndexFunc(all, func(c client) bool { return c.name == name })
	if at < 0 {
		return Change{}, fmt.Errorf("there is no client %q; known are %s", name, strings.Join(Names(), ", "))
	}
	change := of(all[at])
	change.Client, change.Title = all[at].name, all[at].title
	return change, nil
}

// Apply does what a change says. If the client's own program then does not take the
// file, it is put back.
func (s *System) Apply(ctx context.Context, c Change) error {
	if c.Problem != nil {
		return c.Problem
	}
	for i, command := range c.Commands {
		output, err := s.Run(ctx, command[0], command[1:]...)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s failed (%w): %s", strings.Join(command[:min(3, len(command))], " "), err, strings.TrimSpace(output))
		if i > 0 && c.undo != nil {
			_, failed := s.Run(ctx, c.undo[0], c.undo[1:]...)
			err = errors.Join(err, failed)
		}
		return err
	}
	if len(c.Commands) > 0 || bytes.Equal(c.Before, c.After) {
		return nil
	}
	if err := replace(c.Path, c.Before, c.After, !s.kept[c.Path]); err != nil {
		return err
	}
	if s.kept == nil {
		s.kept = map[string]bool{}
	}
	s.kept[c.Path] = true
	if c.verify == nil {
		return nil
	}
	output, err := s.Run(ctx, c.verify[0], c.verify[1:]...)
	if err == nil {
		return nil
	}
	problem := fmt.Errorf("%s does not take the changed file (%w): %s", c.Title, err, strings.TrimSpace(output))
	if c.Before == nil {
		return errors.Join(problem, os.Remove(c.Path))
	}
	return errors.Join(problem, replace(c.Path, c.After, c.Before, false))
}

// Lines shows a change of a file: the lines that go begin with -, those that come
// with +, and a few around them with a space.
func (c *Change) Lines() []string {
	before, after := lines(c.Before), lines(c.After)
	start := 0
	for start < min(len(before), len(after)) && before[start] == after[start] {
		start++
	}
	end := 0
	for end < min(len(before), len(after))-start && before[len(before)-1-end] == after[len(after)-1-end] {
		end++
	}
	var shown []string
	for _, part := range []struct {
		sign  string
		lines []string
	}{
		{" ", before[max(0, start-around):start]}, {"-", before[start : len(before)-end]}, {"+", after[start : len(after)-end]},
		{" ", before[len(before)-end : min(len(before), len(before)-end+around)]},
	} {
		for _, line := range part.lines {
			shown = append(shown, part.sign+" "+line)
		}
	}
	return shown
}

const around = 2 // lines shown before and behind what changes

func lines(content []byte) []string {
	if len(content) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

// inHome is a path below the user's folder, or below what a variable names.
func (s *System) inHome(variable, folder string, path ...string) string {
	root := filepath.Join(s.Home, folder)
	if variable != "" {
		if named := s.Getenv(variable); named != "" {
			root = named
		}
	}
	return filepath.Join(append([]string{root}, path...)...)
}
