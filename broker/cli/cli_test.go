package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func variables(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func flagsForTest() (*pflag.FlagSet, *string, *int, *time.Duration, *bool) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	url := flags.String("public-url", "", "")
	uses := flags.Int("uses", 1, "")
	ttl := flags.Duration("ttl", time.Hour, "")
	asked := flags.Bool("json", false, "")
	flags.Bool("help", false, "")
	flags.Bool("version", false, "")
	return flags, url, uses, ttl, asked
}

func TestEnvironmentSetsFlags(t *testing.T) {
	flags, url, uses, ttl, asked := flagsForTest()
	err := fromEnvironment(flags, variables(
		"MESHBOX_PUBLIC_URL", "https://a.example", "MESHBOX_USES", "3", "MESHBOX_TTL", "2m", "MESHBOX_JSON", "1",
		"MESHBOX_HELP", "true", "MESHBOX_VERSION", "nonsense", "USES", "9", "MESHBOX_NOSUCH", "x"))
	if err != nil {
		t.Fatal(err)
	}
	if *url != "https://a.example" || *uses != 3 || *ttl != 2*time.Minute || !*asked {
		t.Errorf("got %q %d %s %t", *url, *uses, *ttl, *asked)
	}
	if help, _ := flags.GetBool("help"); help {
		t.Error("MESHBOX_HELP was obeyed")
	}
}

func TestCommandLineWinsOverEnvironment(t *testing.T) {
	flags, url, uses, ttl, _ := flagsForTest()
	if err := flags.Parse([]string{"--uses=1", "--public-url", ""}); err != nil {
		t.Fatal(err)
	}
	// Also where the command line repeats the default; an empty variable is none.
	err := fromEnvironment(flags, variables("MESHBOX_USES", "7", "MESHBOX_PUBLIC_URL", "https://a.example", "MESHBOX_TTL", ""))
	if err != nil {
		t.Fatal(err)
	}
	if *uses != 1 || *url != "" || *ttl != time.Hour {
		t.Errorf("got %q %d %s", *url, *uses, *ttl)
	}
}

func TestWrongEnvironmentIsAUsageError(t *testing.T) {
	for name, value := range map[string]string{"MESHBOX_USES": "many", "MESHBOX_TTL": "7d", "MESHBOX_JSON": "perhaps"} {
		flags, _, _, _, _ := flagsForTest()
		err := fromEnvironment(flags, variables(name, value))
		if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// runForTest runs the program in this process, without standard input.
func runForTest(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var outBuffer, errBuffer bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &outBuffer, err: &errBuffer}
	code = a.run(context.Background(), args)
	return code, outBuffer.String(), errBuffer.String()
}

func TestErrorsAreOneLineForTerminals(t *testing.T) {
	code, out, err := runForTest(t, "mesh", "create", "a\nb\x1b[2J")
	if code != 2 || out != "" || strings.Count(err, "\n") != 1 || strings.Contains(err, "\x1b") {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, err)
	}
}

func TestVersionSaysSomething(t *testing.T) {
	code, out, err := runForTest(t, "version")
	if code != 0 || err != "" || !strings.HasPrefix(out, "meshbox ") || len(out) < len("meshbox x\n") {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, err)
	}
}

func TestInterruptedWhileTyping(t *testing.T) {
	typing, keyboard := io.Pipe() // nobody types
	defer keyboard.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, interrupt)
	var out, said bytes.Buffer
	a := &app{in: typing, out: &out, err: &said}
	if code := a.run(ctx, []string{"send", "#general"}); code != 1 || said.String() != "meshbox: interrupted\n" || out.Len() > 0 {
		t.Errorf("code %d, stdout %q, stderr %q", code, out.String(), said.String())
	}
}
