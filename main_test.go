package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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
	program, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// buildFolder is where buildOnce leaves the program.
var buildFolder string

var buildOnce = sync.OnceValues(func() (string, error) {
	program := filepath.Join(buildFolder, "meshbox")
	command := exec.Command("go", "build", "-o", program, ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "meshbox-test-")
	if err != nil {
		panic(err)
	}
	buildFolder = folder
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
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
func start(t *testing.T, program, folder, listen string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, command: exec.Command(program, append([]string{"--listen", listen}, flags...)...)}
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

// kill ends the server as a power cut does.
func (s *server) kill() {
	s.command.Process.Kill()
	s.command.Wait()
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

// shortLink makes an invite, with flags of the command.
func shortLink(t *testing.T, program, db string, flags ...string) string {
	t.Helper()
	printed := run(t, program, append([]string{"invite", "--json", "--db", db}, flags...)...)
	short := regexp.MustCompile(`"short_link":"([^"]+)"`).FindStringSubmatch(printed)
	if short == nil {
		t.Fatalf("invite --json printed %s", printed)
	}
	return short[1]
}

// joins joins with "meshbox join" and returns the identity that left in a folder.
func joins(t *testing.T, program, folder, db, name string) peer.Identity {
	t.Helper()
	run(t, program, "join", shortLink(t, program, db), "--name", name, "--config", folder)
	keyring, err := peer.OpenKeyring(folder)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyring.Choose("")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// agent joins and connects.
func agent(t *testing.T, program, folder, db, name string) *peer.Conn {
	t.Helper()
	c, err := peer.Dial(t.Context(), peer.Options{Identity: joins(t, program, folder, db, name)})
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
