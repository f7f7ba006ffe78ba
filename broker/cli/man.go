package cli

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "Write manual pages into a folder, one for each command",
		Long: `Write manual pages into a folder, one for each command: then "man meshbox-invite"
shows one. For you alone that folder is ~/.local/share/man/man1.`,
		Args: arguments(1, 1, "FOLDER"),
		RunE: func(_ *cobra.Command, args []string) error { return a.man(root, args[0]) },
	}
}

func (a *app) man(root *cobra.Command, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of the pages: %w; name another", err)
	}
	date, err := manDate(thisBuild())
	if err != nil {
		return err
	}
	root.DisableAutoGenTag = true // it has today's date
	header := doc.GenManHeader{Section: "1", Date: &date, Source: "meshbox " + version(), Manual: "meshbox"}
	if err := doc.GenManTree(root, &header, folder); err != nil {
		return fmt.Errorf("cannot write the pages: %w; name another folder", err)
	}
	fmt.Fprintf(a.out, "The pages are in %s; read the first with: man -l %s\n", folder, shellWord(folder+"/meshbox.1"))
	return nil
}

// manDate is the date of the pages. It is no date of today: pages of one commit are
// the same (https://reproducible-builds.org/specs/source-date-epoch).
func manDate(b buildInfo) (time.Time, error) {
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, usagef("the environment variable SOURCE_DATE_EPOCH: %q must be a number of seconds since 1970", text)
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if built, err := time.Parse(time.RFC3339, b.Built); err == nil {
		return built.UTC(), nil
	}
	return time.Unix(0, 0).UTC(), nil // nobody knows
}
