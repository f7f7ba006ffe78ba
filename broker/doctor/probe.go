package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const maxAnswer = 64 << 10 // bytes of an answer that are read

// Answer is what a server says of its health.
type Answer struct {
	Status  string // ok or degraded; of /health/ready: ready, draining, …
	Version string // of /health
	Date    time.Time
	At      time.Time // on this machine, when it answered
}

// NotMeshbox is an answer that no meshbox gives.
type NotMeshbox struct{ Status string }

func (e *NotMeshbox) Error() string { return "what answers there is something else (" + e.Status + ")" }

// Probe asks the server that listens at an address of this machine, by path: /health
// or /health/ready. Whether it speaks TLS is up to it. Its certificate is for another
// name, and is not looked at.
func Probe(ctx context.Context, address, path string) (Answer, error) {
	client := newClient(&tls.Config{InsecureSkipVerify: true})
	answer, err := ask(ctx, client, "http://"+address+path)
	if _, spoke := errors.AsType[*NotMeshbox](err); !spoke {
		return answer, err
	}
	if secure, failed := ask(ctx, client, "https://"+address+path); failed == nil {
		return secure, nil
	}
	return answer, err
}

func newClient(t *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func ask(ctx context.Context, client *http.Client, url string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, cause(err)
	}
	defer response.Body.Close()
	at := time.Now()
	var said struct{ Status, Version string }
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&said)
	if err != nil || said.Status == "" || response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return Answer{}, &NotMeshbox{response.Status}
	}
	date, _ := http.ParseTime(response.Header.Get("Date")) // zero: it did not say
	return Answer{Status: said.Status, Version: said.Version, Date: date, At: at}, nil
}

// cause strips what the errors of requests and connections repeat.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || strings.HasPrefix(err.Error(), "tls: ") {
			return err
		}
		err = inner
	}
}

// Reachable is how a program on this machine reaches what a server listens on.
func Reachable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%q: %w; write it as ADDRESS:PORT, such as 127.0.0.1:7900", listen, err)
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
