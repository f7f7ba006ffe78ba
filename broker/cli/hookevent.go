package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

// hookClient is what the events of one client mean, and what it takes for an answer.
type hookClient struct {
	events map[string]string // event → status
	ends   string            // the event of an agent that ends its turn
	goOn   func(text string) any
	silent map[string]any // event → what is printed if there is nothing to say; else nothing is
}

var hookClients = map[string]hookClient{
	"claude": {
		events: map[string]string{"UserPromptSubmit": wire.StatusWorking, "PreToolUse": wire.StatusWorking, "Stop": wire.StatusIdle, "SessionEnd": wire.StatusIdle},
		ends:   "Stop", goOn: blocked("block"),
	},
	"codex": {
		events: map[string]string{
			"UserPromptSubmit": wire.StatusWorking, "PreToolUse": wire.StatusWorking,
			"Stop": wire.StatusIdle, "Interrupt": wire.StatusIdle, "SessionEnd": wire.StatusIdle,
		},
		ends: "Stop", goOn: blocked("block"),
	},
	"gemini": {
		events: map[string]string{"BeforeAgent": wire.StatusWorking, "BeforeTool": wire.StatusWorking, "AfterAgent": wire.StatusIdle, "SessionEnd": wire.StatusIdle},
		ends:   "AfterAgent", goOn: blocked("deny"),
	},
	"cursor": {
		events: map[string]string{"beforeSubmitPrompt": wire.StatusWorking, "postToolUse": wire.StatusWorking, "stop": wire.StatusIdle, "sessionEnd": wire.StatusIdle},
		ends:   "stop", goOn: func(text string) any { return map[string]string{"followup_message": text} },
		// What it makes of no output at all is not documented.
		silent: map[string]any{"beforeSubmitPrompt": map[string]bool{"continue": true}, "postToolUse": struct{}{}, "stop": struct{}{}, "sessionEnd": struct{}{}},
	},
}

// blocked is the answer of those who let a hook keep an agent from ending its turn.
func blocked(decision string) func(string) any {
	return func(text string) any { return map[string]string{"decision": decision, "reason": text} }
}

// hookEvent is what a client says on standard input.
type hookEvent struct {
	Name    string
	Session string
	CWD     string
	AgentID string // of a subagent
	Cursor  bool   // Cursor calls Claude's hooks as well
	Status  string // of Cursor's stop: completed, aborted or error
}

// readEvent reads standard input, not for longer than ctx.
func (a *app) readEvent(ctx context.Context) (hookEvent, error) {
	type input struct {
		text []byte
		err  error
	}
	read := make(chan input, 1)
	go func() { // it may never end; the process does
		text, err := io.ReadAll(io.LimitReader(a.in, maxEvent))
		read <- input{text, err}
	}()
	select {
	case <-ctx.Done():
		return hookEvent{}, ctx.Err()
	case in := <-read:
		if in.err != nil {
			return hookEvent{}, in.err
		}
		return parseEvent(in.text)
	}
}

// parseEvent takes fields of another kind than they were as if they were not there:
// clients change.
func parseEvent(text []byte) (hookEvent, error) {
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return hookEvent{}, err
	}
	word := func(names ...string) string {
		for _, name := range names {
			if text, ok := fields[name].(string); ok && text != "" {
				return text
			}
		}
		return ""
	}
	_, cursor := fields["cursor_version"]
	event := hookEvent{
		Name: word("hook_event_name"), Session: word("session_id", "conversation_id"), CWD: word("cwd"),
		AgentID: word("agent_id"), Cursor: cursor, Status: word("status"),
	}
	if roots, ok := fields["workspace_roots"].([]any); ok && len(roots) > 0 {
		if root, ok := roots[0].(string); ok {
			event.CWD = root
		}
	}
	return event, nil
}

// agent is who the event is about.
func (e hookEvent) agent(client string) wake.Agent {
	folder := or(e.CWD, os.Getenv("CURSOR_PROJECT_DIR"))
	if client == "claude" {
		folder = or(os.Getenv("CLAUDE_PROJECT_DIR"), folder) // where the agent was started, wherever it went
	}
	return wake.Agent{Client: client, Session: e.Session, Folder: folder}
}
