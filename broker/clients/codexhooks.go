package clients

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Codex takes hooks from hooks.json or from config.toml, and warns of two places.

// hooksInCodexConfig makes of a change of hooks.json one of config.toml, which is the
// person's to make, if that is where they keep their hooks.
func (s *System) hooksInCodexConfig(c *Change, command string) {
	text, err := read(s.inHome("CODEX_HOME", ".codex", "config.toml"))
	if err != nil {
		return // codex.go says what is wrong with it
	}
	var config struct {
		Hooks map[string]any `toml:"hooks"`
	}
	if toml.Unmarshal(text, &config) != nil {
		return
	}
	delete(config.Hooks, "state") // what Codex itself notes there
	if len(config.Hooks) == 0 {
		return
	}
	c.After = c.Before
	events := allHooks[c.Client].events
	if missing := eventsWithout(config.Hooks, events, command); len(missing) > 0 {
		c.Problem = errors.New("you keep Codex's hooks in config.toml, and it warns of two places")
		c.Snippet = codexHooks(missing, command)
	}
}

// eventsWithout are those events whose hooks do not call a command.
func eventsWithout(hooks map[string]any, events []string, command string) (missing []string) {
	for _, event := range events {
		if !contains(hooks[event], command) {
			missing = append(missing, event)
		}
	}
	return missing
}

// contains reports whether a text stands anywhere in a value.
func contains(value any, text string) bool {
	switch value := value.(type) {
	case string:
		return value == text
	case []any:
		for _, element := range value {
			if contains(element, text) {
				return true
			}
		}
	case map[string]any:
		for _, element := range value {
			if contains(element, text) {
				return true
			}
		}
	}
	return false
}

// codexHooks are hooks as config.toml has them.
func codexHooks(events []string, command string) string {
	var all strings.Builder
	for _, event := range events {
		fmt.Fprintf(&all, "[[hooks.%s]]\n[[hooks.%[1]s.hooks]]\ntype = \"command\"\ncommand = %s\ntimeout = %d\n", event, encode(command), codexHookTimeout)
	}
	return all.String()
}
