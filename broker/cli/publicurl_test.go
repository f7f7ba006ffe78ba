package cli

import (
	"errors"
	"net"
	"testing"
)

func TestCheckPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://mesh.example.org":     "https://mesh.example.org",
		"https://mesh.example.org/":    "https://mesh.example.org",
		"https://mesh.example.org//":   "https://mesh.example.org",
		"HTTPS://mesh.example.org:443": "https://mesh.example.org:443",
		"http://192.168.1.5:7900":      "http://192.168.1.5:7900",
		"http://[fd00::1]:7900":        "http://[fd00::1]:7900",
		"http://localhost":             "http://localhost",
	} {
		if got, err := checkPublicURL(text); got != want || err != nil {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "/", "mesh.example.org", "localhost:7900", "//mesh.example.org", "ftp://mesh.example.org", "ws://mesh.example.org",
		"https://", "https://:7900", "https://mesh.example.org:", "https://mesh.example.org:0", "https://mesh.example.org:65536",
		"https://mesh.example.org:port", "https://mesh.example.org/a b", "https://mesh.example.org/a/../b", "https://mesh.example.org/%61", "https://mesh.example.org?", "https://mesh.example.org?a=b",
		"https://mesh.example.org#a", "https://me@mesh.example.org", "https://me:secret@mesh.example.org", " https://mesh.example.org",
		"https://mesh|example.org", "https://mesh example.org", "https://mesh.example.org\n",
	} {
		got, err := checkPublicURL(text)
		if _, ok := errors.AsType[*usageError](err); !ok || got != "" {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
}

func TestDerivePublicURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:7900":    "http://localhost:7900",
		"[::1]:7900":        "http://localhost:7900",
		"0.0.0.0:80":        "http://localhost:80",
		"[::]:7900":         "http://localhost:7900",
		"127.0.0.2:7900":    "http://127.0.0.2:7900", // localhost does not lead there
		"192.168.1.5:65535": "http://192.168.1.5:65535",
		"[fd00::1]:7900":    "http://[fd00::1]:7900",
	} {
		listener, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		got := derivePublicURL(listener, "http")
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
		if checked, err := checkPublicURL(got); checked != got || err != nil {
			t.Errorf("%s: %q is no public URL: %v", address, got, err)
		}
	}
	if got := derivePublicURL(&net.UnixAddr{Name: "socket"}, "http"); got != defaultURL {
		t.Errorf("a Unix socket: got %q", got)
	}
}
