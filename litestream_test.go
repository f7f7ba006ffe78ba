package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The set-up of README's section on Litestream, with its files and commands: under
// load, killed, restored. MESHBOX_LITESTREAM names the program; .ci/run builds it.
func TestLitestreamReplicatesWhatWasAcked(t *testing.T) {
	sidecar := os.Getenv("MESHBOX_LITESTREAM")
	if sidecar == "" {
		t.Skip("MESHBOX_LITESTREAM names no litestream")
	}
	l := newReplicated(t, sidecar)
	s := start(t, l.program, l.data, "127.0.0.1:0", "--send-rate", "0", "--log-level", "error")
	ann := agent(t, l.program, t.TempDir(), l.db, "ann")
	bob := joins(t, l.program, t.TempDir(), l.db, "bob") // stays away, and is owed all of it
	replica := l.replicate()

	w := &writing{t: t, conn: ann, to: bob.Key.Public()}
	done := make(chan struct{})
	go func() { defer close(done); w.run() }()
	w.wait(400) // of 40 KiB each: the log becomes larger than what makes the server begin it anew
	l.run(sidecar, "sync", "-wait", "-socket", l.socket, l.db)
	synced := w.wait(0)
	l.run(sidecar, "sync", "-wait", "-socket", l.socket, l.db)
	w.wait(len(synced) + 20)
	s.kill()
	replica.Process.Kill()
	replica.Wait()
	<-done
	if info, err := os.Stat(l.db + "-wal"); err == nil {
		t.Logf("%d messages acked, %d of them before the last sync began; the log has %d MiB", len(w.wait(0)), len(synced), info.Size()>>20)
	}

	// The disk is gone, the commands of README bring it back.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(l.db + suffix); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range l.restoring {
		l.run("sh", "-ec", line)
	}
	if found := run(t, l.program, "verify", "--db", l.db); !strings.Contains(found, "is in order") {
		t.Errorf("verify: %s", found)
	}
	again := start(t, l.program, l.data, "127.0.0.1:0", "--log-level", "error")
	bob.BrokerURL = "ws" + strings.TrimPrefix(again.url, "http") + "/ws"
	w.received(bob, synced)
	again.stop()
}

// replicated is a data file with README's set-up around it.
type replicated struct {
	t         *testing.T
	program   string
	sidecar   string
	data      string // folder
	db        string
	socket    string
	config    string
	path      string
	restoring []string // README's commands
}

func newReplicated(t *testing.T, sidecar string) *replicated {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Replication with Litestream")
	section, _, _ = strings.Cut(section, "\n### ")
	blocks := regexp.MustCompile("(?s)```(yaml|sh)\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 || blocks[0][1] != "yaml" || blocks[1][1] != "sh" {
		t.Fatalf("README's section on Litestream has the blocks %q", blocks)
	}
	folder, err := os.MkdirTemp("", "mb-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	here := strings.NewReplacer("/run/litestream", folder, "/var/lib/meshbox", folder+"/data", "/mnt/backup", folder+"/backup", "/etc", folder)
	l := &replicated{t: t, program: build(t), sidecar: sidecar, data: folder + "/data", db: folder + "/data/meshbox.db", socket: folder + "/litestream.sock", config: folder + "/litestream.yml"}
	if err := os.MkdirAll(l.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.config, []byte(here.Replace(blocks[0][2])), 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(here.Replace(blocks[1][2])) {
		l.restoring = append(l.restoring, strings.TrimSpace(line))
	}
	l.path = filepath.Dir(l.program) + ":" + filepath.Dir(sidecar) + ":" + os.Getenv("PATH")
	return l
}

// replicate starts the sidecar and waits until its first copy is there.
func (l *replicated) replicate() *exec.Cmd {
	l.t.Helper()
	c := exec.Command(l.sidecar, "replicate", "-config", l.config)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if l.t.Failed() {
			l.t.Logf("litestream said:\n%s", said.Bytes())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if exec.Command(l.sidecar, "sync", "-wait", "-socket", l.socket, l.db).Run() == nil {
			return c
		}
		if time.Now().After(deadline) {
			l.t.Fatal("litestream did not begin")
		}
	}
}

func (l *replicated) run(program string, args ...string) {
	l.t.Helper()
	c := exec.Command(program, args...)
	c.Env = append(os.Environ(), "PATH="+l.path)
	if said, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// writing is a member that writes large messages to another as fast as they are
// acked, until the connection ends.
type writing struct {
	t    *testing.T
	conn *peer.Conn
	to   string

	mu    sync.Mutex
	acked []string // messageIds, in order
}

func (w *writing) run() {
	for n := 0; ; n++ {
		frame := wire.Send{TargetSpec: w.to, Priority: wire.PriorityNext, ClientMessageID: fmt.Sprint(n)}
		frame.Nonce, frame.Ciphertext = peer.Plain(fmt.Sprintf("%08d%s", n, strings.Repeat("x", 40<<10-8)))
		ack, err := w.conn.Send(context.Background(), frame)
		if err != nil {
			return
		}
		if !ack.Queued {
			w.t.Errorf("message %d was refused: %s", n, ack.Error)
			return
		}
		w.mu.Lock()
		w.acked = append(w.acked, ack.MessageID)
		w.mu.Unlock()
	}
}

// wait waits until so many messages are acked, and returns those that are.
func (w *writing) wait(least int) []string {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		acked := w.acked[:len(w.acked):len(w.acked)]
		w.mu.Unlock()
		if len(acked) >= least {
			return acked
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("only %d messages were acked", len(acked))
		}
	}
}

// received wants what the restored server pushes to be the messages in the order in
// which they were sent, without a gap, and at least those that were synced.
func (w *writing) received(who peer.Identity, synced []string) {
	w.t.Helper()
	c, err := peer.Dial(w.t.Context(), peer.Options{Identity: who})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	got := 0
	for quiet := time.NewTimer(patience); ; quiet.Reset(2 * time.Second) {
		select {
		case push := <-c.Pushes():
			if push.Subtype == "system" {
				continue
			}
			text, err := peer.Decode(push.Ciphertext, push.BodyVersion)
			if err != nil || !strings.HasPrefix(text, fmt.Sprintf("%08d", got)) || got < len(w.acked) && push.MessageID != w.acked[got] {
				w.t.Fatalf("message %d is %.8q (%s), %v", got, text, push.MessageID, err)
			}
			got++
			if err := c.Ack(w.t.Context(), push); err != nil {
				w.t.Fatal(err)
			}
		case <-quiet.C:
			if w.t.Logf("%d messages came back, of %d that were synced and %d acked", got, len(synced), len(w.acked)); got < len(synced) {
				w.t.Errorf("%d of %d messages that were acked before the last sync are lost", len(synced)-got, len(synced))
			}
			return
		case <-c.Done():
			w.t.Fatal(c.Err())
		}
	}
}
