package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// own returns an ownCert in a folder, loaded, and what it logs.
func own(t *testing.T, folder string, names ...string) (*ownCert, *bytes.Buffer) {
	t.Helper()
	said := &bytes.Buffer{}
	c := &ownCert{cert: filepath.Join(folder, "c.crt"), key: filepath.Join(folder, "c.key"), names: names, log: slog.New(slog.NewTextHandler(said, nil))}
	if err := c.load(time.Now()); err != nil {
		t.Fatal(err)
	}
	return c, said
}

func TestOwnCertificate(t *testing.T) {
	folder := t.TempDir()
	first, _ := own(t, folder, "mesh.example.org", "192.0.2.7", "*")
	leaf := first.pair.Leaf
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "mesh.example.org", "192.0.2.7"} {
		if err := leaf.VerifyHostname(strings.Trim(name, "[]")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "mesh.example.org"}); err != nil {
		t.Errorf("a client that is given the file does not trust it: %v", err)
	}
	if leaf.IsCA {
		t.Error("whoever trusts it trusts it for every name")
	}
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days > 825 {
		t.Errorf("valid for %.0f days: Apple refuses it", days)
	}
	if again, _ := own(t, folder, "mesh.example.org"); again.fingerprint() != first.fingerprint() {
		t.Error("a start made a new one")
	}
	more, _ := own(t, folder, "other.example.org")
	if more.fingerprint() == first.fingerprint() || more.pair.Leaf.VerifyHostname("other.example.org") != nil || more.pair.Leaf.VerifyHostname("mesh.example.org") != nil {
		t.Errorf("another name: %v", namesOf(more.pair.Leaf))
	}
	if !slices.Equal(more.pair.Leaf.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("the key changed")
	}
}

// A certificate that is about to end is made anew while the server runs.
func TestOwnCertificateIsRenewed(t *testing.T) {
	folder := t.TempDir()
	c, _ := own(t, folder)
	if err := c.renew(time.Now().Add(ownRenew - ownValid - time.Hour)); err != nil { // 29 days left
		t.Fatal(err)
	}
	before := c.fingerprint()
	pair, err := c.get(nil)
	if err != nil || c.fingerprint() == before || time.Until(pair.Leaf.NotAfter) < ownValid-time.Hour {
		t.Errorf("valid until %v, %v", pair.Leaf.NotAfter, err)
	}
	if err := c.renew(time.Now().Add(-2 * ownValid)); err != nil {
		t.Fatal(err)
	}
	if again, said := own(t, folder); time.Until(again.pair.Leaf.NotAfter) < ownValid-time.Hour || !strings.Contains(said.String(), "certificate made") {
		t.Errorf("at a start: %s", said)
	}
}

// A pair of files that changes is read again; half of a new pair, or a broken one, is
// said once and leaves the old one at work.
func TestCertificateFilesAreReloaded(t *testing.T) {
	folder := t.TempDir()
	one, _ := own(t, t.TempDir(), "one.example.org")
	two, _ := own(t, t.TempDir(), "two.example.org")
	said := &bytes.Buffer{}
	c := &certFiles{cert: filepath.Join(folder, "c.crt"), key: filepath.Join(folder, "c.key"), log: slog.New(slog.NewTextHandler(said, nil))}
	copyFile := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
		stamp := time.Now().Add(time.Duration(len(said.String())+1) * time.Minute) // a coarse clock must not hide it
		if err := os.Chtimes(to, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.load(time.Now()); err == nil {
		t.Error("files that are not there were loaded")
	}
	copyFile(one.cert, c.cert)
	copyFile(one.key, c.key)
	if err := c.load(time.Now()); err != nil {
		t.Fatal(err)
	}
	serves := func(name string) bool {
		t.Helper()
		c.looked = time.Time{} // a second has passed
		pair, err := c.get(nil)
		return err == nil && pair.Leaf.VerifyHostname(name) == nil
	}
	if !serves("one.example.org") {
		t.Fatal("the first one is not served")
	}
	copyFile(two.cert, c.cert)
	for range 3 {
		if !serves("one.example.org") {
			t.Fatal("half of a new pair: the old one is not served")
		}
	}
	if n := strings.Count(said.String(), "the old one stays"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said)
	}
	copyFile(two.key, c.key)
	if !serves("two.example.org") {
		t.Errorf("the new one is not served:\n%s", said)
	}
	if err := os.Remove(c.key); err != nil {
		t.Fatal(err)
	}
	if !serves("two.example.org") {
		t.Error("without its key the old one is not served")
	}
	// Not looked at again within a second.
	copyFile(one.cert, c.cert)
	copyFile(one.key, c.key)
	if pair, _ := c.get(nil); pair.Leaf.VerifyHostname("two.example.org") != nil {
		t.Error("the files are read at every handshake")
	}
}

func TestFingerprints(t *testing.T) {
	c, _ := own(t, t.TempDir())
	text, err := os.ReadFile(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if got := fingerprintOf(block.Bytes); got != c.fingerprint() || len(colons(got)) != 95 {
		t.Errorf("%s, %s", got, colons(got))
	}
}

func TestNamesOfAServer(t *testing.T) {
	f := netFlags{hosts: []string{"a.example.org"}, acme: acmeFlags{domains: []string{"b.example.org"}}}
	names := f.names("https://c.example.org:8443/mesh")
	host, _ := os.Hostname()
	for _, want := range []string{"a.example.org", "b.example.org", "c.example.org", host} {
		if !slices.Contains(names, want) {
			t.Errorf("%q is missing in %v", want, names)
		}
	}
}

func TestAuthoritysRefusalIsSaidOnceAMinute(t *testing.T) {
	said := &bytes.Buffer{}
	w := &acmeWatch{domains: []string{"mesh.example.org"}, log: slog.New(slog.NewTextHandler(said, nil)), get: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, context.DeadlineExceeded
	}}
	for range 3 {
		for _, name := range []string{"mesh.example.org", "scanner.example", ""} {
			if _, err := w.certificate(&tls.ClientHelloInfo{ServerName: name}); err == nil {
				t.Fatal("there is a certificate")
			}
		}
	}
	if n := strings.Count(said.String(), "there is no certificate"); n != 1 || strings.Contains(said.String(), "scanner") {
		t.Errorf("said:\n%s", said)
	}
	w.note("mesh.example.org", context.DeadlineExceeded, time.Now().Add(time.Minute))
	if n := strings.Count(said.String(), "there is no certificate"); n != 2 {
		t.Errorf("a minute later:\n%s", said)
	}
}
