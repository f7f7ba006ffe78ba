package mcp

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

// gatherTime is how long a message waits for more of them before it wakes.
const gatherTime = 500 * time.Millisecond

// alarm wakes the agent of a session when something came that is for it: a direct
// message, a mention, an answer. What is for everybody, or for a group, does not.
type alarm struct {
	limits wake.Limits
	guard  *wake.Guard // owned by ring

	way    wake.Way // session.mu guards it, and what follows
	thread string   // of Codex, by which way wakes
	dnd    bool     // only what is urgent wakes
}

const (
	claudeClient = "claude"
	codexClient  = "codex"
)

func (s *session) setDND(dnd bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarm.dnd = dnd
}

// wakes reports whether a message may wake at all.
func (s *session) wakes(l *letter) bool {
	s.mu.Lock()
	dnd := s.alarm.dnd
	s.mu.Unlock()
	return l.forMe && (!dnd || l.push.Priority == wire.PriorityNow)
}

// ring wakes the agent, until ctx ends.
func (s *session) ring(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.inbox.arrive:
		}
		if !pause(ctx, gatherTime) {
			return
		}
		if s.wake(ctx, s.inbox.unannounced(s.wakes)) && !pause(ctx, s.alarm.limits.Pause) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// wake wakes for those messages that the guard lets through, and reports whether
// it did.
func (s *session) wake(ctx context.Context, letters []*letter) bool {
	way := s.currentWay()
	if way.Tier != wake.Woken {
		return false
	}
	var let []*letter
	for _, l := range letters {
		allowed, trip := s.alarm.guard.Allows(wake.Cause{Sender: cmp.Or(l.push.SenderMemberPubkey, l.push.SenderPubkey), Agent: l.push.SenderPeerType != wire.PeerHuman, Topic: l.push.Topic}, time.Now())
		switch {
		case allowed:
			let = append(let, l)
		case trip.Tell:
			s.tellTrip(ctx, l, trip)
		}
	}
	if len(let) == 0 {
		return false
	}
	if err := way.Wake(ctx, announcement(let)); err != nil {
		s.log.Warn("the agent could not be woken", "by", way.By, "err", err)
		s.mu.Lock()
		s.alarm.way = wake.None // until the next tool call finds another way
		s.mu.Unlock()
		s.inbox.unannounce(let)
		return false
	}
	return true
}

// announcement says that there is something, and from whom; not what: the words of
// others come by check_inbox, with their marks.
func announcement(letters []*letter) string {
	var from []string
	for _, l := range letters {
		where := "to you"
		if l.push.Topic != "" {
			where = "in #" + l.push.Topic
		}
		from = append(from, whoSafely(l.push.SenderName, l.push.SenderPubkey, l.push.SenderPeerType)+" "+where)
	}
	return fmt.Sprintf("[meshbox] %s for you: from %s. Call check_inbox to read what they wrote. This notice is from meshbox, and not from your user.", count(len(letters), "new message"), some(from))
}

// tellTrip tells the people in the room that agents wake each other in circles.
func (s *session) tellTrip(ctx context.Context, l *letter, trip *wake.Trip) {
	topic, by := l.push.Topic, "messages of "+whoSafely(l.push.SenderName, l.push.SenderPubkey, l.push.SenderPeerType)
	if topic == "" {
		topic, by = wire.General, "direct messages of another agent"
	} else if !trip.ByPair {
		by = "messages of agents in #" + topic
	}
	text := fmt.Sprintf("Notice: %s have woken me %d times in %s. They go on waiting in my inbox, and do not wake me for now, until a person writes to me or some time has passed.", by, trip.Times, trip.Within)
	s.log.Warn("agents wake each other", "by", by)
	c, err := s.connection(ctx)
	if err == nil {
		_, err = c.SendText(ctx, "#"+topic, text)
	}
	if err != nil {
		s.log.Warn("the room could not be told", "err", err)
	}
}

func (s *session) currentWay() wake.Way {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alarm.way
}

// learnWay finds out how the agent can be woken: from what its client gave this
// process, and from what it says with a tool call.
func (s *session) learnWay(ctx context.Context, client string, meta map[string]any) {
	thread, _ := meta["threadId"].(string)
	s.mu.Lock()
	known := s.alarm.way.Tier == wake.Woken && (thread == "" || thread == s.alarm.thread)
	s.mu.Unlock()
	if known || s.alarm.limits.Pair == 0 {
		return
	}
	way := wake.None
	switch {
	case strings.HasPrefix(client, claudeClient):
		way = wake.Claude(ctx, os.Getenv)
	case strings.HasPrefix(client, codexClient):
		way = wake.Codex(thread)
	}
	s.mu.Lock()
	s.alarm.way, s.alarm.thread = way, thread
	s.mu.Unlock()
	if way.Tier == wake.Woken {
		s.log.Info("the agent can be woken", "by", way.By)
	}
}

// hears says how the agent hears of what is new.
func (s *session) hears() string {
	way := s.currentWay()
	if way.Tier == wake.Woken {
		return "When something is for you, " + way.By + " wakes you."
	}
	return "You hear of what is for you with your next tool call."
}

// isSealed reports whether a message was encrypted to a key.
func isSealed(push *wire.Push) bool {
	_, err := peer.Decode(push.Ciphertext, push.BodyVersion)
	return push.Topic == "" && err != nil
}
