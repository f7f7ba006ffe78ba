package main

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// relay is the network between peers and the server: it can break a connection
// in the middle of a frame, or swallow what is sent and say nothing.
type relay struct {
	listener net.Listener
	target   string
	mute     atomic.Bool // swallows instead of forwarding, in both directions

	mu    sync.Mutex
	pairs map[*pair]struct{}
}

// pair is one relayed connection.
type pair struct{ near, far net.Conn }

// newRelay relays to target, which need not be there yet.
func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target, pairs: map[*pair]struct{}{}}
	go r.accept()
	t.Cleanup(func() { listener.Close(); r.cut(1) })
	return r
}

func (r *relay) url() string { return "ws://" + r.listener.Addr().String() + "/ws" }

func (r *relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.serve(near)
	}
}

func (r *relay) serve(near net.Conn) {
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		near.Close()
		return
	}
	p := &pair{near, far}
	r.mu.Lock()
	r.pairs[p] = struct{}{}
	r.mu.Unlock()
	go r.forward(p, far, near)
	r.forward(p, near, far)
}

// forward copies until one side ends, and then ends both.
func (r *relay) forward(p *pair, from io.Reader, to io.Writer) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !r.mute.Load() {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			r.end(p)
			return
		}
	}
}

func (r *relay) end(p *pair) {
	r.mu.Lock()
	delete(r.pairs, p)
	r.mu.Unlock()
	p.near.Close()
	p.far.Close()
}

// cut breaks each connection with this probability.
func (r *relay) cut(probability float64) {
	r.mu.Lock()
	var chosen []*pair
	for p := range r.pairs {
		if rand.Float64() < probability {
			chosen = append(chosen, p)
		}
	}
	r.mu.Unlock()
	for _, p := range chosen {
		r.end(p)
	}
}
