package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func (a *app) sendCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "send TARGET [TEXT...]", Short: "Send a message to a topic, a group, everyone or a peer",
		Long: `Send a message. TARGET is '#topic', '@group', '*' for everyone, or a peer by its
name or key; to a peer, and to an encrypted topic, it is encrypted. Without TEXT, or
with "-", the text comes from standard input. Put -- before a TEXT that begins with -.`,
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
	if name == "" {
		return usagef("the recipient is empty; name a '#topic', a '@group', '*' or a peer")
	}
	text, err := a.messageText(ctx, words)
	if err != nil {
		return err
	}
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	target, err := c.Resolve(ctx, name)
	if err != nil {
		return err
	}
	ack, err := c.SendText(ctx, target, text)
	if closed, ok := errors.AsType[*peer.Rejected](err); ok && closed.Close == wire.CloseTooBig {
		return errors.New("not sent: payload_too_large: the message is larger than this broker takes; send less, or in parts")
	}
	if _, refused := errors.AsType[*wire.Error](err); refused || errors.Is(err, peer.ErrSealed) {
		return fmt.Errorf("not sent: %w", err)
	}
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

// maxText bounds what is read from standard input, in bytes: no broker can be
// told to take more (--max-message-bytes). It is not cut there but refused.
const maxText = maxMessage

// messageText is the words, or standard input.
func (a *app) messageText(ctx context.Context, words []string) (string, error) {
	text := strings.Join(words, " ")
	if len(words) == 0 || text == "-" {
		if isTerminal(a.in) {
			fmt.Fprintln(a.err, "Type the message, then Ctrl-D.")
		}
		input, err := a.readInput(ctx)
		if err != nil {
			return "", err
		}
		text = strings.TrimRight(string(input), "\r\n")
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("the message is empty; nothing was sent")
	case len(text) > maxText:
		return "", fmt.Errorf("the message has more than %d bytes, which no broker takes; nothing was sent", maxText)
	case !utf8.ValidString(text):
		return "", errors.New("the message is not UTF-8 text; nothing was sent")
	}
	return text, nil
}

// readInput reads standard input, unless ctx ends before: a terminal cannot be
// told to stop reading, so the reader stays behind in that case.
func (a *app) readInput(ctx context.Context) ([]byte, error) {
	type input struct {
		text []byte
		err  error
	}
	read := make(chan input, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(a.in, maxText+1))
		read <- input{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-read:
		if got.err != nil {
			return nil, fmt.Errorf("cannot read standard input: %w", got.err)
		}
		return got.text, nil
	}
}
