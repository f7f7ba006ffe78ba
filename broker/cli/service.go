package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshbox/broker/clients"
	"meshbox/broker/doctor"
	"meshbox/broker/service"
	"meshbox/broker/store"
)

// serviceFlags say whose service is meant.
type serviceFlags struct {
	agreeFlags
	user   bool
	system bool
	json   bool
}

func (f *serviceFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.user, "user", false, "the service of this user (default, but for root)")
	c.Flags().BoolVar(&f.system, "system", false, "the service of the machine (default for root)")
}

func (f *serviceFlags) manager() (*service.Manager, error) {
	if f.user && f.system {
		return nil, usagef("--user and --system do not go together")
	}
	return service.NewManager(f.system || !f.user && os.Geteuid() == 0, runtime.GOOS)
}

func (a *app) serviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "Run meshbox as a service of systemd", Args: noArguments, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.serviceInstallCommand(), a.serviceUninstallCommand(), a.serviceStatusCommand())
	return c
}

func (a *app) serviceInstallCommand() *cobra.Command {
	f := &serviceFlags{}
	c := &cobra.Command{
		Use: "install [flags] [-- SERVE-FLAG...]", DisableFlagsInUseLine: true, Short: "Have systemd run this program, now and after each start of the machine",
		Long: `Write a unit for systemd and start it, once you have seen it and agree. What stands
behind -- are flags of "meshbox serve", as in

  meshbox service install -- --public-url https://mesh.example.org

To change them, or after an update of the program, run it again.`,
		RunE: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 0 && len(args) > 0 {
				return usagef("usage: %s", c.UseLine())
			}
			return a.serviceInstall(c.Context(), f, args)
		},
	}
	f.add(c)
	f.agreeFlags.add(c, "install it")
	return c
}

func (a *app) serviceInstall(ctx context.Context, f *serviceFlags, args []string) error {
	m, err := f.manager()
	if err != nil {
		return err
	}
	if !f.dryRun || runtime.GOOS != "linux" { // the unit can be looked at anywhere it makes sense
		if err := m.Check(ctx); err != nil {
			return err
		}
	}
	plan, serve, err := a.servicePlan(m, args)
	if err != nil {
		return err
	}
	before, err := m.Find()
	if err != nil {
		return err
	}
	if err := a.showInstall(m, before, m.Unit(plan)); err != nil {
		return err
	}
	if agreed, err := a.agreeOrFail(ctx, f); err != nil || !agreed {
		return err
	}
	if err := notServed(ctx, m, serve.db); err != nil {
		return err
	}
	if err := m.Install(ctx, m.Unit(plan), plan.Folder); err != nil {
		return err
	}
	if err := awaitReady(ctx, m, serve.net.address()); err != nil {
		return err
	}
	return a.serviceWelcome(ctx, m, serve.db)
}

// agreeOrFail is agree for what fails when there is nobody to ask.
func (a *app) agreeOrFail(ctx context.Context, f *serviceFlags) (bool, error) {
	if !f.yes && !f.dryRun && !isTerminal(a.in) {
		return false, errors.New("nothing was done, as there is no terminal to ask at; give --yes")
	}
	agreed, err := a.agree(ctx, a.out, &f.agreeFlags)
	if err == nil && !agreed && !f.dryRun {
		fmt.Fprintln(a.out, "Nothing was done.")
	}
	return agreed, err
}

// showInstall prints exactly what would be done.
func (a *app) showInstall(m *service.Manager, before *service.Installed, unit string) error {
	change := clients.Change{After: []byte(unit)}
	if before != nil {
		change.Before = []byte(before.Text)
	}
	if lines := change.Lines(); before != nil && before.Text == unit {
		fmt.Fprintf(a.out, "%s is as it should be.\n", m.Path)
	} else {
		fmt.Fprintf(a.out, "In %s:\n%s", m.Path, indented(strings.Join(lines, "\n")))
	}
	for _, command := range m.StartCommands() {
		fmt.Fprintf(a.out, "  $ %s\n", strings.Join(command, " "))
	}
	return nil
}

// notServed refuses a data file that a server has open which is not the service.
func notServed(ctx context.Context, m *service.Manager, db string) error {
	state, err := m.State(ctx)
	if err != nil || state.Active == "active" {
		return err
	}
	if served, err := store.Served(db); err == nil && served {
		return fmt.Errorf("a meshbox is already serving %s; stop it (Ctrl-C in its terminal), then run this again", db)
	}
	return nil
}

const serviceStart = 30 * time.Second // what a start may take; an update of a large data file goes on behind it

// awaitReady waits until the service answers.
func awaitReady(ctx context.Context, m *service.Manager, listen string) error {
	address, err := reachable(listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serviceStart)
	defer cancel()
	for {
		answer, err := doctor.Probe(ctx, address, "/health/ready")
		if err == nil && answer.Status == "ready" {
			return nil
		}
		state, failed := m.State(ctx)
		if failed == nil && state.Active == "failed" || ctx.Err() != nil {
			return fmt.Errorf("the service is installed, but does not answer at %s; see why with: %s", address, m.Logs())
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// serviceWelcome prints where to go once the service runs.
func (a *app) serviceWelcome(ctx context.Context, m *service.Manager, path string) error {
	db, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	publicURL, err := (&dataFlags{}).url(ctx, db)
	if err != nil {
		return err
	}
	s := styleOf(a.out)
	line := func(format string, args ...any) {
		fmt.Fprintln(a.out, strings.TrimRight("  "+fmt.Sprintf(format, args...), " "))
	}
	fmt.Fprintln(a.out)
	line("%s", s.bold("meshbox is running, and starts with the machine."))
	line("")
	owned, err := a.ownerLinks(ctx, db, publicURL, s, line)
	if err != nil {
		return err
	}
	if owned {
		line("The chat         %s", s.link(publicURL))
	}
	sudo := ""
	if m.System {
		sudo = "sudo "
	}
	line("More invites     %s%s invite --db %s", sudo, self(), shellWord(path))
	line("Data file        %s %s", path, s.dim("(private: it holds the keys)"))
	line("Its log          %s", m.Logs())
	if !m.System && !m.Lingers(ctx) {
		line("")
		line("It stops when you log out. To let it stay:  loginctl enable-linger")
	}
	fmt.Fprintln(a.out)
	return nil
}

func (a *app) serviceUninstallCommand() *cobra.Command {
	f := &serviceFlags{}
	c := &cobra.Command{
		Use: "uninstall", Short: "Stop the service and remove its unit; the data stays", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.serviceUninstall(c.Context(), f) },
	}
	f.add(c)
	f.agreeFlags.add(c, "remove it")
	return c
}

func (a *app) serviceUninstall(ctx context.Context, f *serviceFlags) error {
	m, err := f.manager()
	if err != nil {
		return err
	}
	found, err := m.Find()
	if err != nil {
		return err
	}
	if found == nil {
		fmt.Fprintf(a.err, "There is no %s; there is nothing to remove.\n", m.Path)
		return nil
	}
	if err := m.Check(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "  $ %s\nand %s is removed.\n", strings.Join(m.StopCommand(), " "), m.Path)
	if agreed, err := a.agreeOrFail(ctx, f); err != nil || !agreed {
		return err
	}
	if err := m.Uninstall(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "Done. Your data stays: %s\n", found.Flag("db"))
	return nil
}

func (a *app) serviceStatusCommand() *cobra.Command {
	f := &serviceFlags{}
	c := &cobra.Command{
		Use: "status", Short: "Say whether the service is installed, runs and answers", Args: noArguments,
		Long: `Say whether the service is installed, enabled and active, and whether the server
answers. The exit code is 0 if all of that is so, else 1.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.serviceStatus(c.Context(), f) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// serviceState is what "service status --json" prints.
type serviceState struct {
	Unit    string `json:"unit"`    // path
	Enabled string `json:"enabled"` // in systemd's words
	Active  string `json:"active"`
	Since   string `json:"since"`
	Program string `json:"program"`
	DB      string `json:"db"`
	Listen  string `json:"listen"`
	Health  string `json:"health"` // ready, or what is wrong
}

func (a *app) serviceStatus(ctx context.Context, f *serviceFlags) error {
	m, err := f.manager()
	if err != nil {
		return err
	}
	if err := m.Check(ctx); err != nil {
		return err
	}
	found, err := m.Find()
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("meshbox is not installed as a service (there is no %s); install it with: %s service install", m.Path, self())
	}
	systemd, err := m.State(ctx)
	if err != nil {
		return err
	}
	s := serviceState{Unit: m.Path, Enabled: systemd.Enabled, Active: systemd.Active, Since: systemd.Since,
		Program: found.Args[0], DB: found.Flag("db"), Listen: or(found.Flag("listen"), defaultListen)}
	s.Health = healthOf(ctx, s.Listen)
	if f.json {
		err = printJSON(a.out, s)
	} else {
		err = table(a.out, nil, [][]string{{"unit", s.Unit}, {"enabled", s.Enabled}, {"active", s.Active}, {"since", s.Since},
			{"program", s.Program}, {"data file", s.DB}, {"listens on", s.Listen}, {"health", s.Health}})
	}
	if err == nil && (s.Active != "active" || s.Health != "ready") {
		err = fmt.Errorf("the service does not work; see why with: %s", m.Logs())
	}
	return err
}

// healthOf is what the server says of itself, or why it says nothing.
func healthOf(ctx context.Context, listen string) string {
	address, err := reachable(listen)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	answer, err := doctor.Probe(ctx, address, "/health/ready")
	if err != nil {
		return "no answer: " + err.Error()
	}
	return answer.Status
}
