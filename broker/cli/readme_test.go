package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The README is the manual: each command has its section, and each of its flags
// stands in there.
func TestREADMENamesEveryFlag(t *testing.T) {
	sections := readmeSections(t)
	for _, c := range commands((&app{}).root()) {
		name := c.CommandPath()
		if !c.HasParent() {
			name += " serve" // the same command
		}
		section, ok := sections["### `"+name+"`"]
		if !ok {
			t.Errorf("there is no section on %q", name)
			continue
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			text := section
			if f.Name == "help" { // the same everywhere
				text = sections[""]
			}
			if !strings.Contains(text, "--"+f.Name+"`") && !strings.Contains(text, "`--"+f.Name+" ") {
				t.Errorf("the section on %q does not name --%s", name, f.Name)
			}
		})
	}
}

// What stands in a table of flags is a flag, with its default.
func TestREADMEInventsNoFlags(t *testing.T) {
	known := map[string][]string{} // flag → defaults
	for _, c := range commands((&app{}).root()) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = append(known[f.Name], f.DefValue) })
	}
	written := map[string]string{"75s": "1m15s", "168h": "168h0m0s", "720h": "720h0m0s"}
	for heading, section := range readmeSections(t) {
		for row := range strings.Lines(section) {
			cells := strings.Split(row, "|")
			if len(cells) < 4 || !strings.HasPrefix(cells[1], " `--") {
				continue
			}
			flag, _, _ := strings.Cut(strings.Trim(cells[1], " `-"), " ")
			defaults, ok := known[flag]
			if !ok {
				t.Errorf("%s: there is no --%s", heading, flag)
			}
			value, ok := strings.CutPrefix(strings.TrimSpace(cells[2]), "`")
			value, whole := strings.CutSuffix(value, "`")
			if !ok || !whole || strings.Contains(value, "`") {
				continue // words, not a value
			}
			if !slices.Contains(defaults, or(written[value], value)) {
				t.Errorf("%s: the default of --%s is not %s but one of %q", heading, flag, value, defaults)
			}
		}
	}
}

// The tests that SECURITY.md names as proofs are there.
func TestSECURITYNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	err = filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		sources.Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 10 {
		t.Errorf("it names %d tests", len(named))
	}
	for _, match := range named {
		if !strings.Contains(sources.String(), "func "+match[1]+"(") {
			t.Errorf("there is no %s", match[1])
		}
	}
	for _, match := range regexp.MustCompile("`(testdata/[^`]+)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("../..", match[1])); err != nil {
			t.Error(err)
		}
	}
}

// commands returns the commands that do something, with the flags of each.
func commands(root *cobra.Command) (all []*cobra.Command) {
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && (!c.HasSubCommands() || c.HasAvailableLocalFlags()) { // else it is a group
			all = append(all, c)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}

// readmeSections returns the README's sections of the third level by heading;
// others are under "".
func readmeSections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	heading := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			heading = ""
			if strings.HasPrefix(line, "### ") {
				heading = strings.TrimSpace(line)
			}
			continue
		}
		sections[heading] += line
	}
	return sections
}

// A command that the README and its neighbours show is one
// of ours, with flags that it has.
func TestShownCommandsExist(t *testing.T) {
	inline := regexp.MustCompile("`(?:sudo )?meshbox ([^`]*)`")
	line := regexp.MustCompile(`(?m)^(?:    |.*\$ )(?:sudo )?meshbox (.*)$`)
	shown := 0
	for _, path := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		text := read(t, path)
		for _, match := range append(inline.FindAllStringSubmatch(text, -1), line.FindAllStringSubmatch(text, -1)...) {
			shown++
			if problem := wrongCommand(match[1]); problem != "" {
				t.Errorf("%s: meshbox %s: %s", path, match[1], problem)
			}
		}
	}
	if shown < 60 {
		t.Errorf("only %d commands were found", shown)
	}
}

// wrongCommand says what is wrong with the arguments of a command line, "" if nothing is.
func wrongCommand(line string) string {
	line, _, _ = strings.Cut(strings.ReplaceAll(line, "\\|", ""), " | ")
	words := strings.Fields(line)
	root := (&app{}).root()
	root.InitDefaultVersionFlag()
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	takesNone := c.HasSubCommands() // a group of commands
	if takesNone && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && rest[0] != strings.ToUpper(rest[0]) {
		return "there is no such command"
	}
	c.InitDefaultHelpFlag()
	for _, word := range rest {
		if word == "--" {
			c = (&app{}).serveCommand("serve") // flags behind it are those of the server
		}
		name, ok := strings.CutPrefix(word, "--")
		if name, _, _ = strings.Cut(name, "="); ok && name != "" && c.Flags().Lookup(name) == nil {
			return "there is no --" + name
		}
	}
	return ""
}

func TestWrongCommandsAreFound(t *testing.T) {
	for line, wrong := range map[string]bool{
		"invite --uses 3": false, "invite --nosuch": true, "nosuch": true, "service install -- --public-url https://x": false, "service install --public-url https://x": true,
		"service install -- --nosuch": true, "--version": false, "COMMAND": false, "mesh nosuch": true,
	} {
		if got := wrongCommand(line); (got != "") != wrong {
			t.Errorf("%q: %q", line, got)
		}
	}
}
