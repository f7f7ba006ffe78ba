package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthOfWhatAnswers(t *testing.T) {
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	for name, test := range map[string]struct {
		server *httptest.Server
		code   int
		says   string
	}{
		"ready":        {httptest.NewServer(answer(200, `{"status":"ready"}`)), 0, "ready\n"},
		"ready by TLS": {httptest.NewTLSServer(answer(200, `{"status":"ready"}`)), 0, "ready\n"},
		"draining":     {httptest.NewServer(answer(503, `{"status":"draining"}`)), 1, "is not ready: draining\n"},
		"a page":       {httptest.NewServer(answer(200, `<html>`)), 1, "no meshbox answers at "},
		"no such page": {httptest.NewServer(http.NotFoundHandler()), 1, "no meshbox answers at "},
	} {
		t.Run(name, func(t *testing.T) {
			defer test.server.Close()
			code, out, said := runForTest(t, "health", "--listen", test.server.Listener.Addr().String())
			if code != test.code || !strings.Contains(out+said, test.says) {
				t.Errorf("code %d, stdout %q, stderr %q", code, out, said)
			}
		})
	}
}

func TestReachableIsOnThisMachine(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:7900": "127.0.0.1:7900", "0.0.0.0:80": "127.0.0.1:80", ":7900": "127.0.0.1:7900", "[::]:7900": "[::1]:7900", "192.168.1.5:7900": "192.168.1.5:7900",
	} {
		if got, err := reachable(listen); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", listen, got, err, want)
		}
	}
}
