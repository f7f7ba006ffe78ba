package gate

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits bound the connections of a Listener.
type Limits struct {
	Total      int      // of all
	PerAddress int      // of one address, see Group; 0: no limit
	Exempt     Networks // addresses that PerAddress does not bind: proxies that many are behind
	Refused    func(string)
}

// NewListener returns a listener that closes what is too many as soon as it comes in.
// Several listeners may share the Counts.
func NewListener(l net.Listener, limits Limits, counts *Counts) net.Listener {
	return &listener{Listener: l, limits: limits, counts: counts}
}

type listener struct {
	net.Listener
	limits Limits
	counts *Counts
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address, _ := remote(conn.RemoteAddr().String())
		most := l.limits.PerAddress
		if l.limits.Exempt.Contain(address) {
			most = 0
		}
		if l.counts.Total() >= l.limits.Total {
			l.limits.Refused(TooMany)
		} else if place := l.counts.Take(address, most); place == nil {
			l.limits.Refused(TooManyFrom)
		} else {
			return &countedConn{conn, place}, nil
		}
		conn.Close()
	}
}

// countedConn counts until it is closed.
type countedConn struct {
	net.Conn
	place *Place
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.place.Leave()
	return c.Conn.Close()
}

// CloseWrite lets the HTTP server end an answer before it has read the whole request.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Counts say how many of something each address has.
type Counts struct {
	mu    sync.Mutex
	total int
	of    map[netip.Prefix]int
}

// NewCounts returns an empty one.
func NewCounts() *Counts { return &Counts{of: map[netip.Prefix]int{}} }

// Total is how many there are of all addresses.
func (c *Counts) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Place is one that is counted.
type Place struct {
	counts *Counts
	of     netip.Prefix
	left   atomic.Bool
}

// Take counts one more of an address; nil if that would be more than most. 0 is no
// bound, and loopback has none.
func (c *Counts) Take(a netip.Addr, most int) *Place {
	group := Group(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && !a.IsLoopback() && c.of[group] >= most {
		return nil
	}
	c.total++
	c.of[group]++
	return &Place{counts: c, of: group}
}

// Leave counts it off. It may be called many times.
func (p *Place) Leave() {
	if p.left.Swap(true) {
		return
	}
	c := p.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.of[p.of]--; c.of[p.of] == 0 {
		delete(c.of, p.of)
	}
}

// Group is what counts as one address: of IPv6 the /64 that one customer gets
// (RFC 6177), of which one machine may use all.
func Group(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	group, _ := a.Prefix(bits) // fails for no address only: all of those are one
	return group
}

// Address is the address of a Request.RemoteAddr; the zero one if there is none.
func Address(remoteAddr string) netip.Addr {
	address, _ := remote(remoteAddr)
	return address
}
