package broker

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// The model-based test: random sequences of what members do, against a broker and
// against a model, which is a list of messages with their addressees. After each
// step everything has come to rest, and what each connection was pushed is
// compared with what it must and what it may have been pushed by the model.
//
// To add an action, write a method of world that draws what it needs (oneOf), does
// it and tells the model, and name it in actions. -rapid.checks and -rapid.steps make
// rapid look longer, and MESHBOX_TEST_LOG=1 shows what the broker logs.

// So many sequences, of so many steps on average, are done in seconds also with
// the race detector, unless flags ask for others.
const modelChecks, modelSteps = 18, 60

func TestBrokerDoesWhatTheModelSays(t *testing.T) {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]int{"rapid.checks": modelChecks, "rapid.steps": modelSteps} {
		if f := flag.Lookup(name); !given[name] {
			_ = flag.Set(name, fmt.Sprint(value)) // it is a number
			t.Cleanup(func() { _ = flag.Set(name, f.DefValue) })
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(drawn{t, rt})
		rt.Repeat(map[string]func(*rapid.T){"": func(*rapid.T) { w.rest() }, "then": w.act})
		w.finish()
	})
}

// drawn is rapid's T where a testing.TB is asked for: its failures are what rapid
// shrinks by.
type drawn struct {
	testing.TB
	rt *rapid.T
}

func (d drawn) Helper()                           {}
func (d drawn) Cleanup(f func())                  { d.rt.Cleanup(f) }
func (d drawn) Context() context.Context          { return d.rt.Context() }
func (d drawn) Error(args ...any)                 { d.rt.Error(args...) }
func (d drawn) Errorf(format string, args ...any) { d.rt.Errorf(format, args...) }
func (d drawn) Fatal(args ...any)                 { d.rt.Fatal(args...) }
func (d drawn) Fatalf(format string, args ...any) { d.rt.Fatalf(format, args...) }

// world is a house, and the model of it.
type world struct {
	*house
	t      drawn
	owner  *guest // moderates, and is hidden: no broadcast is for it
	people []*person
	seats  []*seat
	mails  []*mail // in the order in which they were accepted
	byID   map[string]*mail
}

// person is a member.
type person struct {
	peer.Identity
	groups []wire.Group
	inTeam bool // in the topic "team"; everybody is in "general"
	banned bool
}

// seat is one of a member's places: of its two member connections and its
// session.
type seat struct {
	name    string
	who     *person
	options peer.Options
	known   bool // it was here once
	here    bool // it has a presence, connected or leased
	busy    bool // its status holds back what is not urgent

	conn   *guest // nil: away
	pushed map[*mail]*wire.Push
	last   map[string]int // by priority: the number of the mail pushed last
}

func (s *seat) isSession() bool { return !s.options.Session.IsZero() }

// mail is an accepted message.
type mail struct {
	number   int
	id       string
	sent     wire.Send
	from     *person
	conn     *guest // the connection it was sent by
	self     *seat  // and the seat: a session is known by its key ever after
	to       map[*person]bool
	session  *seat // the one it waits for, nil: any of the member
	rerouted bool  // it waited for a session first, and may come after newer ones
	topic    bool
	acked    map[*person]bool
	seen     map[*person]bool
}

func newWorld(t drawn) *world {
	const long = 24 * time.Hour // nothing happens by itself
	h := newHouse(t, func(l *Limits) { l.AckTimeout, l.Lease, l.WorkingTTL = long, long, long })
	w := &world{house: h, t: t, byID: map[string]*mail{}}
	w.owner = h.dial(h.joinBy(h.first, "olga"), peer.Options{})
	ask[*wire.Ack](w.owner, &wire.SetVisible{Visible: false})
	ask[*wire.TopicCreated](w.owner, &wire.TopicCreate{Name: "team"})
	for i, groups := range [][]wire.Group{{{Name: "core"}}, {{Name: "core/backend"}, {Name: "web"}}, {{Name: "web"}}} {
		p := &person{Identity: h.join(fmt.Sprint("p", i)), groups: groups, inTeam: i < 2}
		w.people = append(w.people, p)
		for _, place := range []string{"desk", "laptop", "session"} {
			s := &seat{name: p.DisplayName + "'s " + place, who: p}
			s.options = peer.Options{Identity: p.Identity, Client: wire.Client{SessionID: s.name, Groups: groups}}
			if place == "session" {
				s.options.Session = identity.NewKey()
			}
			w.seats = append(w.seats, s)
		}
		w.connect(w.seats[3*i])
		if p.inTeam {
			ask[*wire.Ack](w.seats[3*i].conn, &wire.TopicJoin{Topic: "team"})
		}
	}
	return w
}

// action is something that can happen.
type action struct {
	name   string
	weight int // how often, against the others
	do     func(*rapid.T)
}

func (w *world) actions() []action {
	return []action{
		{"send", 12, w.send},
		{"hello", 6, w.hello},
		{"ack", 6, w.ack},
		{"status", 4, w.status},
		{"drop", 3, w.drop},
		{"end lease", 2, w.endLease},
		{"retry", 1, w.retry},
		{"ban", 1, w.ban},
		{"unban", 2, w.unban},
		{"restart", 1, func(*rapid.T) { w.restartAll() }},
	}
}

// act does one of the actions.
func (w *world) act(rt *rapid.T) {
	var names []string
	do := map[string]func(*rapid.T){}
	for _, a := range w.actions() {
		names = append(names, slices.Repeat([]string{a.name}, a.weight)...)
		do[a.name] = a.do
	}
	do[oneOf(rt, "what", names)](rt)
}

// oneOf draws one of all, each as likely: rapid's own choices prefer the first.
func oneOf[T any](rt *rapid.T, label string, all []T) T {
	if len(all) == 0 {
		rt.Skip("there is no " + label)
	}
	index := rapid.Custom(func(rt *rapid.T) (n int) {
		for range 10 {
			n *= 2
			if rapid.Bool().Draw(rt, "") {
				n++
			}
		}
		return n % len(all)
	})
	return all[index.Draw(rt, label)]
}

// pick draws one of the seats that suit, or skips the action.
func (w *world) pick(rt *rapid.T, suits func(*seat) bool) *seat {
	var all []*seat
	for _, s := range w.seats {
		if suits(s) {
			all = append(all, s)
		}
	}
	return oneOf(rt, "seat", all)
}

func connected(s *seat) bool { return s.conn != nil }

// hello connects a seat, or takes over its connection.
func (w *world) hello(rt *rapid.T) {
	w.connect(w.pick(rt, func(s *seat) bool { return !s.who.banned }))
}

func (w *world) connect(s *seat) {
	old := s.conn
	s.conn = w.dial(s.who.Identity, s.options)
	if old != nil {
		old.wantClosed(wire.CloseNormal, wire.SessionReplaced)
	}
	p := w.presenceOf(s)
	w.earn(p) // as after ten seconds
	w.mu.RLock()
	s.busy = p.status != wire.StatusIdle
	w.mu.RUnlock()
	s.known, s.here, s.pushed, s.last = true, true, map[*mail]*wire.Push{}, map[string]int{}
}

func (w *world) presenceOf(s *seat) *presence {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if r := w.rooms[w.mesh.ID]; r != nil {
		return r.all[s.conn.Hello.PresenceID]
	}
	return nil
}

// drop breaks a connection; its presence is leased.
func (w *world) drop(rt *rapid.T) { w.disconnect(w.pick(rt, connected)) }

func (w *world) disconnect(s *seat) {
	s.conn.Close()
	p := w.presenceOf(s)
	eventually(w.t, "the connection has gone", func() bool { return w.connOf(p) == nil })
	s.conn = nil
}

// target is a drawn addressee.
type target struct {
	spec    string
	to      map[*person]bool
	session *seat // if it is a session that is here
	late    bool  // if it is one that was
	topic   bool
	refusal string // its code, "" for none
}

func (w *world) send(rt *rapid.T) {
	s := w.pick(rt, connected)
	to := w.draw(rt, s)
	m := &mail{
		number: len(w.mails), from: s.who, conn: s.conn, self: s, to: to.to, session: to.session, rerouted: to.late, topic: to.topic,
		acked: map[*person]bool{}, seen: map[*person]bool{},
		sent: wire.Send{TargetSpec: to.spec, Priority: oneOf(rt, "priority", []string{"now", "next", "low"})},
	}
	m.sent.Nonce, m.sent.Ciphertext = peer.Plain(fmt.Sprint("mail ", m.number))
	m.sent.ClientMessageID = fmt.Sprint("mail ", m.number)
	if to.refusal != "" {
		s.conn.wantUnsent(to.spec, "x", to.refusal)
		return
	}
	ack, err := s.conn.Send(w.t.Context(), m.sent)
	if err != nil || !ack.Queued {
		w.t.Fatalf("%s to %s: ack %+v, %v", s.name, to.spec, ack, err)
	}
	m.id = ack.MessageID
	w.mails, w.byID[m.id] = append(w.mails, m), m
}

// draw draws whom a message of s is for.
func (w *world) draw(rt *rapid.T, s *seat) target {
	everyone := func(is func(*person) bool) map[*person]bool {
		to := map[*person]bool{}
		for _, p := range w.people {
			if p != s.who && is(p) {
				to[p] = true
			}
		}
		return to
	}
	topic := func(name string, has func(*person) bool) target {
		return target{spec: "#" + name, topic: true, to: everyone(has)}
	}
	group := func(name string) target {
		in := func(p *person) bool {
			return !p.banned && slices.ContainsFunc(p.groups, func(g wire.Group) bool { return isWithin(g.Name, name) })
		}
		t := target{spec: "@" + name, to: everyone(in)}
		if len(t.to) == 0 && !in(s.who) {
			t.refusal = wire.TargetNotFound
		}
		return t
	}
	targets := []target{
		{spec: "*", to: everyone(func(p *person) bool { return !p.banned })},
		group("core"), group("core/backend"), group("web"),
		topic("general", func(*person) bool { return true }),
	}
	if s.who.inTeam {
		targets = append(targets, topic("team", func(p *person) bool { return p.inTeam }))
	}
	for _, p := range w.people {
		targets = append(targets, direct(target{spec: p.Key.Public()}, p))
	}
	for _, other := range w.seats {
		if other.isSession() && other.known && other != s {
			t := target{spec: other.options.Session.Public(), late: !other.here}
			if other.here {
				t.session = other
			}
			targets = append(targets, direct(t, other.who))
		}
	}
	return oneOf(rt, "target", targets)
}

// direct makes t one to p.
func direct(t target, p *person) target {
	t.to = map[*person]bool{p: true}
	if p.banned {
		t.refusal = wire.TargetNotFound
	}
	return t
}

// retry sends a message once more, perhaps by another connection of its sender.
func (w *world) retry(rt *rapid.T) {
	s := w.pick(rt, connected)
	var own []*mail
	for _, m := range w.mails {
		if m.from == s.who {
			own = append(own, m)
		}
	}
	m := oneOf(rt, "mail", own)
	if ack, err := s.conn.Send(w.t.Context(), m.sent); err != nil || !ack.Queued || ack.MessageID != m.id {
		w.t.Fatalf("mail %d again: ack %+v, %v; want id %s", m.number, ack, err, m.id)
	}
}

// ack acks a push that was not, or once more one that was.
func (w *world) ack(rt *rapid.T) {
	s := w.pick(rt, func(s *seat) bool { return s.conn != nil && len(s.pushed) > 0 })
	var all []*mail
	for m := range s.pushed {
		all = append(all, m)
	}
	slices.SortFunc(all, func(x, y *mail) int { return x.number - y.number })
	w.acknowledge(s, oneOf(rt, "push", all))
}

func (w *world) acknowledge(s *seat, m *mail) {
	if err := s.conn.Ack(w.t.Context(), s.pushed[m]); err != nil {
		w.t.Fatal(err)
	}
	m.acked[s.who] = true
	ask[*wire.PeersList](s.conn, &wire.ListPeers{}) // the ack is on its way to the disk
}

func (w *world) status(rt *rapid.T) {
	s := w.pick(rt, connected)
	status := oneOf(rt, "status", []string{wire.StatusIdle, wire.StatusWorking, wire.StatusDND})
	ask[*wire.Ack](s.conn, &wire.SetStatus{Status: status})
	s.busy = status != wire.StatusIdle
}

// endLease lets the lease of a seat that is away run out.
func (w *world) endLease(rt *rapid.T) {
	s := w.pick(rt, func(s *seat) bool { return s.here && s.conn == nil })
	w.mu.RLock()
	var leased *presence
	for _, p := range w.rooms[w.mesh.ID].all {
		if p.client.SessionID == s.options.Client.SessionID {
			leased = p
		}
	}
	w.mu.RUnlock()
	if leased == nil || !w.end(leased) {
		w.t.Fatalf("%s has no lease", s.name)
	}
	if err := w.db.DropLease(leased.id); err != nil {
		w.t.Fatal(err)
	}
	w.over(s)
}

// over gives what waits for a seat whose presence has ended to its member.
func (w *world) over(s *seat) {
	s.here, s.conn = false, nil
	if err := w.reroute(); err != nil {
		w.t.Fatal(err)
	}
	for _, m := range w.mails {
		if m.session == s && !m.acked[s.who] {
			m.session, m.rerouted = nil, true
		}
	}
}

func (w *world) ban(rt *rapid.T) {
	p := oneOf(rt, "person", w.people)
	if p.banned {
		rt.Skip("banned already")
	}
	ask[*wire.BanAck](w.owner, &wire.Ban{Target: p.DisplayName})
	p.banned = true
	for _, s := range w.seats {
		if s.who == p && s.conn != nil {
			s.conn.wantClosed(wire.CloseBanned, wire.Revoked)
		}
		if s.who == p && s.here {
			w.over(s)
		}
	}
}

func (w *world) unban(rt *rapid.T) {
	p := oneOf(rt, "person", w.people)
	if !p.banned {
		rt.Skip("not banned")
	}
	w.restore(p)
}

func (w *world) restore(p *person) {
	ask[*wire.UnbanAck](w.owner, &wire.Unban{Target: p.DisplayName})
	p.banned = false
}

func (w *world) restartAll() {
	w.restart()
	for _, s := range w.seats {
		s.conn = nil
	}
	w.owner = w.dial(w.owner.id, peer.Options{})
}

// rest waits until nothing moves any more, and checks what was pushed.
func (w *world) rest() {
	// What was committed was offered, too: that is told in the order of commits.
	if err := w.db.Update(func(*store.Tx) error { return nil }); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range w.seats {
		if s.conn == nil {
			continue
		}
		w.caughtUp(s)
		ask[*wire.PeersList](s.conn, &wire.ListPeers{}) // pushes came before the answer
		for len(s.conn.Pushes()) > 0 {
			if push := <-s.conn.Pushes(); push.Subtype != "system" {
				w.arrived(s, push)
			}
		}
		for _, m := range w.mails {
			if w.mustHave(s, m) && s.pushed[m] == nil {
				w.t.Fatalf("%s was not pushed mail %d to %.9s", s.name, m.number, m.sent.TargetSpec)
			}
		}
	}
	w.owner.drain()
}

// caughtUp waits until a connection was pushed what waited in the store.
func (w *world) caughtUp(s *seat) {
	c := w.connOf(w.presenceOf(s))
	eventually(w.t, s.name+" has caught up", func() bool {
		f := c.feed.Load()
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.behind
	})
}

// isFor reports whether s may be pushed m. A note to oneself is for one's other
// seats.
func (m *mail) isFor(s *seat) bool {
	own := m.conn == s.conn || m.self == s && s.isSession()
	return m.to[s.who] && (m.session == nil || m.session == s) && !own
}

// mustHave reports whether s must have been pushed m by now.
func (w *world) mustHave(s *seat, m *mail) bool {
	return m.isFor(s) && !m.acked[s.who] && (!s.busy || m.sent.Priority == wire.PriorityNow)
}

// arrived checks a push against the model.
func (w *world) arrived(s *seat, push *wire.Push) {
	m := w.byID[push.MessageID]
	switch {
	case m == nil:
		w.t.Fatalf("%s was pushed %s, which is no accepted message", s.name, push.MessageID)
	case !m.isFor(s):
		w.t.Errorf("%s was pushed mail %d, which is to %.9s", s.name, m.number, m.sent.TargetSpec)
	case push.Ciphertext != m.sent.Ciphertext || push.SenderMemberPubkey != m.from.Key.Public() || push.Priority != m.sent.Priority:
		w.t.Errorf("%s was pushed mail %d as %+v", s.name, m.number, push)
	case s.pushed[m] != nil:
		w.t.Errorf("%s was pushed mail %d twice on one connection", s.name, m.number)
	case m.acked[s.who] && !m.topic: // of a topic it may come again, as long as an older one waits
		w.t.Errorf("%s was pushed mail %d after it was acked", s.name, m.number)
	case s.busy && m.sent.Priority != wire.PriorityNow:
		w.t.Errorf("%s is busy and was pushed mail %d", s.name, m.number)
	case m.number < s.last[m.sent.Priority] && !m.rerouted:
		w.t.Errorf("%s was pushed mail %d after %d", s.name, m.number, s.last[m.sent.Priority])
	}
	s.pushed[m], m.seen[s.who] = push, true
	s.last[m.sent.Priority] = max(s.last[m.sent.Priority], m.number)
}

// finish brings everybody back and has everything acked: then everybody has
// seen what was for them, nothing waits, and nothing comes again.
func (w *world) finish() {
	for _, p := range w.people {
		if p.banned {
			w.restore(p)
		}
	}
	w.everyoneAnew()
	for _, s := range w.seats {
		for m := range s.pushed {
			w.acknowledge(s, m)
		}
	}
	for _, m := range w.mails {
		for p := range m.to {
			if !m.seen[p] {
				w.t.Errorf("%s has not seen mail %d", p.DisplayName, m.number)
			}
		}
	}
	w.rest()
	if depth := w.queueDepth(); depth != 0 {
		w.t.Errorf("%v deliveries wait", depth)
	}
	w.everyoneAnew()
	for _, s := range w.seats {
		for m := range s.pushed {
			w.t.Errorf("%s was pushed mail %d again", s.name, m.number)
		}
	}
}

// everyoneAnew connects all seats again, idle.
func (w *world) everyoneAnew() {
	for _, s := range w.seats {
		w.connect(s)
		ask[*wire.Ack](s.conn, &wire.SetStatus{Status: wire.StatusIdle})
		s.busy = false
	}
	w.rest()
}
