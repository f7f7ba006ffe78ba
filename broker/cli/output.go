package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// style is how a stream may be written to: with colours only on a terminal
// that wants them (https://no-color.org).
type style struct{ colours bool }

func styleOf(w io.Writer) style {
	return style{colours: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (s style) bold(text string) string { return s.wrap("1", text) }
func (s style) dim(text string) string  { return s.wrap("2", text) }
func (s style) link(text string) string { return s.wrap("1;36", text) }

func (s style) wrap(code, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// printJSON writes one object on one line; text stays as readable as it is.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// table prints rows under a head, if there is one, in columns.
func table(w io.Writer, head []string, rows [][]string) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if head != nil {
		rows = append([][]string{head}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = or(printable(cell), "-")
		}
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	return columns.Flush()
}

// printable makes text from others safe for a terminal: no escape sequences,
// line breaks or other control characters, none that turn the direction of
// reading, none that end a line for some programs only.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
}

// printableLines is printable that keeps line breaks and tabs. Lines after the
// first are indented: none can pass for a message of its own.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", "    "))
	}
	return strings.Join(lines, "\n      ")
}

// moment is a local date and time, "-" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// or returns text, or instead if that is empty.
func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

// shellWord is text as one word of a shell's command line.
func shellWord(text string) string {
	special := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+:=@%,"+string(filepath.Separator), r)
	}
	if text != "" && !strings.ContainsFunc(text, special) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// self is how a person calls this program, for the lines they may copy.
func self() string {
	path, err := os.Executable()
	switch {
	case err != nil:
		return "meshbox"
	case strings.Contains(path, string(filepath.Separator)+"go-build"):
		return "go run ."
	}
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		if folder != "" && filepath.Join(folder, filepath.Base(path)) == path {
			return filepath.Base(path)
		}
	}
	if cwd, err := os.Getwd(); err == nil && filepath.Dir(path) == cwd {
		return "." + string(filepath.Separator) + filepath.Base(path)
	}
	return shellWord(path)
}
