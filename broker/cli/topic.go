package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func (a *app) topicCommand() *cobra.Command {
	c := &cobra.Command{Use: "topic", Short: "Make topics, list, join and leave them, add people", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.topicCreateCommand(), a.topicListCommand(), a.topicJoinCommand(), a.topicLeaveCommand(), a.topicInviteCommand())
	return c
}

type topicFlags struct {
	clientFlags
	encrypted   bool
	private     bool
	description string
}

func (a *app) topicCreateCommand() *cobra.Command {
	f := &topicFlags{}
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a topic, and lead it",
		Long: `Make a topic, and lead it. NAME is 1 to 50 of a-z, 0-9, _ and -.

In an encrypted topic neither the broker nor who reads its data file can read what
is written. Its members can, with meshbox; the web chat can not. That can not be
changed later.`,
		Example: "  meshbox topic create deploys --description \"what went out\"\n  meshbox topic create plans --encrypted --private",
		Args:    arguments(1, 1, "NAME"),
		RunE:    func(c *cobra.Command, args []string) error { return a.topicCreate(c.Context(), f, topicName(args[0])) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.encrypted, "encrypted", false, "encrypt what is written in it, for its members alone")
	c.Flags().BoolVar(&f.private, "private", false, "only who is added sees it (default: everyone in the mesh may join)")
	c.Flags().StringVar(&f.description, "description", "", "what it is for")
	return c
}

// topicName is a topic as it is named on the wire: # is for people.
func topicName(typed string) string { return strings.TrimPrefix(typed, "#") }

func (a *app) topicCreate(ctx context.Context, f *topicFlags, name string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	m := wire.TopicCreate{Name: name, Description: f.description, Encrypted: f.encrypted}
	if f.private {
		m.Visibility = wire.VisibilityPrivate
	}
	made, err := c.CreateTopic(ctx, m)
	if err != nil {
		return err
	}
	if !made.Created {
		return fmt.Errorf("there is a topic #%s already, and it was not changed; choose another name", name)
	}
	if f.json {
		return printJSON(a.out, made.Topic)
	}
	kind := made.Topic.Visibility
	if made.Topic.Keyed {
		kind += ", encrypted"
	}
	fmt.Fprintf(a.out, "Made #%s (%s). You lead it.\n", name, kind)
	return nil
}

func (a *app) topicListCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List the topics you may see", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.topicList(c.Context(), f) },
	}
	f.add(c)
	return c
}

func (a *app) topicList(ctx context.Context, f *clientFlags) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := peer.Ask[*wire.TopicListResponse](ctx, c, &wire.TopicList{})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, list.Topics)
	}
	var rows [][]string
	for _, t := range list.Topics {
		kind, description := t.Visibility, ""
		if t.Keyed {
			kind += ", encrypted"
		}
		if t.Description != nil {
			description = *t.Description
		}
		rows = append(rows, []string{"#" + t.Name, kind, t.Role, strconv.Itoa(t.MemberCount), strconv.Itoa(t.Unread), description})
	}
	return table(a.out, []string{"TOPIC", "KIND", "YOU", "MEMBERS", "UNREAD", "ABOUT"}, rows)
}

func (a *app) topicJoinCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "join TOPIC", Short: "Join a topic, to write there and to get what is new", Args: arguments(1, 1, "TOPIC"),
		RunE: func(c *cobra.Command, args []string) error { return a.topicJoin(c.Context(), f, topicName(args[0])) },
	}
	f.add(c)
	return c
}

func (a *app) topicJoin(ctx context.Context, f *clientFlags, name string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Request(ctx, &wire.TopicJoin{Topic: name}); err != nil {
		return err
	}
	note, err := keyNote(c.FetchKey(ctx, name))
	if err != nil {
		return fmt.Errorf("you are in #%s, but its key could not be asked for: %w", name, err)
	}
	return a.topicDone(f, name, fmt.Sprintf("You are in #%s.%s", name, note))
}

// keyNote says what it means that there is no key; other errors stay.
func keyNote(err error) (note string, failed error) {
	if errors.Is(err, peer.ErrSealed) {
		return " But " + err.Error() + ".", nil
	}
	return "", err
}

// topicDone says what is so now.
func (a *app) topicDone(f *clientFlags, name, sentence string) error {
	if f.json {
		return printJSON(a.out, map[string]string{"name": name})
	}
	_, err := fmt.Fprintln(a.out, printable(sentence))
	return err
}

func (a *app) topicLeaveCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "leave TOPIC", Short: "Leave a topic", Args: arguments(1, 1, "TOPIC"),
		RunE: func(c *cobra.Command, args []string) error { return a.topicLeave(c.Context(), f, topicName(args[0])) },
	}
	f.add(c)
	return c
}

func (a *app) topicLeave(ctx context.Context, f *clientFlags, name string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Request(ctx, &wire.TopicLeave{Topic: name}); err != nil {
		return err
	}
	return a.topicDone(f, name, fmt.Sprintf("You are no longer in #%s.", name))
}

func (a *app) topicInviteCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "invite TOPIC MEMBER", Short: "Add a member to a topic you lead",
		Long: `Add a member of the mesh to a topic you lead. MEMBER is a name, a key, or the first
8 digits or more of one. In an encrypted topic it gets the key at once.`,
		Args: arguments(2, 2, "TOPIC MEMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.topicInvite(c.Context(), f, topicName(args[0]), args[1])
		},
	}
	f.add(c)
	return c
}

func (a *app) topicInvite(ctx context.Context, f *clientFlags, name, who string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	member, err := c.FindMember(ctx, who)
	if err != nil {
		return err
	}
	if _, err := c.Request(ctx, &wire.TopicInvite{Topic: name, Member: member.MemberID}); err != nil {
		return err
	}
	_, err = c.SealPending(ctx, name)
	note, err := keyNote(err)
	if err != nil {
		return fmt.Errorf("%s is in #%s, but could not be given its key: %w", member.DisplayName, name, err)
	}
	return a.topicDone(f, name, fmt.Sprintf("%s is in #%s.%s", member.DisplayName, name, note))
}
