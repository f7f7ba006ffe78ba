package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"meshbox/broker/gate"
)

const (
	acmeListen = ":443" // instead of defaultListen, with --acme-domain
	challenges = ":80"  // where an authority asks (RFC 8555, section 8.3)

	firstInherited = 3 // file descriptor (sd_listen_fds(3))
)

// netFlags say where the server is and who may reach it.
type netFlags struct {
	listen     string
	listenSet  bool
	basePath   string
	hosts      []string
	proxies    []string
	total      int
	cert, key  string
	selfSigned bool
	acme       acmeFlags
}

// acmeFlags say how a certificate is asked for.
type acmeFlags struct {
	domains   []string
	email     string
	directory string
	listen    string
}

func (f *netFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", defaultListen, "address and port to listen on")
	flags.StringVar(&f.basePath, "base-path", "", "serve below this path, such as /mesh (default: the path of --public-url)")
	flags.StringSliceVar(&f.hosts, "allowed-hosts", nil, "further names this server answers for, such as mesh.example.org or *.example.org; * is every name")
	flags.StringSliceVar(&f.proxies, "trusted-proxies", nil, "addresses or ranges of proxies whose X-Forwarded-… headers are believed")
	flags.StringVar(&f.cert, "tls-cert", "", "serve HTTPS with this certificate (PEM, with its chain); read again when it changes")
	flags.StringVar(&f.key, "tls-key", "", "the key of --tls-cert")
	flags.BoolVar(&f.selfSigned, "tls-self-signed", false, "serve HTTPS with a certificate of its own making, kept beside the data file")
	flags.StringSliceVar(&f.acme.domains, "acme-domain", nil, "serve HTTPS with a certificate from Let's Encrypt for this domain; may be repeated")
	flags.StringVar(&f.acme.email, "acme-email", "", "where the authority may write to")
	flags.StringVar(&f.acme.directory, "acme-directory", "", "another authority than Let's Encrypt, by its ACME directory")
	flags.StringVar(&f.acme.listen, "acme-listen", challenges, "where the authority's questions come in; port 80 must lead there")
	flags.IntVar(&f.total, "max-total-connections", 20_000, "TCP connections of the process")
}

// check refuses what cannot work, before anything has happened.
func (f *netFlags) check() error {
	ways := 0
	for _, wanted := range []bool{f.cert != "" || f.key != "", f.selfSigned, len(f.acme.domains) > 0} {
		if wanted {
			ways++
		}
	}
	switch {
	case ways > 1:
		return usagef("--tls-cert, --tls-self-signed and --acme-domain do not go together; choose one")
	case (f.cert == "") != (f.key == ""):
		return usagef("--tls-cert and --tls-key go together; give both")
	case f.total < 1:
		return usagef("--max-total-connections must be at least 1")
	}
	for _, name := range f.acme.domains {
		if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") || strings.ContainsAny(name, ":/*") {
			return usagef("--acme-domain %q must be a name such as mesh.example.org", name)
		}
	}
	if _, err := gate.ParseNetworks(f.proxies); err != nil {
		return usagef("--trusted-proxies: %w", err)
	}
	var err error
	f.basePath, err = checkBasePath(f.basePath)
	return err
}

// isSecure reports whether HTTPS is served.
func (f *netFlags) isSecure() bool { return f.cert != "" || f.selfSigned || len(f.acme.domains) > 0 }

// sockets are what a server listens on.
type sockets struct {
	main      []net.Listener // at least one
	challenge net.Listener   // nil without --acme-domain
}

func (s *sockets) close() {
	for _, l := range s.main {
		l.Close()
	}
	if s.challenge != nil {
		s.challenge.Close()
	}
}

// address is where to listen.
func (f *netFlags) address() string {
	if len(f.acme.domains) > 0 && !f.listenSet {
		return acmeListen
	}
	return f.listen
}

// open listens, unless a service manager has done that already.
func (f *netFlags) open() (s *sockets, err error) {
	s = &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	all, err := inherited()
	if err != nil {
		return s, err
	}
	for _, l := range all {
		if address := l.Addr().(*net.TCPAddr); len(f.acme.domains) > 0 && address.Port == 80 {
			s.challenge = l
		} else {
			s.main = append(s.main, l)
		}
	}
	if len(s.main) == 0 {
		address := f.address()
		l, err := net.Listen("tcp", address)
		if err != nil {
			return s, listenError("--listen", address, err)
		}
		s.main = append(s.main, l)
	}
	if len(f.acme.domains) > 0 && s.challenge == nil {
		if s.challenge, err = net.Listen("tcp", f.acme.listen); err != nil {
			return s, listenError("--acme-listen", f.acme.listen, err)
		}
	}
	return s, nil
}

// inherited returns the sockets that systemd opened for this process, as
// sd_listen_fds(3) says: LISTEN_FDS of them, from descriptor 3 on.
func inherited() (all []net.Listener, err error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			os.Unsetenv(name) // they are not for what this process starts
		}
	}()
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	for i := range count {
		file := os.NewFile(uintptr(firstInherited+i), "socket "+strconv.Itoa(i))
		l, err := net.FileListener(file)
		file.Close() // l has a copy
		if err == nil {
			all = append(all, l)
			if _, ok := l.Addr().(*net.TCPAddr); ok {
				continue
			}
		}
		for _, l := range all {
			l.Close()
		}
		return nil, fmt.Errorf("socket %d of the service manager cannot be used; the unit needs ListenStream=ADDRESS:PORT", i+1)
	}
	return all, nil
}

// listenError makes a sentence of why an address cannot be listened on.
func listenError(flag, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the address %s is in use, perhaps by another meshbox; stop that, or choose another with %s", address, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s is not allowed; ports below 1024 need root or a socket of systemd: choose another with %s", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("the address %s is not one of this machine's; choose another with %s", address, flag)
	}
	if wrapped, ok := errors.AsType[*net.OpError](err); ok {
		err = wrapped.Err
	}
	if _, ok := errors.AsType[*os.SyscallError](err); ok {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with %s", address, err, flag)
	}
	return usagef("%s %q: %w; write it as ADDRESS:PORT, such as 127.0.0.1:7900", flag, address, err)
}

// names are those the server answers for, see gate.Hosts: what the operator says, and
// what this machine is called.
func (f *netFlags) names(publicURL string) []string {
	names := append([]string{}, f.hosts...)
	if u, err := url.Parse(publicURL); err == nil {
		names = append(names, u.Hostname())
	}
	names = append(names, f.acme.domains...)
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
		for _, domain := range searchDomains("/etc/resolv.conf") {
			names = append(names, name+"."+domain)
		}
	}
	return names
}

// searchDomains are those of the network at home, as a router names them: this machine
// is called nas.fritz.box there (resolv.conf(5)).
func searchDomains(path string) (domains []string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "search" || words[0] == "domain") {
			domains = append(domains, words[1:]...)
		}
	}
	return domains
}

// isOpen reports whether another machine can reach one of the listeners.
func isOpen(all []net.Listener) bool {
	for _, l := range all {
		if address, ok := l.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
			return true
		}
	}
	return false
}
