package cli

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

	"github.com/spf13/cobra"
)

const healthTime = 3 * time.Second // what the server may take to answer

func (a *app) healthCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "health", Short: "Ask the server of this machine whether it is ready",
		Long: `Ask the server of this machine whether it is ready, and exit with 1 if it is not:
for the health checks of containers and monitors. "meshbox doctor" says more.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return a.health(c.Context(), listen) },
	}
	c.Flags().StringVar(&listen, "listen", defaultListen, "where the server listens, as it was told")
	return c
}

func (a *app) health(ctx context.Context, listen string) error {
	address, err := reachable(listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	status, err := askReady(ctx, address)
	if err != nil {
		return fmt.Errorf("no meshbox answers at %s: %w; is it running, and does --listen say where?", address, err)
	}
	if status != "ready" {
		return fmt.Errorf("the meshbox at %s is not ready: %s", address, status)
	}
	fmt.Fprintln(a.out, "ready")
	return nil
}

// reachable is how a program on this machine reaches what a server listens on.
func reachable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", usagef("--listen %q: %w; write it as ADDRESS:PORT, such as 127.0.0.1:7900", listen, err)
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// askReady returns what the server at an address says of itself. Whether it speaks
// TLS is up to it; its certificate is for another name, and who listens on this
// machine's own address needs none.
func askReady(ctx context.Context, address string) (status string, err error) {
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, scheme := range []string{"http", "https"} {
		if status, err = readyStatus(ctx, &client, scheme+"://"+address+"/health/ready"); err == nil {
			return status, nil
		}
		if _, spoke := errors.AsType[*notMeshbox](err); !spoke {
			return "", err
		}
	}
	return "", err
}

// notMeshbox is an answer that no meshbox gives.
type notMeshbox struct{ status string }

func (e *notMeshbox) Error() string { return "what answers there is something else (" + e.status + ")" }

func readyStatus(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", cause(err)
	}
	defer response.Body.Close()
	var answer struct{ Status string }
	err = json.NewDecoder(io.LimitReader(response.Body, maxBodyRead)).Decode(&answer)
	if err != nil || answer.Status == "" || response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return "", &notMeshbox{response.Status}
	}
	return printable(answer.Status), nil
}

const maxBodyRead = 64 << 10 // bytes of an answer that are read

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
