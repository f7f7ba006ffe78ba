package cli

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// checkPublicURL returns a URL as links use it, without a slash at its end.
func checkPublicURL(text string) (string, error) { return checkURL("--public-url", text) }

func checkURL(flag, text string) (string, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !isHost(u) || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return "", usagef("%s %q must be http:// or https:// and a host, such as https://mesh.example.org", flag, text)
	}
	return u.Scheme + "://" + u.Host, nil
}

// isHost reports whether u names a host, and a port that exists if any.
func isHost(u *url.URL) bool {
	if u.Port() == "" {
		return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Hostname() != "" && err == nil && port > 0
}

// derivePublicURL says how a browser on this machine reaches the listener. It
// is localhost whenever that is true: browsers let pages make keys only there,
// or over HTTPS. (Other loopback addresses, such as 127.0.0.2, count for them
// too, but localhost does not lead there.)
func derivePublicURL(listener net.Addr) string {
	address, ok := listener.(*net.TCPAddr)
	if !ok {
		return defaultURL
	}
	host := address.IP.String()
	if address.IP.IsUnspecified() || host == "127.0.0.1" || host == "::1" {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
}
