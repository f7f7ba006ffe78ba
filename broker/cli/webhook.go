package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// Webhooks of the member, for services that post to an address.

func (a *app) webhookCommand() *cobra.Command {
	c := &cobra.Command{Use: "webhook", Short: "Make, list and delete addresses that services post to", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.webhookCreateCommand(), a.webhookListCommand(), a.webhookDeleteCommand())
	return c
}

func (a *app) webhookCreateCommand() *cobra.Command {
	f := &clientFlags{}
	var topic string
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a webhook, and print its address: it is shown this once",
		Long: `Make a webhook, and print its address: it is shown this once. What a service posts
there is said in a topic as "NAME (webhook)": a text, JSON with a text, or what
GitHub, Alertmanager or Grafana send.`,
		Args: arguments(1, 1, "NAME"),
		RunE: func(c *cobra.Command, args []string) error { return a.webhookCreate(c.Context(), f, args[0], topic) },
	}
	f.add(c)
	c.Flags().StringVar(&topic, "topic", wire.General, "the topic it speaks in, one you are in")
	return c
}

func (a *app) webhookCreate(ctx context.Context, f *clientFlags, name, topic string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	made, err := peer.Ask[*wire.WebhookAck](ctx, c, &wire.CreateWebhook{Name: name, Topic: topic})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, made)
	}
	fmt.Fprintf(a.err, "meshbox: whoever has this address can post to #%s; it is not shown again\n", made.Topic)
	_, err = fmt.Fprintln(a.out, made.URL)
	return err
}

func (a *app) webhookListCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List your webhooks, or as owner or admin those of all members", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.webhookList(c.Context(), f) },
	}
	f.add(c)
	return c
}

func (a *app) webhookList(ctx context.Context, f *clientFlags) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := peer.Ask[*wire.WebhookList](ctx, c, &wire.ListWebhooks{})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, list.Webhooks)
	}
	var rows [][]string
	for _, w := range list.Webhooks {
		state := "works"
		if !w.Active {
			state = "not in the topic"
		}
		rows = append(rows, []string{w.Name, "#" + w.Topic, w.MadeBy, state, since(w.CreatedAt)})
	}
	return table(a.out, []string{"NAME", "TOPIC", "MEMBER", "STATE", "SINCE"}, rows)
}

func (a *app) webhookDeleteCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "delete NAME", Short: "End a webhook at once", Args: arguments(1, 1, "NAME"),
		RunE: func(c *cobra.Command, args []string) error { return a.webhookDelete(c.Context(), f, args[0]) },
	}
	f.add(c)
	return c
}

func (a *app) webhookDelete(ctx context.Context, f *clientFlags, name string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	gone, err := peer.Ask[*wire.WebhookAck](ctx, c, &wire.DeleteWebhook{Name: name})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, gone)
	}
	fmt.Fprintln(a.out, "The webhook is deleted: what is posted to its address is refused.")
	return nil
}
