package bench

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// liar is a broker that acks everything and then does with the pushes what a
// test wants.
type liar struct {
	t       *testing.T
	deliver func(number int, push func(number int))

	mu    sync.Mutex
	conns map[string]*websocket.Conn // by key
	held  map[int][]byte             // pushes by number
}

func newLiar(t *testing.T, deliver func(number int, push func(number int))) (url string) {
	l := &liar{t: t, deliver: deliver, conns: map[string]*websocket.Conn{}, held: map[int][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

func (l *liar) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer ws.CloseNow()
	for {
		_, frame, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		m, _, _, bad := wire.DecodeRequest(frame)
		if bad != nil {
			l.t.Error(bad)
		}
		l.handle(r, ws, m)
	}
}

func (l *liar) handle(r *http.Request, ws *websocket.Conn, m wire.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	write := func(ws *websocket.Conn, m wire.Message) {
		_ = ws.Write(r.Context(), websocket.MessageText, wire.Encode(m, "")) // it may have left
	}
	switch m := m.(type) {
	case *wire.Hello:
		l.conns[m.Pubkey] = ws
		write(ws, &wire.HelloAck{PresenceID: "p"})
	case *wire.Send:
		write(ws, &wire.Ack{ID: m.ID, MessageID: "m" + m.ID, Queued: true})
		number, _ := readHex([]byte(m.ID))
		l.held[number] = wire.Encode(&wire.Push{MessageID: "m" + m.ID, Ciphertext: m.Ciphertext}, "")
		l.deliver(number, func(number int) {
			_ = l.conns[m.TargetSpec].Write(r.Context(), websocket.MessageText, l.held[number])
		})
	}
}

// burst has one sender write ten messages at once by way of a liar.
func burst(t *testing.T, deliver func(number int, push func(number int))) Counts {
	t.Helper()
	patience := drainTime
	drainTime = 300 * time.Millisecond
	t.Cleanup(func() { drainTime = patience })
	url := newLiar(t, deliver)
	members := []peer.Identity{{BrokerURL: url, Key: identity.NewKey()}, {BrokerURL: url, Key: identity.NewKey()}}
	load, err := newPairs(t.Context(), members, Options{Pairs: 1, Size: 100, Say: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer load.hangUp()
	if err := load.burst(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // for what comes behind the last one
	var r Result
	load.report(&r)
	return *r.Counts
}

func TestALyingBrokerIsFoundOut(t *testing.T) {
	for name, tt := range map[string]struct {
		deliver func(number int, push func(number int))
		want    Counts
	}{
		"honest": {func(n int, push func(int)) { push(n) },
			Counts{Sent: 10, Acked: 10, Delivered: 10, ClientAcked: 10}},
		"loses the fourth": {func(n int, push func(int)) {
			if n != 3 {
				push(n)
			}
		}, Counts{Sent: 10, Acked: 10, Delivered: 9, ClientAcked: 9, Lost: 1}},
		"pushes the fourth twice": {func(n int, push func(int)) {
			if push(n); n == 3 {
				push(n)
			}
		}, Counts{Sent: 10, Acked: 10, Delivered: 10, ClientAcked: 10, Duplicated: 1}},
		"swaps the fourth and the fifth": {func(n int, push func(int)) {
			switch n {
			case 3:
			case 4:
				push(4)
				push(3)
			default:
				push(n)
			}
		}, Counts{Sent: 10, Acked: 10, Delivered: 10, ClientAcked: 10, Reordered: 1}},
	} {
		if got := burst(t, tt.deliver); !same(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, tt.want)
		}
	}
}
