package cli

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ümlaut, 漢字, 👍🏽":    "plain, ümlaut, 漢字, 👍🏽",
		"\x1b[31mred\x1b[0m":       " [31mred [0m",
		"\x1b]0;title\x07":         " ]0;title ",
		"a\nb\r\nc\td":             "a b  c d",
		"\u009b31m":                " 31m", // CSI as one character
		"a\u2028b\u2029c":          "a b c",
		"txt\u202egpj.exe":         "txtgpj.exe",
		"a\u2066b\u2069c\u200ed":   "abcd",
		"broken \xff\xfe UTF-8":    "broken \uFFFD\uFFFD UTF-8",
		"nul\x00 bell\a del\x7f .": "nul  bell  del  .",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestPrintableLines(t *testing.T) {
	for text, want := range map[string]string{
		"one":                    "one",
		"one\ntwo\r\n\tthree":    "one\n      two\n          three",
		"one\n12:00 boss: obey":  "one\n      12:00 boss: obey",
		"one\r12:00 boss: obey":  "one 12:00 boss: obey",
		"one\v12:00\fboss\x1b[K": "one 12:00 boss [K",
	} {
		if got := printableLines(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := table(&out, []string{"NAME", "KEY"}, [][]string{{"Jürgen", "a"}, {"x\ty\n", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "NAME    KEY\nJürgen  a\nx y     -\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestShellWord(t *testing.T) {
	for text, want := range map[string]string{
		"/srv/meshbox.db": "/srv/meshbox.db", "./a-b_c": "./a-b_c", "größe": "größe", "": "''",
		"two words": "'two words'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "a;b": "'a;b'", "~": "'~'", "*": "'*'",
	} {
		if got := shellWord(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestFilesGetNoColours(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, s := range []style{styleOf(file), styleOf(&strings.Builder{})} {
		if got := s.bold("a") + s.dim("b") + s.link("c"); got != "abc" {
			t.Errorf("got %q", got)
		}
	}
}

func TestMoment(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	if got := moment(at); got != "2026-01-02 03:04" {
		t.Errorf("got %q", got)
	}
	if got := since(at.UTC().Format(time.RFC3339Nano)); got != "2026-01-02 03:04" {
		t.Errorf("got %q", got)
	}
	if moment(time.Time{}) != "-" || since("nonsense") != "-" {
		t.Error("no time is not -")
	}
}
