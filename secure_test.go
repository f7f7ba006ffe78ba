package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Outcome: from another machine, by its name, below a path and with a certificate of
// the server's own that the person accepted, the chat is what it is on localhost.
func TestChatOverOwnCertificateBelowAPath(t *testing.T) {
	page := chromium(t, chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("host-resolver-rules", "MAP nas.local 127.0.0.1"))
	port, folder := freePort(t), t.TempDir()
	base, db := "https://nas.local:"+port+"/mesh", filepath.Join(folder, "meshbox.db")
	program := build(t)
	startBehind(t, program, filepath.Join(folder, "log"), "--db", db, "--listen", "127.0.0.1:"+port, "--tls-self-signed", "--public-url", base)
	link := invite(t, program, db)
	if !strings.HasPrefix(link, base+"/i/") {
		t.Fatalf("the link is %s", link)
	}
	do(t, page, enter(link, "Olga"), write("#composer", "from another room"), key("Enter"), sees("Olga", "from another room"))
	if address := js[string](t, page, "location.href"); !strings.HasPrefix(address, base+"/") || strings.Contains(address, "/i/") {
		t.Errorf("the address is %s", address)
	}
	do(t, page, chromedp.Reload(), chromedp.WaitVisible(composer), sees("Olga", "from another room"))
	do(t, page, chromedp.Navigate(base), chromedp.WaitVisible(composer), sees("Olga", "from another room"))
	if !js[bool](t, page, "isSecureContext") {
		t.Error("it is no secure context")
	}
	if scope := js[string](t, page, `(async () => {
		const link = document.querySelector("link[rel=manifest]").href;
		const manifest = await (await fetch(link)).json();
		return new URL(manifest.scope, link).href;
	})()`); scope != base+"/" {
		t.Errorf("the scope of the app is %s", scope)
	}
	do(t, page, chromedp.Navigate(base+"/i/abcdefgh"), shows("#welcome, #screen", "not known here"))
}
