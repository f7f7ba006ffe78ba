//go:build unix && !linux

package cli

import "github.com/rogpeppe/go-internal/testscript"

// cmdOnTerminal is for scripts that begin with [!linux] skip.
func cmdOnTerminal(ts *testscript.TestScript, neg bool, args []string) {
	ts.Fatalf("onterminal works on Linux only")
}
