package identity

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
)

const codeChars = 8 // of base62, an invite's short code (§8)

// maxLinkChars bounds a pasted link: the longest token and room for where it leads.
const maxLinkChars = maxTokenChars + 2048

// errLink is the answer to anything that is not a link to an invite.
var errLink = errors.New("this is not an invite; paste ic://join/<token>, https://<host>/join/<token>, https://<host>/i/<8-character code>, or the token alone")

// Link is what a person pasted to join a mesh: either Token, or Code and Base.
type Link struct {
	Token string // base64url without padding, see ParseToken
	Code  string // 8 of base62; its token is at <Base>/api/public/invite-code/<Code>
	Base  string // http(s)://host[:port][/path] without a slash at its end; "" beside a Token, whose signed broker_url is the one to trust
}

// ParseLink reads ic://join/<token>, http(s)://host[/base]/join/<token>,
// http(s)://host[/base]/i/<code>, or a token alone. A query, a fragment and a slash at the end are
// ignored. The token must look like one, but is not parsed. The error says what is accepted.
func ParseLink(s string) (Link, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxLinkChars {
		return Link{}, errLink
	}
	if !strings.Contains(s, "://") {
		return tokenLink(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil { // user:password@ only ever dresses up a link as another host's
		return Link{}, errLink
	}
	switch u.Scheme {
	case "ic":
		return inviteSchemeLink(u)
	case "http", "https":
		return webLink(u)
	}
	return Link{}, errLink
}

// inviteSchemeLink reads ic://join/<token>, in which "join" takes the place of a host.
func inviteSchemeLink(u *url.URL) (Link, error) {
	if !strings.EqualFold(u.Host, "join") {
		return Link{}, errLink
	}
	return tokenLink(strings.Trim(u.Path, "/"))
}

// webLink reads http(s)://host[/base]/join/<token> and http(s)://host[/base]/i/<code>.
func webLink(u *url.URL) (Link, error) {
	segments := strings.Split(strings.TrimRight(u.EscapedPath(), "/"), "/")
	if u.Hostname() == "" || len(segments) < 3 { // "", what it is, the token or code
		return Link{}, errLink
	}
	path, kind := strings.Join(segments[:len(segments)-2], "/"), segments[len(segments)-2]
	value, err := url.PathUnescape(segments[len(segments)-1]) // padding may come as %3D
	switch {
	case err == nil && kind == "join":
		return tokenLink(value)
	case err == nil && kind == "i" && isCode(value):
		host := url.URL{Scheme: u.Scheme, Host: u.Host}
		base := host.String() + strings.TrimRight(path, "/")
		if _, err := url.Parse(base); err != nil { // an address with a zone of odd bytes can be read, not written
			return Link{}, errLink
		}
		return Link{Code: value, Base: base}, nil
	}
	return Link{}, errLink
}

// tokenLink makes a Link of what should be a token. Nearly any word is base64url; asking for the brace
// of the JSON inside lets a typo fail here, where the error says what is accepted.
func tokenLink(token string) (Link, error) {
	text, err := decodeToken(token)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return Link{}, errLink
	}
	return Link{Token: trimToken(token)}, nil
}

func isCode(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return len(s) == codeChars
}
