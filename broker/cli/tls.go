package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// secured is where the server's certificates come from.
type secured struct {
	config      *tls.Config                     // nil: plain HTTP
	fingerprint string                          // SHA-256 of a self-signed certificate, in hex; "" for others
	answer      func(http.Handler) http.Handler // answers an authority's questions before the handler; nil without ACME
	begin       func(context.Context)           // what to do beside serving; nil for nothing
}

// secure prepares HTTPS for a server with that data file and public URL.
func (f *netFlags) secure(data, publicURL string, log *slog.Logger) (secured, error) {
	switch {
	case f.cert != "":
		files := &certFiles{cert: f.cert, key: f.key, log: log}
		if err := files.load(time.Now()); err != nil {
			return secured{}, err
		}
		return secured{config: &tls.Config{GetCertificate: files.get}}, nil
	case f.selfSigned:
		u, err := url.Parse(publicURL)
		if err != nil {
			return secured{}, err
		}
		own := &ownCert{cert: data + ".crt", key: data + ".key", names: append([]string{u.Hostname()}, f.hosts...), log: log}
		if err := own.load(time.Now()); err != nil {
			return secured{}, err
		}
		return secured{config: &tls.Config{GetCertificate: own.get}, fingerprint: own.fingerprint()}, nil
	case len(f.acme.domains) > 0:
		return f.acme.secure(data+".acme", log), nil
	}
	return secured{}, nil
}

// fingerprintOf is the SHA-256 of a certificate in hex, as browsers show it.
func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// colons writes a fingerprint as browsers do: AB:CD:…
func colons(fingerprint string) string {
	var pairs []string
	for i := 0; i+2 <= len(fingerprint); i += 2 {
		pairs = append(pairs, strings.ToUpper(fingerprint[i:i+2]))
	}
	return strings.Join(pairs, ":")
}

// lookAgain is how often files of certificates are looked at, at most.
const lookAgain = time.Second

// certFiles are a certificate and its key that somebody else renews.
type certFiles struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	looked time.Time
	stamp  string // what the files looked like when they were read last
}

// get implements tls.Config.GetCertificate. A new pair that cannot be used, such as
// one whose other half is not written yet, is logged once; the old one stays.
func (c *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookAgain {
		return c.pair, nil
	}
	c.looked = now
	stamp := stampOf(c.cert) + stampOf(c.key)
	if stamp == c.stamp {
		return c.pair, nil
	}
	if err := c.read(); err != nil {
		c.log.Error("the new certificate can not be used; the old one stays", "err", err)
	} else {
		c.log.Info("certificate loaded", "cert", c.cert, "valid_until", c.pair.Leaf.NotAfter)
	}
	c.stamp = stamp
	return c.pair, nil
}

// load reads the files for the first time.
func (c *certFiles) load(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked, c.stamp = now, stampOf(c.cert)+stampOf(c.key) // before they are read: a change meanwhile is seen later
	if err := c.read(); err != nil {
		return err
	}
	if c.pair.Leaf.NotAfter.Before(now) {
		c.log.Warn("the certificate has expired", "cert", c.cert, "valid_until", c.pair.Leaf.NotAfter)
	}
	return nil
}

// read is done with mu held.
func (c *certFiles) read() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("the certificate %s and its key %s can not be used: %w", c.cert, c.key, err)
	}
	c.pair = &pair
	return nil
}

// stampOf changes when a file does.
func stampOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "-"
	}
	return fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
}

// secure gets certificates by ACME (RFC 8555) and keeps them in cache, a folder of
// mode 0700.
func (f *acmeFlags) secure(cache string, log *slog.Logger) secured {
	manager := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cache), HostPolicy: autocert.HostWhitelist(f.domains...), Email: f.email,
	}
	if f.directory != "" {
		manager.Client = &acme.Client{DirectoryURL: f.directory}
	}
	config := manager.TLSConfig()
	watched := &acmeWatch{get: config.GetCertificate, log: log, domains: f.domains}
	config.GetCertificate = watched.certificate
	return secured{config: config, answer: answering(manager), begin: watched.begin}
}

// answering is the manager's HTTPHandler for every port: it takes a Host header with one
// for another domain.
func answering(manager *autocert.Manager) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		answer := manager.HTTPHandler(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name, _, err := net.SplitHostPort(r.Host); err == nil {
				r.Host = name
			}
			answer.ServeHTTP(w, r)
		})
	}
}

// acmeWatch says in the log why there is no certificate.
type acmeWatch struct {
	get     func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	log     *slog.Logger
	domains []string

	mu   sync.Mutex
	said map[string]time.Time // when, by domain
}

// certificate implements tls.Config.GetCertificate.
func (w *acmeWatch) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := w.get(hello)
	if err != nil {
		w.note(hello.ServerName, err, time.Now())
	}
	return pair, err
}

// note logs a failure of one of the domains, once a minute; other names are scanners'.
func (w *acmeWatch) note(domain string, err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, known := range w.domains {
		if strings.EqualFold(known, domain) && now.Sub(w.said[domain]) >= time.Minute {
			if w.said == nil {
				w.said = map[string]time.Time{}
			}
			w.said[domain] = now
			w.log.Error("there is no certificate; check that the domain and its port 80 lead here", "domain", domain, "err", err)
		}
	}
}

// begin asks for the certificates at once, so that a mistake shows at the start and
// not with the first visitor.
func (w *acmeWatch) begin(ctx context.Context) {
	for _, domain := range w.domains {
		// As browsers do: autocert would get another certificate, of RSA, for who has no ECDSA.
		hello := &tls.ClientHelloInfo{
			ServerName: domain, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
			SupportedCurves: []tls.CurveID{tls.CurveP256}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		}
		if ctx.Err() != nil {
			return
		}
		if pair, err := w.certificate(hello); err == nil && pair.Leaf != nil {
			w.log.Info("certificate ready", "domain", domain, "valid_until", pair.Leaf.NotAfter)
		}
	}
}
