//go:build unix

package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"meshbox/broker"
	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Outcome: the log, at its most talkative, holds no secret and no content of a message,
// whatever goes right or wrong.
func TestLogHoldsNoSecrets(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "meshbox.db")
	out, log, stop := inside(t, "--db", path, "--listen", "127.0.0.1:0", "--log-level", "debug", "--send-rate", "0.01", "--send-burst", "8")
	base := regexp.MustCompile(`http://localhost:\d+`).FindString(out.String())
	db, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	meshes, err := db.Meshes(t.Context())
	if err != nil || len(meshes) != 1 {
		t.Fatal(meshes, err)
	}
	mesh := meshes[0]
	secrets := map[string]string{
		"the seed of the mesh": hex.EncodeToString(mesh.OwnerSeed), "its root key": base64.RawURLEncoding.EncodeToString(mesh.RootKey), "its root key in hex": hex.EncodeToString(mesh.RootKey),
	}
	newInvite := func(what string, ttl time.Duration) store.Invite {
		t.Helper()
		made, err := broker.NewInvite(mesh, base, broker.InviteTerms{Role: store.RoleMember, Uses: 1, TTL: ttl}, time.Now())
		if err == nil {
			err = db.CreateInvite(made, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		secrets["the token of "+what], secrets["the code of "+what] = made.Token, made.Code
		return made
	}
	member := func(name string) peer.Options {
		t.Helper()
		key := identity.NewKey()
		secrets["the seed of "+name] = hex.EncodeToString(key.Seed())
		id, err := peer.Join(t.Context(), base+"/i/"+newInvite("the invite of "+name, time.Hour).Code, name, key)
		if err != nil {
			t.Fatal(err)
		}
		return peer.Options{Identity: id}
	}
	do := func(method, path, key, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}

	o := member("ann")
	o.Session = identity.NewKey()
	secrets["the seed of ann's session"] = hex.EncodeToString(o.Session.Seed())
	ann, err := peer.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close()
	bob, err := peer.Dial(t.Context(), member("bob"))
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	texts := []string{"first confidential text", "second confidential text", "third confidential text"}
	for i, text := range texts {
		secrets[fmt.Sprint("text ", i)], secrets[fmt.Sprint("text in base64 ", i)] = text, base64.StdEncoding.EncodeToString([]byte(text))
	}
	for range 10 { // some are too many
		if _, err := ann.SendText(t.Context(), "#general", texts[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ann.SendText(t.Context(), "#nowhere", texts[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.SendText(t.Context(), ann.Key(), texts[1]); err != nil {
		t.Fatal(err)
	}
	key, err := peer.Ask[*wire.APIKeyCreated](t.Context(), bob, &wire.APIKeyCreate{Capabilities: []string{"send", "read"}})
	if err != nil {
		t.Fatal(err)
	}
	secrets["the API key"] = key.Secret
	wrong := "cm_" + strings.Repeat("w", len(key.Secret)-3)
	secrets["a wrong API key"] = wrong
	for _, k := range []string{key.Secret, wrong} {
		do("POST", "/api/v1/messages", k, `{"topic": "general", "text": "third confidential text"}`)
		do("POST", "/api/v1/messages", k, `{"topic": "nowhere", "text": "third confidential text"}`)
		do("POST", "/api/v1/messages", k, `{"topic": "general", "text": "third confidential text`)
		do("GET", "/api/v1/topics/general/messages", k, "")
		do("POST", "/mcp/"+k, "", `{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "send_message", "arguments": {"topic": "general", "text": "third confidential text"}}}`)
		do("GET", "/mcp/"+k+"/more", "", "")
	}
	hook, err := peer.Ask[*wire.WebhookAck](t.Context(), bob, &wire.CreateWebhook{Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	secrets["the secret of the webhook"] = hook.Secret
	for _, url := range []string{hook.URL, hook.URL + "x", strings.Replace(hook.URL, hook.Secret, strings.Repeat("w", len(hook.Secret)), 1)} {
		do("POST", strings.TrimPrefix(url, base), "", `{"text": "third confidential text"}`)
		do("POST", strings.TrimPrefix(url, base), "", `{"text": "third confidential text`)
	}
	expired, unused := newInvite("an invite that expired", -time.Hour), newInvite("an invite that is claimed", time.Hour)
	do("GET", "/api/public/invite-code/"+expired.Code, "", "")
	do("GET", "/join/"+expired.Token, "", "")
	do("POST", "/join", "", `{"invite_token": "`+expired.Token+`", "peer_pubkey": "`+identity.NewKey().Public()+`", "display_name": "eve"}`)
	do("POST", "/join", "", `{"invite_token": "`+expired.Token+`x", "peer_pubkey": "`+identity.NewKey().Public()+`", "display_name": "eve"}`)
	do("POST", "/invites/"+expired.Code+"/claim", "", `{"recipient_x25519_pubkey": "x"}`)
	do("POST", "/invites/"+unused.Code+"/claim", "", `{"recipient_x25519_pubkey": "`+base64.RawURLEncoding.EncodeToString(make([]byte, 32))+`"}`)
	do("POST", "/hook/set-status", "", `{"cwd": "/tmp", "status": "third confidential text"}`)
	ann.Close()
	bob.Close()
	stop()

	said := log.String()
	if strings.Count(said, "\n") < 10 || !strings.Contains(said, `"level":"DEBUG"`) {
		t.Fatalf("the log says little:\n%s", said)
	}
	for what, secret := range secrets {
		if len(secret) < 8 {
			t.Fatalf("%s is %q", what, secret)
		}
		if strings.Contains(said, secret) {
			t.Errorf("the log holds %s", what)
		}
	}
	if t.Failed() {
		t.Logf("the log:\n%s", said)
	}
	wantKnownKeys(t, said)
}

// wantKnownKeys checks the keys of lines in JSON.
func wantKnownKeys(t *testing.T, log string) {
	t.Helper()
	known := documentedKeys(t)
	for line := range strings.Lines(log) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("a line is no JSON: %s", line)
		}
		for key := range fields {
			if !known[key] {
				t.Errorf("the README does not name the key %q of %s", key, line)
			}
		}
	}
}

// documentedKeys are those in the README's table of the log.
func documentedKeys(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## The log\n")
	if !found {
		t.Fatal("the README has no section on the log")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	known := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, match := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			known[match[1]] = true
		}
	}
	return known
}

// The keys in the source are constants, and the README names each: who reads the log
// by a program can rely on them.
func TestREADMENamesEveryKeyOfTheLog(t *testing.T) {
	known, used := documentedKeys(t), map[string]bool{"time": true, "level": true, "msg": true}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				for _, key := range logKeys(t, path, call) {
					used[key] = true
					if !known[key] {
						t.Errorf("%s: the README does not name the key %q", path, key)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range known {
		if !used[key] {
			t.Errorf("the README names the key %q, which nothing logs", key)
		}
	}
}

// logKeys are the keys in a call of a slog.Logger, which is called log everywhere.
func logKeys(t *testing.T, path string, call *ast.CallExpr) (keys []string) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	first := map[string]int{"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0}
	at, ok := first[method.Sel.Name]
	var receiver string
	switch x := method.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	if !ok || receiver != "log" {
		return nil
	}
	for i := at; i < len(call.Args); i += 2 {
		literal, ok := call.Args[i].(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: a key of the log is no constant", path)
			continue
		}
		key, _ := strconv.Unquote(literal.Value)
		keys = append(keys, key)
	}
	return keys
}
