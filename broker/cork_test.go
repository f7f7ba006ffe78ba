package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"meshbox/broker/wire"
)

// A program need not wait for the answer to its upgrade: what it sends in the
// same packet, a little or more than the reader's buffer, is not lost.
func TestFramesSentWithTheUpgradeAreRead(t *testing.T) {
	for _, padding := range []int{0, readBuffer + 100} {
		t.Run(fmt.Sprint(padding), func(t *testing.T) {
			h := newHouse(t)
			host := strings.TrimPrefix(h.url, "http://")
			c, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			hello := wire.Encode(memberHello(h.join("ann"), time.Now(), func(m *wire.Hello) { m.CWD = "/" + strings.Repeat("x", padding) }), "")
			packet := fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
			packet = append(packet, 0x81, 0xfe, byte(len(hello)>>8), byte(len(hello)), 0, 0, 0, 0) // a text frame with the mask 0
			if _, err := c.Write(append(packet, hello...)); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			var got []byte
			for !bytes.Contains(got, []byte(`"hello_ack"`)) {
				chunk := make([]byte, 4096)
				n, err := c.Read(chunk)
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got = append(got, chunk[:n]...)
			}
			if at := bytes.IndexByte(got, '{'); !json.Valid(got[at:]) {
				t.Errorf("got %q", got[at:])
			}
		})
	}
}
