package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/tailscale/hujson"
)

// The clients whose settings are JSON, with their servers under mcpServers.

const serversKey = "mcpServers"

// claude takes a comment in its file for damage, and while it runs it writes the
// file itself: if its program is there, that does it.
var claude = client{
	name: "claude", title: "Claude Code", programs: []string{"claude"},
	folder: func(s *System) string { return s.inHome("CLAUDE_CONFIG_DIR", ".claude") },
	add: func(s *System, e Entry) Change {
		entry := map[string]any{"type": "stdio", "command": e.Command, "args": e.Args, "env": map[string]any{}}
		c := addJSON(claudeFile(s), true, entry)
		c.Then = "Restart Claude Code, or begin a new session."
		program, err := s.LookPath("claude")
		if err != nil || c.Problem != nil || c.IsNothing() {
			return c
		}
		put := []string{program, "mcp", "add-json", "--scope", "user", ServerName}
		if old := serverIn(c.Before); old != nil {
			c.Commands = append(c.Commands, []string{program, "mcp", "remove", ServerName, "--scope", "user"})
			c.undo = append(slices.Clone(put), encode(old))
		}
		c.Commands = append(c.Commands, append(put, encode(serverIn(c.After))))
		return c
	},
	remove: func(s *System) Change {
		c := removeJSON(claudeFile(s), true)
		if program, err := s.LookPath("claude"); err == nil && c.Problem == nil && !c.IsNothing() {
			c.Commands = [][]string{{program, "mcp", "remove", ServerName, "--scope", "user"}}
		}
		return c
	},
}

// claudeFile is beside the folder, and inside of one that is set.
func claudeFile(s *System) string {
	if s.Getenv("CLAUDE_CONFIG_DIR") != "" {
		return s.inHome("CLAUDE_CONFIG_DIR", "", ".claude.json")
	}
	return s.inHome("", ".claude.json")
}

var gemini = client{
	name: "gemini", title: "Gemini CLI", programs: []string{"gemini"},
	folder: func(s *System) string { return s.inHome("", ".gemini", "settings.json") },
	add: func(s *System, e Entry) Change {
		c := addJSON(s.inHome("", ".gemini", "settings.json"), false, map[string]any{"command": e.Command, "args": e.Args})
		c.Then = "Restart Gemini CLI. It starts servers in trusted folders only."
		return c
	},
	remove: func(s *System) Change { return removeJSON(s.inHome("", ".gemini", "settings.json"), false) },
}

var cursor = client{
	name: "cursor", title: "Cursor", programs: []string{"cursor", "cursor-agent"},
	folder: func(s *System) string { return s.inHome("", ".cursor") },
	add: func(s *System, e Entry) Change {
		c := addJSON(s.inHome("", ".cursor", "mcp.json"), false, map[string]any{"type": "stdio", "command": e.Command, "args": e.Args})
		c.Then = "Allow the server in Cursor's settings, or with: agent mcp enable meshbox"
		return c
	},
	remove: func(s *System) Change { return removeJSON(s.inHome("", ".cursor", "mcp.json"), false) },
}

// addJSON puts an entry into a file, unless it is there. What a person added to the
// entry stays.
func addJSON(path string, strict bool, entry map[string]any) Change {
	snippet := encodePretty(map[string]any{serversKey: map[string]any{ServerName: entry}})
	return editJSON(path, strict, snippet, func(d *document) error {
		if known := d.get(serversKey, ServerName); known == nil {
			return d.put(entry, serversKey, ServerName)
		}
		for key, value := range entry {
			known := d.get(serversKey, ServerName, key)
			if known != nil && (key == "env" || sameJSON(known.Pack(), value)) {
				continue
			}
			if err := d.put(value, serversKey, ServerName, key); err != nil {
				return err
			}
		}
		return nil
	})
}

func removeJSON(path string, strict bool) Change {
	return editJSON(path, strict, "", func(d *document) error {
		d.remove(serversKey, ServerName)
		return nil
	})
}

// editJSON makes a change of what edit does to a file.
func editJSON(path string, strict bool, snippet string, edit func(*document) error) Change {
	c := Change{Path: path, Snippet: snippet}
	before, err := read(path)
	if err != nil {
		c.Problem = err
		return c
	}
	c.Before, c.After = before, before
	d, err := parse(before, strict)
	if err == nil {
		err = edit(d)
	}
	if err != nil {
		c.Problem = fmt.Errorf("%s is left as it is: %w", path, err)
		return c
	}
	after := d.bytes()
	if !sameButOurs(before, after) {
		c.Problem = fmt.Errorf("%s is left as it is: it is written in a way that cannot be changed without loss", path)
		return c
	}
	if before != nil || string(after) != "{}\n" {
		c.After = after
	}
	return c
}

// sameButOurs reports whether two settings say the same, but for what is ours: our
// server, and hooks.
func sameButOurs(before, after []byte) bool {
	a, err := rest(before)
	b, failed := rest(after)
	return err == nil && failed == nil && reflect.DeepEqual(a, b)
}

func rest(content []byte) (all map[string]any, err error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return map[string]any{}, nil
	}
	standard, err := hujson.Standardize(bytes.Clone(content))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(standard, &all); err != nil {
		return nil, err
	}
	if servers, ok := all[serversKey].(map[string]any); ok {
		if delete(servers, ServerName); len(servers) == 0 {
			delete(all, serversKey)
		}
	}
	delete(all, "hooks") // see hooks.go
	if all["version"] == 1.0 {
		delete(all, "version")
	}
	return all, nil
}

// serverIn is our entry in a file, nil if there is none.
func serverIn(content []byte) map[string]any {
	d, err := parse(content, false)
	if err != nil || d.get(serversKey, ServerName) == nil {
		return nil
	}
	entry := map[string]any{}
	_ = json.Unmarshal(d.get(serversKey, ServerName).Pack(), &entry) // what is no object is no entry
	return entry
}

// sameJSON reports whether a text says what a value is, in whatever form.
func sameJSON(text []byte, value any) bool {
	var a, b any
	return json.Unmarshal(text, &a) == nil && json.Unmarshal([]byte(encode(value)), &b) == nil && reflect.DeepEqual(a, b)
}

func encode(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // it is made of strings
	}
	return string(encoded)
}
