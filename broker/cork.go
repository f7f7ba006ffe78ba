package broker

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
)

const (
	corkLimit   = 64 << 10 // bytes gathered at most before they are written
	frameBuffer = 256      // bytes: frame headers and control frames; payloads go around it
	readBuffer  = 1 << 10  // bytes: larger payloads go around it
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
	return w.conn, bufio.NewReadWriter(smallReader(buffered.Reader, w.conn), bufio.NewWriterSize(w.conn, frameBuffer)), nil
}

// smallReader goes on where the HTTP server's reader is, with a buffer that is
// enough for most frames: thousands of idle connections each keep theirs.
func smallReader(from *bufio.Reader, conn net.Conn) *bufio.Reader {
	ahead, _ := from.Peek(from.Buffered()) // it has that much
	if len(ahead) > readBuffer {
		return from
	}
	small := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(ahead), conn), readBuffer)
	_, _ = small.Peek(len(ahead)) // buffered again: the library keeps only that when it resets the reader
	return small
}

// corkedConn gathers what is written between cork and uncork into one write:
// the library flushes after every frame, and one system call per frame is what
// a broker under load mostly does otherwise.
type corkedConn struct {
	net.Conn

	mu     sync.Mutex // also keeps pongs of the read loop between whole frames
	corked bool
	buffer *[]byte // from corkBuffers while corked: an idle connection has none
}

var corkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func (c *corkedConn) cork() {
	c.mu.Lock()
	c.corked, c.buffer = true, corkBuffers.Get().(*[]byte)
	c.mu.Unlock()
}

// uncork writes what was gathered.
func (c *corkedConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	err := c.flush()
	corkBuffers.Put(c.buffer)
	c.buffer = nil
	return err
}

// Write implements net.Conn.
func (c *corkedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(p)
	}
	if len(*c.buffer)+len(p) > corkLimit {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	*c.buffer = append(*c.buffer, p...)
	return len(p), nil
}

// flush writes the buffer; mu is held.
func (c *corkedConn) flush() error {
	if len(*c.buffer) == 0 {
		return nil
	}
	_, err := c.Conn.Write(*c.buffer)
	*c.buffer = (*c.buffer)[:0]
	return err
}
