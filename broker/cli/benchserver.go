package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"meshbox/broker"
	"meshbox/broker/bench"
	"meshbox/broker/peer"
	"meshbox/broker/store"
)

const (
	startTime = 60 * time.Second // for a private broker to get ready
	stopTime  = 15 * time.Second // to end, more than drainTime
)

// privateBroker is a server that a benchmark started for itself: the same
// program in a process of its own, so that its memory and its processor time are
// not those of the load generator.
type privateBroker struct {
	process *exec.Cmd
	db      string
	url     string        // http://localhost:port
	ready   time.Duration // from the start of the process until it was ready
	errors  chan string   // the last thing it said, when it has ended
}

// startPrivate starts a broker on the data file db and waits until it is ready.
func startPrivate(ctx context.Context, db string) (*privateBroker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program to start it as a broker: %w", err)
	}
	p := &privateBroker{db: db, errors: make(chan string, 1)}
	p.process = exec.Command(program, "serve", "--db", db, "--listen", "127.0.0.1:0", "--send-rate", "0",
		"--max-connections", "1000000", "--log-format", "json", "--log-level", "info")
	p.process.Args[0] = os.Args[0]
	p.process.Env = withoutSettings(os.Environ())
	log, err := p.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := p.process.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a private broker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := p.waitReady(ctx, log); err != nil {
		p.stop()
		return nil, err
	}
	p.ready = time.Since(began)
	return p, nil
}

// withoutSettings drops the variables that stand for flags: the private broker
// must not take those of a real one.
func withoutSettings(environment []string) (kept []string) {
	for _, entry := range environment {
		if !strings.HasPrefix(entry, "MESHBOX_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// waitReady learns from the log where the broker listens, and asks until it is
// ready.
func (p *privateBroker) waitReady(ctx context.Context, log io.Reader) error {
	urls := make(chan string, 1)
	go p.readLog(log, urls)
	select {
	case p.url = <-urls:
	case said := <-p.errors:
		return fmt.Errorf("the private broker did not start: %s", or(said, "it said nothing"))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		if response, err := http.Get(p.url + "/health/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return errors.New("the private broker did not get ready")
		}
	}
}

// readLog reads what the broker says to its end.
func (p *privateBroker) readLog(log io.Reader, urls chan<- string) {
	last := ""
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct {
			Msg       string `json:"msg"`
			PublicURL string `json:"public_url"`
		}
		last = lines.Text()
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			urls <- line.PublicURL
		}
	}
	_, _ = io.Copy(io.Discard, log) // a line too long for the scanner must not block it
	p.errors <- last
}

// stop ends the broker as a service manager does.
func (p *privateBroker) stop() {
	if p.process.Process.Signal(os.Interrupt) != nil {
		p.process.Process.Kill() // where there are no signals
	}
	stuck := time.AfterFunc(stopTime, func() { p.process.Process.Kill() })
	defer stuck.Stop()
	<-p.errors // before Wait, which closes the pipe
	_ = p.process.Wait()
}

// target is the mesh of the broker for a benchmark, which may make as many
// members as it likes.
func (p *privateBroker) target(ctx context.Context) (*bench.Target, error) {
	link, err := p.invite(ctx)
	if err != nil {
		return nil, err
	}
	invitation, err := peer.Resolve(ctx, link, peer.Trust{})
	if err != nil {
		return nil, err
	}
	return &bench.Target{Invitation: invitation, Usage: bench.Process(p.process.Process.Pid).Or(bench.Metrics(p.url))}, nil
}

// benchTerms are those of the invite to a private broker.
var benchTerms = broker.InviteTerms{Role: store.RoleMember, Uses: 1_000_000, TTL: 24 * time.Hour, Label: "bench"}

// invite makes an invite beside the broker.
func (p *privateBroker) invite(ctx context.Context) (link string, err error) {
	db, err := store.Open(p.db, store.Options{})
	if err != nil {
		return "", err
	}
	defer db.Close()
	mesh, err := (&dataFlags{}).chooseMesh(ctx, db)
	if err != nil {
		return "", err
	}
	invite, err := broker.NewInvite(mesh, p.url, benchTerms, time.Now())
	if err != nil {
		return "", err
	}
	return p.url + "/join/" + invite.Token, db.CreateInvite(invite, "")
}

// benchFolder makes a folder for the data files of private brokers.
func benchFolder(parent string) (folder string, remove func(), err error) {
	if folder, err = os.MkdirTemp(parent, "meshbox-bench-"); err != nil {
		return "", nil, fmt.Errorf("cannot make a folder for the private broker: %w; name another place with --dir", err)
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", nil, err
	}
	return folder, func() { os.RemoveAll(folder) }, nil
}
