package peer

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Trust is what a client trusts besides the authorities that its system knows: the
// certificate that a broker made for itself.
type Trust struct {
	// Fingerprint is the SHA-256 of one certificate, 64 hex digits.
	Fingerprint string
	// Key is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), 64
	// hex digits. It outlives the certificate.
	Key string
}

// ParseFingerprint reads a fingerprint as browsers, openssl and meshbox write it.
func ParseFingerprint(text string) (string, error) {
	plain := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	if raw, err := hex.DecodeString(plain); err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%q is no SHA-256 fingerprint: that is 64 hex digits, perhaps in pairs with colons", text)
	}
	return plain, nil
}

// trusted is a Trust at work: it learns the key of the certificate that the
// fingerprint means.
type trusted struct {
	mu    sync.Mutex
	trust Trust
}

// client does requests; its connections are not kept.
func (t *trusted) client() *http.Client {
	if t.get() == (Trust{}) {
		return http.DefaultClient
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.TLSClientConfig = &tls.Config{
		InsecureSkipVerify: true, // verify does it, for certificates of authorities exactly as it is done otherwise
		VerifyConnection:   t.verify,
	}
	return &http.Client{Transport: transport}
}

func (t *trusted) get() Trust {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trust
}

// verify accepts what is trusted by name, and what the system trusts.
func (t *trusted) verify(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	key := hexSum(leaf.RawSubjectPublicKeyInfo)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trust.Key == key {
		return nil
	}
	if t.trust.Fingerprint == hexSum(leaf.Raw) {
		t.trust.Key = key
		return nil
	}
	rest := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		rest.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: state.ServerName, Intermediates: rest}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

func hexSum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// HTTPClient is for requests to the broker of an identity; its connections are not
// kept if it trusts a certificate of its own.
func (i Identity) HTTPClient() *http.Client {
	return (&trusted{trust: Trust{Key: i.CertKey}}).client()
}

// unreachable makes a sentence of why a request to a broker failed.
func unreachable(at string, err error) error {
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(untrusted.UnverifiedCertificates) > 0 {
		return fmt.Errorf("the certificate of %s is not trusted here (%w); if this is the fingerprint that meshbox prints when it starts, "+
			"join with --fingerprint %s, else somebody else answers", at, untrusted.Err, hexSum(untrusted.UnverifiedCertificates[0].Raw))
	}
	return fmt.Errorf("cannot reach the broker at %s (%w); is it running?", at, dialError(err))
}
