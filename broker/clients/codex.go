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
		c := editTOML(s, codexTable(e), func(text string) (string, error) { return withTable(text, e) })
		if program, err := s.LookPath("codex"); err == nil {
			c.verify = []string{program, "mcp", "get", ServerName, "--json"}
		}
		c.Then = "Begin a new thread in Codex. One that runs in the background is ended with: codex app-server daemon stop"
		return c
	},
	remove: func(s *System) Change { return editTOML(s, "", withoutTable) },
}

const codexHeader = "[mcp_servers." + ServerName + "]\n"

func codexTable(e Entry) string {
	args := make([]string, len(e.Args))
	for i, arg := range e.Args {
		args[i] = strconv.Quote(arg)
	}
	return fmt.Sprintf(codexHeader+"command = %s\nargs = [%s]\n", strconv.Quote(e.Command), strings.Join(args, ", "))
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
	} else if after, err = edit(string(before)); err == nil && !sameTOML(before, []byte(after)) {
		err = errors.New("it is written in a way that cannot be changed without loss; use: codex mcp add meshbox, codex mcp remove meshbox")
	}
	if err != nil {
		c.Problem = fmt.Errorf("%s is left as it is: %w", c.Path, err)
		return c
	}
	if before != nil || after != "" {
		c.After = []byte(after)
	}
	return c
}

// sameTOML reports whether two settings say the same, but for our table.
func sameTOML(before, after []byte) bool {
	var a, b map[string]any
	if toml.Unmarshal(before, &a) != nil || toml.Unmarshal(after, &b) != nil {
		return false
	}
	for _, all := range []map[string]any{a, b} {
		if servers, ok := all["mcp_servers"].(map[string]any); ok {
			if delete(servers, ServerName); len(servers) == 0 {
				delete(all, "mcp_servers")
			}
		}
	}
	return encode(a) == encode(b)
}

var (
	header    = regexp.MustCompile(`^\s*\[`)
	ourTable  = regexp.MustCompile(`^\s*\[\s*mcp_servers\s*\.\s*"?` + ServerName + `"?\s*\]`)
	ourHeader = regexp.MustCompile(`^\s*\[\s*mcp_servers\s*\.\s*"?` + ServerName + `"?\s*[\].]`)
	aside     = regexp.MustCompile(`^\s*(#.*)?\s*$`)
	setting   = regexp.MustCompile(`^\s*(command|args)\s*=`)
)

// codexServer is our table as it is read.
type codexServer struct {
	Servers map[string]struct {
		Command string
		Args    []string
	} `toml:"mcp_servers"`
}

// withTable puts our table behind the text, or sets command and args in the one
// that is there: what a person added to it stays.
func withTable(text string, e Entry) (string, error) {
	var parsed codexServer
	if err := toml.Unmarshal([]byte(text), &parsed); err != nil {
		return "", err
	}
	known, there := parsed.Servers[ServerName]
	if there && known.Command == e.Command && slices.Equal(known.Args, e.Args) {
		return text, nil
	}
	if !there {
		if text != "" {
			text = strings.TrimRight(text, "\n") + "\n\n"
		}
		return text + codexTable(e), nil
	}
	lines := slices.Collect(strings.Lines(text))
	var kept []string
	inside := false
	for _, line := range lines {
		if header.MatchString(line) {
			inside = ourTable.MatchString(line)
		}
		if inside && setting.MatchString(line) {
			continue
		}
		if kept = append(kept, line); inside && ourTable.MatchString(line) {
			kept = append(kept, strings.TrimPrefix(codexTable(e), codexHeader))
		}
	}
	after := strings.Join(kept, "")
	if err := toml.Unmarshal([]byte(after), &parsed); err != nil || parsed.Servers[ServerName].Command != e.Command || !slices.Equal(parsed.Servers[ServerName].Args, e.Args) {
		return "", errors.New("its entry of meshbox is written in a way that cannot be changed here; use: codex mcp remove meshbox, then join again")
	}
	return after, nil
}

// withoutTable takes our table, and those below it, out of the text; comments behind
// them belong to what follows.
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
	var kept, behind []string // behind: blank lines and comments, as long as nobody knows whose
	ours, found := false, false
	for line := range strings.Lines(text) {
		if header.MatchString(line) {
			ours = ourHeader.MatchString(line)
			found = found || ours
		}
		switch {
		case !ours:
			kept = append(append(kept, behind...), line)
			behind = nil
		case aside.MatchString(line):
			behind = append(behind, line)
		default:
			behind = nil // it was inside of our table
		}
	}
	if !found {
		return "", errors.New("its servers stand in one inline table; use: codex mcp remove meshbox")
	}
	for len(kept) > 0 && strings.TrimSpace(kept[len(kept)-1]) == "" && len(behind) == 0 {
		kept = kept[:len(kept)-1] // the empty line before our table was ours, too
	}
	return strings.Join(append(kept, behind...), ""), nil
}
