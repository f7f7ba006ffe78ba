package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	ownValid  = 820 * 24 * time.Hour // Apple refuses certificates of more than 825 days
	ownRenew  = 30 * 24 * time.Hour  // before the end
	ownBefore = time.Hour            // for clocks that are behind
	mostNames = 100                  // in one certificate
)

// ownCert is a certificate that meshbox signs itself. A new one, when it ends or the
// machine has other names, has the same key: clients that were told to trust it go
// on doing so.
type ownCert struct {
	cert, key string   // files
	names     []string // that the operator named: hosts and addresses; with * they are patterns
	log       *slog.Logger

	mu    sync.Mutex
	pair  *tls.Certificate
	tried time.Time // when it was last to be renewed
}

// get implements tls.Config.GetCertificate.
func (c *ownCert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.pair.Leaf.NotAfter.Sub(now) < ownRenew && now.Sub(c.tried) > time.Hour {
		c.tried = now
		if err := c.renew(now); err != nil {
			c.log.Error("the certificate could not be renewed; the old one stays", "err", err)
		}
	}
	return c.pair, nil
}

func (c *ownCert) fingerprint() string { return fingerprintOf(c.pair.Certificate[0]) }

// load reads the certificate, or makes one if there is none that fits.
func (c *ownCert) load(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.renew(now)
	case err != nil:
		return fmt.Errorf("the certificate %s and its key can not be used (%w); remove both files to have new ones, which clients have to be told to trust", c.cert, err)
	}
	if err := os.Chmod(c.key, 0o600); err != nil {
		return fmt.Errorf("the key %s can not be made private: %w", c.key, err)
	}
	c.pair = &pair
	if pair.Leaf.NotAfter.Sub(now) < ownRenew || !covers(pair.Leaf, c.wanted()) {
		return c.renew(now)
	}
	return nil
}

// wanted are the names that the certificate must have.
func (c *ownCert) wanted() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
		if !strings.Contains(host, ".") {
			names = append(names, host+".local")
		}
	}
	addresses, _ := net.InterfaceAddrs() // without them it is good for names alone
	for _, a := range addresses {
		if network, err := netip.ParsePrefix(a.String()); err == nil && network.Addr().Is4() && !network.Addr().IsLinkLocalUnicast() {
			names = append(names, network.Addr().String()) // of IPv6 many come and go
		}
	}
	for _, name := range c.names {
		if name != "" && name != "*" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// covers reports whether a certificate is good for all the names.
func covers(leaf *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(namesOf(leaf), name) })
}

func namesOf(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// renew makes a certificate and writes it. Names of the one before stay in it: a
// laptop that is at home every evening needs no new one each time. mu is held.
func (c *ownCert) renew(now time.Time) error {
	names := c.wanted()
	signer, err := c.signer()
	if err != nil {
		return err
	}
	if c.pair != nil {
		for _, name := range namesOf(c.pair.Leaf) {
			if len(names) < mostNames && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	der, err := selfSign(signer, names, now)
	if err != nil {
		return fmt.Errorf("the certificate can not be made: %w", err)
	}
	if err := replaceFile(c.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	c.pair = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer, Leaf: leaf}
	c.log.Info("certificate made", "cert", c.cert, "valid_until", leaf.NotAfter, "fingerprint", c.fingerprint(), "names", strings.Join(names, " "))
	return nil
}

// signer is the key there is, or a new one.
func (c *ownCert) signer() (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(c.key)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, replaceFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("the key of the certificate can not be read: %w", err)
	}
	if block, _ := pem.Decode(text); block != nil {
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := parsed.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s is no key that meshbox made; remove it to have a new one, which clients have to be told to trust", c.key)
}

// selfSign makes a certificate for a server, and for nothing else: whoever trusts it
// trusts no other names.
func selfSign(key *ecdsa.PrivateKey, names []string, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "meshbox"}, NotBefore: now.Add(-ownBefore), NotAfter: now.Add(ownValid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
}

// replaceFile writes a file beside it first, so that a crash leaves the old one or
// the new one.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".meshbox-*") // mode 0600
	if err != nil {
		return fmt.Errorf("%s can not be written: %w", path, err)
	}
	defer os.Remove(temporary.Name()) // fails after the rename
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Chmod(mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closing := temporary.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%s can not be written: %w", path, err)
	}
	return nil
}
