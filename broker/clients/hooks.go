package clients

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"

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

	root map[string]any // what a new file needs beside the hooks
	off  [2]string      // where "false" or "true" turns all hooks off
	then string         // what a person has to do then
}

const (
	hookTimeout      = 5 // s
	codexHookTimeout = 3 // s; more is too much for some of its events
)

var allHooks = map[string]hooks{
	"claude": {
		title: "Claude Code's hooks", strict: true,
		path:    func(s *System) string { return s.inHome("CLAUDE_CONFIG_DIR", ".claude", "settings.json") },
		events:  []string{"UserPromptSubmit", "PreToolUse", "Stop", "SessionEnd"},
		element: grouped(hookTimeout), handlers: inGroup,
		off:  [2]string{"disableAllHooks", "true"},
		then: "Claude Code takes up changed hooks by itself, in folders you trust.",
	},
	"codex": {
		title: "Codex's hooks", strict: true,
		path:    func(s *System) string { return s.inHome("CODEX_HOME", ".codex", "hooks.json") },
		events:  []string{"UserPromptSubmit", "PreToolUse", "Stop", "Interrupt", "SessionEnd"},
		element: grouped(codexHookTimeout), handlers: inGroup,
		then: "Codex asks once whether you trust them: see /hooks there.",
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
		off:      [2]string{"hooksConfig/enabled", "false"},
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
		if s.has(h, d, command) {
			return nil
		}
		for key, value := range h.root {
			if d.get(key) == nil {
				if err := d.put(value, key); err != nil {
					return err
				}
			}
		}
		for _, event := range h.events {
			if err := s.put(h, d, event, command); err != nil {
				return err
			}
		}
		return nil
	})
	c.Then = h.then
	if client == "codex" && c.Problem == nil && !c.IsNothing() {
		s.hooksInCodexConfig(&c, command)
	}
	return c
}

// put has one event call the command, in the place of what calls us there: some
// clients remember by their place which hooks are trusted.
func (s *System) put(h hooks, d *document, event, command string) error {
	var ours []int
	for i, element := range list(d.get("hooks", event)) {
		if s.callsUs(h, element) {
			ours = append(ours, i)
		}
	}
	if len(ours) == 0 || len(h.handlers(list(d.get("hooks", event))[ours[0]])) != 1 {
		s.drop(h, d, event)
		return d.appendTo(h.element(command), "hooks", event)
	}
	array := d.get("hooks", event).Value.(*hujson.Array)
	array.Elements[ours[0]].Value = d.pretty(h.element(command), 3)
	for _, surplus := range slices.Backward(ours[1:]) {
		s.dropFrom(h, array, surplus)
	}
	return nil
}

// RemoveHooks says what undoes AddHooks.
func (s *System) RemoveHooks(client string) Change {
	h := allHooks[client]
	return s.editHooks(client, "", func(d *document) error {
		for _, event := range h.events {
			s.drop(h, d, event)
		}
		if hooks := d.get("hooks"); hooks != nil {
			if object, ok := hooks.Value.(*hujson.Object); ok && len(object.Members) == 0 {
				d.remove("hooks")
			}
		}
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
func (s *System) has(h hooks, d *document, command string) bool {
	for _, event := range h.events {
		var ours []string
		for _, element := range list(d.get("hooks", event)) {
			for _, handler := range h.handlers(element) {
				if said := commandOf(handler); s.isOurs(said) {
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

// callsUs reports whether one of the handlers of an element is ours.
func (s *System) callsUs(h hooks, element hujson.Value) bool {
	return slices.ContainsFunc(h.handlers(element), func(handler hujson.Value) bool { return s.isOurs(commandOf(handler)) })
}

// drop takes out the handlers of an event that call us, and what is empty then.
func (s *System) drop(h hooks, d *document, event string) {
	value := d.get("hooks", event)
	if value == nil {
		return
	}
	array, ok := value.Value.(*hujson.Array)
	if !ok {
		return
	}
	dropped := false
	for i := len(array.Elements) - 1; i >= 0; i-- {
		if s.callsUs(h, array.Elements[i]) {
			dropped = true
			s.dropFrom(h, array, i)
		}
	}
	if dropped && len(array.Elements) == 0 {
		d.remove("hooks", event)
	}
}

// dropFrom takes our handlers out of one element, and with the last one the element.
func (s *System) dropFrom(h hooks, array *hujson.Array, i int) {
	element := array.Elements[i]
	if len(h.handlers(element)) > 1 {
		inner := element.Find("/hooks").Value.(*hujson.Array)
		for j := len(inner.Elements) - 1; j >= 0; j-- {
			if s.isOurs(commandOf(inner.Elements[j])) {
				removeElement(inner, j)
			}
		}
		if len(inner.Elements) > 0 {
			return
		}
	}
	removeElement(array, i)
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
	handler = handler.Clone() // without the comments
	handler.Standardize()
	_ = json.Unmarshal(handler.Pack(), &parsed) // what is no handler calls nothing
	return parsed.Command
}

// isOurs reports whether a command line calls this program, or one of its name, as a
// hook: other programs have hooks of the same form.
func (s *System) isOurs(command string) bool {
	words := shellWords(command)
	if len(words) != 3 && (len(words) != 5 || words[3] != "--config") || words[1] != "hook" {
		return false
	}
	_, known := allHookNames[words[2]]
	return known && (words[0] == s.Own || strings.Contains(path.Base(strings.ReplaceAll(words[0], `\`, "/")), ServerName))
}

// allHookNames are the keys of allHooks, which cannot be named where its values are
// made.
var allHookNames = map[string]bool{"claude": true, "codex": true, "gemini": true, "cursor": true}

// shellWords are the words of a command line, with single quotes and backslashes
// undone; nil if it has anything else that a shell would not take as it stands.
func shellWords(command string) (words []string) {
	word, inWord, quoted := "", false, false
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case quoted:
			if quoted = c != '\''; quoted {
				word += command[i : i+1]
			}
		case c == '\'':
			quoted, inWord = true, true
		case c == '\\' && i+1 < len(command) && command[i+1] == '\'':
			i++
			word, inWord = word+"'", true
		case c == ' ':
			if inWord {
				words = append(words, word)
			}
			word, inWord = "", false
		case strings.IndexByte("\"$`|&;<>()*?#~\n\t", c) >= 0:
			return nil
		default:
			word, inWord = word+command[i:i+1], true
		}
	}
	if quoted {
		return nil
	}
	if inWord {
		words = append(words, word)
	}
	return words
}

func encodePretty(value any) string {
	encoded, err := json.MarshalIndent(value, "", indent)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(encoded)
}
