package clients

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// Hooks of Claude Code, which tell the broker of this machine when its agent is at
// work and when it is not.

// hookEvents are when an agent begins to work, goes on, or stops.
var hookEvents = []string{"UserPromptSubmit", "PreToolUse", "Stop", "SessionEnd"}

const hookTimeout = 5 // s

// HookArgs stand behind the binary in each hook, and tell ours from others.
const HookArgs = " hook claude"

// AddHooks says what makes Claude Code call a command line, which is "meshbox" with
// HookArgs.
func (s *System) AddHooks(command string) Change {
	handler := map[string]any{"hooks": []any{map[string]any{"type": "command", "command": command, "timeout": hookTimeout}}}
	snippet := map[string]any{}
	for _, event := range hookEvents {
		snippet[event] = []any{handler}
	}
	c := s.editHooks(encodePretty(map[string]any{"hooks": snippet}), func(d *document) error {
		if hasHooks(d, command) {
			return nil
		}
		dropHooks(d)
		for _, event := range hookEvents {
			if err := d.appendTo(handler, "hooks", event); err != nil {
				return err
			}
		}
		return nil
	})
	c.Then = "Claude Code takes up changed hooks by itself, in folders you trust."
	return c
}

// RemoveHooks says what undoes AddHooks.
func (s *System) RemoveHooks() Change {
	return s.editHooks("", func(d *document) error {
		dropHooks(d)
		return nil
	})
}

func (s *System) editHooks(snippet string, edit func(*document) error) Change {
	c := editJSON(s.inHome("CLAUDE_CONFIG_DIR", ".claude", "settings.json"), true, snippet, edit)
	c.Client, c.Title = "claude", "Claude Code's hooks"
	return c
}

// hasHooks reports whether each event calls the command, and none another of ours.
func hasHooks(d *document, command string) bool {
	for _, event := range hookEvents {
		ours := 0
		for _, group := range groups(d, event) {
			if commands := ourCommands(group); len(commands) > 0 {
				if ours += len(commands); commands[0] != command {
					return false
				}
			}
		}
		if ours != 1 {
			return false
		}
	}
	return true
}

// dropHooks takes out the groups that call us, and events that are empty then.
func dropHooks(d *document) {
	for _, event := range hookEvents {
		list := groups(d, event)
		kept := slices.DeleteFunc(slices.Clone(list), func(group hujson.Value) bool { return len(ourCommands(group)) > 0 })
		switch {
		case len(kept) == len(list):
		case len(kept) == 0:
			d.remove("hooks", event)
		default:
			d.get("hooks", event).Value.(*hujson.Array).Elements = kept
		}
	}
	if hooks := d.get("hooks"); hooks != nil {
		if object, ok := hooks.Value.(*hujson.Object); ok && len(object.Members) == 0 {
			d.remove("hooks")
		}
	}
}

// groups are what an event calls.
func groups(d *document, event string) []hujson.Value {
	value := d.get("hooks", event)
	if value == nil {
		return nil
	}
	array, ok := value.Value.(*hujson.Array)
	if !ok {
		return nil
	}
	return array.Elements
}

// ourCommands are those of a group that call us: a group of ours has nothing else.
func ourCommands(group hujson.Value) (commands []string) {
	var parsed struct {
		Hooks []struct{ Command string }
	}
	if json.Unmarshal(group.Pack(), &parsed) != nil {
		return nil
	}
	for _, hook := range parsed.Hooks {
		if strings.Contains(hook.Command, HookArgs) && strings.Contains(hook.Command, "meshbox") {
			commands = append(commands, hook.Command)
		}
	}
	return commands
}

func encodePretty(value any) string {
	encoded, err := json.MarshalIndent(value, "", indent)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(encoded)
}
