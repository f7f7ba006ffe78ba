package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

const (
	hookTime   = 2 * time.Second  // a hook must not hold up an agent
	hookRepeat = 20 * time.Second // how often "working" is said again while an agent works
	maxEvent   = 1 << 20          // bytes of an event that are read
)

func (a *app) hookCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "hook CLIENT", Short: "Tell the broker when an agent is busy; its client's hooks call this",
		Long: `Read an event of an agent's client from standard input, and tell the broker of this
machine whether the agent is working or idle. "meshbox join" puts it into the hooks
of Claude Code. It prints nothing and never fails: an agent must not stumble over it.`,
		Args: arguments(1, 1, "CLIENT"),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "claude" {
				return usagef("the client %q is not known; it can be claude", args[0])
			}
			a.hook(c.Context(), f)
			return nil
		},
	}
	c.Flags().StringVar(&f.config, "config", "", "folder of your identities (default: meshbox in your config folder)")
	c.Flags().StringVar(&f.mesh, "mesh", "", "the mesh, by name (default: the one joined last)")
	return c
}

// hookEvent is what Claude Code says on standard input.
type hookEvent struct {
	Name    string `json:"hook_event_name"`
	Session string `json:"session_id"`
	CWD     string `json:"cwd"`
	AgentID string `json:"agent_id"`       // of a subagent
	Cursor  string `json:"cursor_version"` // Cursor calls Claude's hooks as well
}

// status is what an event means, "" for nothing.
func (e hookEvent) status() string {
	if e.AgentID != "" || e.Cursor != "" {
		return ""
	}
	return map[string]string{
		"UserPromptSubmit": wire.StatusWorking, "PreToolUse": wire.StatusWorking,
		"Stop": wire.StatusIdle, "SessionEnd": wire.StatusIdle,
	}[e.Name]
}

// hook reports an event. Whatever goes wrong, the agent goes on.
func (a *app) hook(ctx context.Context, f *clientFlags) {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	text, err := io.ReadAll(io.LimitReader(a.in, maxEvent))
	var event hookEvent
	if err != nil || json.Unmarshal(text, &event) != nil || event.status() == "" {
		return
	}
	o, err := f.options()
	if err != nil || !isHere(o.Identity) {
		return
	}
	if said := hookMark(event.Session); event.status() == wire.StatusWorking {
		if info, err := os.Stat(said); err == nil && time.Since(info.ModTime()) < hookRepeat {
			return // the broker takes some reports a minute, and the one that it stops is worth one
		}
		_ = os.WriteFile(said, nil, 0o600)
	} else {
		_ = os.Remove(said)
	}
	report(ctx, o, event)
}

// hookMark is a file whose age says when an agent was last reported as working.
func hookMark(session string) string {
	sum := sha256.Sum256([]byte(session))
	return filepath.Join(os.TempDir(), fmt.Sprintf("meshbox-hook-%x", sum[:8]))
}

func report(ctx context.Context, o peer.Options, event hookEvent) {
	folder := or(os.Getenv("CLAUDE_PROJECT_DIR"), event.CWD) // where the agent was started, wherever it went
	body, err := json.Marshal(map[string]string{"cwd": folder, "status": event.status(), "session_id": event.Session})
	base, failed := peer.HTTPBase(o.Identity.BrokerURL)
	if err != nil || failed != nil {
		return
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/hook/set-status", bytes.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	if response, err := o.Identity.HTTPClient().Do(request); err == nil {
		response.Body.Close()
	}
}
