package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The crash suite. Members write to each other in every way there is, over a
// network that breaks, and the server is killed with SIGKILL in the middle, again
// and again. Each round ends with a calm in which everybody comes back, and then:
//
//   - what was acked reached every addressed member, and so did what was not
//     acked but reached anybody: a message is stored for all or for none;
//   - acked messages arrived first in the order in which they were sent, per
//     sender, addressee and priority;
//   - one client_message_id is one message, however often it was sent, and what
//     comes twice has the same messageId;
//   - nobody got what was not for it;
//   - nothing waits any more, and who says hello anew gets nothing.
//
// MESHBOX_CRASH_ROUNDS is how many rounds there are, MESHBOX_CRASH_SEED repeats
// the choices of a run (not its timing).

const (
	crashRounds   = 5
	crashMembers  = 6
	perRound      = 120 // messages of one sender in one round
	perTopicRound = 150 // posts to one topic in one round: 200 at most wait for a member
	inFlight      = 16  // sends of a pipelining sender that wait for their ack
)

var crashTopics = []string{"general", "deploys"}

// crashGroups are the groups of the members, by their number.
var crashGroups = [crashMembers][]wire.Group{
	{{Name: "core"}}, {{Name: "core/backend"}}, {{Name: "web"}}, {}, {{Name: "core/backend/db"}, {Name: "web"}}, {},
}

func TestNothingAckedIsLostWhenTheServerIsKilled(t *testing.T) {
	s := newStorm(t)
	rounds, began := fromEnvironment("MESHBOX_CRASH_ROUNDS", crashRounds), time.Now()
	for round := range rounds {
		s.round()
		if t.Failed() {
			t.Fatalf("round %d failed; MESHBOX_CRASH_SEED=%d repeats its choices", round+1, s.seed)
		}
	}
	s.end()
	t.Logf("%d rounds, %d kills in %.1f s: %s", rounds, s.kills, time.Since(began).Seconds(), s.book.summary())
}

func fromEnvironment(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// storm is one run of the suite.
type storm struct {
	t       *testing.T
	seed    int
	rng     *rand.Rand
	program string
	folder  string
	server  *server
	kills   int
	relay   *relay
	book    *book

	members []*villager
	readers []*reader
	senders []*sender
	calm    atomic.Bool // nobody leaves, everything is acked
	done    context.CancelFunc
	running sync.WaitGroup
}

// villager is a member.
type villager struct {
	peer.Identity
	groups []wire.Group
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	seed := fromEnvironment("MESHBOX_CRASH_SEED", int(time.Now().UnixNano()%1e9))
	t.Logf("MESHBOX_CRASH_SEED=%d", seed)
	s := &storm{t: t, seed: seed, program: build(t), folder: t.TempDir(), book: newBook()}
	s.rng = s.newRNG(0)
	for name, value := range map[string]string{
		"SEND_RATE": "0", "ACK_TIMEOUT": "700ms", "PING_INTERVAL": "1s", "PONG_TIMEOUT": "5s", "LOG_LEVEL": "error",
	} {
		t.Setenv("MESHBOX_"+name, value)
	}
	s.start("127.0.0.1:0")
	s.relay = newRelay(t, s.address())
	s.settle()
	s.populate()
	return s
}

func (s *storm) newRNG(who int) *rand.Rand { return rand.New(rand.NewPCG(uint64(s.seed), uint64(who))) }

func (s *storm) address() string {
	return "127.0.0.1" + strings.TrimPrefix(s.server.url, "http://localhost")
}

// start starts the server. Some leases outlast every absence, some do not.
func (s *storm) start(listen string) {
	s.t.Helper()
	s.t.Setenv("MESHBOX_PRESENCE_LEASE", []string{"300ms", "90s"}[s.rng.IntN(2)])
	s.server = start(s.t, s.program, s.folder, listen)
}

// kill ends the server as a crash does, and starts it again.
func (s *storm) kill() {
	s.t.Helper()
	if err := s.server.command.Process.Kill(); err != nil {
		s.t.Fatalf("the server was gone already: %v", err)
	}
	_ = s.server.command.Wait() // it was killed
	s.kills++
	s.start(s.address())
}

// settle has the members join and say what groups they are in.
func (s *storm) settle() {
	s.t.Helper()
	var invite struct {
		Link string `json:"link"`
	}
	printed := run(s.t, s.program, "invite", "--json", "--uses", fmt.Sprint(crashMembers), "--db", filepath.Join(s.folder, "meshbox.db"))
	if err := json.Unmarshal([]byte(printed), &invite); err != nil {
		s.t.Fatal(err)
	}
	for i := range crashMembers {
		id, err := peer.Join(s.t.Context(), invite.Link, fmt.Sprint("m", i), identity.NewKey())
		if err != nil {
			s.t.Fatal(err)
		}
		id.BrokerURL = s.relay.url()
		m := &villager{id, crashGroups[i]}
		s.members = append(s.members, m)
		c := s.visit(peer.Options{Identity: id, Client: wire.Client{Groups: m.groups}})
		s.ask(c, &wire.TopicCreate{Name: crashTopics[1]})
		s.ask(c, &wire.TopicJoin{Topic: crashTopics[1]})
		c.Close()
	}
}

// populate starts a reader per member, one per session of the first two, and
// makes the senders.
func (s *storm) populate() {
	ctx, cancel := context.WithCancel(context.Background())
	s.done = cancel
	s.t.Cleanup(func() { cancel(); s.running.Wait() })
	for i, m := range s.members {
		client := wire.Client{Groups: m.groups}
		s.addReader(ctx, m, peer.Options{Identity: m.Identity, Client: client})
		if i < 2 {
			session := peer.Options{Identity: m.Identity, Session: identity.NewKey(), Client: client}
			c := s.visit(session)
			if ack, err := c.SendText(s.t.Context(), "#general", "remember my key"); err != nil || !ack.Queued {
				s.t.Fatalf("ack %+v, %v", ack, err)
			}
			c.Close()
			s.addReader(ctx, m, session)
		}
		s.senders = append(s.senders, &sender{storm: s, member: m, rng: s.newRNG(100 + i), pipelines: i%2 == 1, retries: i%4 < 2})
	}
}

func (s *storm) addReader(ctx context.Context, m *villager, o peer.Options) {
	name := m.DisplayName
	if !o.Session.IsZero() {
		name += "'s session"
	}
	r := &reader{storm: s, options: o, rng: s.newRNG(200 + len(s.readers)), desk: s.book.desk(name, m, true)}
	s.readers = append(s.readers, r)
	s.running.Go(func() { r.run(ctx) })
}

// visit connects while nothing is broken.
func (s *storm) visit(o peer.Options) *peer.Conn {
	s.t.Helper()
	c, err := peer.Dial(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *storm) ask(c *peer.Conn, m wire.Message) {
	s.t.Helper()
	if _, err := c.Request(s.t.Context(), m); err != nil {
		s.t.Fatalf("%s: %v", m.Type(), err)
	}
}

// round is a storm, one or two crashes, and the calm after them.
func (s *storm) round() {
	s.t.Helper()
	s.book.newRound()
	s.calm.Store(false)
	until := make(chan struct{})
	var sending sync.WaitGroup
	for _, sender := range s.senders {
		sending.Go(func() { sender.run(until) })
	}
	sending.Go(func() { s.breakLinks(until) })
	s.wait(30, 400)
	s.kill()
	if s.rng.IntN(3) == 0 { // again, perhaps while the others still catch up
		s.wait(0, 150)
		s.kill()
	}
	s.wait(0, 200)
	close(until)
	s.calm.Store(true)
	sending.Wait()
	s.verify()
}

// wait lets between least and most milliseconds pass.
func (s *storm) wait(least, most int) {
	time.Sleep(time.Duration(least+s.rng.IntN(most-least)) * time.Millisecond)
}

// breakLinks breaks connections now and then.
func (s *storm) breakLinks(until chan struct{}) {
	for {
		select {
		case <-until:
			return
		case <-time.After(25 * time.Millisecond):
			s.relay.cut(0.05)
		}
	}
}

// verify waits until everything has arrived and is settled.
func (s *storm) verify() {
	s.t.Helper()
	s.eventually("every message reaches everybody it is for", s.book.missing)
	s.eventually("nothing waits", func() string {
		if depth := s.server.metric("broker_queue_depth"); depth != "0" {
			return "broker_queue_depth is " + depth
		}
		return ""
	})
	for _, m := range s.members {
		s.eventually("nothing is left for a new hello", func() string { return s.leftFor(peer.Options{Identity: m.Identity}) })
	}
	for _, problem := range s.book.problems() {
		s.t.Error(problem)
	}
}

// end stops the readers and looks for what is left for their sessions.
func (s *storm) end() {
	s.t.Helper()
	s.done()
	s.running.Wait()
	for _, r := range s.readers {
		s.eventually("nothing is left for a new hello", func() string { return s.leftFor(r.options) })
	}
}

// eventually waits until problem returns "".
func (s *storm) eventually(what string, problem func() string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found := problem()
		if found == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within %v: %s; MESHBOX_CRASH_SEED=%d", what, patience, found, s.seed)
		}
	}
}

// metric returns the value of a line of /metrics, "" if it is not there.
func (s *server) metric(line string) string {
	s.t.Helper()
	response, err := http.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(l, line+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// leftFor names a message that a new connection is pushed. The second answer
// comes after what was waiting at the hello.
func (s *storm) leftFor(o peer.Options) string {
	c := s.visit(o)
	defer c.Close()
	s.ask(c, &wire.ListPeers{})
	s.ask(c, &wire.ListPeers{})
	for {
		select {
		case push := <-c.Pushes():
			if push.Subtype != "system" {
				text, _ := peer.Decode(push.Ciphertext, push.BodyVersion)
				return fmt.Sprintf("%s was pushed %q again", o.Identity.DisplayName, text)
			}
		default:
			return ""
		}
	}
}

// reader is a member's or a session's connection that comes and goes.
type reader struct {
	*storm
	options peer.Options
	rng     *rand.Rand
	desk    *desk
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := peer.Dial(ctx, r.options)
		if err != nil {
			r.book.noteRefusal(r.options.Identity.DisplayName, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		r.attend(ctx, c)
		c.Close()
		if !r.calm.Load() {
			time.Sleep(time.Duration(r.rng.IntN(cmp.Or(r.rng.IntN(8)/7*700, 100))) * time.Millisecond)
		}
	}
}

// attend reads and acks until the connection ends, or the reader has enough of
// it. In the calm it stays, and acks everything.
func (r *reader) attend(ctx context.Context, c *peer.Conn) {
	forgetful := !r.calm.Load()
	life := time.NewTimer(time.Duration(10+r.rng.IntN(300)) * time.Millisecond)
	defer life.Stop()
	for {
		select {
		case push := <-c.Pushes():
			if r.desk.take(push) && !(forgetful && r.rng.IntN(7) == 0) {
				_ = c.Ack(ctx, push) // fails if the connection just ended
			}
		case <-life.C:
			if forgetful || !r.calm.Load() {
				return
			}
			life.Reset(50 * time.Millisecond)
		case <-c.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// sender sends a member's messages. It never acks what it is pushed.
type sender struct {
	*storm
	member    *villager
	rng       *rand.Rand
	pipelines bool // does not wait for an ack before the next send
	retries   bool // sends again what it saw no ack for
	number    int  // of the letter written last
}

func (s *sender) run(until chan struct{}) {
	if s.pipelines {
		s.pipeline(until)
		return
	}
	s.oneByOne(until)
}

// write makes a new letter to somebody.
func (s *sender) write() *letter {
	s.number++
	target, kind, to := s.choose()
	priority := []string{wire.PriorityNow, wire.PriorityNext, wire.PriorityLow}[s.rng.IntN(3)]
	l := &letter{
		text:   fmt.Sprintf("%s/%d", s.member.DisplayName, s.number),
		stream: strings.Join([]string{s.member.DisplayName, priority, kind}, " "), number: s.number, to: to,
		frame: wire.Send{TargetSpec: target, Priority: priority},
	}
	l.frame.Nonce, l.frame.Ciphertext = peer.Plain(l.text)
	l.frame.ID, l.frame.ClientMessageID = l.text, l.text
	s.book.add(l)
	return l
}

// choose returns a target, what kind it is of, and the names of the members
// that a message to it is for.
func (s *sender) choose() (target, kind string, to map[string]bool) {
	others := func(in func(*villager) bool) map[string]bool {
		to := map[string]bool{}
		for _, m := range s.members {
			if m != s.member && in(m) {
				to[m.DisplayName] = true
			}
		}
		return to
	}
	switch s.rng.IntN(8) {
	case 0:
		return "*", "member", others(func(*villager) bool { return true })
	case 1, 2:
		group := []string{"core", "core/backend", "web"}[s.rng.IntN(3)]
		return "@" + group, "member", others(func(m *villager) bool { return m.isIn(group) })
	case 3, 4:
		if topic := crashTopics[s.rng.IntN(2)]; s.book.mayPost(topic) {
			return "#" + topic, "member", others(func(*villager) bool { return true })
		}
	case 5:
		for _, r := range s.readers {
			if o := r.options; !o.Session.IsZero() && o.Identity.MemberID != s.member.MemberID && s.rng.IntN(2) == 0 {
				return o.Session.Public(), "session", map[string]bool{o.Identity.DisplayName: true}
			}
		}
	}
	to = others(func(*villager) bool { return true })
	for _, m := range s.members {
		if n := s.rng.IntN(len(s.members)); to[m.DisplayName] && n < 2 {
			return m.Key.Public(), "member", map[string]bool{m.DisplayName: true}
		}
	}
	return s.choose()
}

// isIn reports whether the member is in a group or one below it.
func (m *villager) isIn(group string) bool {
	for _, g := range m.groups {
		if g.Name == group || strings.HasPrefix(g.Name, group+"/") {
			return true
		}
	}
	return false
}

// persist calls connect until it works.
func (s *sender) persist(connect func() error) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err := connect()
		if err == nil {
			return true
		}
		s.book.noteRefusal(s.member.DisplayName, err)
	}
	s.book.note("%s could not connect within %v", s.member.DisplayName, patience)
	return false
}

// oneByOne has one send in flight.
func (s *sender) oneByOne(until chan struct{}) {
	var c *peer.Conn
	connect := func() (err error) {
		if c != nil {
			if c.Err() == nil {
				return nil
			}
			c.Close()
		}
		c, err = peer.Dial(context.Background(), peer.Options{Identity: s.member.Identity, Client: wire.Client{Groups: s.member.groups}})
		if err == nil {
			go s.collect(c)
		}
		return err
	}
	for n := 0; n < perRound && !isClosed(until); n++ {
		l := s.write()
		for again := true; again; again = s.retries {
			if !s.persist(connect) {
				return
			}
			if ack, err := c.Send(context.Background(), l.frame); err == nil {
				s.book.acked(l, ack)
				break
			}
		}
	}
	if c != nil {
		c.Close()
	}
}

// collect reads what a sender's connection is pushed.
func (s *sender) collect(c *peer.Conn) {
	d := s.book.desk(s.member.DisplayName+" while sending", s.member, false)
	for {
		select {
		case push := <-c.Pushes():
			d.take(push)
		case <-c.Done():
			return
		}
	}
}

// pipeline has up to inFlight sends on one socket that wait for their acks.
func (s *sender) pipeline(until chan struct{}) {
	var unacked []*letter
	for left := perRound; ; {
		if !s.retries {
			unacked = nil
		}
		if (left == 0 || isClosed(until)) && len(unacked) == 0 {
			return
		}
		var ws *websocket.Conn
		if !s.persist(func() (err error) { ws, err = s.greet(); return err }) {
			return
		}
		unacked, left = s.pump(ws, unacked, left, until)
		ws.CloseNow()
	}
}

// greet opens a socket of its own: package peer waits for each ack.
func (s *sender) greet() (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, s.member.BrokerURL, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	signed := identity.Hello{MeshID: s.member.MeshID, MemberID: s.member.MemberID, PubKey: s.member.Key.Public(), Timestamp: float64(now.UnixMilli())}
	signed.Sign(s.member.Key)
	hello := &wire.Hello{
		MeshID: signed.MeshID, MemberID: signed.MemberID, Pubkey: signed.PubKey, Timestamp: wire.At(now), Signature: signed.Signature,
		Client: wire.Client{SessionID: fmt.Sprint("pipe ", s.rng.Uint64()), Groups: s.member.groups, Capabilities: []string{wire.CapClientAck}},
	}
	if err = ws.Write(ctx, websocket.MessageText, wire.Encode(hello, "")); err != nil {
		return nil, err
	}
	_, frame, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	if m, _, _, bad := wire.DecodeResponse(frame); bad != nil {
		return nil, bad
	} else if refused, ok := m.(*wire.Error); ok {
		return nil, &peer.Rejected{Code: refused.Code, Message: refused.Message, Close: wire.ClosePolicy}
	}
	return ws, nil
}

// pump sends letters over one socket, unacked ones first, until it breaks or
// everything is sent and acked. It returns what has no ack, and how many letters
// are left to be written.
func (s *sender) pump(ws *websocket.Conn, unacked []*letter, left int, until chan struct{}) ([]*letter, int) {
	slots, acks, gone := make(chan struct{}, inFlight), make(chan *wire.Ack, inFlight), make(chan struct{})
	go s.receive(ws, acks, gone)
	waiting, unsent := []*letter{}, unacked
	defer func() { <-gone }()
	defer ws.CloseNow()
	for {
		idle := len(unsent) == 0 && (left == 0 || isClosed(until))
		if idle && len(waiting) == 0 {
			return nil, left
		}
		room := slots
		if idle {
			room = nil
		}
		select {
		case room <- struct{}{}:
			if len(unsent) == 0 {
				unsent, left = []*letter{s.write()}, left-1
			}
			l := unsent[0]
			unsent, waiting = unsent[1:], append(waiting, l)
			if ws.Write(context.Background(), websocket.MessageText, wire.Encode(&l.frame, "")) != nil {
				return append(waiting, unsent...), left
			}
		case ack := <-acks:
			if ack.ID != waiting[0].text {
				s.book.note("%s: the ack for %s came before that for %s", s.member.DisplayName, ack.ID, waiting[0].text)
			}
			s.book.acked(waiting[0], ack)
			waiting = waiting[1:]
			<-slots
		case <-gone:
			for len(acks) > 0 && len(waiting) > 0 {
				s.book.acked(waiting[0], <-acks)
				waiting = waiting[1:]
			}
			return append(waiting, unsent...), left
		}
	}
}

// receive reads a pipelining sender's socket until it breaks.
func (s *sender) receive(ws *websocket.Conn, acks chan<- *wire.Ack, gone chan<- struct{}) {
	defer close(gone)
	ws.SetReadLimit(1 << 24)
	d := s.book.desk(s.member.DisplayName+" while sending", s.member, false)
	for {
		_, frame, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		switch m, _, _, _ := wire.DecodeResponse(frame); m := m.(type) {
		case *wire.Ack:
			acks <- m // there is room: at most inFlight are waited for
		case *wire.Push:
			d.take(m)
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
