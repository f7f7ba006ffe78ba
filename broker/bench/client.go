package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

const (
	dialTimeout = 30 * time.Second // connect, upgrade and hello: generous, a storm is a storm
	readLimit   = 1 << 24          // bytes of one frame
)

// client is one greeted connection. One goroutine may read while others write.
type client struct {
	ws     *websocket.Conn
	buffer bytes.Buffer // of the reader
	reply  []byte       // of the reader: a client_ack
}

// dial connects and says hello for o, signed for the instant at.
func dial(ctx context.Context, o peer.Options, at time.Time) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, o.Identity.BrokerURL, dialOptions(o.Identity.BrokerURL))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the broker at %s: %w", o.Identity.BrokerURL, err)
	}
	ws.SetReadLimit(readLimit)
	c := &client{ws: ws}
	if err := c.greet(ctx, o.HelloFrame(at)); err != nil {
		ws.CloseNow()
		return nil, err
	}
	return c, nil
}

// greet says hello and waits for its answer.
func (c *client) greet(ctx context.Context, hello []byte) error {
	if err := c.ws.Write(ctx, websocket.MessageText, hello); err != nil {
		return fmt.Errorf("cannot say hello: %w", err)
	}
	frame, err := c.read(ctx)
	if err != nil {
		return fmt.Errorf("no answer to the hello: %w", err)
	}
	m, _, _, bad := wire.DecodeResponse(frame)
	switch m := m.(type) {
	case *wire.HelloAck:
		return nil
	case *wire.Error:
		return fmt.Errorf("the broker refused a hello: %s (%s)", m.Message, m.Code)
	}
	return fmt.Errorf("the broker answered a hello with something else (%v)", bad)
}

// read returns the next frame, which is valid until the next call.
func (c *client) read(ctx context.Context) ([]byte, error) {
	_, reader, err := c.ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	c.buffer.Reset()
	_, err = c.buffer.ReadFrom(reader)
	return c.buffer.Bytes(), err
}

// write sends one frame, which may be used again afterwards.
func (c *client) write(frame []byte) error {
	return c.ws.Write(context.Background(), websocket.MessageText, frame)
}

// settle acks a push.
func (c *client) settle(frame []byte) error {
	c.reply = clientAck(c.reply, field(frame, messageIDKey))
	return c.write(c.reply)
}

// close says goodbye and waits for the answer to that.
func (c *client) close() error { return c.ws.Close(websocket.StatusNormalClosure, "") }

// handlers say what to do with what a connection gets. The frames are valid
// until they return.
type handlers struct {
	ack  func(number int, code string) error // code is "" if it was accepted
	push func(frame []byte) error            // of a message, not of an event
}

// serve reads until the connection ends, and returns why.
func (c *client) serve(h handlers) error {
	for {
		frame, err := c.read(context.Background())
		if err != nil {
			return err
		}
		switch string(field(frame, typeKey)) {
		case "push":
			if !bytes.Contains(frame, []byte(systemPush)) {
				err = h.push(frame)
			}
		case "ack", "error":
			err = h.answer(frame)
		}
		if err != nil {
			return err
		}
	}
}

// answer hands on the answer to a message; an error that answers none is the
// end of the connection.
func (h handlers) answer(frame []byte) error {
	number, code, ok := readAck(frame)
	if !ok {
		return fmt.Errorf("the broker says: %.300s", frame)
	}
	return h.ack(number, code)
}

// unasked is for connections that send nothing.
func unasked(int, string) error {
	return errors.New("the broker acked a message that was not sent")
}

// dialOptions makes plain connections without the costs of an http.Transport,
// which are those of several messages: two goroutines and a pool for each.
func dialOptions(url string) *websocket.DialOptions {
	if !strings.HasPrefix(url, "ws:") {
		return nil
	}
	return &websocket.DialOptions{HTTPClient: &http.Client{Transport: upgrader{}}}
}

// upgrader does one request on a connection of its own, and leaves that to
// whoever reads the answer.
type upgrader struct{}

// RoundTrip implements http.RoundTripper.
func (upgrader) RoundTrip(request *http.Request) (*http.Response, error) {
	address := request.URL.Host
	if request.URL.Port() == "" {
		address = net.JoinHostPort(request.URL.Hostname(), "80")
	}
	conn, err := new(net.Dialer).DialContext(request.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	deadline, _ := request.Context().Deadline() // dial sets one
	conn.SetDeadline(deadline)
	response, err := upgrade(conn, request)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return response, conn.SetDeadline(time.Time{})
}

// upgrade writes the request and reads the answer's head. What follows is the
// body; a broker sends nothing before the hello.
func upgrade(conn net.Conn, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(conn, 1024)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		response.Body = &upgraded{conn, reader}
	} else {
		response.Body = struct {
			io.Reader
			io.Closer
		}{response.Body, conn}
	}
	return response, nil
}

// upgraded is a connection behind an answer's head.
type upgraded struct {
	net.Conn
	head *bufio.Reader // nil when it holds nothing more
}

// Read implements io.Reader.
func (u *upgraded) Read(p []byte) (int, error) {
	if u.head != nil && u.head.Buffered() > 0 {
		return u.head.Read(p)
	}
	u.head = nil
	return u.Conn.Read(p)
}
