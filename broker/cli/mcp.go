package cli

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"meshbox/broker/mcp"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

type mcpFlags struct {
	clientFlags
	name string
	wake wake.Limits
}

func (a *app) mcpCommand() *cobra.Command {
	f := &mcpFlags{wake: wake.DefaultLimits}
	c := &cobra.Command{
		Use: "mcp", Short: "Give an agent its tools for the mesh, by the Model Context Protocol",
		Long: `Serve the Model Context Protocol on standard input and output, for an agent's
client to start: the agent gets tools to talk in the mesh, as a session of the
member that "meshbox join" made. It is in the mesh as long as its client runs this.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.mcp(c.Context(), f) },
	}
	c.Flags().StringVar(&f.config, "config", "", "folder of your identities (default: meshbox in your config folder)")
	c.Flags().StringVar(&f.mesh, "mesh", "", "the mesh, by name (default: the one joined last)")
	c.Flags().StringVar(&f.name, "name", "", "the name others see (default: the member's, and the folder this runs in)")
	c.Flags().IntVar(&f.wake.Pair, "wake-limit", f.wake.Pair, "how often another agent may wake this one in 10 minutes; 0: nobody wakes it")
	return c
}

func (a *app) mcp(ctx context.Context, f *mcpFlags) error {
	if f.wake.Pair < 0 {
		return usagef("--wake-limit must be 0 or more")
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	o.Client.DisplayName = wire.CleanLine(f.name, wire.MaxNameLen)
	if o.Identity.PeerType != wire.PeerConnector {
		o.Client.PeerType = wire.PeerAI // also where a person joined: what speaks here is an agent
	}
	keyring, err := f.keyring()
	if err != nil {
		return err
	}
	if o.Session, o.Former, err = keyring.NewSession(o.Identity, time.Now()); err != nil {
		return err
	}
	folder, err := f.folder()
	if err != nil {
		return err
	}
	cfg := mcp.Config{
		Peer: o, Version: version(), Log: slog.New(slog.NewTextHandler(a.err, nil)), Wake: f.wake,
		Desk: filepath.Join(folder, desksFolder), ClaudeSession: os.Getenv("CLAUDE_CODE_SESSION_ID"),
	}
	return mcp.Run(ctx, cfg, &sdk.IOTransport{Reader: io.NopCloser(a.in), Writer: unclosed{a.out}})
}

// unclosed is an output that outlives the session.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// withMCP adds the tools over HTTP to what a broker serves: they call its REST
// endpoints, and the broker need not know of them.
func withMCP(broker http.Handler, tools *mcp.HTTP) http.Handler {
	mux := http.NewServeMux()
	streaming := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // news may come after hours
		tools.ServeHTTP(w, r)
	})
	mux.Handle("/mcp", streaming)
	mux.Handle("/mcp/{key}", streaming)
	mux.Handle("/", broker)
	return mux
}
