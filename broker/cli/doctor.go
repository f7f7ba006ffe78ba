package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"meshbox/broker/doctor"
	"meshbox/broker/peer"
	"meshbox/broker/service"
)

type doctorFlags struct {
	dataFlags
	listen string
	url    string
	config string
}

func (a *app) doctorCommand() *cobra.Command {
	f := &doctorFlags{}
	c := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong, and say what to do",
		Long: `Look for what is wrong: with the data file, the server, the address that people use,
this machine's clock and limits, your keys, and what the clients of agents start.
It changes nothing. The exit code is 1 if something fails; warnings are no failure.

Without --db, and without a meshbox.db in this folder, it looks at the data file of
the service that is installed.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.doctor(c.Context(), f, c.Flags().Changed("db"), c.Flags().Changed("listen"))
		},
	}
	f.addDB(c)
	f.addJSON(c)
	c.Flags().StringVar(&f.listen, "listen", defaultListen, "where the server listens, as it was told")
	c.Flags().StringVar(&f.url, "url", "", "the address that people use (default: what the server said last)")
	c.Flags().StringVar(&f.config, "config", "", "folder of your identities (default: meshbox in your config folder)")
	return c
}

func (a *app) doctor(ctx context.Context, f *doctorFlags, dbNamed, listenNamed bool) error {
	config, err := f.examination(dbNamed, listenNamed)
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, config)
	if f.json {
		err = printJSON(a.out, findings)
	} else {
		a.printFindings(findings)
	}
	failed := 0
	for _, finding := range findings {
		if finding.State == doctor.Fail {
			failed++
		}
	}
	switch {
	case err != nil || failed == 0:
		return err
	case failed == 1:
		return fmt.Errorf("one thing is wrong")
	}
	return fmt.Errorf("%d things are wrong", failed)
}

// examination says what to look at.
func (f *doctorFlags) examination(dbNamed, listenNamed bool) (c doctor.Config, err error) {
	if f.db == "" {
		return c, errNoDB
	}
	if f.url != "" {
		if f.url, err = checkURL("--url", f.url); err != nil {
			return c, err
		}
	}
	c = doctor.Config{Named: dbNamed, Listen: f.listen, URL: f.url, Version: version()}
	if c.DB, err = filepath.Abs(f.db); err != nil {
		return c, err
	}
	if _, missing := os.Stat(c.DB); missing != nil && !dbNamed {
		if found, start := installedService(); found != nil && found.Flag("db") != "" {
			c.DB, c.Named, c.Start = found.Flag("db"), true, start
			if !listenNamed {
				c.Listen = or(found.Flag("listen"), c.Listen)
			}
		}
	}
	if c.Start == "" {
		c.Start = self() + " --db " + shellWord(c.DB) + "; to have it always: " + self() + " service install"
	}
	c.Keys = f.config
	if f.config == "" {
		c.Keys, _ = peer.DefaultFolder() // "": who has no home, as a container, has no keys there
	} else if c.Keys, err = filepath.Abs(f.config); err != nil {
		return c, err
	}
	c.Machine = doctor.ThisMachine()
	c.Binary, _ = os.Executable() // "": then no client's entry is compared with it
	return c, nil
}

// installedService is that of the user, else that of the machine, else nil; and what
// starts it.
func installedService() (found *service.Installed, start string) {
	for _, system := range []bool{false, true} {
		m, err := service.NewManager(system, runtime.GOOS)
		if err != nil {
			continue
		}
		if found, err := m.Find(); err == nil && found != nil {
			return found, m.StartLine()
		}
	}
	return nil, ""
}

// printFindings prints a line for each finding, and its remedy below it.
func (a *app) printFindings(findings []doctor.Finding) {
	s := styleOf(a.out)
	for _, f := range findings {
		state := fmt.Sprintf("%-4s", f.State)
		if f.State != doctor.OK {
			state = s.bold(state)
		}
		fmt.Fprintf(a.out, "%s  %-15s  %s\n", state, f.Check, printable(f.What))
		if f.Remedy != "" {
			fmt.Fprintf(a.out, "      %-15s  → %s\n", "", printable(f.Remedy))
		}
	}
}
