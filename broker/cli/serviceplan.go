package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"meshbox/broker"
	"meshbox/broker/service"
)

// servicePlan says what the unit is to run, from the flags of the server, and checks
// that it can.
func (a *app) servicePlan(m *service.Manager, args []string) (service.Plan, *serveFlags, error) {
	binary, err := ownPath("service install")
	if err != nil {
		return service.Plan{}, nil, err
	}
	if m.System {
		if err := checkForAll(binary); err != nil {
			return service.Plan{}, nil, err
		}
	}
	f := &serveFlags{limits: broker.DefaultLimits()}
	flags := a.serveCommandOf("serve", f).Flags()
	if err := parseServe(flags, f, args); err != nil {
		return service.Plan{}, nil, err
	}
	if f.db, err = serviceData(m, f.db, flags.Changed("db")); err != nil {
		return service.Plan{}, nil, err
	}
	low, err := lowPorts(&f.net)
	if err != nil {
		return service.Plan{}, nil, err
	}
	if low != "" && !m.System {
		return service.Plan{}, nil, fmt.Errorf("a user's service cannot listen on %s: ports below 1024 need rights; choose another, or install it for the machine with --system", low)
	}
	p := service.Plan{Binary: binary, Args: []string{"serve", "--db=" + f.db}, Folder: filepath.Dir(f.db), Low: low != ""}
	flags.Visit(func(flag *pflag.Flag) {
		if flag.Name == "db" {
			return
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			p.Args = append(p.Args, "--"+flag.Name+"="+value)
		}
	})
	return p, f, nil
}

// parseServe reads the flags as "meshbox serve" does here and now: from the command
// line, then from the environment, which the service does not have.
func parseServe(flags *pflag.FlagSet, f *serveFlags, args []string) error {
	if err := flags.Parse(args); err != nil {
		return usagef("%w; behind -- stand flags of: meshbox serve --help", badFlag(err))
	}
	if flags.NArg() > 0 {
		return usagef("%q is no flag; behind -- stand flags of: meshbox serve --help", flags.Arg(0))
	}
	if err := fromEnvironment(flags, os.LookupEnv); err != nil {
		return err
	}
	f.net.listenSet = flags.Changed("listen")
	return f.check()
}

// serviceData is where the service keeps its data: that of the machine in the folder
// that systemd gives it, that of a user where the flag says, else in the file of this
// folder, else in the user's folder for data.
func serviceData(m *service.Manager, path string, said bool) (string, error) {
	const fixed = service.StateFolder + "/" + defaultDB
	absolute, err := filepath.Abs(path)
	switch {
	case err != nil:
		return "", err
	case m.System && !said:
		return fixed, nil
	case m.System && filepath.Dir(absolute) != service.StateFolder:
		return "", usagef("the machine's service keeps its data in %s; to take yours there, stop its server and run: sudo install -D -m 0600 %s %s", service.StateFolder, shellWord(absolute), fixed)
	case said:
		return absolute, nil
	}
	if _, err := os.Stat(absolute); err == nil {
		return absolute, nil
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "meshbox", defaultDB), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", "meshbox", defaultDB), err
}

// lowPorts returns the first address of a server with a port below 1024, "" if there
// is none.
func lowPorts(f *netFlags) (string, error) {
	addresses := []string{f.address()}
	if len(f.acme.domains) > 0 {
		addresses = append(addresses, f.acme.listen)
	}
	for _, address := range addresses {
		if low, err := lowPort(address); low || err != nil {
			return address, err
		}
	}
	return "", nil
}

// lowPort reports whether an address has a port below 1024. A free port, 0, would be
// another one after each start.
func lowPort(listen string) (bool, error) {
	_, text, err := net.SplitHostPort(listen)
	if err != nil {
		return false, usagef("--listen %q: %w; write it as ADDRESS:PORT, such as 127.0.0.1:7900", listen, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return false, usagef("--listen %q: a service needs a port from 1 to 65535", listen)
	}
	return port < 1024, nil
}

// checkForAll refuses a program that the machine's service, which is no user that can
// log in, cannot start: its unit hides the homes and the temporary files.
func checkForAll(binary string) error {
	const remedy = "put it where everyone finds it, and run that one: sudo install -m 0755 %s /usr/local/bin/meshbox && sudo /usr/local/bin/meshbox service install --system"
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(binary, hidden) {
			return fmt.Errorf("the machine's service cannot start %s, which is below %s; "+remedy, binary, strings.TrimSuffix(hidden, "/"), shellWord(binary))
		}
	}
	info, err := os.Stat(binary)
	if err == nil && info.Mode().Perm()&0o001 == 0 {
		err = errors.New("its mode does not let others run it")
	}
	if err != nil {
		return fmt.Errorf("the machine's service cannot start %s: %w; "+remedy, binary, err, shellWord(binary))
	}
	return nil
}
