package mcp

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const listenFrame = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},
	"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`

// Some clients leave a request open for news: each key gets so many of them, and
// they end with the server, which does not wait for them.
func TestRequestsLeftOpenAreBoundedAndEnd(t *testing.T) {
	h := NewHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "{}") }), "test")
	server := httptest.NewServer(h)
	defer server.Close()
	listen := func(key string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/mcp/"+key, strings.NewReader(listenFrame))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
			"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen",
		} {
			r.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	var open []*http.Response
	for range maxHTTPOpen {
		open = append(open, listen("cm_a"))
	}
	open = append(open, listen("cm_b"))
	for _, response := range open {
		if response.StatusCode != http.StatusOK {
			t.Fatalf("a listener is answered with %d", response.StatusCode)
		}
	}
	if response := listen("cm_a"); response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") == "" {
		t.Errorf("one too many is answered with %d", response.StatusCode)
	}
	h.Drain()
	for _, response := range open {
		_, _ = io.ReadAll(response.Body) // ends, however it does
	}
	if response := listen("cm_c"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("during the end a request is answered with %d", response.StatusCode)
	}
}
