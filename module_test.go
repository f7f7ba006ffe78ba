package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"meshbox/web"
)

// modules opens an empty page whose scripts can import the modules of the web
// chat, as in import("/dom.js"), or skips the test.
func modules(t *testing.T) context.Context {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(web.FS))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>module test</title><body></body></html>`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	page := chromium(t)
	do(t, page, chromedp.Navigate(server.URL+"/"))
	return page
}

// evaluate calls a JavaScript function in the page and returns what it returns,
// or what its promise becomes. The arguments go there as JSON.
func evaluate[T any](t *testing.T, page context.Context, function string, args ...any) T {
	t.Helper()
	list := make([]string, len(args))
	for i, arg := range args {
		encoded, err := json.Marshal(arg)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = string(encoded)
	}
	bounded, cancel := context.WithTimeout(page, 2*patience)
	defer cancel()
	call := fmt.Sprintf("(%s)(%s)", function, strings.Join(list, ", "))
	result, err := chromedp.Run(bounded, chromedp.Evaluate[T](call, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v\nin %s", err, function)
	}
	return result
}

func TestModuleHelpers(t *testing.T) {
	page := modules(t)
	tag := evaluate[string](t, page, `async (tag, text) => (await import("/dom.js")).h(tag, {}, text).outerHTML`, "p", `</p>"é`)
	if want := `<p>&lt;/p&gt;"é</p>`; tag != want {
		t.Errorf("got %s, want %s", tag, want)
	}
}
