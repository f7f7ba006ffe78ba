package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// soon is when a certificate should have been renewed: with a sixth of its time left,
// at two weeks at the latest. ACME clients do it with a third left.
func soon(c *x509.Certificate) time.Duration {
	return min(14*24*time.Hour, c.NotAfter.Sub(c.NotBefore)/6)
}

// publicURL asks what answers where people go.
func (x *examination) publicURL(ctx context.Context) {
	if x.URL == "" {
		x.URL = x.rememberedURL(ctx)
	}
	answer, err := ask(ctx, newClient(&tls.Config{RootCAs: x.Machine.Roots}), x.URL+"/health")
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	if certificate { // its own check says more: without it, what is behind can still be looked at
		answer, err = ask(ctx, newClient(&tls.Config{InsecureSkipVerify: true}), x.URL+"/health")
	}
	_, foreign := errors.AsType[*NotMeshbox](err)
	switch {
	case err == nil:
		x.answer = &answer
		x.ok("%s answers", x.URL)
	case foreign:
		x.fail("have the proxy pass everything to where meshbox listens", "%s does not lead to meshbox: %s", x.URL, err)
	case !x.running && !x.served: // then nothing can answer
	default:
		x.fail("look at the name, the proxy and the firewall; another address is told with --public-url when the server starts", "the server runs, but %s does not answer: %s", x.URL, err)
	}
}

// rememberedURL is what the server said last.
func (x *examination) rememberedURL(ctx context.Context) string {
	if x.db != nil {
		if known, err := x.db.Setting(ctx, PublicURLKey); err == nil {
			return known
		}
	}
	return defaultURL
}

// websocket connects as a page does: with the page's address as its origin, which
// the server compares to the Host that it gets.
func (x *examination) websocket(ctx context.Context) {
	if x.answer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	client := newClient(&tls.Config{InsecureSkipVerify: true}) // see certificate
	socket, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(x.URL, "http")+"/ws", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Origin": {x.URL}}})
	switch {
	case err == nil:
		socket.CloseNow()
		x.ok("connections get through")
	case response != nil && response.StatusCode == http.StatusForbidden:
		x.fail("have the proxy keep the Host header", "%s/ws refuses pages of %s: another Host arrives at the server", x.URL, x.URL)
	default:
		x.fail("have the proxy pass WebSocket upgrades (the headers Upgrade and Connection)", "%s/ws does not become a WebSocket: %s", x.URL, cause(err))
	}
}

// secureContext: browsers make keys only over HTTPS or on localhost (W3C, Secure
// Contexts, 3.1).
func (x *examination) secureContext(context.Context) {
	u, err := url.Parse(x.URL)
	if err != nil {
		return // then it did not answer either
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
	switch {
	case u.Scheme == "https":
		x.ok("%s is HTTPS", x.URL)
	case local:
		x.ok("browsers on this machine make keys at %s; others need HTTPS", x.URL)
	default:
		x.warn("give it HTTPS, by --tls-self-signed, --acme-domain or a proxy in front (see README, From other machines); until then only agents can join", "at %s browsers make no keys, so nobody can enter the chat", x.URL)
	}
}

// certificate looks at that of the URL as a browser does.
func (x *examination) certificate(ctx context.Context) {
	u, err := url.Parse(x.URL)
	if err != nil || u.Scheme != "https" || x.answer == nil {
		return
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: u.Hostname()}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		x.fail("look at the server, or the proxy before it", "there is no TLS at %s: %s", u.Host, cause(err))
		return
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	now := x.Machine.Now()
	if what, remedy := judgeChain(chain, u.Hostname(), now, x.Machine.Roots); what != "" {
		x.fail(remedy, "%s", what)
		return
	}
	end := chain[0].NotAfter
	if end.Sub(now) < soon(chain[0]) {
		x.warn("find out why it was not renewed by itself", "the certificate of %s ends on %s", u.Hostname(), end.Format(time.DateOnly))
		return
	}
	x.ok("browsers trust it until %s", end.Format(time.DateOnly))
}

// judgeChain says why browsers would not take a chain of certificates, "" if they do.
func judgeChain(chain []*x509.Certificate, host string, now time.Time, roots *x509.CertPool) (what, remedy string) {
	leaf, others := chain[0], x509.NewCertPool()
	for _, certificate := range chain[1:] {
		others.AddCert(certificate)
	}
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Sprintf("the certificate of %s ended on %s", host, leaf.NotAfter.Format(time.DateOnly)), "renew it, and have what serves it read it anew"
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("the certificate of %s begins on %s only", host, leaf.NotBefore.Format(time.DateOnly)), "look at the clocks of this machine and of the one that made it"
	case leaf.VerifyHostname(host) != nil:
		return fmt.Sprintf("the certificate is not for %s but for %s", host, strings.Join(names(leaf), ", ")), "get one for that name, or use one of its names as --public-url"
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, CurrentTime: now})
	if err == nil {
		return "", ""
	}
	if leaf.CheckSignatureFrom(leaf) == nil || leaf.Issuer.String() == leaf.Subject.String() {
		return fmt.Sprintf("the certificate of %s is self-signed, and browsers and agents refuse it", host), "get one that they trust, such as by ACME, or add its maker to what the machines trust"
	}
	return fmt.Sprintf("the certificate of %s is not trusted: %s", host, err), "serve the whole chain, with the intermediate certificates, or add its maker to what the machines trust"
}

// names are what a certificate is for.
func names(c *x509.Certificate) []string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return []string{"no name at all"}
	}
	return all[:min(len(all), 3)]
}
