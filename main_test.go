package main

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// These tests run the program as its user does: built, started in an empty
// folder, joined by the link it prints, from a real browser.

const patience = 30 * time.Second

// build returns the path of the program.
func build(t *testing.T) string {
	t.Helper()
	// What go build reads is unknown to the cache of test results; what is looked
	// at here is not.
	for _, root := range []string{"main.go", "go.mod", "schema.sql", "broker", "web"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			os.Stat(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "meshbox")
	command := exec.Command("go", "build", "-o", program, ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return program
}

// server is a running meshbox.
type server struct {
	t       *testing.T
	command *exec.Cmd
	link    string // the first link, "" if none was printed
	url     string // http://localhost:port
}

var (
	firstLink = regexp.MustCompile(`(http://localhost:\d+)/join/[A-Za-z0-9_-]+`)
	pageLink  = regexp.MustCompile(`http://localhost:\d+`)
)

// start runs program in folder and waits until it is ready.
func start(t *testing.T, program, folder, listen string) *server {
	t.Helper()
	s := &server{t: t, command: exec.Command(program, "--listen", listen)}
	s.command.Dir = folder
	s.command.Stderr = os.Stderr
	output, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.command.Process.Kill(); s.command.Wait() })
	scanner := bufio.NewScanner(output)
	for scanner.Scan() {
		if found := firstLink.FindStringSubmatch(scanner.Text()); found != nil {
			s.link = found[0]
		}
		if found := pageLink.FindString(scanner.Text()); found != "" && s.url == "" {
			s.url = found
		}
		if strings.Contains(scanner.Text(), "Ctrl-C") {
			break
		}
	}
	s.waitReady()
	return s
}

func (s *server) waitReady() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if response, err := http.Get(s.url + "/health/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
	s.t.Fatal("meshbox did not get ready")
}

// stop ends the server as a service manager does.
func (s *server) stop() {
	s.t.Helper()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.command.Wait(); err != nil {
		s.t.Fatalf("meshbox ended with %v, want exit code 0", err)
	}
}

// browser starts Chromium with an empty profile, or skips the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("MESHBOX_REQUIRE_CHROMIUM") == "1" {
			t.Fatal("Chromium is required and was not found")
		}
		t.Skip("Chromium was not found; install it to run the browser tests (Debian: apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 800),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-background-networking", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The first run starts the browser, and it lives as long as that context.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	err := chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page threw: %+v", thrown.ExceptionDetails)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// do runs browser actions, one after the other, with a test's patience.
func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := chromedp.Do(bounded, actions...); err != nil {
		page, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		t.Fatalf("%v\nthe page shows:\n%s", err, page)
	}
}

// get runs a browser action that has a result.
func get[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// until waits for a JavaScript condition.
func until(condition string, args ...any) chromedp.Action[chromedp.Void] {
	wait := chromedp.PollFunction[bool]("(...args) => ("+condition+")(...args)",
		chromedp.WithPollingArgs(args...), chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond))
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := wait(ctx, target)
		return chromedp.Void{}, err
	}
}

// css is a selector; chromedp takes a plain string for a search.
type css = chromedp.CSS

const (
	joinName = css("#join-name")
	composer = css("#composer")
	banner   = css("#banner")
)

// sees waits until a message with this text is in the room, and its author.
func sees(author, text string) chromedp.Action[chromedp.Void] {
	return until(`(author, text) => [...document.querySelectorAll("[data-message-id] .message-text")].some(m => m.textContent === text)
		&& document.querySelector("#messages").textContent.includes(author)`, author, text)
}

// says types a message and sends it with Enter. chromedp's own Enter comes with
// a separate character event, which types a line break even if the page took
// the key; a real keyboard's does not.
func says(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.SendKeys(composer, text), press(input.DispatchKeyEventTypeKeyDown), press(input.DispatchKeyEventTypeKeyUp))
}

func press(kind input.DispatchKeyEventType) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		key := input.DispatchKeyEventParams{Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, Text: "\r"}
		_, err := cdp.Call(ctx, target, input.DispatchKeyEvent, key)
		return chromedp.Void{}, err
	}
}

// enter joins by a link as name, and ends in the room.
func enter(link, name string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.Navigate(link), chromedp.WaitVisible(joinName),
		chromedp.SendKeys(joinName, name+kb.Enter), chromedp.WaitVisible(composer),
	)
}

// agent joins with "meshbox join" and connects with the identity that left.
func agent(t *testing.T, program, folder, db, name string) *peer.Conn {
	t.Helper()
	invite := run(t, program, "invite", "--json", "--db", db)
	short := regexp.MustCompile(`"short_link":"([^"]+)"`).FindStringSubmatch(invite)
	if short == nil {
		t.Fatalf("invite --json printed %s", invite)
	}
	run(t, program, "join", short[1], "--name", name, "--config", folder)
	keyring, err := peer.OpenKeyring(folder)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyring.Choose("")
	if err != nil {
		t.Fatal(err)
	}
	c, err := peer.Dial(t.Context(), peer.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	output, err := exec.Command(program, args...).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("meshbox %s: %v\n%s", strings.Join(args, " "), err, failed.Stderr)
	}
	return string(output)
}

// wantText waits for a message with this text.
func wantText(t *testing.T, c *peer.Conn, text string) *wire.Push {
	t.Helper()
	for {
		select {
		case push := <-c.Pushes():
			if push.Subtype == "system" {
				continue
			}
			if got, err := c.Text(push); err != nil || got != text {
				t.Fatalf("got %q, %v; want %q", got, err, text)
			}
			return push
		case <-time.After(patience):
			t.Fatalf("%q did not arrive", text)
		}
	}
}

func TestPersonAndAgentTalkInGeneral(t *testing.T) {
	page := browser(t)
	program, folder := build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0")
	if s.link == "" {
		t.Fatal("the first run printed no link")
	}
	do(t, page, enter(s.link, "Olga"))
	claude := agent(t, program, t.TempDir(), filepath.Join(folder, "meshbox.db"), "claude")
	do(t, page, says("hello, is anybody here?"), sees("Olga", "hello, is anybody here?"))
	push := wantText(t, claude, "hello, is anybody here?")
	if push.SenderName != "Olga" || push.Topic != wire.General || push.SenderPeerType != wire.PeerHuman {
		t.Errorf("push = %+v", push)
	}
	if ack, err := claude.SendText(t.Context(), "#general", "yes, me: **claude** <b>here</b>"); err != nil || !ack.Queued {
		t.Fatalf("ack %+v, %v", ack, err)
	}
	do(t, page, sees("claude", "yes, me: **claude** <b>here</b>"))
	do(t, page, chromedp.Reload(), chromedp.WaitVisible(composer),
		sees("Olga", "hello, is anybody here?"), sees("claude", "yes, me: **claude** <b>here</b>"))
	location, focused := get(t, page, chromedp.Location()), get(t, page, chromedp.Evaluate[string](`document.activeElement.id`))
	if strings.Contains(location, "/join/") || focused != "composer" {
		t.Errorf("location %s, focus on %q", location, focused)
	}
	owner := run(t, program, "mesh", "list", "--db", filepath.Join(folder, "meshbox.db"))
	if !strings.Contains(owner, "Olga") {
		t.Errorf("mesh list does not name the owner:\n%s", owner)
	}
}

func TestRoomSurvivesARestart(t *testing.T) {
	program, folder := build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0")
	address := strings.TrimPrefix(s.url, "http://localhost")
	db := filepath.Join(folder, "meshbox.db")
	config := t.TempDir()
	claude := agent(t, program, config, db, "claude")
	ack, err := claude.SendText(t.Context(), "#general", "remember me")
	if err != nil || !ack.Queued {
		t.Fatalf("ack %+v, %v", ack, err)
	}
	s.stop()
	<-claude.Done()
	if rejected, ok := errors.AsType[*peer.Rejected](claude.Err()); !ok || rejected.Close != wire.CloseGoingAway || rejected.Final() {
		t.Errorf("the shutdown was seen as %v, want close 1001", claude.Err())
	}

	again := start(t, program, folder, "127.0.0.1"+address)
	keyring, err := peer.OpenKeyring(config)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyring.Choose("home")
	if err != nil {
		t.Fatal(err)
	}
	back, err := peer.Dial(t.Context(), peer.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	history, err := back.Request(t.Context(), &wire.TopicHistory{Topic: wire.General})
	if err != nil {
		t.Fatal(err)
	}
	messages := history.(*wire.TopicHistoryResponse).Messages
	if len(messages) != 1 || messages[0].ID != ack.MessageID {
		t.Errorf("history = %+v, want the one message", messages)
	}
	members := run(t, program, "member", "list", "--db", db)
	if !strings.Contains(members, "claude") {
		t.Errorf("member list:\n%s", members)
	}
	again.stop()
}

// A browser keeps its draft and its unsent message while the server is gone.
func TestPageReconnectsByItself(t *testing.T) {
	page := browser(t)
	program, folder := build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0")
	address := strings.TrimPrefix(s.url, "http://localhost")
	do(t, page, enter(s.link, "Olga"))
	claude := agent(t, program, t.TempDir(), filepath.Join(folder, "meshbox.db"), "claude")
	do(t, page, says("before"), sees("Olga", "before"))
	wantText(t, claude, "before")
	s.command.Process.Kill()
	s.command.Wait()
	do(t, page, chromedp.WaitVisible(banner), says("while it was gone"), chromedp.SendKeys(composer, "a draft"))

	start(t, program, folder, "127.0.0.1"+address)
	do(t, page, chromedp.WaitNotVisible(banner),
		until(`() => [...document.querySelectorAll("[data-state=sent]")].some(m => m.textContent.includes("while it was gone"))`))
	if draft := get(t, page, chromedp.Value(composer)); draft != "a draft" {
		t.Errorf("the draft is %q", draft)
	}
	shown := get(t, page, chromedp.Evaluate[int](`[...document.querySelectorAll(".message-text")].filter(m => m.textContent === "while it was gone").length`))
	if shown != 1 {
		t.Errorf("the message sent meanwhile is shown %d times:\n%s", shown, get(t, page, chromedp.Evaluate[string]("document.querySelector(\"#messages\").innerText")))
	}
}
