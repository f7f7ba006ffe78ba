package gate

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Hosts are the names a server answers for. Any other in a Host header may be that of
// a foreign site which had its own name resolve to this machine, so that its page may
// talk to it as its own origin (DNS rebinding).
//
// Nobody can do that with an IP address, nor with names that no public registry gives
// away: those without a dot, and those below localhost, local (RFC 6762), home.arpa
// (RFC 8375), internal, lan, home and ts.net, whose owners are tailnets.
type Hosts struct {
	names    []string // lower case
	suffixes []string // ".example.org"
	all      bool
}

// privateSuffixes are what only the network at home, or a tailnet, resolves.
var privateSuffixes = []string{".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home", ".ts.net"}

// NewHosts returns the hosts of that list: names, "*.example.org" for all below one,
// and "*" for every name.
func NewHosts(list []string) *Hosts {
	h := &Hosts{suffixes: privateSuffixes}
	for _, name := range list {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		switch {
		case name == "*":
			h.all = true
		case strings.HasPrefix(name, "*."):
			h.suffixes = append(slices.Clip(h.suffixes), name[1:])
		case name != "":
			h.names = append(h.names, name)
		}
	}
	return h
}

// Allow reports whether a Host header names this server. An empty one (HTTP/1.0) does:
// no browser sends it.
func (h *Hosts) Allow(header string) bool {
	if h == nil || h.all || header == "" {
		return true
	}
	name := strings.ToLower(strings.TrimSuffix(hostname(header), "."))
	if !strings.Contains(name, ".") && !strings.Contains(name, ":") {
		return name != ""
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.Contains(h.names, name) || slices.ContainsFunc(h.suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// hostname is a Host header without its port and without brackets.
func hostname(header string) string {
	if name, _, err := net.SplitHostPort(header); err == nil {
		return name
	}
	return strings.Trim(header, "[]")
}
