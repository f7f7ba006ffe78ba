package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into backups

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The soak. Many members come and go and write to each other for a long time, while
// the server is restarted and killed, members are banned and let in again, and backups
// are made, checked and searched. It goes in rounds; each ends with a calm in which
// everybody who may is there, and then:
//
//   - what was acked reached everybody it was owed to, under one messageId each, in
//     the order in which it was sent; so did what was not acked, if it reached anybody;
//   - nobody who was banned got what was written later;
//   - every backup was in order, and had all that was acked before it began.
//
// In the second half the server is left running: its memory must not grow. In the end
// all leave, and its goroutines and files must be as few as at the start.
//
// MESHBOX_SOAK is how long it takes, MESHBOX_SOAK_CONNECTIONS how many there are.
const (
	soakTime        = 20 * time.Second
	soakConnections = 100
	soakRound       = time.Minute            // of a long soak; there are at least soakRounds
	soakRounds      = 4                      //
	soakSenders     = 20                     // at most
	letterEvery     = 400 * time.Millisecond // of one sender
	topicEvery      = time.Second            // of all of them
	broadcastEvery  = 5 * time.Second        // likewise
	banTime         = 3 * time.Second        // for a ban by a command to hold everywhere
	soakRetry       = 200 * time.Millisecond // after a connection that failed; twice as long after each
	soakMaxRetry    = 5 * time.Second        // until then
	soakPatience    = 4 * time.Minute        // for a calm
)

func TestSoak(t *testing.T) {
	s := newSoak(t)
	for round := range s.rounds {
		s.round(round)
		if t.Failed() {
			t.Fatalf("round %d of %d failed", round+1, s.rounds)
		}
	}
	s.end()
}

// soak is one run.
type soak struct {
	t       *testing.T
	program string
	folder  string
	db      string
	server  *server
	listen  string
	rounds  int
	length  time.Duration // of a round, its calm aside
	idle    footprint     // of the server before anybody came
	prints  []footprint   // in the calm after each round
	*census

	calm     atomic.Bool
	done     context.CancelFunc
	running  sync.WaitGroup
	restarts int
	backups  atomic.Int64
	bans     int
	hellos   atomic.Int64
}

// footprint is what a server's process holds.
type footprint struct{ memory, goroutines, files int64 }

func (f footprint) String() string {
	return fmt.Sprintf("%d MiB, %d goroutines, %d files", f.memory>>20, f.goroutines, f.files)
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	length, err := time.ParseDuration(os.Getenv("MESHBOX_SOAK"))
	if err != nil {
		length = soakTime
	}
	s := &soak{t: t, program: build(t), folder: t.TempDir(), census: &census{letters: map[string]*parcel{}}}
	s.db = filepath.Join(s.folder, "meshbox.db")
	s.rounds = max(soakRounds, int(length/soakRound))
	s.length = length / time.Duration(s.rounds)
	s.begin("127.0.0.1:0")
	s.listen = "127.0.0.1" + strings.TrimPrefix(s.server.url, "http://localhost")
	s.idle = s.footprint()
	s.populate(fromEnvironment("MESHBOX_SOAK_CONNECTIONS", soakConnections))
	return s
}

func (s *soak) begin(listen string) {
	s.t.Helper()
	s.server = start(s.t, s.program, s.folder, listen, "--send-rate", "0", "--presence-lease", "1m", "--ack-timeout", "3s", "--log-level", "error")
}

func (s *soak) footprint() (f footprint) {
	s.t.Helper()
	for name, value := range map[string]*int64{"process_resident_memory_bytes": &f.memory, "go_goroutines": &f.goroutines, "process_open_fds": &f.files} {
		read, _ := strconv.ParseFloat(s.server.metric(name), 64) // not everywhere is there a memory to read
		*value = int64(read)
	}
	return f
}

// populate has the members join and come.
func (s *soak) populate(n int) {
	s.t.Helper()
	var link string
	for i := range n {
		if i%1000 == 0 { // an invite is for at most so many
			var invite struct {
				Link string `json:"link"`
			}
			if err := json.Unmarshal([]byte(run(s.t, s.program, "invite", "--json", "--uses", "1000", "--db", s.db)), &invite); err != nil {
				s.t.Fatal(err)
			}
			link = invite.Link
		}
		id, err := peer.Join(s.t.Context(), link, fmt.Sprint("m", i), identity.NewKey())
		if err != nil {
			s.t.Fatal(err)
		}
		s.members = append(s.members, &soaker{Identity: id, got: map[string]bool{}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.done = cancel
	s.t.Cleanup(func() { cancel(); s.running.Wait() })
	for _, m := range s.members {
		s.running.Go(func() { s.read(ctx, m) })
	}
}

// round is a storm and the calm after it.
func (s *soak) round(number int) {
	s.t.Helper()
	s.newRound(number)
	s.pardon()
	s.calm.Store(false)
	until := make(chan struct{})
	var storm sync.WaitGroup
	senders := min(soakSenders, len(s.members)/5)
	for i := range senders {
		storm.Go(func() { s.send(s.members[i], i, until) })
	}
	storm.Go(func() { s.backUp(until) })
	began := time.Now()
	for step := range 4 { // of a round: a ban, and in the first half a restart
		time.Sleep(time.Until(began.Add(s.length * time.Duration(step+1) / 5)))
		s.ban(senders)
		if number < s.rounds/2 && step%2 == 0 {
			s.restart()
		}
	}
	time.Sleep(time.Until(began.Add(s.length)))
	close(until)
	storm.Wait()
	s.calm.Store(true)
	s.await("every message reaches everybody it is owed to", s.missing)
	for _, problem := range s.problems() {
		s.t.Error(problem)
	}
	s.prints = append(s.prints, s.footprint())
	s.t.Logf("round %d: %s; the server holds %s", number+1, s.summary(), s.prints[number])
}

// restart ends the server as a service manager does, or as a crash, and starts it
// again.
func (s *soak) restart() {
	s.t.Helper()
	if s.restarts++; s.restarts%2 == 0 {
		s.server.stop()
	} else {
		s.server.kill()
	}
	s.begin(s.listen)
}

// ban bans a member by a command: one who only reads, or now and then one who
// sends, but not all of those.
func (s *soak) ban(senders int) {
	s.t.Helper()
	m := s.members[senders/2+rand.IntN(len(s.members)-senders/2)]
	if s.nowBanned(m) {
		run(s.t, s.program, "member", "revoke", m.Key.Public(), "--db", s.db)
		s.hasBeenBanned(m)
		s.bans++
	}
}

// pardon lifts all bans.
func (s *soak) pardon() {
	s.t.Helper()
	for _, m := range s.members {
		if s.isBanned(m) {
			run(s.t, s.program, "member", "restore", m.Key.Public(), "--db", s.db)
			s.nowPardoned(m)
		}
	}
}

// read is a member's connection, which comes and goes.
func (s *soak) read(ctx context.Context, m *soaker) {
	stay, away, patience := s.length, s.length/8, soakRetry
	for ctx.Err() == nil {
		c, err := peer.Dial(ctx, peer.Options{Identity: m.Identity})
		if err != nil {
			s.refused(m, err)
			s.setState(m, err.Error())
			pause(ctx, time.Duration(rand.Int64N(int64(patience))))
			patience = min(2*patience, soakMaxRetry)
			continue
		}
		patience = soakRetry
		s.hellos.Add(1)
		s.setState(m, "connected")
		s.attend(ctx, m, c, time.Duration(rand.Int64N(int64(stay))))
		c.Close()
		s.setState(m, fmt.Sprint("away: ", c.Err()))
		if !s.calm.Load() {
			pause(ctx, time.Duration(rand.Int64N(int64(away))))
		}
	}
}

// attend takes what comes, and forgets to ack some of it, until the connection ends
// or the member has had enough. In the calm it stays and acks everything.
func (s *soak) attend(ctx context.Context, m *soaker, c *peer.Conn, stay time.Duration) {
	enough := time.NewTimer(stay)
	defer enough.Stop()
	for {
		select {
		case push := <-c.Pushes():
			if s.take(m, push) && (s.calm.Load() || rand.IntN(20) > 0) {
				_ = c.Ack(ctx, push) // fails if the connection just ended
			}
		case <-enough.C:
			if !s.calm.Load() {
				return
			}
		case <-c.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// send writes letters until the storm ends, one at a time; those with a
// client_message_id again until they are acked.
func (s *soak) send(m *soaker, number int, until chan struct{}) {
	var c *peer.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for !isClosed(until) {
		time.Sleep(time.Duration(rand.Int64N(int64(2 * letterEvery))))
		l := s.write(m, number)
		for again := true; again; again = l.kept {
			if c == nil || c.Err() != nil {
				fresh, err := peer.Dial(context.Background(), peer.Options{Identity: m.Identity})
				if err != nil {
					if s.refused(m, err) {
						return
					}
					time.Sleep(time.Duration(rand.Int64N(int64(soakRetry))))
					continue
				}
				c = fresh
				go drain(c)
			}
			ack, err := c.Send(context.Background(), l.frame)
			if err == nil {
				s.answered(l, ack)
				break
			}
		}
	}
}

// drain reads what a sender's connection is pushed, and says nothing: the member's
// other connection does.
func drain(c *peer.Conn) {
	for {
		select {
		case <-c.Pushes():
		case <-c.Done():
			return
		}
	}
}

// backUp makes backups one after the other, and looks into them.
func (s *soak) backUp(until chan struct{}) {
	for n := 0; !isClosed(until); n++ {
		copied := filepath.Join(s.folder, fmt.Sprintf("backup-%d.db", n))
		acked := s.ackedSoFar()
		for _, args := range [][]string{{"backup", "--db", s.db, copied}, {"verify", copied}} {
			if said, err := exec.Command(s.program, args...).CombinedOutput(); err != nil {
				s.note("meshbox %s: %v: %s", args[0], err, said)
				return
			}
		}
		if lacks, err := lacking(copied, acked); err != nil || lacks > 0 {
			s.note("of %d messages that were acked before it began a backup lacks %d, %v", len(acked), lacks, err)
		}
		os.Remove(copied)
		s.backups.Add(1)
		select {
		case <-until:
		case <-time.After(s.length / 10):
		}
	}
}

// lacking counts the messages that are not in a file.
func lacking(path string, ids []string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	err = db.QueryRow(`SELECT count(*) FROM json_each(?) WHERE value NOT IN (SELECT id FROM message)`, string(list)).Scan(&n)
	return n, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *soak) await(what string, problem func() string) {
	s.t.Helper()
	for deadline := time.Now().Add(soakPatience); ; time.Sleep(100 * time.Millisecond) {
		found := problem()
		if found == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within %v: %s; noted: %q", what, soakPatience, found, s.problems())
		}
	}
}

// end has all leave, and looks at what is left.
func (s *soak) end() {
	s.t.Helper()
	warm, last := s.prints[s.rounds/2], s.prints[s.rounds-1]
	if last.memory > warm.memory*3/2+64<<20 {
		s.t.Errorf("the memory of the server grew from %s to %s", warm, last)
	}
	s.done()
	s.running.Wait()
	http.DefaultClient.CloseIdleConnections()
	const more = 30 // connections to the data file, and of this test
	s.await("the server is as it was before anybody came", func() string {
		if now := s.footprint(); now.goroutines > s.idle.goroutines+more || now.files > s.idle.files+more {
			return fmt.Sprintf("it held %s and holds %s", s.idle, now)
		}
		return ""
	})
	s.t.Logf("before anybody came %s; after all have left %s", s.idle, s.footprint())
	s.server.stop()
	s.t.Log(strings.TrimSpace(run(s.t, s.program, "verify", s.db)))
	s.t.Logf("%d members, %d hellos, %d restarts, half of them kills, %d bans, %d backups; %s",
		len(s.members), s.hellos.Load(), s.restarts, s.bans, s.backups.Load(), s.summary())
}

// soaker is a member.
type soaker struct {
	peer.Identity

	// owned by census.mu
	state     string // of its connection, for who looks for a lost message
	banned    bool
	bannedAt  time.Time // when a ban was through; zero while it is not
	wasBanned bool
	since     int // the census's clock when its latest ban was lifted
	got       map[string]bool
	first     []*parcel // of this round, in the order of their first arrival
}

// parcel is one message as its sender means it.
type parcel struct {
	text    string
	sender  *soaker
	to      *soaker // nil: to all
	stream  string  // has an order
	number  int     // in that
	kept    bool    // it has a client_message_id: it is sent until it is acked, and stays in the file for a day
	frame   wire.Send
	clock   int
	written time.Time

	// owned by census.mu
	id             string
	acked, arrived bool
}

// census knows what was sent, to whom it is owed, and who got what.
type census struct {
	mu      sync.Mutex
	members []*soaker
	round   int
	clock   int                // counts letters and pardons
	letters map[string]*parcel // of this round, by text
	topic   time.Time          // when the latest was posted
	all     time.Time          // likewise
	found   []string

	sent, acked, arrivals, repeated int
}

func (c *census) newRound(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round, c.letters = number, map[string]*parcel{}
	for _, m := range c.members {
		m.got, m.first = map[string]bool{}, nil
	}
}

func (c *census) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked(format, args...)
}

func (c *census) noteLocked(format string, args ...any) {
	if len(c.found) < 50 {
		c.found = append(c.found, fmt.Sprintf(format, args...))
	}
}

func (c *census) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		last := map[string]*parcel{}
		for _, l := range m.first {
			if !l.acked {
				continue
			}
			if before := last[l.stream]; before != nil && before.number > l.number {
				c.noteLocked("%s got %s after %s", m.DisplayName, l.text, before.text)
			}
			last[l.stream] = l
		}
	}
	return c.found
}

func (c *census) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d messages sent, %d acked, %d arrivals, %d of them repeated", c.sent, c.acked, c.arrivals, c.repeated)
}

// write makes a new letter: now and then to all, else to one.
func (c *census) write(m *soaker, number int) *parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.sent++
	now := time.Now()
	l := &parcel{
		text: fmt.Sprintf("%d/%d/%d", c.round, number, c.sent), sender: m, number: c.sent, kept: c.sent%3 > 0,
		clock: c.clock, written: now, frame: wire.Send{Priority: wire.PriorityNext},
	}
	switch {
	case now.Sub(c.topic) > topicEvery:
		c.topic, l.frame.TargetSpec, l.stream = now, "#general", "topic"
	case now.Sub(c.all) > broadcastEvery:
		c.all, l.frame.TargetSpec, l.stream = now, "*", "all"
	default:
		for l.to == nil || l.to == m || l.to.banned {
			l.to = c.members[rand.IntN(len(c.members))]
		}
		l.frame.TargetSpec, l.stream = l.to.Key.Public(), "direct"
	}
	l.stream += m.DisplayName
	l.frame.Nonce, l.frame.Ciphertext = peer.Plain(l.text)
	if l.kept {
		l.frame.ClientMessageID = l.text
	}
	c.letters[l.text] = l
	return l
}

// answered notes what a sender was told.
func (c *census) answered(l *parcel, ack *wire.Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ack.Queued:
		l.acked = true
		c.acked++
		c.identify(l, ack.MessageID)
	case !l.sender.banned && (l.to == nil || c.owes(l, l.to)):
		c.noteLocked("%s to %s was refused: %s", l.text, l.frame.TargetSpec, ack.Error)
	}
}

func (c *census) identify(l *parcel, id string) {
	if l.id == "" {
		l.id = id
	}
	if l.id != id {
		c.noteLocked("%s is %s, and %s too", l.text, l.id, id)
	}
}

// ackedSoFar returns the messages of this round that a backup made from now on must
// have.
func (c *census) ackedSoFar() []string {
	ids := []string{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.letters {
		if l.acked && (l.kept || strings.HasPrefix(l.stream, "topic")) {
			ids = append(ids, l.id)
		}
	}
	return ids
}

// owes reports whether a member must get a letter: it was a member when that was
// written, and is one still.
func (c *census) owes(l *parcel, m *soaker) bool {
	return m != l.sender && (l.to == nil || l.to == m) && !m.banned && m.since < l.clock
}

// take notes a push and reports whether it was a message.
func (c *census) take(m *soaker, p *wire.Push) bool {
	if p.Subtype == "system" {
		return false
	}
	text, err := peer.Decode(p.Ciphertext, p.BodyVersion)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals++
	l := c.letters[text]
	if l == nil {
		round, _, _ := strings.Cut(text, "/")
		if n, bad := strconv.Atoi(round); err != nil || bad != nil || n >= c.round {
			c.noteLocked("%s got %q, which nobody sent (%v)", m.DisplayName, text, err)
		}
		c.repeated++ // or it waited for one who was banned
		return true
	}
	if l.to != nil && l.to != m || l.sender == m {
		c.noteLocked("%s got %s, which was for %s", m.DisplayName, text, l.frame.TargetSpec)
	}
	if m.banned && !m.bannedAt.IsZero() && l.written.After(m.bannedAt.Add(banTime)) {
		c.noteLocked("%s, who is banned, got %s", m.DisplayName, text)
	}
	c.identify(l, p.MessageID)
	l.arrived = true
	if m.got[text] {
		c.repeated++
		return true
	}
	m.got[text] = true
	m.first = append(m.first, l)
	return true
}

// missing names a message that has not reached everybody it is owed to.
func (c *census) missing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.letters {
		if !l.acked && !l.arrived {
			continue
		}
		to := c.members
		if l.to != nil {
			to = []*soaker{l.to}
		}
		for _, m := range to {
			if c.owes(l, m) && !m.got[l.text] {
				return fmt.Sprintf("%s to %s (%s, acked: %t) has not reached %s (%s)", l.text, l.frame.TargetSpec, l.id, l.acked, m.DisplayName, m.state)
			}
		}
	}
	return ""
}

// nowBanned notes that a member is about to be banned, if it is not already.
func (c *census) nowBanned(m *soaker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.banned {
		return false
	}
	m.banned, m.bannedAt, m.wasBanned = true, time.Time{}, true
	return true
}

func (c *census) setState(m *soaker, state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.state = state
}

func (c *census) hasBeenBanned(m *soaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.bannedAt = time.Now()
}

func (c *census) isBanned(m *soaker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m.banned
}

func (c *census) nowPardoned(m *soaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	m.banned, m.since = false, c.clock
}

// refused notes why a member could not connect, and reports whether that is for
// good.
func (c *census) refused(m *soaker, err error) bool {
	rejected, ok := errors.AsType[*peer.Rejected](err)
	if !ok || !rejected.Final() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !m.wasBanned { // who was pardoned just now may have been refused just before
		c.noteLocked("%s is refused: %v", m.DisplayName, rejected)
	}
	return m.banned
}
