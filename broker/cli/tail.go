package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	a      *app
	flags  *tailFlags
	topic  string
	caught bool   // up with the topic once
	last   string // id of the newest topic message seen
	shown  map[string]bool
}

func (a *app) tail(ctx context.Context, f *tailFlags, topic string) error {
	if f.history < 0 || f.history > wire.MaxHistory {
		return usagef("--history must be 0 to %d", wire.MaxHistory)
	}
	if topic = strings.TrimPrefix(topic, "#"); topic == "" {
		return usagef("the topic is empty; name one, such as general")
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	o.Client.Capabilities = append(o.Client.Capabilities, wire.CapSiblings) // what "send" says meanwhile
	t := &tailing{a: a, flags: f, topic: topic, shown: map[string]bool{}}
	return peer.Stay(ctx, o, t.follow, t.paused)
}

// paused says why nothing comes in for now.
func (t *tailing) paused(err error, wait time.Duration) {
	why := printable(err.Error())
	fmt.Fprintf(t.a.err, "meshbox: %s; trying again in %s\n", why, wait.Round(100*time.Millisecond))
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
		case push := <-c.Pushes():
			if err := t.receive(ctx, c, push); err != nil {
				return err
			}
		case <-c.Done():
			return t.rest(ctx, c)
		}
	}
}

// rest shows what came in before a connection ended.
func (t *tailing) rest(ctx context.Context, c *peer.Conn) error {
	for {
		select {
		case push := <-c.Pushes():
			if err := t.receive(ctx, c, push); err != nil {
				return err
			}
		default:
			return c.Err()
		}
	}
}

func (t *tailing) receive(ctx context.Context, c *peer.Conn, push *wire.Push) error {
	if push.Subtype != "system" && (push.Topic == "" || push.Topic == t.topic) {
		if err := t.show(pushLine(c, push)); err != nil {
			return err
		}
	}
	// An ack that cannot be written is no error of its own: the connection is
	// ending, and follow learns why.
	_ = c.Ack(ctx, push)
	return nil
}

// catchUp shows earlier messages: as many as asked for at the start, those
// missed after a reconnect.
func (t *tailing) catchUp(ctx context.Context, c *peer.Conn) error {
	messages, err := t.history(ctx, c)
	if err != nil {
		return err // also the way to learn that there is no such topic
	}
	switch seen := slices.IndexFunc(messages, func(m wire.HistoryMessage) bool { return m.ID == t.last }); {
	case seen >= 0:
		messages = messages[:seen]
	case !t.caught && len(messages) > 0:
		t.last = messages[0].ID // also when it is not shown
		asked := min(t.flags.history, len(messages))
		for _, m := range messages[asked:] {
			t.shown[m.ID] = true // the broker also brings what this member has not got yet
		}
		messages = messages[:asked]
	case len(messages) == wire.MaxHistory:
		fmt.Fprintf(t.a.err, "meshbox: more than %d messages were missed; here are the latest\n", wire.MaxHistory)
	}
	t.caught = true
	for _, m := range slices.Backward(messages) {
		if err := t.show(historyLine(t.topic, m)); err != nil {
			return err
		}
	}
	return nil
}

// history asks for the topic's latest messages, newest first.
func (t *tailing) history(ctx context.Context, c *peer.Conn) ([]wire.HistoryMessage, error) {
	history, err := peer.Ask[*wire.TopicHistoryResponse](ctx, c, &wire.TopicHistory{Topic: t.topic, Limit: wire.MaxHistory})
	if err != nil {
		if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code == wire.Busy {
			c.Close() // worth another try, which Stay makes of a connection that ended
		}
		return nil, err
	}
	return history.Messages, nil
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
