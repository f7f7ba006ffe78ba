package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

const (
	hookTime   = 2 * time.Second  // a hook must not hold up an agent
	hookRepeat = 20 * time.Second // how often "working" is said again while an agent works
	maxEvent   = 16 << 20         // bytes of an event that are read; it may hold what the agent wrote

	desksFolder = "agents" // below that of the identities: see wake.Desk
)

func (a *app) hookCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "hook CLIENT", Short: "Tell the broker when an agent is busy, and the agent what came; its client's hooks call this",
		Long: `Read an event of an agent's client from standard input. If the broker is on this
machine, tell it whether the agent is working or idle. If the agent has ended a turn
and messages for it have come meanwhile, have it go on with the news. "meshbox join"
puts it into the hooks of the clients. It never fails, and prints nothing but what its
client takes: an agent must not stumble over it.`,
		Args: arguments(1, 1, "CLIENT"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, known := hookClients[args[0]]; !known {
				return usagef("the client %q is not known; it can be %s", args[0], strings.Join(slices.Sorted(maps.Keys(hookClients)), ", "))
			}
			a.hook(c.Context(), args[0], f)
			return nil
		},
	}
	c.Flags().StringVar(&f.config, "config", "", "folder of your identities (default: meshbox in your config folder)")
	c.Flags().StringVar(&f.mesh, "mesh", "", "the mesh, by name (default: the one joined last)")
	return c
}

// hook makes of an event what there is to be made. Whatever goes wrong, the agent
// goes on.
func (a *app) hook(ctx context.Context, name string, f *clientFlags) {
	client := hookClients[name]
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	event, err := a.readEvent(ctx)
	if err != nil {
		return
	}
	status := client.events[event.Name]
	if status == "" || event.AgentID != "" || name != "cursor" && event.Cursor {
		return
	}
	answer, speaks := client.silent[event.Name]
	agent := event.agent(name)
	folder, err := f.folder()
	if err != nil {
		return
	}
	desk := wake.FindDesk(filepath.Join(folder, desksFolder), agent)
	if note := takeNote(desk, event, client); note != "" {
		status, answer, speaks = "", client.goOn(note), true // it works on
	}
	if speaks && printJSON(a.out, answer) != nil && desk != nil && status == "" {
		desk.PutBack()
	}
	if o, err := f.options(); err == nil && status != "" && isHere(o.Identity) && isNews(folder, agent, status) {
		report(ctx, o, agent, status)
	}
}

// takeNote returns what an agent is to be told that ends its turn by itself, "" for
// nothing. Each note is told once, and the limits of waking stand before it: so it is
// also told to an agent that a hook has kept from ending just now.
func takeNote(desk *wake.Desk, event hookEvent, client hookClient) string {
	if desk == nil || event.Name != client.ends || event.Status == "aborted" || event.Status == "error" {
		return ""
	}
	return desk.Take()
}

// isNews reports whether a status is worth a report: the broker takes some a minute,
// and the one that it stops is worth one.
func isNews(folder string, agent wake.Agent, status string) bool {
	sum := sha256.Sum256([]byte(agent.Client + "\n" + or(agent.Session, agent.Folder)))
	said := filepath.Join(folder, desksFolder, fmt.Sprintf("%x.working", sum[:8]))
	if status != wire.StatusWorking {
		_ = os.Remove(said)
		return true
	}
	if info, err := os.Stat(said); err == nil && time.Since(info.ModTime()) < hookRepeat {
		return false
	}
	wake.Sweep(filepath.Dir(said))
	_ = os.MkdirAll(filepath.Dir(said), 0o700)
	_ = os.WriteFile(said, nil, 0o600)
	return true
}

func report(ctx context.Context, o peer.Options, agent wake.Agent, status string) {
	body, err := json.Marshal(map[string]string{"cwd": agent.Folder, "status": status, "session_id": agent.Session})
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
