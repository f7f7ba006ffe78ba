package broker

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// Fault tests. Each says in its first words what is to come of the fault; what
// was acked is never lost. Elsewhere: a peer that never reads
// (TestSlowConsumerLosesNothing, TestSilentSocketIsDropped), frames that are too
// big or malformed (hello_test.go), a full disk (fault_linux_test.go), and what
// needs the real process (fault_test.go and crash_test.go of the program).

// lockFile takes SQLite's write lock as another program would, and returns how
// to let go of it.
func (h *house) lockFile() (unlock func()) {
	h.t.Helper()
	other, err := sql.Open("sqlite", h.db.Path()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { other.Close() })
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		if _, err := other.Exec("ROLLBACK"); err != nil {
			h.t.Fatal(err)
		}
	}
}

// Outcome: as long as another program holds the write lock, hellos and lists are
// answered and what is stored is delivered; a send waits, and is refused with
// busy when that takes too long. Afterwards everything goes on as before.
func TestStalledWriterHoldsUpSendsAlone(t *testing.T) {
	t.Parallel()                        // it mostly waits
	const clientsWait = 5 * time.Second // for hello_ack and for answers (protocol section 10)
	h := newHouse(t)
	ann, bob, cat := h.arrive("ann"), h.join("bob"), h.join("cat")
	ann.post(bob.Key.Public(), "before", wire.PriorityNext)
	unlock := h.lockFile()
	began := time.Now()

	var sends sync.WaitGroup
	for _, sender := range []*guest{ann, h.dial(cat, peer.Options{Session: identity.NewKey()})} {
		sends.Go(func() {
			nonce, ciphertext := peer.Plain("during")
			ack, err := sender.Send(t.Context(), wire.Send{TargetSpec: bob.Key.Public(), Priority: wire.PriorityNext, Nonce: nonce, Ciphertext: ciphertext})
			if err != nil || ack.Queued || !strings.HasPrefix(ack.Error, "busy: ") {
				t.Errorf("a send meanwhile: ack %+v, %v; want busy", ack, err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // the writer waits for the lock now
	asked := time.Now()
	back := h.dial(bob, peer.Options{Client: wire.Client{SessionID: "bob"}})
	session := h.dial(bob, peer.Options{Session: identity.NewKey()})
	back.wantPush("before")
	ask[*wire.PeersList](back, &wire.ListPeers{})
	ask[*wire.TopicListResponse](session, &wire.TopicList{})
	if status := h.status("/health"); status != http.StatusOK {
		t.Errorf("/health answers %d", status)
	}
	if waited := time.Since(asked); waited > clientsWait {
		t.Errorf("hellos and requests took %v", waited)
	}
	sends.Wait()
	t.Logf("sends were refused after %v", time.Since(began))
	unlock()

	ann.post(bob.Key.Public(), "after", wire.PriorityNext)
	back.wantPush("after")
	h.settled()
	h.restart()
	h.dial(bob, peer.Options{}).wantQuiet() // the ack of "before" was kept
}

// status is that of GET path.
func (h *house) status(path string) int {
	h.t.Helper()
	response, err := http.Get(h.url + path)
	if err != nil {
		h.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// wireTap is a connection below WebSocket. Once slow, it writes byte by byte.
type wireTap struct {
	net.Conn
	pause func(written int) // after each byte; nil: not slow
}

func (w *wireTap) Write(p []byte) (int, error) {
	if w.pause == nil {
		return w.Conn.Write(p)
	}
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		w.pause(i + 1)
	}
	return len(p), nil
}

// tapped opens a socket and its connection below.
func (h *house) tapped() (*raw, *wireTap) {
	h.t.Helper()
	tap := &wireTap{}
	dialer := &http.Transport{DialContext: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
		tap.Conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return tap, err
	}}
	ws, _, err := websocket.Dial(h.t.Context(), BrokerURL(h.url), &websocket.DialOptions{HTTPClient: &http.Client{Transport: dialer}})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.CloseNow() })
	return &raw{Conn: ws, t: h.t}, tap
}

// Outcome: who sends a byte at a time is understood, and holds nobody up.
func TestPeerThatSendsAByteAtATime(t *testing.T) {
	h := newHouse(t)
	ann, bob, slow := h.arrive("ann"), h.arrive("bob"), h.join("slow")
	socket, tap := h.tapped()
	tap.pause = func(int) {}
	socket.send(memberHello(slow, time.Now(), nil))
	if frame := socket.frame(); frame["type"] != "hello_ack" {
		t.Fatalf("got %v", frame)
	}
	half, goOn := make(chan struct{}), make(chan struct{})
	tap.pause = func(written int) {
		if written == 40 {
			close(half)
			<-goOn
		}
	}
	go socket.sendText(`{"type":"send","id":"s","targetSpec":"#general","priority":"next","nonce":"","ciphertext":"aGk="}`)
	<-half
	for i := range 20 {
		ann.say(bob.Key(), fmt.Sprint("meanwhile ", i))
		bob.wantPush(fmt.Sprint("meanwhile ", i))
	}
	close(goOn)
	bob.wantPush("hi")
}

// Outcome: a hello that dribbles in is cut off by the hello timeout, however
// lively the socket looks.
func TestDribbledHelloIsTooLate(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.HelloTimeout = 100 * time.Millisecond })
	socket, tap := h.tapped()
	tap.pause = func(int) { time.Sleep(2 * time.Millisecond) } // some 500 bytes
	hello := wire.Encode(memberHello(h.join("slow"), time.Now(), nil), "")
	go socket.Write(t.Context(), websocket.MessageText, hello)
	socket.wantError(wire.HelloTimeout)
	socket.wantClosed(1008, wire.HelloTimeout)
	if h.countPresences() != 0 {
		t.Error("the late hello was accepted")
	}
}

// Outcome: a peer that breaks the WebSocket protocol, or floods the broker with
// pings whose answers it does not read, loses its connection; nobody else
// notices, and what waits for it waits on.
func TestFloodsAndGarbageHurtNobodyElse(t *testing.T) {
	t.Parallel() // it mostly waits
	ping := append([]byte{0x89, 0xfd, 0, 0, 0, 0}, make([]byte, 125)...)
	huge := []byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
	for name, flood := range map[string][]byte{
		"reserved bits":                 {0xff, 0x80, 1, 2, 3, 4},
		"text that is none":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"a frame without mask":          {0x81, 0x02, 'h', 'i'},
		"a frame of 2^63 bytes":         append(huge, make([]byte, wire.DefaultMaxMessage+wire.FrameOverhead+1)...),
		"pings, and no pong is read":    nil,
		"a continuation of nothing":     {0x80, 0x80, 1, 2, 3, 4},
		"a ping of more than 125 bytes": {0x89, 0xfe, 0x01, 0x00, 1, 2, 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			ann, bob, wild := h.arrive("ann"), h.arrive("bob"), h.join("wild")
			socket, tap := h.tapped()
			socket.send(memberHello(wild, time.Now(), nil))
			socket.frame()
			ann.say("#general", "for the wild one too")
			bob.wantPush("for the wild one too")
			if flood == nil {
				if err := tap.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
					t.Fatal(err)
				}
				go func() {
					pings := []byte(strings.Repeat(string(ping), 1000))
					for {
						if _, err := tap.Conn.Write(pings); err != nil {
							return
						}
					}
				}()
			} else if _, err := tap.Conn.Write(flood); err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				ann.say(bob.Key(), fmt.Sprint("meanwhile ", i))
				bob.wantPush(fmt.Sprint("meanwhile ", i))
			}
			eventually(t, "the wild one is gone", func() bool { return h.countPresences() == 2 })
			h.dial(wild, peer.Options{}).wantPush("for the wild one too")
		})
	}
}
