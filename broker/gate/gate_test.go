package gate

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// seen is what the handler behind a gate was told.
type seen struct{ remote, host, path, scheme, headers string }

// through sends a request through a gate.
func through(t *testing.T, c Config, change func(*http.Request)) (seen, *httptest.ResponseRecorder) {
	t.Helper()
	var got seen
	if c.Refused == nil {
		c.Refused = func(string) {}
	}
	handler := c.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = seen{r.RemoteAddr, r.Host, r.URL.Path, r.URL.Scheme, ""}
		for _, name := range forwarded {
			got.headers += strings.Join(r.Header.Values(name), ",")
		}
	}))
	r := httptest.NewRequest("GET", "/x", nil)
	r.URL.Host, r.URL.Scheme, r.Host, r.RemoteAddr = "", "", "localhost", "10.0.0.2:4711"
	change(r)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return got, w
}

func TestHosts(t *testing.T) {
	h := NewHosts([]string{"mesh.example.org", "*.home.example.net", "Nas.Example.COM."})
	for _, name := range []string{
		"", "localhost", "localhost:7900", "LOCALHOST", "app.localhost", "127.0.0.1:7900", "192.168.1.5", "[::1]:7900", "[fd00::1]", "[fe80::1%25eth0]:80",
		"nas", "nas:7900", "nas.local", "nas.local.", "nas.lan", "nas.home.arpa", "meshbox.default.svc.cluster.local", "box.tail1234.ts.net",
		"mesh.example.org", "MESH.example.org:443", "nas.example.com", "a.home.example.net", "a.b.home.example.net",
	} {
		if !h.Allow(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{
		"evil.example", "evil.example:7900", "mesh.example.org.evil.example", "xmesh.example.org", "home.example.net", "localhost.evil.example", "local.evil.example",
		"127.0.0.1.evil.example", "192.168.1.5.nip.io", ".", ":7900", "evil.locals",
	} {
		if h.Allow(name) {
			t.Errorf("%q is allowed", name)
		}
	}
	if !NewHosts([]string{"*"}).Allow("evil.example") || !(*Hosts)(nil).Allow("evil.example") {
		t.Error("every name is not allowed")
	}
}

func TestWrongHostIsToldWhichFlag(t *testing.T) {
	var counted []string
	c := Config{Hosts: NewHosts(nil), Refused: func(reason string) { counted = append(counted, reason) }}
	got, w := through(t, c, func(r *http.Request) { r.Host = "chat.example.org:7900" })
	if got.path != "" || w.Code != http.StatusMisdirectedRequest || !strings.Contains(w.Body.String(), "--public-url https://chat.example.org") || !strings.Contains(w.Body.String(), "--allowed-hosts chat.example.org") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if fmt.Sprint(counted) != "[wrong_host]" {
		t.Errorf("counted %v", counted)
	}
}

func TestProxies(t *testing.T) {
	trusted, err := ParseNetworks([]string{"127.0.0.1", "::1", "10.0.0.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		remote, xff, host, proto string
		want                     seen
	}{
		"no headers":                        {"10.0.0.2:1", "", "", "", seen{"10.0.0.2:1", "localhost", "/x", "", ""}},
		"a client":                          {"10.0.0.2:1", "192.168.1.7", "chat.example.org", "https", seen{"192.168.1.7:0", "chat.example.org", "/x", "https", ""}},
		"what it wrote itself is no matter": {"10.0.0.2:1", "127.0.0.1, 1.2.3.4, 192.168.1.7", "evil.example, chat.example.org", "x, https", seen{"192.168.1.7:0", "chat.example.org", "/x", "https", ""}},
		"two proxies":                       {"127.0.0.1:1", "192.168.1.7, 10.0.0.9", "", "", seen{"192.168.1.7:0", "localhost", "/x", "", ""}},
		"IPv6, with ports":                  {"[::1]:1", "[2001:db8::7]:5, 10.0.0.9:80", "", "http", seen{"[2001:db8::7]:0", "localhost", "/x", "http", ""}},
		"IPv4 in IPv6":                      {"[::ffff:10.0.0.2]:1", "::ffff:192.168.1.7", "", "", seen{"192.168.1.7:0", "localhost", "/x", "", ""}},
		"garbage":                           {"10.0.0.2:1", "unknown", "evil", "https", seen{"10.0.0.2:1", "localhost", "/x", "", "unknownevilhttps"}},
		"garbage before a proxy":            {"10.0.0.2:1", "unknown, 10.0.0.9", "", "", seen{"10.0.0.9:0", "localhost", "/x", "", ""}},
		"the client is the proxy's machine": {"10.0.0.2:1", "127.0.0.1", "", "", seen{"10.0.0.2:0", "localhost", "/x", "", ""}},
		"the client is this machine":        {"127.0.0.1:1", "127.0.0.1", "", "", seen{"127.0.0.1:0", "localhost", "/x", "", "127.0.0.1"}},
		"nobody to trust":                   {"192.168.1.7:1", "127.0.0.1", "evil", "https", seen{"192.168.1.7:1", "localhost", "/x", "", "127.0.0.1evilhttps"}},
		"no address":                        {"@", "127.0.0.1", "", "", seen{"@", "localhost", "/x", "", "127.0.0.1"}},
	} {
		got, _ := through(t, Config{Proxies: trusted}, func(r *http.Request) {
			r.RemoteAddr = c.remote
			for header, value := range map[string]string{"X-Forwarded-For": c.xff, "X-Forwarded-Host": c.host, "X-Forwarded-Proto": c.proto} {
				if value != "" {
					r.Header.Set(header, value)
				}
			}
		})
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for _, bad := range []string{"nginx", "10.0.0.0/33", "", "10.0.0"} {
		if _, err := ParseNetworks([]string{bad}); err == nil {
			t.Errorf("%q is a network", bad)
		}
	}
}

// A page of another site that has its name lead here can claim to be a proxy.
func TestAPageIsNoProxy(t *testing.T) {
	trusted, err := ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Proxies: trusted, Hosts: NewHosts([]string{"mesh.example.org"})}
	for asked, want := range map[string]int{"evil.example": http.StatusMisdirectedRequest, "mesh.example.org": http.StatusOK, "127.0.0.1:7900": http.StatusOK} {
		_, w := through(t, config, func(r *http.Request) {
			r.RemoteAddr, r.Host = "127.0.0.1:1", asked
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			r.Header.Set("X-Forwarded-Host", "mesh.example.org")
		})
		if w.Code != want {
			t.Errorf("%s: %d, want %d", asked, w.Code, want)
		}
	}
}

// The paths are the same whether a proxy leaves the base path or takes it off.
func TestBasePath(t *testing.T) {
	for path, want := range map[string]string{
		"/mesh/": "/", "/mesh/ws": "/ws", "/mesh/join/abc": "/join/abc", "/": "/", "/ws": "/ws", "/meshes": "/meshes", "/mesh/mesh/": "/mesh/",
	} {
		if got, _ := through(t, Config{Base: "/mesh"}, func(r *http.Request) { r.URL.Path = path }); got.path != want {
			t.Errorf("%s leads to %s, want %s", path, got.path, want)
		}
	}
	if _, w := through(t, Config{Base: "/mesh"}, func(r *http.Request) { r.URL.Path = "/mesh" }); w.Code != http.StatusPermanentRedirect || w.Header().Get("Location") != "/mesh/" {
		t.Errorf("without a slash: %d %s", w.Code, w.Header().Get("Location"))
	}
	escaped, _ := through(t, Config{Base: "/mesh"}, func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/mesh/i/a/b", "/mesh/i/a%2Fb" })
	if escaped.path != "/i/a/b" {
		t.Errorf("escaped: %s", escaped.path)
	}
}

func TestGroups(t *testing.T) {
	for address, want := range map[string]string{
		"192.168.1.5": "192.168.1.5/32", "::ffff:192.168.1.5": "192.168.1.5/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := Group(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	c := NewCounts()
	a, b := netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("192.168.1.6")
	first := c.Take(a, 2)
	if c.Take(a, 2) == nil || c.Take(a, 2) != nil || c.Take(b, 2) == nil || c.Total() != 3 {
		t.Errorf("%d", c.Total())
	}
	first.Leave()
	first.Leave()
	if c.Total() != 2 || c.Take(a, 2) == nil {
		t.Errorf("after one left: %d", c.Total())
	}
	for range 5 {
		if c.Take(netip.MustParseAddr("127.0.0.1"), 2) == nil {
			t.Error("loopback is bounded")
		}
	}
}

// pretended makes each connection come from the next address of a list.
type pretended struct {
	net.Listener
	from []string
}

func (p *pretended) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	address, _ := net.ResolveTCPAddr("tcp", p.from[0])
	p.from = p.from[1:]
	return pretendedConn{conn, address}, nil
}

type pretendedConn struct {
	net.Conn
	from net.Addr
}

func (p pretendedConn) RemoteAddr() net.Addr { return p.from }

// Too many connections are closed as they come in, and counted by reason; a place that
// is given back is free.
func TestListenerBoundsConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	from := []string{"192.168.1.5:1", "192.168.1.5:2", "192.168.1.5:3", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3", "192.168.1.6:1", "192.168.1.5:4"}
	var mu sync.Mutex
	refused := map[string]int{}
	proxies, _ := ParseNetworks([]string{"10.0.0.2"})
	l := NewListener(&pretended{inner, from}, Limits{Total: 5, PerAddress: 2, Exempt: proxies, Refused: func(reason string) {
		mu.Lock()
		defer mu.Unlock()
		refused[reason]++
	}}, NewCounts())
	accepted := make(chan net.Conn, len(from))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	wantClosed := func(conn net.Conn, reason string) {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("not closed: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if refused[reason] != 1 {
			t.Errorf("counted %v", refused)
		}
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	wantClosed(dial(), TooManyFrom)
	for range 3 { // the proxy
		dial()
		<-accepted
	}
	wantClosed(dial(), TooMany)
	first.Close()
	dial()
	(<-accepted).Close()
}

// A body that does not come in is given up, and one that does may be answered for
// longer than that.
func TestSlowBodiesAreGivenUp(t *testing.T) {
	read := make(chan error, 1)
	server := httptest.NewServer(Config{Refused: func(string) {}}.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.Body.(*timedBody)
		_ = body.control.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // in place of bodyTime
		_, err := io.ReadAll(r.Body)
		read <- err
		if err == nil {
			time.Sleep(100 * time.Millisecond)
			fmt.Fprint(w, r.Context().Err())
		}
	})))
	defer server.Close()
	slow, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
	if err := <-read; err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the slow body: %v", err)
	}
	quick, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Close()
	fmt.Fprint(quick, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
	if err := <-read; err != nil {
		t.Errorf("the quick body: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(quick), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(response.Body); string(text) != "<nil>" {
		t.Errorf("the request that took longer than its body may: %s", text)
	}
}
