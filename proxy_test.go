package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// These tests put real reverse proxies in front of the program, with the very
// snippets of the README.

// snippet returns the README's block of code in that language.
func snippet(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("the README has no snippet for %s", language)
	}
	return string(found[1])
}

// replace replaces all that it is given, in pairs, and wants each to be there.
func replace(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the snippet has no %q:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// proxyBinary finds a program, or skips the test.
func proxyBinary(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, folder := range []string{"/usr/sbin", "/usr/local/sbin"} { // not in the path of everybody
			if path, err = exec.LookPath(filepath.Join(folder, name)); err == nil {
				break
			}
		}
	}
	if err != nil {
		if os.Getenv("MESHBOX_REQUIRE_PROXIES") == "1" {
			t.Fatalf("%s is required and was not found", name)
		}
		t.Skipf("%s was not found; install it to run this test (Debian: apt-get install %s)", name, name)
	}
	return path
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// runProxy starts a proxy and waits until something listens on its port.
func runProxy(t *testing.T, port string, command *exec.Cmd) {
	t.Helper()
	said := &bytes.Buffer{}
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			command.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended with %v:\n%s", command.Path, err, said)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s: %v", command.Path, port, err)
		}
	}
}

func TestBehindNginx(t *testing.T) {
	nginx := proxyBinary(t, "nginx")
	folder, port, inner := t.TempDir(), freePort(t), freePort(t)
	cert, key := certificate(t, folder)
	config := "daemon off; worker_processes 1; error_log stderr; pid " + folder + "/pid;\nevents {}\nhttp {\naccess_log off;\n"
	if os.Getuid() == 0 {
		config = "user root;\n" + config
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		config += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, folder, kind)
	}
	config += replace(t, snippet(t, "nginx"), "listen 443 ssl", "listen 127.0.0.1:"+port+" ssl http2", "home.example.org;", "localhost;", "/etc/ssl/home.example.org.crt", cert,
		"/etc/ssl/home.example.org.key", key, "127.0.0.1:7900", "127.0.0.1:"+inner) + "}\n"
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// It answers 502 until the program is up, which is no matter.
	runProxy(t, port, exec.Command(nginx, "-p", folder, "-c", file))
	worksBehind(t, port, inner)
}

func TestBehindCaddy(t *testing.T) {
	caddy := proxyBinary(t, "caddy")
	for name, handle := range map[string]string{"the path stays": "handle /mesh/*", "the path is taken off": "handle_path /mesh/*"} {
		t.Run(name, func(t *testing.T) {
			folder, port, inner := t.TempDir(), freePort(t), freePort(t)
			config := "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n" +
				replace(t, snippet(t, "caddy"), "home.example.org", "localhost:"+port, "127.0.0.1:7900", "127.0.0.1:"+inner, "handle /mesh/*", handle)
			file := filepath.Join(folder, "Caddyfile")
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(caddy, "run", "--config", file, "--adapter", "caddyfile")
			command.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
			runProxy(t, port, command)
			worksBehind(t, port, inner)
		})
	}
}

// certificate makes one for localhost.
func certificate(t *testing.T, folder string) (cert, key string) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(folder, "c.crt"), filepath.Join(folder, "c.key")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// worksBehind runs the program behind the proxy on that port, and does through it what
// people, agents and scripts do.
func worksBehind(t *testing.T, port, inner string) {
	t.Helper()
	base, db := "https://localhost:"+port+"/mesh", filepath.Join(t.TempDir(), "meshbox.db")
	program, log := build(t), filepath.Join(t.TempDir(), "log")
	startBehind(t, program, log, "--db", db, "--listen", "127.0.0.1:"+inner, "--public-url", base, "--trusted-proxies", "127.0.0.1,::1", "--log-format", "json")
	trust := peer.Trust{Fingerprint: fingerprintAt(t, port)}
	join := func(name string) peer.Options {
		t.Helper()
		invite := invite(t, program, db)
		if !strings.HasPrefix(invite, base+"/i/") {
			t.Fatalf("the invite is %s", invite)
		}
		invitation, err := peer.Resolve(t.Context(), invite, trust)
		if err != nil {
			t.Fatal(err)
		}
		id, err := invitation.Join(t.Context(), name, identity.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		return peer.Options{Identity: id}
	}
	ann, err := peer.Dial(t.Context(), join("ann"))
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close()
	bob, err := peer.Dial(t.Context(), join("bob"))
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	say(t, ann, "#general", "through the proxy")
	wantText(t, bob, "through the proxy")
	say(t, bob, ann.Key(), "and back, sealed")
	wantText(t, ann, "and back, sealed")

	key, err := peer.Ask[*wire.APIKeyCreated](t.Context(), ann, &wire.APIKeyCreate{Capabilities: []string{"send", "read"}})
	if err != nil {
		t.Fatal(err)
	}
	scriptsWork(t, base, key.Secret, bob)
	pageWorks(t, base)
	clientIsKnown(t, base, log)
}

func startBehind(t *testing.T, program, log string, args ...string) {
	t.Helper()
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	command := exec.Command(program, args...)
	command.Stderr = file
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "Ctrl-C") {
			go io.Copy(io.Discard, out)
			return
		}
	}
	said, _ := os.ReadFile(log)
	t.Fatalf("the program does not run:\n%s", said)
}

func invite(t *testing.T, program, db string) string {
	t.Helper()
	text, err := exec.Command(program, "invite", "--db", db, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Short string `json:"short_link"`
	}
	if err := json.Unmarshal(text, &made); err != nil {
		t.Fatal(err)
	}
	return made.Short
}

func fingerprintAt(t *testing.T, port string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:])
}

// from is a client that connects from an address of this machine.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
}

// scriptsWork posts by REST, and reads that by an event stream that is open already.
func scriptsWork(t *testing.T, base, key string, bob *peer.Conn) {
	t.Helper()
	ask := func(method, path, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		response, err := from("127.0.0.1").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(response.Body)
			t.Fatalf("%s %s: %d %s", method, path, response.StatusCode, text)
		}
		return response
	}
	stream := bufio.NewScanner(ask("GET", "/api/v1/topics/general/stream", "").Body)
	ask("POST", "/api/v1/messages", `{"topic": "general", "text": "by a script"}`)
	wantText(t, bob, "by a script")
	for stream.Scan() {
		if stream.Text() == "event: message" {
			return
		}
	}
	t.Errorf("the stream ended: %v", stream.Err())
}

// pageWorks fetches the page and all that it names.
func pageWorks(t *testing.T, base string) {
	t.Helper()
	get := func(url string) string {
		t.Helper()
		response, err := from("127.0.0.1").Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v", url, response.StatusCode, err)
		}
		return string(text)
	}
	files := regexp.MustCompile(`(?:href|src)="/mesh(/web/[^"]+)"`).FindAllStringSubmatch(get(base+"/"), -1)
	if len(files) < 10 {
		t.Fatalf("the page names %d files below /mesh", len(files))
	}
	for _, file := range []int{0, len(files) - 1} {
		get(base + files[file][1])
	}
}

// clientIsKnown wants the log to name the address a client really has, whatever it
// says itself.
func clientIsKnown(t *testing.T, base, log string) {
	t.Helper()
	const address = "127.0.0.2" // the proxy's is 127.0.0.1
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(base, "https")+"/ws", &websocket.DialOptions{
		HTTPClient: from(address), HTTPHeader: http.Header{"X-Forwarded-For": {"6.6.6.6"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"type":"hello","meshId":"x","memberId":"x","pubkey":"x","timestamp":1,"signature":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ws.Read(ctx); err != nil || !bytes.Contains(text, []byte(`"error"`)) {
		t.Fatalf("the bad hello was answered with %s, %v", text, err)
	}
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(said, []byte(`"remote":"`+address+`:0"`)) || bytes.Contains(said, []byte("6.6.6.6")) {
		t.Errorf("the log does not name %s:\n%s", address, said)
	}
}
