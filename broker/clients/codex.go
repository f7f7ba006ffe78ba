package clients

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// codex has TOML. Its own program writes all servers anew, without the comments
// and without what it does not know: our table is added as text.
var codex = client{
	name: "codex", title: "Codex", programs: []string{"codex"},
	folder: func(s *System) string { return s.inHome("CODEX_HOME", ".codex") },
	add: func(s *System, e Entry) Change {
		table := codexTable(e)
		c := editTOML(s, table, func(text string) (string, error) {
			without, err := withoutTable(text)
			if err != nil || without != text && hasTable(text, table) {
				return text, err
			}
			if without != "" && !strings.HasSuffix(without, "\n\n") {
				without = strings.TrimRight(without, "\n") + "\n\n"
			}
			return without + table, nil
		})
		c.Then = "Begin a new thread in Codex. One that runs in the background is ended with: codex app-server daemon stop"
		return c
	},
	remove: func(s *System) Change { return editTOML(s, "", withoutTable) },
}

func codexTable(e Entry) string {
	args := make([]string, len(e.Args))
	for i, arg := range e.Args {
		args[i] = strconv.Quote(arg)
	}
	return fmt.Sprintf("[mcp_servers.%s]\ncommand = %s\nargs = [%s]\n", ServerName, strconv.Quote(e.Command), strings.Join(args, ", "))
}

// editTOML makes a change of what edit does to Codex's settings, which have to be
// valid before and after: a broken file stops all of Codex.
func editTOML(s *System, snippet string, edit func(string) (string, error)) Change {
	c := Change{Path: s.inHome("CODEX_HOME", ".codex", "config.toml"), Snippet: snippet}
	before, err := read(c.Path)
	if err != nil {
		c.Problem = err
		return c
	}
	c.Before, c.After = before, before
	after, err := "", toml.Unmarshal(before, new(map[string]any))
	if err != nil {
		err = fmt.Errorf("it is no valid TOML: %w", err)
	} else if after, err = edit(string(before)); err == nil {
		err = toml.Unmarshal([]byte(after), new(map[string]any))
	}
	if err != nil {
		c.Problem = fmt.Errorf("%s is left as it is: %w", c.Path, err)
		return c
	}
	if before != nil || after != "" {
		c.After = []byte(after)
	}
	if program, err := s.LookPath("codex"); err == nil {
		c.verify = []string{program, "mcp", "list"}
	}
	return c
}

var (
	header    = regexp.MustCompile(`^\s*\[`)
	ourHeader = regexp.MustCompile(`^\s*\[\s*mcp_servers\s*\.\s*"?` + ServerName + `"?\s*[\].]`)
)

// withoutTable takes our table, and those below it, out of the text.
func withoutTable(text string) (string, error) {
	var parsed struct {
		Servers map[string]any `toml:"mcp_servers"`
	}
	if err := toml.Unmarshal([]byte(text), &parsed); err != nil {
		return "", err
	}
	if _, there := parsed.Servers[ServerName]; !there {
		return text, nil
	}
	var kept []string
	ours, found := false, false
	for line := range strings.Lines(text) {
		if header.MatchString(line) {
			ours = ourHeader.MatchString(line)
		}
		found = found || ours
		if !ours {
			kept = append(kept, line)
		}
	}
	if !found {
		return "", errors.New("its servers stand in one inline table; use: codex mcp add meshbox, codex mcp remove meshbox")
	}
	// The empty line before our table was ours, too.
	for len(kept) > 0 && strings.TrimSpace(kept[len(kept)-1]) == "" {
		kept = slices.Delete(kept, len(kept)-1, len(kept))
	}
	return strings.Join(kept, ""), nil
}

// hasTable reports whether the text has our table as it should be.
func hasTable(text, table string) bool {
	return strings.Contains("\n"+text+"\n", "\n"+table+"\n") || strings.Contains("\n"+text, "\n"+table) && strings.HasSuffix(text, table)
}
