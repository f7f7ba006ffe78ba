package mcp

import (
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
	told  []*letter // by the note that waits, or was taken since one looked
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

// areTaken reports whether a hook comes by that takes notes, and whether one could
// come yet.
func (n *notes) areTaken() (taken, perhaps bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.desk == nil {
		return false, false
	}
	taken = n.desk.IsHooked()
	return taken, !taken
}

// leave tells of letters at the end of the turn.
func (n *notes) leave(b *inbox, letters []*letter) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.desk.Waits() {
		b.hear(n.told, wake.AtTurnEnd)
		n.told = nil
	}
	if letters = b.waiting(letters); len(letters) == 0 {
		return nil // the agent has looked meanwhile
	}
	n.told = append(n.told, letters...)
	return n.desk.Leave(announcement(n.told))
}

// take hands over letters. A note that waits is no news then, and those letters are
// marked that a hook has told of.
func (n *notes) take(b *inbox) (handed []*letter, left int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.told) == 0:
	case n.desk.Waits():
		n.desk.Withdraw()
	default:
		b.hear(n.told, wake.AtTurnEnd)
	}
	n.told = nil
	return b.take()
}

// clients are those that are known by how they call themselves: claude-code,
// codex-mcp-client, gemini-cli-mcp-client, cursor-vscode.
var clients = []string{claudeClient, codexClient, "gemini", "cursor"}

// clientOf is which of the known clients calls itself so, "" for none.
func clientOf(name string) string {
	for _, client := range clients {
		if strings.HasPrefix(strings.ToLower(name), client) {
			return client
		}
	}
	return ""
}
