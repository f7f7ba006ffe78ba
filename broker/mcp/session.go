package mcp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"meshbox/broker/peer"
	"meshbox/broker/wake"
	"meshbox/broker/wire"
)

// Channel is what these sessions say they run in.
const Channel = "mcp"

const (
	connectWait = 5 * time.Second // how long a tool waits for a connection that is being made
	maxSent     = 1_000           // own messages that are remembered, to know their replies
)

// Config says for whom a session speaks.
type Config struct {
	Peer    peer.Options // with a Session
	Version string       // of meshbox
	Log     *slog.Logger // never standard output, which is the wire
	Wake    wake.Limits  // of waking an idle agent; Pair 0: never

	// Desk is the folder for notes that hooks of the client take; "": there are none.
	Desk string

	// ClaudeSession is the session of Claude Code that started this process, "" if
	// it is not known: by that its hooks name the agent.
	ClaudeSession string
}

// session is one agent in the mesh, over all connections it has.
type session struct {
	options peer.Options
	log     *slog.Logger
	inbox   *inbox
	mention *regexp.Regexp // of this agent
	alarm   alarm
	notes   notes

	mu      sync.Mutex
	conn    *peer.Conn    // nil while there is none
	problem error         // why
	changed chan struct{} // closed and replaced when either changes
	sent    map[string]bool
}

// DisplayName is what a session is called: its member, and the folder it works
// in, so that two of one member can be told apart and addressed.
func DisplayName(member, folder string) string {
	base := filepath.Base(folder)
	if folder == "" || base == "." || base == string(filepath.Separator) || strings.EqualFold(base, member) {
		return member
	}
	return strings.ReplaceAll(wire.CleanLine(member+"-"+base, wire.MaxNameLen), " ", "-")
}

// Run serves an agent over a transport until that ends or ctx does. The agent is in
// the mesh from when its client has said hello.
func Run(ctx context.Context, cfg Config, transport sdk.Transport) error {
	s := newSession(cfg)
	ctx, cancel := context.WithCancel(ctx)
	var stay sync.WaitGroup
	defer s.notes.close()
	defer stay.Wait()
	defer cancel()
	var once sync.Once
	line := &tap{Transport: transport}
	server := s.server(cfg.Version, func(client string) {
		once.Do(func() {
			s.knows(ctx, cfg, clientOf(client), line)
			stay.Go(func() { s.stay(ctx) })
			stay.Go(func() { s.ring(ctx) })
		})
	})
	err := server.Run(ctx, line)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// knows makes use of who the client is.
func (s *session) knows(ctx context.Context, cfg Config, client string, line *tap) {
	agent := wake.Agent{Client: client, Folder: s.options.Client.CWD}
	if client == claudeClient {
		agent.Session = cfg.ClaudeSession
		s.options.Client.SessionID = cmp.Or(cfg.ClaudeSession, s.options.Client.SessionID)
		s.alarm.channel = line.notify
	}
	if err := s.notes.open(cfg.Desk, agent); err != nil {
		s.log.Warn("hooks cannot tell of messages at the end of a turn", "err", err)
	}
	s.learnWay(ctx, client, nil)
}

func newSession(cfg Config) *session {
	o := cfg.Peer
	o.Client.DisplayName = cmp.Or(o.Client.DisplayName, DisplayName(o.Identity.DisplayName, o.Client.CWD))
	o.Client.Channel = Channel
	o.Client.Capabilities = append(o.Client.Capabilities, wire.CapUnheld, wire.CapSiblings) // an agent that looks is to see what there is
	return &session{
		options: o, log: cfg.Log, inbox: newInbox(), mention: mentionOf(o.Client.DisplayName, o.Identity.DisplayName),
		alarm:   alarm{limits: cfg.Wake, guard: wake.NewGuard(cfg.Wake), way: wake.None},
		problem: errors.New("still connecting"), changed: make(chan struct{}), sent: map[string]bool{},
	}
}

// stay keeps the session in the mesh. Another process may have the same session
// of the client; so that they do not throw each other out for ever, the one that
// was replaced goes on under an id of its own.
func (s *session) stay(ctx context.Context) {
	replaced := true
	var err error
	for replaced {
		replaced = false
		attempt, cancel := context.WithCancel(ctx)
		err = peer.Stay(attempt, s.options, s.receive, func(err error, wait time.Duration) {
			if rejected, ok := errors.AsType[*peer.Rejected](err); ok && rejected.Code == wire.SessionReplaced {
				replaced = true
				cancel()
			}
			s.log.Warn("no connection", "err", err, "retry_in", wait)
			s.become(nil, err)
		})
		cancel()
		s.options.Client.SessionID = rand.Text()
	}
	if err != nil {
		s.log.Error("out of the mesh", "err", err)
		s.become(nil, err)
	}
}

// receive collects what one connection brings until it ends.
func (s *session) receive(ctx context.Context, c *peer.Conn) error {
	s.become(c, nil)
	defer s.become(nil, errors.New("the connection was lost just now"))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		case push := <-c.Pushes():
			if push.Subtype == "system" {
				continue
			}
			if s.inbox.add(c, push, s.isForMe) {
				continue
			}
			if by, handed := s.inbox.handed(push.MessageID); handed {
				_ = c.AckHanded(ctx, push, string(by)) // if it fails, the connection has ended
			}
		}
	}
}

func (s *session) become(c *peer.Conn, problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.problem = c, problem
	close(s.changed)
	s.changed = make(chan struct{})
}

// connection returns the live connection; it waits a moment for one.
func (s *session) connection(ctx context.Context) (*peer.Conn, error) {
	late := time.After(connectWait)
	for {
		s.mu.Lock()
		conn, problem, changed := s.conn, s.problem, s.changed
		s.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		if rejected, ok := errors.AsType[*peer.Rejected](problem); ok && rejected.Final() {
			return nil, problem
		}
		select {
		case <-changed:
		case <-late:
			return nil, fmt.Errorf("meshbox cannot be reached (%w); nothing was done, and it goes on trying", problem)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// remember notes an own message: a reply to it is for this agent.
func (s *session) remember(messageID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) >= maxSent {
		clear(s.sent)
	}
	s.sent[messageID] = true
}

// isForMe reports whether a message is for this agent in particular: sent to it
// alone, naming it, or an answer to it.
func (s *session) isForMe(l *letter) bool {
	if l.sealed {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[l.push.ReplyToID] || s.mention.MatchString(l.text)
}

// mentionOf finds @name in a text, in any case, for one of the names: by the rule
// of the broker, for which @claude-2 is another one than @claude.
func mentionOf(names ...string) *regexp.Regexp {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	return regexp.MustCompile(`(?i)(?:^|[^\pL\pN@])@(?:` + strings.Join(quoted, "|") + `)[._-]*(?:$|[^\pL\pN._-])`)
}
