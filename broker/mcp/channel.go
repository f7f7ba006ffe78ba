package mcp

import (
	"context"
	"encoding/json"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Claude Code's channels are notifications of a server that begin a turn, if the
// person has turned them on for it. Nothing says whether they are: the inbox and the
// hooks go first, and no message counts as handed over because of a notification.

// channelCapability is declared by servers that may use it.
var channelCapability = map[string]any{"claude/channel": map[string]any{}}

const channelMethod = "notifications/claude/channel"

// tap is a transport that also takes notifications the SDK has no name for.
type tap struct {
	sdk.Transport
	conn sdk.Connection // set by Connect, before anything is received
}

func (t *tap) Connect(ctx context.Context) (sdk.Connection, error) {
	conn, err := t.Transport.Connect(ctx)
	t.conn = conn
	return conn, err
}

// notify sends a text to the channel. It may be called once the client has said hello.
func (t *tap) notify(ctx context.Context, text string) error {
	params, err := json.Marshal(map[string]any{"content": text, "meta": map[string]string{}})
	if err != nil {
		return err
	}
	return t.conn.Write(ctx, &jsonrpc.Request{Method: channelMethod, Params: params})
}
