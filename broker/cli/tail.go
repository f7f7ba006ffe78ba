package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

type tailFlags struct {
	clientFlags
	history int
}

func (a *app) tailCommand() *cobra.Command {
	f := &tailFlags{}
	c := &cobra.Command{
		Use: "tail [TOPIC]", Short: "Read along: a topic's latest messages, then what comes in",
		Long: `Read along in a topic (general if none is named), and show direct, group and
broadcast messages to you as well. Reconnects by itself and shows what it missed
of the topic. Ends with Ctrl-C.`,
		Args: arguments(0, 1, "[TOPIC]"),
		RunE: func(c *cobra.Command, args []string) error {
			topic := wire.General
			if len(args) == 1 {
				topic = args[0]
			}
			return a.tail(c.Context(), f, topic)
		},
	}
	f.add(c)
	c.Flags().IntVar(&f.history, "history", 20, "how many earlier messages to show, 0 to 200")
	return c
}

// line is what "tail --json" prints for each message.
type line struct {
	ID        string `json:"id"`
	Topic     string `json:"topic,omitempty"` // "" for a message to you, your group or everyone
	From      string `json:"from"`
	FromKey   string `json:"from_key"`
	FromType  string `json:"from_type,omitempty"`
	CreatedAt string `json:"created_at"`
	Text      string `json:"text"`
	Encrypted bool   `json:"encrypted,omitempty"` // for another key: there is no text
	ReplyTo   string `json:"reply_to,omitempty"`
}

// tailing is one run of the command, over all its connections.
type tailing struct {
	a     *app
	flags *tailFlags
	topic string
	last  string // id of the newest topic message shown
	shown map[string]bool
}

func (a *app) tail(ctx context.Context, f *tailFlags, topic string) error {
	if f.history < 0 || f.history > wire.MaxHistory {
		return usagef("--history must be 0 to %d", wire.MaxHistory)
	}
	if len(topic) > 0 && topic[0] == '#' {
		topic = topic[1:]
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	t := &tailing{a: a, flags: f, topic: topic, shown: map[string]bool{}}
	first := true
	err = peer.Stay(ctx, o, func(ctx context.Context, c *peer.Conn) error {
		first = false
		return t.follow(ctx, c)
	}, func(err error, wait time.Duration) {
		fmt.Fprintf(a.err, "meshbox: %v; trying again in %s\n", err, wait.Round(100*time.Millisecond))
	})
	if ctx.Err() != nil || (err == nil && !first) {
		return nil
	}
	return err
}

// follow shows what one connection brings until it ends.
func (t *tailing) follow(ctx context.Context, c *peer.Conn) error {
	if err := t.catchUp(ctx, c); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		case push := <-c.Pushes():
			if push.Subtype != "system" && (push.Topic == "" || push.Topic == t.topic) {
				if err := t.show(pushLine(c, push)); err != nil {
					return err
				}
			}
			if err := c.Ack(ctx, push); err != nil {
				return err
			}
		}
	}
}

// catchUp shows earlier messages: as many as asked for at the start, those
// missed after a reconnect.
func (t *tailing) catchUp(ctx context.Context, c *peer.Conn) error {
	limit := t.flags.history
	if t.last != "" {
		limit = wire.MaxHistory
	}
	request := &wire.TopicHistory{Topic: t.topic, Limit: max(limit, 1)}
	answer, err := c.Request(ctx, request)
	if err != nil {
		return err // also the way to learn that there is no such topic
	}
	history, ok := answer.(*wire.TopicHistoryResponse)
	if !ok {
		return errors.New("the broker answered topic_history with something else; update meshbox on both sides")
	}
	messages := history.Messages
	if missed := slices.IndexFunc(messages, func(m wire.HistoryMessage) bool { return m.ID == t.last }); missed >= 0 {
		messages = messages[:missed]
	} else if limit < len(messages) {
		messages = messages[:limit]
	}
	for _, m := range slices.Backward(messages) {
		if err := t.show(historyLine(t.topic, m)); err != nil {
			return err
		}
	}
	return nil
}

func historyLine(topic string, m wire.HistoryMessage) line {
	text, err := peer.Decode(m.Ciphertext, m.BodyVersion)
	return line{ID: m.ID, Topic: topic, From: m.SenderName, FromKey: m.SenderPubkey, FromType: m.SenderPeerType, CreatedAt: m.CreatedAt, Text: text, Encrypted: err != nil, ReplyTo: m.ReplyToID}
}

func pushLine(c *peer.Conn, p *wire.Push) line {
	text, err := c.Text(p)
	return line{ID: p.MessageID, Topic: p.Topic, From: p.SenderName, FromKey: p.SenderPubkey, FromType: p.SenderPeerType, CreatedAt: p.CreatedAt, Text: text, Encrypted: err != nil, ReplyTo: p.ReplyToID}
}

// show prints a message once.
func (t *tailing) show(l line) error {
	if t.shown[l.ID] {
		return nil
	}
	if len(t.shown) > 10_000 { // far more than can come twice
		clear(t.shown)
	}
	t.shown[l.ID] = true
	if l.Topic != "" {
		t.last = l.ID
	}
	if t.flags.json {
		return printJSON(t.a.out, l)
	}
	s := styleOf(t.a.out)
	clock := "--:--"
	if at, err := time.Parse(time.RFC3339, l.CreatedAt); err == nil {
		clock = at.Local().Format("15:04")
	}
	text := printableLines(l.Text)
	if l.Encrypted {
		text = s.dim("(encrypted for another key)")
	}
	where := ""
	if l.Topic == "" {
		where = s.dim(" (to you)")
	}
	_, err := fmt.Fprintf(t.a.out, "%s %s%s: %s\n", s.dim(clock), s.bold(printable(l.From)), where, text)
	return err
}
