package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// agreeFlags say whether to ask before something is done.
type agreeFlags struct {
	yes    bool
	dryRun bool
}

func (f *agreeFlags) add(c *cobra.Command, does string) {
	c.Flags().BoolVar(&f.yes, "yes", false, does+" without asking")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be changed, and change nothing")
}

// agree asks a person whether to do what was shown on out. Nobody else is asked, and
// nothing is done then.
func (a *app) agree(ctx context.Context, out io.Writer, f *agreeFlags) (bool, error) {
	switch {
	case f.dryRun:
		return false, nil
	case f.yes:
		return true, nil
	case !isTerminal(a.in):
		fmt.Fprintln(out, "Give --yes to have it done.")
		return false, nil
	}
	fmt.Fprint(out, "Do it? [Y/n] ")
	answer := make(chan string, 1)
	go func() { // a terminal cannot be told to stop reading
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil {
			line = "n"
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case said := <-answer:
		return said == "" || said == "y" || said == "yes", nil
	}
}
