package mcp

import (
	"slices"
	"strings"
	"sync"

	"meshbox/broker/wake"
)

// notes are what a hook of the agent's client is to say at the end of a turn: see
// wake.Desk. Each note tells of all letters that no hook has told of yet.
type notes struct {
	mu    sync.Mutex
	desk  *wake.Desk // nil: there is none
	agent wake.Agent
	told  []*letter // by the latest note, unless it is known that it was taken
}

// open makes a desk for an agent, if its client is one that has hooks.
func (n *notes) open(folder string, a wake.Agent) error {
	if folder == "" || a.Client == "" {
		return nil
	}
	desk, err := wake.NewDesk(folder, a)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.desk, n.agent = desk, a
	return nil
}

func (n *notes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.desk != nil {
		n.desk.Clear()
	}
}

// belongsTo notes what the client calls the conversation, once it says so.
func (n *notes) belongsTo(session string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.desk == nil || session == "" || n.agent.Session == session {
		return
	}
	n.agent.Session = session
	_ = n.desk.Belongs(n.agent) // else its folder tells whose it is
}

// areTaken reports whether a hook comes by that takes notes.
func (n *notes) areTaken() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.desk != nil && n.desk.IsHooked()
}

// canBeLeft reports whether there is a desk, which a hook may come by.
func (n *notes) canBeLeft() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.desk != nil
}

// leave tells of letters at the end of the turn.
func (n *notes) leave(b *inbox, letters []*letter) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteTaken(b)
	if letters = b.waiting(letters); len(letters) == 0 {
		return nil // the agent has looked meanwhile
	}
	all := slices.Concat(n.told, letters)
	if err := n.desk.Leave(announcement(all)); err != nil {
		return err
	}
	n.noteTaken(b) // a hook was here in this moment, and took the note before
	n.told = append(n.told, letters...)
	return nil
}

// noteTaken marks those letters that a hook has told of. mu is held.
func (n *notes) noteTaken(b *inbox) {
	if len(n.told) > 0 && n.desk.WasTaken() {
		b.hear(n.told, wake.AtTurnEnd)
		n.told = nil
	}
}

// take hands over letters. A note that waits is no news then.
func (n *notes) take(b *inbox) (handed []*letter, left int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.told) > 0 {
		n.noteTaken(b)
		n.desk.Withdraw()
		n.told = nil
	}
	return b.take()
}

// clients are those that are known, by how the names begin that they give themselves:
// claude-code, codex-mcp-client, gemini-cli-mcp-client, cursor-vscode.
var clients = map[string]string{"claude-code": claudeClient, "codex": codexClient, "gemini": "gemini", "cursor": "cursor"}

// clientOf is which of the known clients calls itself so, "" for none.
func clientOf(name string) string {
	for prefix, client := range clients {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			return client
		}
	}
	return ""
}
