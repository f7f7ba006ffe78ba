package clients

import (
	"encoding/json"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// Configured returns what a client starts as our server, nil if it starts none.
func (s *System) Configured(name string) (*Entry, error) {
	c, err := s.plan(name, func(c client) Change { return c.add(s, Entry{}) })
	if err != nil {
		return nil, err
	}
	if c.Problem != nil {
		return nil, c.Problem
	}
	if name == codex.name {
		return codexEntry(c.Before), nil
	}
	known := serverIn(c.Before)
	if known == nil {
		return nil, nil
	}
	var e Entry
	_ = json.Unmarshal([]byte(encode(known)), &e) // what is no entry starts nothing
	return &e, nil
}

func codexEntry(content []byte) *Entry {
	var parsed codexServer
	_ = toml.Unmarshal(content, &parsed) // add has parsed it
	known, there := parsed.Servers[ServerName]
	if !there {
		return nil
	}
	return &Entry{Command: known.Command, Args: known.Args}
}

// ConfiguredHooks returns the programs that a client's hooks of ours call.
func (s *System) ConfiguredHooks(name string) (programs []string) {
	h, known := allHooks[name]
	if !known {
		return nil
	}
	d, err := s.readHooks(h)
	if err != nil {
		return nil
	}
	for _, event := range h.events {
		for _, element := range list(d.get("hooks", event)) {
			for _, handler := range h.handlers(element) {
				if command := commandOf(handler); s.isOurs(command) {
					programs = append(programs, shellWords(command)[0])
				}
			}
		}
	}
	slices.Sort(programs)
	return slices.Compact(programs)
}
