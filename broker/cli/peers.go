package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) peersCommand() *cobra.Command {
	f := &clientFlags{}
	c := &cobra.Command{
		Use: "peers", Short: "List who is connected", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.peers(c.Context(), f) },
	}
	f.add(c)
	return c
}

func (a *app) peers(ctx context.Context, f *clientFlags) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	others, err := c.Others(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, others)
	}
	var rows [][]string
	for _, p := range others {
		summary := ""
		if p.Summary != nil {
			summary = *p.Summary
		}
		rows = append(rows, []string{p.DisplayName, p.PeerType, p.Status, since(p.ConnectedAt), shortKey(p.Pubkey), summary})
	}
	return table(a.out, []string{"NAME", "TYPE", "STATUS", "SINCE", "KEY", "SUMMARY"}, rows)
}

// since is a wire time for a person, in local time.
func since(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "-"
	}
	return moment(t)
}
