package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The flood. Peers that mean no good do what costs a server memory, as much as they
// can, all at once. Two others go on writing to each other, and what the server holds
// stays below floodMemory.
//
// MESHBOX_FLOOD is how long it takes.
const (
	floodTime   = 10 * time.Second
	floodMemory = 640 << 20 // bytes, resident: twice, for the garbage collector, what may wait for the deaf and is made for them
	floodEvery  = 50 * time.Millisecond

	floodSilent  = 500      // sockets that say nothing
	floodGarbage = 20       // that say nonsense instead of hello, again and again
	floodGiants  = 10       // that send a frame that does not end
	floodDeaf    = 20       // members that read nothing of what they are sent
	floodLoud    = 8        // members that send without waiting for anything
	giant        = 64 << 20 // bytes of a frame
)

func TestFlood(t *testing.T) {
	if _, err := residentMemory(os.Getpid()); err != nil {
		t.Skipf("this system does not tell the memory of a process: %v", err)
	}
	f := newFlood(t)
	calm := f.memory()
	ctx, cancel := context.WithTimeout(t.Context(), f.length)
	defer cancel()
	for range floodSilent {
		f.hostile(ctx, f.silent)
	}
	for range floodGarbage {
		f.hostile(ctx, f.garbage)
	}
	for range floodGiants {
		f.hostile(ctx, f.giant)
	}
	for _, id := range f.deaf {
		f.hostile(ctx, func(ctx context.Context) error { return f.member(ctx, id, f.listenNever) })
	}
	for _, id := range f.loud {
		f.hostile(ctx, func(ctx context.Context) error { return f.member(ctx, id, f.shout) })
	}
	written := f.converse(ctx)
	cancel()
	f.running.Wait()
	if f.peak > floodMemory {
		t.Errorf("the server held %d MiB at most, and should hold no more than %d", f.peak>>20, floodMemory>>20)
	}
	t.Logf("%d hostile connections in %v; the server held %d MiB before and %d MiB at most; it served %d messages of two others, the slowest in %v; in the room: %s, refused by rate: %s, dropped as slow: %s; it used %s s of processor",
		f.attacks.Load(), f.length, calm>>20, f.peak>>20, written, f.slowest.Round(time.Millisecond),
		f.server.metric(`broker_messages_routed_total{priority="now"}`), f.server.metric(`broker_messages_rejected_total{reason="rate_limit"}`),
		f.server.metric(`broker_connections_dropped_total{reason="slow_consumer"}`), f.server.metric("process_cpu_seconds_total"))
}

// flood is one run.
type flood struct {
	t          *testing.T
	length     time.Duration
	server     *server
	url        string     // of the WebSocket
	ann, bob   *peer.Conn // the two others
	to         string     // bob's key
	deaf, loud []peer.Identity
	running    sync.WaitGroup
	attacks    atomic.Int64

	peak    int64         // bytes
	slowest time.Duration // from a message's sending until it was there
}

func newFlood(t *testing.T) *flood {
	t.Helper()
	length, err := time.ParseDuration(os.Getenv("MESHBOX_FLOOD"))
	if err != nil {
		length = floodTime
	}
	program, folder := build(t), t.TempDir()
	f := &flood{t: t, length: length, server: start(t, program, folder, "127.0.0.1:0", "--log-level", "error", "--hello-timeout", "3s", "--write-timeout", "3s")}
	f.url = "ws" + strings.TrimPrefix(f.server.url, "http") + "/ws"
	db := filepath.Join(folder, "meshbox.db")
	f.ann = agent(t, program, t.TempDir(), db, "ann")
	go drain(f.ann)
	bob := joins(t, program, t.TempDir(), db, "bob")
	if f.bob, err = peer.Dial(t.Context(), peer.Options{Identity: bob}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.bob.Close)
	f.to = bob.Key.Public()
	for i := range floodDeaf {
		f.deaf = append(f.deaf, joins(t, program, t.TempDir(), db, fmt.Sprint("deaf", i)))
	}
	for i := range floodLoud {
		f.loud = append(f.loud, joins(t, program, t.TempDir(), db, fmt.Sprint("loud", i)))
	}
	return f
}

// hostile does something again and again. It ends in an error each time: the server
// has had enough of it.
func (f *flood) hostile(ctx context.Context, attack func(context.Context) error) {
	f.running.Go(func() {
		for ctx.Err() == nil {
			_ = attack(ctx)
			f.attacks.Add(1)
			pause(ctx, time.Duration(rand.Int64N(int64(100*time.Millisecond))))
		}
	})
}

// connect opens a socket that nothing was said on yet.
func (f *flood) connect(ctx context.Context) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(ctx, f.url, nil)
	return ws, err
}

// silent says nothing until it is cut off.
func (f *flood) silent(ctx context.Context) error {
	ws, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	_, _, err = ws.Read(ctx)
	return err
}

func (f *flood) garbage(ctx context.Context) error {
	ws, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	nonsense := []string{
		`{"type":"hello"`, `{"type":"hello","meshId":"` + strings.Repeat("x", 50_000) + `"}`, strings.Repeat("[", 60_000), "\x00\xff",
		`{"type":"hello","meshId":"m","memberId":"m","pubkey":"` + strings.Repeat("0", 64) + `","timestamp":1,"signature":"` + strings.Repeat("0", 128) + `"}`,
	}
	for err == nil {
		if err = ws.Write(ctx, websocket.MessageText, []byte(nonsense[rand.IntN(len(nonsense))])); err == nil {
			_, _, err = ws.Read(ctx)
		}
	}
	return err
}

// giant sends one frame that is larger than any server should keep.
func (f *flood) giant(ctx context.Context) error {
	ws, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	w, err := ws.Writer(ctx, websocket.MessageText)
	for sent := 0; sent < giant && err == nil; sent += 1 << 16 {
		_, err = w.Write(bytes.Repeat([]byte("x"), 1<<16))
	}
	return err
}

// member connects as one, and then does something.
func (f *flood) member(ctx context.Context, id peer.Identity, do func(context.Context, *websocket.Conn) error) error {
	ws, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, peer.Options{Identity: id}.HelloFrame(time.Now())); err != nil {
		return err
	}
	if _, _, err := ws.Read(ctx); err != nil {
		return err
	}
	return do(ctx, ws)
}

// listenNever asks for much, over and over, and reads nothing.
func (f *flood) listenNever(ctx context.Context, ws *websocket.Conn) error {
	for {
		for _, ask := range []wire.Message{&wire.TopicHistory{Topic: wire.General, Limit: 200}, &wire.ListPeers{}} {
			if err := ws.Write(ctx, websocket.MessageText, wire.Encode(ask, "")); err != nil {
				return err
			}
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// shout sends large messages to the room as fast as the socket takes them.
func (f *flood) shout(ctx context.Context, ws *websocket.Conn) error {
	go func() {
		for {
			if _, _, err := ws.Read(ctx); err != nil {
				return
			}
		}
	}()
	frame := wire.Send{TargetSpec: "#general", Priority: wire.PriorityNow}
	frame.Nonce, frame.Ciphertext = peer.Plain(strings.Repeat("x", 8<<10))
	ws.SetReadLimit(1 << 24)
	for {
		if err := ws.Write(ctx, websocket.MessageText, wire.Encode(&frame, "")); err != nil {
			return err
		}
	}
}

// converse has ann write to bob until ctx ends, and watches the server's memory. Each
// message must be acked, and be there, before the next one leaves.
func (f *flood) converse(ctx context.Context) (written int) {
	f.t.Helper()
	for ; ctx.Err() == nil; written++ {
		began := time.Now()
		text := fmt.Sprint("message ", written)
		say(f.t, f.ann, f.to, text)
		f.arrives(text)
		f.slowest = max(f.slowest, time.Since(began))
		f.peak = max(f.peak, f.memory())
		pause(ctx, floodEvery)
	}
	return written
}

// arrives waits until bob has a message; what is shouted in the room comes too.
func (f *flood) arrives(text string) {
	f.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case push := <-f.bob.Pushes():
			if push.Subtype == "system" {
				continue
			}
			if err := f.bob.Ack(f.t.Context(), push); err != nil {
				f.t.Fatal(err)
			}
			if got, err := f.bob.Text(push); err == nil && got == text {
				return
			}
		case <-f.bob.Done():
			f.t.Fatalf("bob was cut off: %v", f.bob.Err())
		case <-deadline:
			f.t.Fatalf("%q did not come", text)
		}
	}
}

func (f *flood) memory() int64 {
	f.t.Helper()
	memory, err := residentMemory(f.server.command.Process.Pid)
	if err != nil {
		f.t.Fatal(err)
	}
	return memory
}

// residentMemory is what a process holds, in bytes (proc(5), VmRSS).
func residentMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("there is no VmRSS of %d", pid)
}
