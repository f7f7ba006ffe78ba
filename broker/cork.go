package broker

import (
	"bufio"
	"net"
	"net/http"
	"sync"
)

const (
	corkLimit    = 64 << 10 // bytes gathered at most before they are written
	frameBuffer  = 256      // bytes: frame headers and control frames; payloads go around it
	corkKeepSize = 4 << 10  // bytes of buffer an idle connection may keep
)

// corkWriter makes the library write through a corkedConn, see there.
type corkWriter struct {
	http.ResponseWriter
	conn *corkedConn // set by Hijack
}

// Hijack implements http.Hijacker.
func (w *corkWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.conn = &corkedConn{Conn: conn}
	buffered.Writer = bufio.NewWriterSize(w.conn, frameBuffer)
	return w.conn, buffered, nil
}

// corkedConn gathers what is written between cork and uncork into one write:
// the library flushes after every frame, and one system call per frame is what
// a broker under load mostly does otherwise.
type corkedConn struct {
	net.Conn

	mu     sync.Mutex // also keeps pongs of the read loop between whole frames
	corked bool
	buffer []byte
}

func (c *corkedConn) cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// uncork writes what was gathered.
func (c *corkedConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	err := c.flush()
	if cap(c.buffer) > corkKeepSize {
		c.buffer = nil
	}
	return err
}

// Write implements net.Conn.
func (c *corkedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(p)
	}
	if len(c.buffer)+len(p) > corkLimit {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	c.buffer = append(c.buffer, p...)
	return len(p), nil
}

// flush writes the buffer; mu is held.
func (c *corkedConn) flush() error {
	if len(c.buffer) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buffer)
	c.buffer = c.buffer[:0]
	return err
}
