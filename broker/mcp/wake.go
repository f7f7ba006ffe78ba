package mcp

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

const (
	gatherTime = 500 * time.Millisecond // how long a message waits for more of them before it wakes
	hookLook   = 2 * time.Second        // how often one looks whether a first hook was here
)

// alarm wakes the agent of a session when something came that is for it: a direct
// message, a mention, an answer. What is for everybody, or for a group, does not.
type alarm struct {
	limits wake.Limits
	guard  *wake.Guard // owned by ring

	channel func(ctx context.Context, text string) error // of Claude Code, else nil; set before ring runs

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

// ring tells the agent of what comes, until ctx ends.
func (s *session) ring(ctx context.Context) {
	waits := false // somebody may yet come who tells
	for {
		var look <-chan time.Time
		if waits {
			look = time.After(hookLook)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.inbox.arrive:
			if !pause(ctx, gatherTime) {
				return
			}
		case <-look: // for what came before the first hook
		}
		letters := s.inbox.unannounced(s.wakes)
		told := s.announce(ctx, letters)
		waits = !told && len(letters) > 0 && s.notes.canBeLeft()
		if told && !pause(ctx, s.alarm.limits.Pause) {
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

// announce tells the agent of those messages that the guard lets through, and reports
// whether it did.
func (s *session) announce(ctx context.Context, letters []*letter) bool {
	if len(letters) == 0 || s.alarm.limits.Pair == 0 {
		return false
	}
	way := s.currentWay()
	if way.Tier == wake.NextToolCall && s.alarm.channel == nil {
		s.inbox.unannounce(letters) // a hook may come yet
		return false
	}
	let := s.admit(ctx, letters)
	if len(let) == 0 {
		return false
	}
	if way.Tier == wake.Woken {
		err := way.Wake(ctx, announcement(let))
		if err == nil {
			s.inbox.hear(let, wake.Woken)
			return true
		}
		s.log.Warn("the agent could not be woken", "by", way.By, "err", err)
		s.mu.Lock()
		s.alarm.way = wake.None // until the next tool call finds another way
		s.mu.Unlock()
	}
	s.channel(ctx, let)
	if s.notes.areTaken() {
		err := s.notes.leave(s.inbox, let)
		if err == nil {
			return true
		}
		s.log.Warn("no note could be left for a hook", "err", err)
	}
	s.inbox.unannounce(let) // a hook may come yet
	return false
}

// channel tells of letters by the channel of Claude Code, once.
func (s *session) channel(ctx context.Context, letters []*letter) {
	fresh := slices.DeleteFunc(slices.Clone(letters), func(l *letter) bool { return l.channeled })
	if s.alarm.channel == nil || len(fresh) == 0 {
		return
	}
	if err := s.alarm.channel(ctx, announcement(fresh)); err != nil {
		s.log.Warn("the channel takes nothing", "err", err)
	}
	for _, l := range fresh {
		l.channeled = true
	}
}

// admit returns those letters that the guard lets through, and has the room told when
// it trips.
func (s *session) admit(ctx context.Context, letters []*letter) (let []*letter) {
	for _, l := range letters {
		if l.admitted {
			let = append(let, l)
			continue
		}
		allowed, trip := s.alarm.guard.Allows(wake.Cause{Sender: cmp.Or(l.push.SenderMemberPubkey, l.push.SenderPubkey), Agent: l.push.SenderPeerType != wire.PeerHuman, Topic: l.push.Topic}, time.Now())
		switch {
		case allowed:
			l.admitted = true
			let = append(let, l)
		case trip.Tell:
			s.tellTrip(ctx, l, trip)
		}
	}
	return let
}

// announcement says that there is something, and from whom; not what: the words of
// others come by check_inbox, with their marks.
func announcement(letters []*letter) string {
	var from []string
	times := map[string]int{}
	for _, l := range letters {
		where := "to you"
		if l.push.Topic != "" {
			where = "in #" + l.push.Topic
		}
		sender := whoSafely(l.push.SenderName, l.push.SenderPubkey, l.push.SenderPeerType) + " " + where
		if times[sender]++; times[sender] == 1 {
			from = append(from, sender)
		}
	}
	for i, sender := range from {
		if times[sender] > 1 {
			from[i] = fmt.Sprintf("%s (%d)", sender, times[sender])
		}
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

// currentWay is how the agent hears of messages now.
func (s *session) currentWay() wake.Way {
	s.mu.Lock()
	way := s.alarm.way
	s.mu.Unlock()
	if way.Tier == wake.Woken || s.alarm.limits.Pair == 0 {
		return way
	}
	if s.notes.areTaken() {
		return wake.Way{Tier: wake.AtTurnEnd, By: "a hook of its client"}
	}
	return way
}

// learnWay finds out how the agent can be woken: from what its client gave this
// process, and from what it says with a tool call.
func (s *session) learnWay(ctx context.Context, client string, meta map[string]any) {
	thread, _ := meta["threadId"].(string)
	s.notes.belongsTo(thread)
	s.mu.Lock()
	known := s.alarm.way.Tier == wake.Woken && (thread == "" || thread == s.alarm.thread)
	s.mu.Unlock()
	if known || s.alarm.limits.Pair == 0 {
		return
	}
	way := wake.None
	switch client {
	case claudeClient:
		way = wake.Claude(ctx, os.Getenv)
	case codexClient:
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
	switch way := s.currentWay(); way.Tier {
	case wake.Woken:
		return "When something is for you, " + way.By + " wakes you."
	case wake.AtTurnEnd:
		return "You hear of what is for you when your turn ends, and with your next tool call."
	}
	return "You hear of what is for you with your next tool call."
}

// isSealed reports whether a message was encrypted to a key.
func isSealed(push *wire.Push) bool {
	_, err := peer.Decode(push.Ciphertext, push.BodyVersion)
	return push.Topic == "" && err != nil
}
