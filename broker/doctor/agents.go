package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"meshbox/broker/clients"
	"meshbox/broker/peer"
)

// identities looks at who may read the keys of the members on this machine.
func (x *examination) identities(context.Context) {
	if x.Keys == "" {
		return
	}
	path := filepath.Join(x.Keys, peer.KeyringFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		x.ok("none in %s; join a mesh with: meshbox join LINK", x.Keys)
		return
	}
	if err != nil {
		x.fail("look at its owner", "%s cannot be looked at: %s", path, reason(err))
		return
	}
	if modes && info.Mode().Perm()&0o077 != 0 { // before it is opened, which mends that
		x.fail("chmod 600 "+path, "others may open %s, which holds your keys (mode %#o)", path, info.Mode().Perm())
		return
	}
	if _, err := peer.OpenKeyring(x.Keys); err != nil {
		what, remedy := sentence(err)
		x.fail(remedy, "%s", what)
		return
	}
	folder, err := os.Stat(x.Keys)
	if modes && err == nil && folder.Mode().Perm()&0o022 != 0 {
		x.fail("chmod 700 "+x.Keys, "others may write %s, where your keys are (mode %#o)", x.Keys, folder.Mode().Perm())
		return
	}
	x.ok("%s, for you alone", path)
}

// agents looks at what the clients of agents start.
func (x *examination) agents(context.Context) {
	system := &x.Machine.Clients
	if system.Home == "" {
		return
	}
	for _, name := range system.Installed() {
		entry, err := system.Configured(name)
		switch {
		case err != nil:
			x.warn("mend the file; what it was before meshbox changed it is beside it, as …"+clients.BackupSuffix, "%s: %s", name, err)
		case entry == nil:
			x.ok("%s is installed, and does not start meshbox; meshbox join LINK offers it", name)
		default:
			x.judgeEntry(name, *entry)
		}
		for _, program := range system.ConfiguredHooks(name) {
			if problem := runnable(program); problem != "" {
				x.fail("meshbox join LINK puts in what is right; meshbox leave takes it out", "%s's hooks call %s, %s", name, program, problem)
			}
		}
	}
}

// judgeEntry looks at what one client starts.
func (x *examination) judgeEntry(name string, entry clients.Entry) {
	again := "meshbox join --client " + name + " LINK puts in what is right"
	if problem := runnable(entry.Command); problem != "" {
		x.fail(again, "%s starts %s, %s", name, entry.Command, problem)
		return
	}
	if !slices.Contains(entry.Args, "mcp") {
		x.fail(again, "%s starts %s with %q, which gives it no tools", name, entry.Command, strings.Join(entry.Args, " "))
		return
	}
	if i := slices.Index(entry.Args, "--config"); i >= 0 && i+1 < len(entry.Args) {
		if _, err := os.Stat(filepath.Join(entry.Args[i+1], "identities.json")); errors.Is(err, fs.ErrNotExist) {
			x.fail(again, "%s starts meshbox with the keys in %s, where there are none", name, entry.Args[i+1])
			return
		}
	}
	if x.Binary != "" && !sameFile(entry.Command, x.Binary) {
		x.warn("if that is an older one, "+again, "%s starts %s, which is another program than this one, %s", name, entry.Command, x.Binary)
		return
	}
	x.ok("%s starts this program", name)
}

// runnable says why a program cannot be started, "" if it can.
func runnable(path string) string {
	if !filepath.IsAbs(path) {
		return "" // it is found where the client looks
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "which is not there"
	case info.IsDir() || modes && info.Mode().Perm()&0o111 == 0:
		return "which is no program"
	}
	return ""
}

func sameFile(a, b string) bool {
	if !filepath.IsAbs(a) {
		return true // who knows
	}
	one, err := os.Stat(a)
	other, failed := os.Stat(b)
	return err == nil && failed == nil && os.SameFile(one, other)
}
