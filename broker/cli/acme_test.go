//go:build unix

package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"meshbox/web"
)

// authority is a certificate authority that speaks ACME (RFC 8555), as far as a client
// that behaves needs it. It believes every signature, but asks for the challenge.
type authority struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
	port80 string // where the domains' port 80 leads

	mu     sync.Mutex
	nonces int
	asked  []string // domains whose challenge was answered
	domain string
	cert   []byte // PEM; the order is done
	issued int
}

const challengeToken = "token-of-the-challenge"

func newAuthority(t *testing.T, port80 string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, root: root, port80: port80}
	a.server = httptest.NewServer(http.HandlerFunc(a.answer))
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) answer(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nonces++
	w.Header().Set("Replay-Nonce", fmt.Sprint("nonce", a.nonces))
	url := a.server.URL
	said := payload(r)
	switch r.URL.Path {
	case "/directory":
		reply(w, http.StatusOK, map[string]string{"newNonce": url + "/nonce", "newAccount": url + "/account", "newOrder": url + "/order", "revokeCert": url + "/revoke", "keyChange": url + "/change"})
	case "/nonce":
	case "/account":
		w.Header().Set("Location", url+"/account/1")
		reply(w, http.StatusCreated, map[string]string{"status": "valid"})
	case "/order":
		var order struct{ Identifiers []struct{ Value string } }
		_ = json.Unmarshal(said, &order)
		a.domain, a.cert = order.Identifiers[0].Value, nil
		w.Header().Set("Location", url+"/order/1")
		reply(w, http.StatusCreated, a.order())
	case "/order/1":
		w.Header().Set("Location", url+"/order/1")
		reply(w, http.StatusOK, a.order())
	case "/authz/1":
		reply(w, http.StatusOK, map[string]any{"status": a.status("valid"), "identifier": map[string]string{"type": "dns", "value": a.domain}, "challenges": []any{a.challenge()}})
	case "/challenge/1":
		a.validate()
		reply(w, http.StatusOK, a.challenge())
	case "/finalize/1":
		var finalize struct{ CSR string }
		_ = json.Unmarshal(said, &finalize)
		a.issue(finalize.CSR)
		w.Header().Set("Location", url+"/order/1")
		reply(w, http.StatusOK, a.order())
	case "/cert/1":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(a.cert)
	default:
		http.NotFound(w, r)
	}
}

// payload is what a request signs.
func payload(r *http.Request) []byte {
	var signed struct{ Payload string }
	_ = json.NewDecoder(r.Body).Decode(&signed)
	text, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	return text
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (a *authority) status(done string) string {
	if len(a.asked) == 0 {
		return "pending"
	}
	return done
}

func (a *authority) order() map[string]any {
	order := map[string]any{
		"status": a.status("ready"), "identifiers": []any{map[string]string{"type": "dns", "value": a.domain}},
		"authorizations": []string{a.server.URL + "/authz/1"}, "finalize": a.server.URL + "/finalize/1",
	}
	if a.cert != nil {
		order["status"], order["certificate"] = "valid", a.server.URL+"/cert/1"
	}
	return order
}

func (a *authority) challenge() map[string]string {
	return map[string]string{"type": "http-01", "url": a.server.URL + "/challenge/1", "token": challengeToken, "status": a.status("valid")}
}

// validate asks port 80 of the domain for the challenge (RFC 8555, section 8.3).
func (a *authority) validate() {
	r, err := http.NewRequest("GET", "http://"+a.port80+"/.well-known/acme-challenge/"+challengeToken, nil)
	if err != nil {
		a.t.Error(err)
		return
	}
	_, port, _ := net.SplitHostPort(a.port80)
	r.Host = a.domain + ":" + port
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Errorf("the challenge: %v", err)
		return
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(string(text), challengeToken+".") {
		a.t.Errorf("the challenge was answered with %d %s", response.StatusCode, text)
		return
	}
	a.asked = append(a.asked, a.domain)
}

func (a *authority) issue(csr string) {
	der, _ := base64.RawURLEncoding.DecodeString(csr)
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		a.t.Errorf("the request for a certificate: %v", err)
		return
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: []string{a.domain}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, a.root, request.PublicKey, a.key); err != nil {
		a.t.Error(err)
		return
	}
	a.issued++
	a.cert = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})...)
}

// lines is an output that another goroutine may read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// inside runs the server within the test, and returns what it logs and how to end it.
func inside(t *testing.T, args ...string) (out, log *lines, stop func()) {
	t.Helper()
	schema, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	out, log = &lines{}, &lines{}
	a := &app{assets: Assets{Schema: string(schema), Web: web.FS}, in: strings.NewReader(""), out: out, err: log}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int)
	go func() { ended <- a.run(ctx, args) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d:\n%s", code, log)
		}
	})
	t.Cleanup(stop)
	if !eventually(func() bool { return strings.Contains(log.String(), `"msg":"serving"`) }) {
		t.Fatalf("it does not serve:\n%s", log)
	}
	return out, log, stop
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Outcome: the certificate of an authority is asked for at the start, by the challenge
// on port 80, which leads all others to HTTPS; it is kept, so that the next start needs
// no authority.
func TestACME(t *testing.T) {
	port80, listen, folder := freeAddress(t), freeAddress(t), t.TempDir()
	ca := newAuthority(t, port80)
	args := []string{"--db", filepath.Join(folder, "meshbox.db"), "--listen", listen, "--acme-listen", port80, "--acme-domain", "mesh.example.org", "--acme-directory", ca.server.URL + "/directory"}
	out, log, stop := inside(t, args...)
	_, port, _ := net.SplitHostPort(listen)
	if !strings.Contains(out.String(), "https://mesh.example.org:"+port+"/join/") {
		t.Errorf("it printed\n%s", out)
	}
	if !eventually(func() bool { return strings.Contains(log.String(), `"msg":"certificate ready"`) }) {
		t.Fatalf("there is no certificate:\n%s", log)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	health := func() {
		t.Helper()
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, listen)
			},
		}}
		response, err := client.Get("https://mesh.example.org:" + port + "/health")
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("/health: %s", response.Status)
		}
	}
	health()
	if info, err := os.Stat(filepath.Join(folder, "meshbox.db.acme")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of certificates: %v, %v", info, err)
	}
	if ca.issued != 1 {
		t.Errorf("%d certificates were issued", ca.issued)
	}
	noFollow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := noFollow.Get("http://" + port80 + "/i/abcdefgh?x=1")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if want := "https://mesh.example.org:" + port + "/i/abcdefgh?x=1"; response.StatusCode != http.StatusMovedPermanently || response.Header.Get("Location") != want {
		t.Errorf("port 80 answers %d and leads to %s, want %s", response.StatusCode, response.Header.Get("Location"), want)
	}

	stop()
	ca.server.Close()
	_, log, _ = inside(t, args...)
	health()
}
