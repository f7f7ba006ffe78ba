package cli

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// checkPublicURL returns a URL as links use it, without a slash at its end.
func checkPublicURL(text string) (string, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", usagef("--public-url %q must be http:// or https:// and a host, such as https://mesh.example.org", text)
	}
	return u.String(), nil
}

// derivePublicURL says how a browser on this machine reaches the listener. It
// is localhost whenever that is true: browsers let pages make keys only there,
// or over HTTPS.
func derivePublicURL(listener net.Addr) string {
	address, ok := listener.(*net.TCPAddr)
	if !ok {
		return defaultURL
	}
	host := address.IP.String()
	if address.IP.IsLoopback() || address.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
}
