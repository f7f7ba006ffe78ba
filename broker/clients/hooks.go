package clients

import (
	"encoding/json"
	"regexp"
	"slices"

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
	c := editJSON(s.hooksFile(), true, snippet, edit)
	c.Client, c.Title = "claude", "Claude Code's hooks"
	return c
}

func (s *System) hooksFile() string { return s.inHome("CLAUDE_CONFIG_DIR", ".claude", "settings.json") }

// hasHooks reports whether each event calls the command, and none another of ours.
func hasHooks(d *document, command string) bool {
	for _, event := range hookEvents {
		var ours []string
		for _, group := range list(d.get("hooks", event)) {
			for _, handler := range handlers(group) {
				if said := commandOf(handler); isOurs(said) {
					ours = append(ours, said)
				}
			}
		}
		if len(ours) != 1 || ours[0] != command {
			return false
		}
	}
	return true
}

// dropHooks takes out the handlers that call us, and what is empty then.
func dropHooks(d *document) {
	for _, event := range hookEvents {
		var kept []hujson.Value
		dropped := false
		for _, group := range list(d.get("hooks", event)) {
			all := handlers(group)
			others := slices.DeleteFunc(slices.Clone(all), func(handler hujson.Value) bool { return isOurs(commandOf(handler)) })
			if len(others) < len(all) {
				dropped = true
				if len(others) == 0 {
					continue
				}
				group.Find("/hooks").Value.(*hujson.Array).Elements = others
			}
			kept = append(kept, group)
		}
		switch {
		case !dropped:
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

// list are the elements of an array, none of anything else.
func list(value *hujson.Value) []hujson.Value {
	if value == nil {
		return nil
	}
	array, ok := value.Value.(*hujson.Array)
	if !ok {
		return nil
	}
	return array.Elements
}

// handlers are what a group of an event calls.
func handlers(group hujson.Value) []hujson.Value { return list(group.Find("/hooks")) }

func commandOf(handler hujson.Value) string {
	var parsed struct{ Command string }
	_ = json.Unmarshal(handler.Pack(), &parsed) // what is no handler calls nothing
	return parsed.Command
}

// ourCommand is a binary, whatever it is called, and our arguments.
var ourCommand = regexp.MustCompile(`^(?:'[^']*'|[^\s']+)` + HookArgs + `(?: --config (?:'[^']*'|[^\s']+))?$`)

func isOurs(command string) bool { return ourCommand.MatchString(command) }

func encodePretty(value any) string {
	encoded, err := json.MarshalIndent(value, "", indent)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(encoded)
}
