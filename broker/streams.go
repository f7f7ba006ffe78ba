package broker

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of streams: each holds a connection and a goroutine.
const (
	maxStreams       = 1024 // at once
	maxMemberStreams = 64   // of all keys of one member
	maxKeyStreams    = 16   // of one key
)

// streams are the event streams that are open. A stream sleeps until its doorbell
// rings: when something was committed to its topic, or when its key may work no
// more. What is new it then reads from the store, behind its cursor, so a ring that
// comes too often costs a look, and one that comes late loses nothing.
type streams struct {
	active atomic.Int64  // how many there are; 0 spares every post the lock
	ending chan struct{} // closed when the broker drains

	mu     sync.Mutex
	ended  bool
	all    map[*stream]struct{}
	byWhom map[string]int // by key id and by member id
}

// stream is one open event stream.
type stream struct {
	topicID  string
	keyID    string
	memberID string
	bell     chan struct{} // capacity 1
	out      *http.ResponseController
	w        http.ResponseWriter

	mu  sync.Mutex
	cut bool // nothing is written any more
}

func newStreams() streams {
	return streams{ending: make(chan struct{}), all: map[*stream]struct{}{}, byWhom: map[string]int{}}
}

// add lists a stream. It reports false if there are too many.
func (all *streams) add(s *stream) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.all) >= maxStreams || all.byWhom[s.keyID] >= maxKeyStreams || all.byWhom[s.memberID] >= maxMemberStreams {
		return false
	}
	all.all[s] = struct{}{}
	all.byWhom[s.keyID]++
	all.byWhom[s.memberID]++
	all.active.Add(1)
	return true
}

func (all *streams) remove(s *stream) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.all, s)
	for _, id := range []string{s.keyID, s.memberID} {
		if all.byWhom[id]--; all.byWhom[id] == 0 {
			delete(all.byWhom, id)
		}
	}
	all.active.Add(-1)
}

// ring wakes the streams that match. It does not block.
func (all *streams) ring(matches func(*stream) bool) {
	if all.active.Load() == 0 {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	for s := range all.all {
		if matches(s) {
			select {
			case s.bell <- struct{}{}:
			default: // it rings already
			}
		}
	}
}

// end ends all streams, and those to come, once they have written what they are
// writing.
func (all *streams) end() {
	all.mu.Lock()
	defer all.mu.Unlock()
	if !all.ended {
		all.ended = true
		close(all.ending)
	}
}

// cut has no stream wait for its reader any longer.
func (all *streams) cut() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for s := range all.all {
		s.mu.Lock()
		s.cut = true
		_ = s.out.SetWriteDeadline(time.Now()) // of a recorder there is none
		s.mu.Unlock()
	}
}

var errCut = errors.New("the stream was cut")

// write writes events to the reader, who has to take them within patience.
func (s *stream) write(events []byte, patience time.Duration) error {
	s.mu.Lock()
	if s.cut {
		s.mu.Unlock()
		return errCut
	}
	_ = s.out.SetWriteDeadline(time.Now().Add(patience))
	s.mu.Unlock()
	if _, err := s.w.Write(events); err != nil {
		return err
	}
	err := s.out.Flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut { // HTTP/2 ends a stream whose deadline passes although nothing is being written
		_ = s.out.SetWriteDeadline(time.Time{})
	}
	return err
}
