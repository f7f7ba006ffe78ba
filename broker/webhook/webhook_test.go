package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write what samples are shown as")

const roomy = 40_000

// sample is a delivery as testdata/webhook has it: a file of GitHub's is called by
// its event.
func sample(t testing.TB, file string) Delivery {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := Delivery{ContentType: "application/json", Body: body}
	if parts := strings.Split(filepath.Base(file), "."); parts[0] == "github" {
		d.Event = parts[1]
	}
	return d
}

func samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../testdata/webhook/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	return files
}

// What is not shown stands in the file as its error.
func TestSamples(t *testing.T) {
	for _, file := range samples(t) {
		line, err := Render(sample(t, file), roomy)
		if err != nil {
			line = "(" + err.Error() + ")"
		}
		line += "\n"
		golden := strings.TrimSuffix(file, "json") + "txt"
		if *update {
			if err := os.WriteFile(golden, []byte(line), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || string(want) != line {
			t.Errorf("%s:\n%swant, %v:\n%s", filepath.Base(file), line, err, want)
		}
	}
}

// How a body says what it is: GitHub's default is a form, curl's too.
func TestContentTypes(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct{ kind, body, want string }{
		{"text/plain; charset=utf-8", " The build is *red*,\r\n@ada \x00\u202e", "The build is *red*,\n@ada"},
		{"text/plain", `{"text":"as it is"}`, `{"text":"as it is"}`},
		{"application/json", `{"text":"hi"}`, "hi"},
		{"application/vnd.x+json", `{"text":"hi"}`, "hi"},
		{"", `{"text":"hi"}`, "hi"},
		{"", "just words", "just words"},
		{"nonsense;;", "just words", "just words"},
		{form, "the backup failed", "the backup failed"},
		{form, `{"text":"hi"}`, "hi"},
		{form, "payload=" + url.QueryEscape(`{"text":"a & b"}`), "a & b"},
		{form, "{not json", "{not json"},
		{"application/json", `"words"`, "`\"words\"`"},
		{"application/json", `{"text":7,"content":"hi"}`, "hi"},
		{"application/json", `{"text":"","alerts":"none","title":"Door"}`, "**Door**"},
	} {
		got, err := Render(Delivery{ContentType: c.kind, Body: []byte(c.body)}, roomy)
		if err != nil || got != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.kind, c.body, got, err, c.want)
		}
	}
	for _, c := range []struct {
		kind, body string
		want       error
	}{
		{"application/json", "{", ErrNoJSON}, {"application/json", "", ErrNoJSON}, {form, "payload=%7b", ErrNoJSON}, {form, "payload=%zz", ErrNoJSON},
		{"text/plain", " \n", ErrEmpty}, {"", "", ErrEmpty}, {"application/json", "{}", ErrEmpty}, {"application/json", "null", ErrEmpty},
		{"application/json", `{"text":"\u0000"}`, ErrEmpty}, {"application/json", `{"alerts":[]}`, ErrEmpty},
		{"text/plain", strings.Repeat("x", 101), ErrTooLong}, {"application/json", `{"text":"` + strings.Repeat("é", 51) + `"}`, ErrTooLong},
	} {
		if got, err := Render(Delivery{ContentType: c.kind, Body: []byte(c.body)}, 100); got != "" || !errors.Is(err, c.want) {
			t.Errorf("%s %q: %q, %v; want %v", c.kind, c.body, got, err, c.want)
		}
	}
}

func TestWhatIsComposedIsCutToFit(t *testing.T) {
	for _, file := range samples(t) {
		for limit := range 200 {
			line, err := Render(sample(t, file), limit)
			if err == nil && (len(line) > max(limit, len("…")) || !utf8.ValidString(line)) {
				t.Fatalf("%s to %d bytes: %q", file, limit, line)
			}
		}
	}
}

// mention is how the broker and agents find a name (broker/address.go).
var mention = regexp.MustCompile(`(?:^|[^\pL\pN@])@([\pL\pN][\pL\pN._-]*)`)

// Whatever comes, what is composed is one safe line: no control characters, bounded,
// and of what strangers wrote nobody is mentioned.
func FuzzWebhookPayload(f *testing.F) {
	for _, file := range samples(f) {
		d := sample(f, file)
		f.Add(d.ContentType, d.Event, d.Body)
	}
	f.Add("application/x-www-form-urlencoded", "push", []byte("payload=%7B%7D"))
	f.Add("text/plain", "", []byte("@ada\xff\n"))
	f.Add("application/json", "issues", []byte(`{"issue":{"number":1e99,"title":["x"],"html_url":"javascript:alert(1)"},"sender":null}`))
	f.Fuzz(func(t *testing.T, kind, event string, body []byte) {
		d := Delivery{ContentType: kind, Event: event, Body: body}
		before := bytes.Clone(body)
		line, err := Render(d, roomy)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			if line != "" {
				t.Fatalf("%q beside %v", line, err)
			}
			return
		}
		if line == "" || len(line) > roomy || !utf8.ValidString(line) {
			t.Fatalf("%d bytes %q", len(line), line)
		}
		for _, r := range line {
			if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) && r != 0x200e && r != 0x200f && r != 0x61c {
				t.Fatalf("%U in %q", r, line)
			}
		}
		_, isJSON, _ := unwrap(d)
		if event != "" && isJSON && (mention.MatchString(line) || strings.Contains(line, "\n")) {
			t.Fatalf("an event of GitHub mentions somebody, or has lines: %q", line)
		}
	})
}

// What a stranger writes is never markup: each mark in it has a backslash.
func FuzzQuoted(f *testing.F) {
	for _, text := range []string{"a_b", "__init__.py", "[x](y)", `\[x](y)`, "https://x.y", "@@ada @ada", "# x", "_é_", "`a`", "a@b.c"} {
		f.Add(text)
	}
	bare := regexp.MustCompile("[`*~\\[\\]<>|]|://")
	f.Fuzz(func(t *testing.T, text string) {
		got := quoted(text)
		if unescaped := regexp.MustCompile(`\\[!-/:-@\[-`+"`"+`{-~]`).ReplaceAllString(got, ""); bare.MatchString(unescaped) || mention.MatchString(got) {
			t.Errorf("%q is shown as %q", text, got)
		}
		if utf8.RuneCountInString(got) > 3*maxField {
			t.Errorf("%d characters", utf8.RuneCountInString(got))
		}
	})
}

func TestSamplesAreJSON(t *testing.T) {
	for _, file := range samples(t) {
		if !json.Valid(sample(t, file).Body) {
			t.Errorf("%s is not JSON", file)
		}
	}
}
