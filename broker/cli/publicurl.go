package cli

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// checkPublicURL returns a URL as links use it, without a slash at its end.
func checkPublicURL(text string) (string, error) { return checkURL("--public-url", text) }

func checkURL(flag, text string) (string, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !isHost(u) || *u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}) || !isBasePath(u.Path) {
		return "", usagef("%s %q must be http:// or https:// and a host, perhaps with a path, such as https://mesh.example.org", flag, text)
	}
	return u.Scheme + "://" + u.Host + u.Path, nil
}

// isHost reports whether u names a host, and a port that exists if any.
func isHost(u *url.URL) bool {
	if u.Port() == "" {
		return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Hostname() != "" && err == nil && port > 0
}

// basePaths need no escapes, and have a letter or digit in each part: no dots alone.
var basePaths = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

func isBasePath(path string) bool { return basePaths.MatchString(path) }

// checkBasePath returns a path without a slash at its end; "" is the root.
func checkBasePath(text string) (string, error) {
	path := strings.TrimRight(text, "/")
	if !isBasePath(path) {
		return "", usagef("--base-path %q must be a path such as /mesh, of letters, digits and -._~", text)
	}
	return path, nil
}

// withBasePath is a public URL with the path that the server serves below. They may
// both name it, but not differ.
func withBasePath(publicURL, basePath string) (string, error) {
	u, err := url.Parse(publicURL)
	switch {
	case err != nil:
		return "", err
	case basePath == "" || u.Path == basePath:
		return publicURL, nil
	case u.Path != "":
		return "", usagef("--base-path %s is not the path of --public-url %s; give one of them, or the same", basePath, publicURL)
	}
	return publicURL + basePath, nil
}

// derivePublicURL says how a browser on this machine reaches the listener. It
// is localhost whenever that is true: browsers let pages make keys only there,
// or over HTTPS. (Other loopback addresses, such as 127.0.0.2, count for them
// too, but localhost does not lead there.)
func derivePublicURL(listener net.Addr, scheme string) string {
	address, ok := listener.(*net.TCPAddr)
	if !ok {
		return defaultURL
	}
	host := address.IP.String()
	if address.IP.IsUnspecified() || host == "127.0.0.1" || host == "::1" {
		host = "localhost"
	}
	return urlOf(scheme, host, address.Port)
}

// urlOf leaves out the port of HTTPS.
func urlOf(scheme, host string, port int) string {
	if scheme == "https" && port == 443 {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// url is the public URL: what the operator says, else the domain of the certificate,
// else what the listener tells.
func (f *netFlags) url(said string, listener net.Addr) (string, error) {
	scheme := "http"
	if f.isSecure() {
		scheme = "https"
	}
	if said == "" {
		said = derivePublicURL(listener, scheme)
		if address, ok := listener.(*net.TCPAddr); ok && len(f.acme.domains) > 0 {
			said = urlOf(scheme, f.acme.domains[0], address.Port)
		}
	}
	return withBasePath(said, f.basePath)
}
