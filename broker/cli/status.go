package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

type statusFlags struct {
	clientFlags
	follow bool
}

func (a *app) statusCommand() *cobra.Command {
	f := &statusFlags{}
	c := &cobra.Command{
		Use: "status MESSAGE", Short: "Say what became of a message, for each recipient",
		Long: `Say what became of a message you sent, for each recipient, or of your own copy of
one you got. MESSAGE is the id that send printed, or its first 8 or more
characters.

  stored            on the broker's disk; the recipient is away or busy
  pushed            handed to a connection of the recipient, not acknowledged yet
  acked             the recipient has it
  expired           not delivered in time; of a topic it is in the history
  dropped_by_grant  the recipient does not take this from you`,
		Args: arguments(1, 1, "MESSAGE"),
		RunE: func(c *cobra.Command, args []string) error { return a.status(c.Context(), f, args[0]) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.follow, "follow", false, "go on until every copy is settled")
	return c
}

func (a *app) status(ctx context.Context, f *statusFlags, id string) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.follow {
		return c.Follow(ctx, id, func(s *wire.DeliveryStatus) error {
			if f.json {
				return printJSON(a.out, s)
			}
			for _, r := range s.Recipients {
				fmt.Fprintf(a.out, "%s %s: %s\n", clock(lastOf(r, s)), printable(r.Name), stateOf(r))
			}
			return nil
		})
	}
	result, err := peer.Ask[*wire.MessageStatusResult](ctx, c, &wire.MessageStatus{MessageID: id})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(a.out, result)
	}
	fmt.Fprintf(a.out, "%s to %s, stored %s\n", result.MessageID, printable(result.TargetSpec), clock(&result.CreatedAt))
	var rows [][]string
	for _, r := range result.Recipients {
		rows = append(rows, []string{r.Name, shortKey(r.Pubkey), stateOf(r), clock(r.PushedAt), clock(r.SettledAt)})
	}
	return table(a.out, []string{"RECIPIENT", "KEY", "STATE", "PUSHED", "SETTLED"}, rows)
}

// stateOf is what became of a copy, for a person.
func stateOf(c wire.Copy) string {
	if c.HandedBy != "" {
		return c.State + ", " + c.HandedBy
	}
	return c.State
}

// lastOf is when the latest of what is known of a copy happened.
func lastOf(r wire.Copy, of *wire.DeliveryStatus) *string {
	return cmp.Or(r.SettledAt, r.PushedAt, &of.CreatedAt)
}

// clock is a wire time for a person, to the second in local time.
func clock(text *string) string {
	if text == nil {
		return "-"
	}
	t, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
