package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"meshbox/broker/store"
)

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version, and what was built from what", Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.version(asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// buildInfo is what "version --json" prints. What the build did not record, as
// outside of a git checkout, is empty.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Dirty    bool   `json:"dirty"` // the sources were not those of the commit
	Built    string `json:"built"` // time of the commit, RFC 3339 in UTC: builds of one commit are the same
	Go       string `json:"go"`
	Platform string `json:"platform"` // GOOS/GOARCH
	Schema   int    `json:"schema"`   // of the data file
}

func (a *app) version(asJSON bool) error {
	b := thisBuild()
	if asJSON {
		return printJSON(a.out, b)
	}
	commit := b.Commit
	if b.Dirty {
		commit += " with changes"
	}
	fmt.Fprintf(a.out, "meshbox %s\n", b.Version)
	return table(a.out, nil, [][]string{
		{"  commit", commit}, {"  of", b.Built}, {"  built with", b.Go}, {"  for", b.Platform}, {"  data file", fmt.Sprintf("schema %d", b.Schema)},
	})
}

func thisBuild() buildInfo {
	b := buildInfo{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: store.SchemaVersion}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.read(info)
	}
	return b
}

// read takes over what the build recorded. The version is that of the module, else
// the commit.
func (b *buildInfo) read(info *debug.BuildInfo) {
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value
		case "vcs.modified":
			b.Dirty = setting.Value == "true"
		case "vcs.time":
			b.Built = setting.Value
		}
	}
	switch b.Version = info.Main.Version; {
	case b.Version != "" && b.Version != "(devel)":
	case len(b.Commit) >= 12:
		b.Version = "devel-" + b.Commit[:12]
	default:
		b.Version = "devel"
	}
}

// version is what the program calls itself.
func version() string { return thisBuild().Version }
