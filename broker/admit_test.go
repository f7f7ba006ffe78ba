package broker

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// door is another way into a house, for who says where they come from.
func (h *house) door() *httptest.Server {
	h.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = r.Header.Get("From-Address") + ":4711"
		h.Handler().ServeHTTP(w, r)
	}))
	h.t.Cleanup(server.Close)
	return server
}

// knock asks for a socket, and returns the status if it is refused.
func knock(t *testing.T, door *httptest.Server, from string) (ws *websocket.Conn, refused int) {
	t.Helper()
	ws, response, err := websocket.Dial(t.Context(), BrokerURL(door.URL), &websocket.DialOptions{HTTPHeader: http.Header{"From-Address": {from}}})
	if err == nil {
		t.Cleanup(func() { ws.CloseNow() })
		return ws, 0
	}
	if response == nil {
		t.Fatal(err)
	}
	if response.Header.Get("Retry-After") == "" {
		t.Errorf("%s does not learn when to come again", from)
	}
	return nil, response.StatusCode
}

// Outcome: sockets that say nothing are few, of one address and in total; they are
// refused before the upgrade, and whoever says hello makes room.
func TestPendingSocketsAreBounded(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.MaxPending = 8 })
	door := h.door()
	ann := h.join("ann")
	first, _ := knock(t, door, "192.168.1.5")
	if _, refused := knock(t, door, "192.168.1.5"); refused != 0 {
		t.Fatalf("the second: %d", refused)
	}
	if _, refused := knock(t, door, "192.168.1.5"); refused != http.StatusServiceUnavailable {
		t.Errorf("a third of one address, of 8: %d", refused)
	}
	if n := h.metric(`broker_requests_refused_total{reason="pending_connections"}`); n != 1 {
		t.Errorf("counted %v", n)
	}
	socket := &raw{Conn: first, t: t}
	socket.send(memberHello(ann, time.Now(), nil))
	if frame := socket.frame(); frame["type"] != "hello_ack" {
		t.Fatalf("got %v", frame)
	}
	var last *websocket.Conn
	for i := range 7 {
		ws, refused := knock(t, door, fmt.Sprintf("192.168.2.%d", i))
		if refused != 0 {
			t.Fatalf("number %d: %d", i, refused)
		}
		last = ws
	}
	if _, refused := knock(t, door, "192.168.3.1"); refused != http.StatusServiceUnavailable {
		t.Errorf("more than 8: %d", refused)
	}
	last.CloseNow()
	eventually(t, "one that left makes room", func() bool { _, refused := knock(t, door, "192.168.3.1"); return refused == 0 })
}

// Outcome: one address has a bounded number of sockets, hello or not; loopback, where
// all agents of a homelab may be, has not.
func TestSocketsOfOneAddressAreBounded(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.MaxPerAddress = 2 })
	door := h.door()
	first, _ := knock(t, door, "192.168.1.5")
	knock(t, door, "192.168.1.5")
	if _, refused := knock(t, door, "192.168.1.5"); refused != http.StatusServiceUnavailable {
		t.Errorf("a third: %d", refused)
	}
	if n := h.metric(`broker_requests_refused_total{reason="connections_per_address"}`); n != 1 {
		t.Errorf("counted %v", n)
	}
	if _, refused := knock(t, door, "192.168.1.6"); refused != 0 {
		t.Errorf("another address: %d", refused)
	}
	first.CloseNow()
	eventually(t, "one that left makes room", func() bool { _, refused := knock(t, door, "192.168.1.5"); return refused == 0 })
	for range 5 {
		if _, refused := knock(t, door, "127.0.0.1"); refused != 0 {
			t.Errorf("loopback: %d", refused)
		}
	}
}

// ask asks for the token of a short code.
func (h *house) askCode(door *httptest.Server, from, code string) (status int, found bool, said string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), "GET", door.URL+"/api/public/invite-code/"+code, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("From-Address", from)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Found bool
		Error string
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode == http.StatusTooManyRequests && response.Header.Get("Retry-After") == "" {
		h.t.Error("no Retry-After")
	}
	return response.StatusCode, answer.Found, answer.Error
}

// Outcome: who guesses invites is stopped, by whatever endpoint; who has a good one is
// not, however often it is used, nor by the guesses of others.
func TestGuessingInvitesIsSlow(t *testing.T) {
	h := newHouse(t)
	door := h.door()
	good := h.invite(InviteTerms{Uses: 100})
	for range 3 * guessBurst {
		if status, found, _ := h.askCode(door, "192.168.1.5", good.Code); status != 200 || !found {
			t.Fatalf("the right code: %d %v", status, found)
		}
	}
	for i := range guessBurst {
		if status, found, _ := h.askCode(door, "192.168.1.5", fmt.Sprintf("wrong%03d", i)); status != 200 || found {
			t.Fatalf("wrong code %d: %d %v", i, status, found)
		}
	}
	status, _, said := h.askCode(door, "192.168.1.5", good.Code)
	if status != http.StatusTooManyRequests || !strings.Contains(said, "Try again in ") {
		t.Errorf("after too many wrong ones: %d %q", status, said)
	}
	for _, path := range []string{"/join", "/invites/" + good.Code + "/claim"} {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", door.URL+path, strings.NewReader(`{}`))
		r.Header.Set("From-Address", "192.168.1.5")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	if n := h.metric(`broker_requests_refused_total{reason="invite_guessing"}`); n != 3 {
		t.Errorf("counted %v", n)
	}
	if status, found, _ := h.askCode(door, "192.168.1.6", good.Code); status != 200 || !found {
		t.Errorf("a neighbour: %d %v", status, found)
	}
}

// Outcome: guesses from everywhere stop those who guess, and no one else.
func TestGuessesOfManyLockNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, now := newGuesses(), time.Now()
		from := func(address string) *http.Request { return &http.Request{RemoteAddr: address + ":1"} }
		for i := range 2 * allGuessBurst {
			g.wrong(from(fmt.Sprintf("10.0.%d.%d", i/100, i%100)), now)
		}
		if g.wait(from("10.0.0.1"), now) <= 0 {
			t.Error("one of the guessers may go on")
		}
		if wait := g.wait(from("192.168.1.5"), now); wait != 0 {
			t.Errorf("a person who has a good invite waits %v", wait)
		}
		if g.wait(from("127.0.0.1"), now) <= 0 {
			t.Error("behind a proxy that is not trusted guessing goes on")
		}
		for range 1000 { // however many there were at once
			g.wrong(from("10.0.0.1"), now)
		}
		if mine, all := g.wait(from("10.0.0.1"), now), g.wait(from("127.0.0.1"), now); mine > guessDebt+time.Minute || all > allGuessDebt+2*time.Second {
			t.Errorf("they wait %v, and all %v", mine, all)
		}
		now = now.Add(time.Hour)
		if wait := g.wait(from("10.0.0.1"), now) + g.wait(from("127.0.0.1"), now); wait != 0 {
			t.Errorf("an hour later they wait %v", wait)
		}
	})
}

// Outcome: what the client of a person says of it is the broker's sentence.
func TestJoinSaysThatThereWereTooManyGuesses(t *testing.T) {
	h := newHouse(t)
	for range 2 * allGuessBurst {
		h.guesses.wrong(&http.Request{RemoteAddr: "127.0.0.1:1"}, time.Now())
	}
	_, err := peer.Join(t.Context(), h.url+"/i/"+h.invite(InviteTerms{}).Code, "ann", identity.NewKey())
	if err == nil || !strings.Contains(err.Error(), "Too many invites were tried that do not exist. Try again in ") {
		t.Errorf("got %v", err)
	}
}

// Outcome: over HTTP/2, where a deadline ends a stream although nobody writes, an event
// stream outlives the time that one write may take.
func TestStreamOverHTTP2OutlivesItsWrites(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.WriteTimeout = 100 * time.Millisecond })
	server := httptest.NewUnstartedServer(h.Handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ann, bob := h.arrive("ann"), h.arrive("bob")
	key := ask[*wire.APIKeyCreated](ann, &wire.APIKeyCreate{Capabilities: []string{"read"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/api/v1/topics/general/stream", nil)
	r.Header.Set("Authorization", "Bearer "+key.Secret)
	client := server.Client()
	client.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"h2"}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != 2 || response.TLS.Version < tls.VersionTLS12 {
		t.Fatalf("%s", response.Proto)
	}
	time.Sleep(500 * time.Millisecond)
	bob.say("#general", "after the deadline of the first write")
	var text strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(text.String(), "event: message"); {
		n, err := response.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			t.Fatalf("the stream ended: %v after %s", err, text.String())
		}
	}
}
