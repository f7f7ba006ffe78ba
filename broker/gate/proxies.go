package gate

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Networks are ranges of addresses.
type Networks []netip.Prefix

// ParseNetworks reads addresses and ranges, such as 127.0.0.1 or 172.16.0.0/12.
func ParseNetworks(list []string) (all Networks, err error) {
	for _, text := range list {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			address, bad := netip.ParseAddr(text)
			if bad != nil {
				return nil, fmt.Errorf("%q must be an address or a range, such as 127.0.0.1 or 172.16.0.0/12", text)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		all = append(all, network.Masked())
	}
	return all, nil
}

// Contain reports whether an address is in one of the networks.
func (n Networks) Contain(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwarded are the headers by which proxies say who asked.
var forwarded = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Real-Ip", "Via"}

// unwrap makes a request that a trusted proxy hands on one that its client had sent
// itself: RemoteAddr, Host and the scheme are the client's, and the headers are gone.
// Any other request stays as it is, headers included.
func (n Networks) unwrap(r *http.Request) *http.Request {
	proxy, ok := remote(r.RemoteAddr)
	if !ok || !n.Contain(proxy) {
		return r
	}
	client, ok := n.client(proxy, r.Header.Values("X-Forwarded-For"))
	if !ok {
		return r
	}
	unwrapped := r.WithContext(r.Context()) // a copy
	location := *r.URL
	unwrapped.URL, unwrapped.Header = &location, r.Header.Clone()
	unwrapped.RemoteAddr = net.JoinHostPort(client.String(), "0")
	if host := last(r.Header.Values("X-Forwarded-Host")); host != "" {
		unwrapped.Host = host
	}
	if scheme := last(r.Header.Values("X-Forwarded-Proto")); scheme == "http" || scheme == "https" {
		unwrapped.URL.Scheme = scheme
	}
	for _, name := range forwarded {
		// Who is said to be this machine is not: a page could say so, too. The header that
		// stays tells that somebody stood between.
		if !(client.IsLoopback() && name == "X-Forwarded-For") {
			unwrapped.Header.Del(name)
		}
	}
	return unwrapped
}

// client is the last address of the list that is not a trusted proxy's own: what
// stands before it, anybody may have written. If all are trusted it is the first. A
// loopback address that a proxy elsewhere names is not this machine: then it is the
// proxy.
func (n Networks) client(proxy netip.Addr, headers []string) (client netip.Addr, ok bool) {
	client = proxy
	hops := strings.Split(strings.Join(headers, ","), ",")
	for _, hop := range slices.Backward(hops) {
		address, known := remote(strings.TrimSpace(hop))
		if !known {
			break // the next one before it cannot be believed either
		}
		client, ok = address, true
		if !n.Contain(address) {
			break
		}
	}
	if client.IsLoopback() && !proxy.IsLoopback() {
		client = proxy
	}
	return client, ok
}

// last is the last of the values in a header: the one the nearest proxy added.
func last(values []string) string {
	all := strings.Split(strings.Join(values, ","), ",")
	return strings.TrimSpace(all[len(all)-1])
}

// remote reads an address with or without a port.
func remote(text string) (netip.Addr, bool) {
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap().WithZone(""), true
	}
	address, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return address.Unmap().WithZone(""), err == nil
}
