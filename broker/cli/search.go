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

type searchFlags struct {
	clientFlags
	topic string
	limit int
}

func (a *app) searchCommand() *cobra.Command {
	f := &searchFlags{}
	c := &cobra.Command{
		Use: "search WORD...", Short: "Find messages of topics by their words",
		Long: `Find messages of topics by their words, the newest last. All words must be there,
each as a whole or, from three letters on, as the beginning of one; words between
double quotes must stand side by side. Case, accents and punctuation are no matter.
Encrypted messages are not found.`,
		Args: arguments(1, -1, "WORD..."),
		RunE: func(c *cobra.Command, args []string) error { return a.search(c.Context(), f, strings.Join(args, " ")) },
	}
	f.add(c)
	c.Flags().StringVar(&f.topic, "topic", "", "only in this topic (default: in all that you may see)")
	c.Flags().IntVar(&f.limit, "limit", 20, "how many to show at most, 1 to 200: the newest")
	return c
}

func (a *app) search(ctx context.Context, f *searchFlags, query string) error {
	if f.limit < 1 || f.limit > wire.MaxHistory {
		return usagef("--limit must be 1 to %d", wire.MaxHistory)
	}
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	found, err := peer.Ask[*wire.TopicSearchResponse](ctx, c, &wire.TopicSearch{Query: query, Topic: strings.TrimPrefix(f.topic, "#"), Limit: f.limit})
	if err != nil {
		return err
	}
	for _, hit := range slices.Backward(found.Messages) {
		if err := a.printHit(historyLine(c, hit.Topic, hit.HistoryMessage), f.json); err != nil {
			return err
		}
	}
	switch {
	case len(found.Messages) == 0:
		return errors.New("nothing was found; try fewer words, or the beginning of one")
	case found.More:
		fmt.Fprintf(a.err, "meshbox: there are more; --limit shows up to %d\n", wire.MaxHistory)
	}
	return nil
}

func (a *app) printHit(l line, asJSON bool) error {
	if asJSON {
		return printJSON(a.out, l)
	}
	s := styleOf(a.out)
	at := "-"
	if t, err := time.Parse(time.RFC3339, l.CreatedAt); err == nil {
		at = moment(t)
	}
	_, err := fmt.Fprintf(a.out, "%s %s %s: %s\n", s.dim(at), s.dim("#"+printable(l.Topic)), s.bold(printable(l.From)), printableLines(l.Text))
	return err
}
