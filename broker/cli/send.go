package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/wire"
)

func (a *app) sendCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "send TARGET [TEXT...]", Short: "Send a message to a topic, a group, everyone or a peer",
		Long: `Send a message. TARGET is '#topic', '@group', '*' for everyone, or a peer by its
name or key; to a peer it is encrypted. Without TEXT, or with "-", the text comes
from standard input.`,
		Example: "  meshbox send '#general' \"the build is green\"\n  git log -1 | meshbox send '#general'",
		Args:    arguments(1, -1, "TARGET [TEXT...]"),
		RunE:    func(c *cobra.Command, args []string) error { return a.send(c.Context(), f, args[0], args[1:]) },
	}
	f.add(c)
	return c
}

// sent is what "send --json" prints.
type sent struct {
	MessageID string `json:"message_id"`
	Target    string `json:"target"`
}

func (a *app) send(ctx context.Context, f *clientFlags, name string, words []string) error {
	text, err := a.messageText(words)
	if err != nil {
		return err
	}
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	target, err := resolve(ctx, c, name)
	if err != nil {
		return err
	}
	ack, err := c.SendText(ctx, target, text)
	if err != nil {
		return err
	}
	if !ack.Queued {
		return fmt.Errorf("not sent: %s", ack.Error)
	}
	if f.json {
		return printJSON(a.out, sent{MessageID: ack.MessageID, Target: target})
	}
	fmt.Fprintf(a.out, "stored %s\n", ack.MessageID)
	return nil
}

// messageText is the words, or standard input up to the largest message.
func (a *app) messageText(words []string) (string, error) {
	text := strings.Join(words, " ")
	if len(words) == 0 || text == "-" {
		if isTerminal(a.in) {
			fmt.Fprintln(a.err, "Type the message, then Ctrl-D.")
		}
		input, err := io.ReadAll(io.LimitReader(a.in, 16*wire.DefaultMaxMessage))
		if err != nil {
			return "", fmt.Errorf("cannot read standard input: %w", err)
		}
		text = strings.TrimRight(string(input), "\n")
	}
	if strings.TrimSpace(text) == "" {
		return "", errors.New("the message is empty; nothing was sent")
	}
	return text, nil
}
