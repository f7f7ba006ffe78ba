package broker

import (
	"sync"
	"time"
)

// lastSeen is when members were seen last that came and left without leaving
// anything else behind. It is written with the next sweep: the commands that
// connect, ask and leave many times a minute must not cost a commit each.
type lastSeen struct {
	mu sync.Mutex
	at map[string]time.Time // by member id
}

// note says that a member was here until now.
func (l *lastSeen) note(memberID string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string]time.Time{}
	}
	l.at[memberID] = now
}

// newest returns the later of what was noted of a member and what is stored.
func (l *lastSeen) newest(memberID string, stored time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if noted := l.at[memberID]; noted.After(stored) {
		return noted
	}
	return stored
}

// take returns what was noted since the last time.
func (l *lastSeen) take() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.at
	l.at = nil
	return at
}

// keepSeen stores what was noted. What cannot be stored is noted again.
func (b *Broker) keepSeen() error {
	at := b.seen.take()
	if len(at) == 0 {
		return nil
	}
	err := b.db.SaveLastSeen(at)
	if err != nil {
		for memberID, t := range at {
			b.seen.note(memberID, b.seen.newest(memberID, t))
		}
	}
	return err
}
