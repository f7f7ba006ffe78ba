package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The image and the compose file call commands, and set variables, that exist.

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestContainerCallsCommandsThatExist(t *testing.T) {
	root := (&app{}).root()
	found := 0
	for _, match := range regexp.MustCompile(`(?m)(CMD|ENTRYPOINT) (\[.*\])$`).FindAllStringSubmatch(read(t, "Dockerfile"), -1) {
		var words []string
		if err := json.Unmarshal([]byte(match[2]), &words); err != nil {
			t.Fatalf("%s: %v", match[0], err)
		}
		if words[0] == "meshbox" {
			words = words[1:]
		}
		c, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 || !c.Runnable() {
			t.Errorf("%s: there is no such command (%v, %q)", match[0], err, rest)
		}
		found++
	}
	if found != 3 {
		t.Errorf("%d commands in the Dockerfile, want those of the health check, the entry point and its default", found)
	}
	for _, match := range regexp.MustCompile(`exec meshbox meshbox (.*)`).FindAllStringSubmatch(read(t, "compose.yaml"), -1) {
		if _, rest, err := root.Find(strings.Fields(match[1])); err != nil || len(rest) > 0 {
			t.Errorf("%s: there is no such command", match[0])
		}
	}
}

func TestContainerSetsVariablesThatExist(t *testing.T) {
	flags := (&app{}).serveCommand("serve").Flags()
	known := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) { known[environmentName(f.Name)] = f.Name })
	for _, path := range []string{"Dockerfile", "compose.yaml"} {
		for _, variable := range regexp.MustCompile(`MESHBOX_[A-Z_]+`).FindAllString(read(t, path), -1) {
			if known[variable] == "" {
				t.Errorf("%s: %s sets no flag of the server", path, variable)
			}
		}
	}
	// The health check asks where the server listens: both obey this one.
	if (&app{}).healthCommand().Flags().Lookup("listen") == nil || !strings.Contains(read(t, "Dockerfile"), "MESHBOX_LISTEN=0.0.0.0:7900") {
		t.Error("MESHBOX_LISTEN does not tell the health check where the server is")
	}
}

// The image is built with the Go version that the module wants.
func TestContainerBuildsWithOurGo(t *testing.T) {
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if !strings.Contains(read(t, "Dockerfile"), " golang:"+wants[1]+" AS build") {
		t.Errorf("the Dockerfile does not build with golang:%s", wants[1])
	}
}
