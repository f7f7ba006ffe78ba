// Package webhook makes a readable line of what services post to a webhook: GitHub,
// Alertmanager, Grafana, what is made for Slack or Discord, plain text, and any
// other JSON. It is a function of bytes, and does nothing else.
//
// Whoever has the secret of a webhook is trusted to speak, but not everybody whose
// words the service passes on: anybody may give an issue its title. So there are two
// kinds of text. What a service was told to say (plain text, the text of a message,
// the annotations of an alert) may mention people and agents by @name. All else
// (titles, comments, labels, unknown JSON) is shown as it was written: it can
// neither mention anybody, nor make links, emphasis or lines of its own.
package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"meshbox/broker/wire"
)

// Delivery is what a service posted.
type Delivery struct {
	ContentType string // of the body
	Event       string // X-GitHub-Event; "" if it is not GitHub's, or of a service that speaks as GitHub
	Body        []byte
}

// Errors of Render; each says what to do.
var (
	ErrEmpty    = errors.New("there is nothing to say in this body; send a text, or JSON with a text")
	ErrNoJSON   = errors.New("the body is not valid JSON, as its Content-Type says; send JSON, or text/plain")
	ErrTooLong  = errors.New("the text is longer than a message can be; send less")
	ErrUnspoken = errors.New("this event is not shown, as the one that ends what it is about is")
)

// Render returns what is to be said of a delivery: Markdown of at most limit bytes,
// one line but for texts and for several alerts. What it composes is cut to fit,
// what it was told to say is not (ErrTooLong).
func Render(d Delivery, limit int) (string, error) {
	body, isJSON, err := unwrap(d)
	if err != nil {
		return "", err
	}
	if !isJSON {
		return spoken(string(body), limit)
	}
	var said message
	if err := decode(body, &said); err != nil {
		return "", err
	}
	if text := first(fromSlack(said.Text), said.Content); text != "" && d.Event == "" && said.Alerts == nil {
		return spoken(text, limit)
	}
	line, err := compose(d.Event, body, &said)
	if err == nil && line == "" {
		err = ErrEmpty
	}
	return cut(line, limit), err
}

// compose is Render for what was not told what to say.
func compose(event string, body []byte, said *message) (string, error) {
	switch {
	case event != "":
		return github(event, body)
	case said.Alerts != nil:
		return said.alertLines(), nil
	case said.Title+said.Message+said.Msg != "":
		return said.titled(), nil
	}
	return asCode(body), nil
}

// message is what the JSON of a service may have, but for GitHub's.
type message struct {
	Text    string `json:"text"`    // Slack's form, and that of many
	Content string `json:"content"` // Discord's
	Title   string `json:"title"`   // Grafana's, and that of others
	Message string `json:"message"`
	Msg     string `json:"msg"`
	notification
}

func (m *message) titled() string {
	return join(": ", bold(quoted(m.Title)), quoted(first(m.Message, m.Msg)))
}

// decode reads JSON into a struct. A field of another type than it should have is as
// if it was not there.
func decode(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	if err != nil {
		return ErrNoJSON
	}
	return nil
}

// unwrap finds out what a body is. GitHub sends JSON in a form unless told
// otherwise; curl -d calls everything a form.
func unwrap(d Delivery) (body []byte, isJSON bool, err error) {
	kind, _, _ := mime.ParseMediaType(d.ContentType)
	body = bytes.TrimSpace(d.Body)
	switch {
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		if !json.Valid(body) {
			return nil, false, ErrNoJSON
		}
		return body, true, nil
	case kind == "application/x-www-form-urlencoded" && bytes.HasPrefix(body, []byte("payload=")):
		form, err := url.ParseQuery(string(body))
		payload := []byte(form.Get("payload"))
		if err != nil || !json.Valid(payload) {
			return nil, false, ErrNoJSON
		}
		return payload, true, nil
	case kind == "text/plain":
		return body, false, nil
	}
	isObject := len(body) > 0 && (body[0] == '{' || body[0] == '[')
	return body, isObject && json.Valid(body), nil
}

// spoken is a text that the service was told to say. Its lines and its Markdown stay,
// what would turn the order of reading does not.
func spoken(text string, limit int) (string, error) {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\r\n", "\n")
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, text))
	switch {
	case text == "":
		return "", ErrEmpty
	case len(text) > limit:
		return "", ErrTooLong
	}
	return text, nil
}

var slackLink = regexp.MustCompile(`<(https?://[^|<>\s]+)\|([^<>|\n]+)>`)

// fromSlack turns the links of Slack's notation into those of Markdown.
func fromSlack(text string) string { return slackLink.ReplaceAllString(text, "[$2]($1)") }

// Bounds of what is composed, in characters.
const (
	maxField = 200 // a title, a summary
	maxLabel = 60  // a name of something
	maxCode  = 300 // unknown JSON
)

// quoted is what a stranger may have written, in one line that is shown as it was
// written.
func quoted(text string) string { return quietly(escaped(wire.CleanLine(text, maxField))) }

// label is quoted for names.
func label(text string) string {
	return quietly(escaped(shorten(wire.CleanLine(text, maxField), maxLabel)))
}

// named is what the owner of the service wrote: as quoted, but it may mention.
func named(text string) string { return escaped(wire.CleanLine(text, maxField)) }

var at = regexp.MustCompile(`(^|[^\pL\pN])@([\pL\pN])`)

// quietly keeps a text from mentioning anybody: an invisible word joiner stands
// between the @ and the name (the rule of broker/address.go, and of agents).
func quietly(text string) string { return at.ReplaceAllString(text, "$1@\u2060$2") }

// markup is what begins something else than text in Markdown: marks anywhere, the
// beginning of an address, underscores but within a word, as names are full of them,
// and what begins a heading or a list.
var markup = regexp.MustCompile("[\\\\`*~\\[\\]<>|]|:/|\\b_+|_+\\b|^[#+-]")

// escaped is a text without markup.
func escaped(text string) string {
	return markup.ReplaceAllStringFunc(text, func(marks string) string {
		if marks[0] != '_' {
			return `\` + marks
		}
		return strings.Repeat(`\_`, len(marks))
	})
}

func bold(text string) string {
	if text == "" {
		return ""
	}
	return "**" + text + "**"
}

// link is a text that leads to an address of the service, or the text alone if that is
// none.
func link(text, address string) string {
	u, err := url.Parse(address)
	if err != nil || text == "" || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(address) > 1000 {
		return text
	}
	safe := strings.Map(func(r rune) rune {
		if r <= ' ' || r >= utf8.RuneSelf || strings.ContainsRune("()<>[]\"'`\\@", r) {
			return -1
		}
		return r
	}, u.String())
	if safe != u.String() { // it would end the link, or begin something
		return text
	}
	return "[" + text + "](" + safe + ")"
}

// asCode shows JSON that nobody here knows.
func asCode(body []byte) string {
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil || compact.Len() <= len(`{}`) || compact.String() == "null" {
		return ""
	}
	text := shorten(wire.CleanLine(compact.String(), maxCode+1), maxCode)
	return "`" + quietly(strings.ReplaceAll(text, "`", "'")) + "`"
}

// shorten cuts a text to so many characters.
func shorten(text string, limit int) string {
	if chars := []rune(text); len(chars) > limit {
		return strings.TrimSpace(string(chars[:limit-1])) + "…"
	}
	return text
}

// cut cuts a line to so many bytes.
func cut(text string, limit int) string {
	const end = "…"
	if len(text) <= limit {
		return text
	}
	limit = max(0, limit-len(end))
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + end
}

// join puts what there is between separators.
func join(separator string, parts ...string) string {
	var there []string
	for _, part := range parts {
		if part != "" {
			there = append(there, part)
		}
	}
	return strings.Join(there, separator)
}
