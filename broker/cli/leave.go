package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) leaveCommand() *cobra.Command {
	f := &setupFlags{}
	var asJSON bool
	c := &cobra.Command{
		Use: "leave", Short: "Undo what join changed in the clients of agents",
		Long: `Undo what "meshbox join" changed in the settings of agents' clients: they no longer
start meshbox. The membership and its key stay: joining again is the same member.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.leave(c.Context(), f, asJSON) },
	}
	f.add(c, "undo it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) leave(ctx context.Context, f *setupFlags, asJSON bool) error {
	s, err := a.newSetup(f, asJSON)
	if err != nil {
		return err
	}
	err = s.leave(ctx)
	if asJSON && len(s.done) > 0 {
		err = errors.Join(err, printJSON(a.out, s.done))
	}
	if err == nil && len(s.done) == 0 && !asJSON {
		fmt.Fprintln(a.err, "No client starts meshbox; there is nothing to undo.")
	}
	return err
}
