package clients

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"
)

// Hooks tell when an agent is at work and when it is not, and tell it at the end of
// its turn what came meanwhile.

// hooks are those of one client.
type hooks struct {
	title  string
	path   func(*System) string
	strict bool     // the file takes no comments
	events []string // when an agent begins to work, goes on, or stops

	// element is what stands in the list of an event: the handler itself, or a group of
	// them. handlers finds them there.
	element  func(command string) any
	handlers func(element hujson.Value) []hujson.Value

	root    map[string]any      // what a new file needs beside the hooks
	hinders func(*System) error // why the file is not the place
	then    string              // what a person has to do then
}

const hookTimeout = 5 // s

var allHooks = map[string]hooks{
	"claude": {
		title: "Claude Code's hooks", strict: true,
		path:    func(s *System) string { return s.inHome("CLAUDE_CONFIG_DIR", ".claude", "settings.json") },
		events:  []string{"UserPromptSubmit", "PreToolUse", "Stop", "SessionEnd"},
		element: grouped(hookTimeout), handlers: inGroup,
		then: "Claude Code takes up changed hooks by itself, in folders you trust.",
	},
	"codex": {
		title: "Codex's hooks", strict: true,
		path:    func(s *System) string { return s.inHome("CODEX_HOME", ".codex", "hooks.json") },
		events:  []string{"UserPromptSubmit", "PreToolUse", "Stop", "Interrupt", "SessionEnd"},
		element: grouped(3), handlers: inGroup, // more is too much for some events
		hinders: hooksInCodexConfig,
		then:    "Codex asks once whether you trust them: see /hooks there.",
	},
	"gemini": {
		title:  "Gemini CLI's hooks",
		path:   func(s *System) string { return s.inHome("", ".gemini", "settings.json") },
		events: []string{"BeforeAgent", "BeforeTool", "AfterAgent", "SessionEnd"},
		element: func(command string) any {
			handler := map[string]any{"name": ServerName, "type": "command", "command": command, "timeout": hookTimeout * 1000} // ms
			return map[string]any{"matcher": "*", "hooks": []any{handler}}
		},
		handlers: inGroup,
		then:     "Restart Gemini CLI.",
	},
	"cursor": {
		title:    "Cursor's hooks",
		path:     func(s *System) string { return s.inHome("", ".cursor", "hooks.json") },
		events:   []string{"beforeSubmitPrompt", "postToolUse", "stop", "sessionEnd"},
		element:  func(command string) any { return map[string]any{"command": command, "timeout": hookTimeout} },
		handlers: func(element hujson.Value) []hujson.Value { return []hujson.Value{element} },
		root:     map[string]any{"version": 1},
		then:     "Cursor takes them up by itself.",
	},
}

// grouped is the element of those who group handlers, with a timeout in seconds.
func grouped(timeout int) func(string) any {
	return func(command string) any {
		return map[string]any{"hooks": []any{map[string]any{"type": "command", "command": command, "timeout": timeout}}}
	}
}

// inGroup are the handlers of a group.
func inGroup(group hujson.Value) []hujson.Value { return list(group.Find("/hooks")) }

// hooksInCodexConfig refuses a second place: Codex warns of two.
func hooksInCodexConfig(s *System) error {
	text, err := os.ReadFile(s.inHome("CODEX_HOME", ".codex", "config.toml"))
	if err != nil {
		return nil // there is none, or codex.go says what is wrong with it
	}
	var config struct {
		Hooks map[string]any `toml:"hooks"`
	}
	if toml.Unmarshal(text, &config) != nil {
		return nil
	}
	delete(config.Hooks, "state") // what Codex itself notes there
	if len(config.Hooks) > 0 {
		return errors.New("you keep Codex's hooks in config.toml, and it warns of two places; add these there")
	}
	return nil
}

// HookArgs stand behind the binary in each hook of a client, and tell ours from others.
func HookArgs(client string) string { return " hook " + client }

// AddHooks says what makes a client call a command line, which is "meshbox" with its
// HookArgs.
func (s *System) AddHooks(client, command string) Change {
	h := allHooks[client]
	snippet := map[string]any{}
	for _, event := range h.events {
		snippet[event] = []any{h.element(command)}
	}
	whole := maps.Clone(h.root)
	if whole == nil {
		whole = map[string]any{}
	}
	whole["hooks"] = snippet
	c := s.editHooks(client, encodePretty(whole), func(d *document) error {
		if h.has(d, command) {
			return nil
		}
		h.drop(d)
		for key, value := range h.root {
			if d.get(key) == nil {
				if err := d.put(value, key); err != nil {
					return err
				}
			}
		}
		for _, event := range h.events {
			if err := d.appendTo(h.element(command), "hooks", event); err != nil {
				return err
			}
		}
		return nil
	})
	c.Then = h.then
	if h.hinders != nil && c.Problem == nil && !c.IsNothing() {
		c.Problem = h.hinders(s)
	}
	return c
}

// RemoveHooks says what undoes AddHooks.
func (s *System) RemoveHooks(client string) Change {
	h := allHooks[client]
	return s.editHooks(client, "", func(d *document) error {
		h.drop(d)
		return nil
	})
}

func (s *System) editHooks(client, snippet string, edit func(*document) error) Change {
	h := allHooks[client]
	c := editJSON(h.path(s), h.strict, snippet, edit)
	c.Client, c.Title = client, h.title
	return c
}

// has reports whether each event calls the command, and none another of ours.
func (h hooks) has(d *document, command string) bool {
	for _, event := range h.events {
		var ours []string
		for _, element := range list(d.get("hooks", event)) {
			for _, handler := range h.handlers(element) {
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

// drop takes out the handlers that call us, and what is empty then.
func (h hooks) drop(d *document) {
	for _, event := range h.events {
		var kept []hujson.Value
		dropped := false
		for _, element := range list(d.get("hooks", event)) {
			all := h.handlers(element)
			others := slices.DeleteFunc(slices.Clone(all), func(handler hujson.Value) bool { return isOurs(commandOf(handler)) })
			if len(others) < len(all) {
				dropped = true
				if len(others) == 0 {
					continue
				}
				element.Find("/hooks").Value.(*hujson.Array).Elements = others
			}
			kept = append(kept, element)
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

func commandOf(handler hujson.Value) string {
	var parsed struct{ Command string }
	_ = json.Unmarshal(handler.Pack(), &parsed) // what is no handler calls nothing
	return parsed.Command
}

// ourCommand is a binary, whatever it is called, and our arguments.
var ourCommand = regexp.MustCompile(`^(?:'[^']*'|[^\s']+) hook (?:claude|codex|gemini|cursor)(?: --config (?:'[^']*'|[^\s']+))?$`)

func isOurs(command string) bool { return ourCommand.MatchString(command) }

func encodePretty(value any) string {
	encoded, err := json.MarshalIndent(value, "", indent)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(encoded)
}
