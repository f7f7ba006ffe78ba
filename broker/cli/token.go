package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// API keys of the member, for scripts that use the HTTP endpoints below /api/v1.

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list and revoke API keys for scripts", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return c
}

type tokenFlags struct {
	clientFlags
	label  string
	caps   []string
	topics []string
	ttl    time.Duration
	mcp    bool
}

func (a *app) tokenCreateCommand() *cobra.Command {
	f := &tokenFlags{}
	c := &cobra.Command{
		Use: "create", Short: "Make an API key that acts as you, and print it: it is shown this once",
		Long: `Make an API key that acts as you, and print it: it is shown this once. Scripts send
it with each request, as "Authorization: Bearer cm_…".

  send         post to topics
  read         read topics, members, peers and notifications
  state_write  change the shared state, once there is one
  admin        all of it; for the owner and the admins of the mesh`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.tokenCreate(c.Context(), f) },
	}
	f.add(c)
	c.Flags().StringVar(&f.label, "label", "", "what you call it")
	c.Flags().StringArrayVar(&f.caps, "cap", nil, "what it may: send, read, state_write or admin; may be repeated (default: send and read)")
	c.Flags().StringArrayVar(&f.topics, "topic", nil, "confine it to this topic; may be repeated (default: all you may see)")
	c.Flags().BoolVar(&f.mcp, "mcp", false, "print the address of /mcp with the key in it, for the client of an agent without meshbox")
	c.Flags().DurationVar(&f.ttl, "ttl", 0, "how long it works, such as 24h; 0 is until it is revoked")
	return c
}

func (a *app) tokenCreate(ctx context.Context, f *tokenFlags) error {
	m := &wire.APIKeyCreate{Label: f.label, Capabilities: f.caps, TopicScopes: f.topics}
	if len(f.caps) == 0 {
		m.Capabilities = []string{"send", "read"}
	}
	switch {
	case f.ttl < 0 || f.ttl > 0 && f.ttl < time.Second:
		return usagef("--ttl must be at least 1s, or 0; a week is 168h")
	case f.ttl > 0:
		expires := wire.Time(time.Now().Add(f.ttl))
		m.ExpiresAt = &expires
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	base, err := peer.HTTPBase(o.Identity.BrokerURL)
	if err != nil {
		return err
	}
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	key, err := peer.Ask[*wire.APIKeyCreated](ctx, c, m)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, key)
	}
	fmt.Fprintf(a.err, "meshbox: whoever has this key can %s as you; it is not shown again\n", strings.Join(key.Capabilities, ", "))
	secret := key.Secret
	if f.mcp {
		secret = base + "/mcp/" + secret
	}
	_, err = fmt.Fprintln(a.out, secret)
	return err
}

func (a *app) tokenListCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "list", Short: "List your API keys, or as owner or admin those of all members", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.tokenList(c.Context(), f) },
	}
	f.add(c)
	return c
}

func (a *app) tokenList(ctx context.Context, f *clientFlags) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := peer.Ask[*wire.APIKeyListResponse](ctx, c, &wire.APIKeyList{})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, list.Keys)
	}
	var rows [][]string
	for _, k := range list.Keys {
		topics := "all"
		if k.TopicScopes != nil {
			topics = strings.Join(k.TopicScopes, " ")
		}
		rows = append(rows, []string{k.Prefix, k.Label, k.IssuedBy, keyState(k, time.Now()), strings.Join(k.Capabilities, " "), topics, sinceOr(k.ExpiresAt), sinceOr(k.LastUsedAt)})
	}
	return table(a.out, []string{"KEY", "LABEL", "MEMBER", "STATE", "MAY", "TOPICS", "UNTIL", "LAST USED"}, rows)
}

// keyState says whether a key works.
func keyState(k wire.APIKey, now time.Time) string {
	if k.RevokedAt != nil {
		return "revoked"
	}
	if k.ExpiresAt != nil {
		if at, err := time.Parse(time.RFC3339, *k.ExpiresAt); err == nil && !at.After(now) {
			return "expired"
		}
	}
	return "works"
}

// sinceOr is since for a time that may be missing.
func sinceOr(text *string) string {
	if text == nil {
		return "-"
	}
	return since(*text)
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "revoke KEY", Short: "End an API key at once, named as list does, or by its id", Args: arguments(1, 1, "KEY"),
		RunE: func(c *cobra.Command, args []string) error { return a.tokenRevoke(c.Context(), f, args[0]) },
	}
	f.add(c)
	return c
}

func (a *app) tokenRevoke(ctx context.Context, f *clientFlags, ref string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	outcome, err := peer.Ask[*wire.APIKeyRevokeResponse](ctx, c, &wire.APIKeyRevoke{ID: ref})
	switch {
	case err != nil:
		return err
	case outcome.Status == wire.KeyNotFound:
		return fmt.Errorf("you have no API key called %q; see: meshbox token list", ref)
	case outcome.Status != wire.KeyRevoked:
		return fmt.Errorf("%d API keys go by %q; name one by its id, see: meshbox token list --json", outcome.Matches, ref)
	case f.json:
		return printJSON(a.out, outcome)
	}
	fmt.Fprintln(a.out, "The key is revoked: it works no more, and its streams have ended.")
	return nil
}
