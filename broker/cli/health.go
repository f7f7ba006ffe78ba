package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/doctor"
)

const healthTime = 3 * time.Second // what the server may take to answer

func (a *app) healthCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "health", Short: "Ask the server of this machine whether it is ready",
		Long: `Ask the server of this machine whether it is ready, and exit with 1 if it is not:
for the health checks of containers and monitors. "meshbox doctor" says more.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.health(c.Context(), listen) },
	}
	c.Flags().StringVar(&listen, "listen", defaultListen, "where the server listens, as it was told")
	return c
}

func (a *app) health(ctx context.Context, listen string) error {
	address, err := reachable(listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	answer, err := doctor.Probe(ctx, address, "/health/ready")
	if err != nil {
		return fmt.Errorf("no meshbox answers at %s: %w; is it running, and does --listen say where?", address, err)
	}
	if answer.Status != "ready" {
		return fmt.Errorf("the meshbox at %s is not ready: %s", address, printable(answer.Status))
	}
	fmt.Fprintln(a.out, "ready")
	return nil
}

// reachable is how a program on this machine reaches what a server listens on.
func reachable(listen string) (string, error) {
	address, err := doctor.Reachable(listen)
	if err != nil {
		return "", usagef("--listen %w", err)
	}
	return address, nil
}
