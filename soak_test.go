package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
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

	"github.com/coder/websocket"
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
	soakGate        = 32                     // members that connect at a time
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
	gate     chan struct{} // see greet
	done     context.CancelFunc
	running  sync.WaitGroup
	restarts int
	backups  atomic.Int64
	bans     int
	hellos   atomic.Int64
}

// footprint is what a server's process holds.
type footprint struct{ memory, heap, goroutines, files int64 }

func (f footprint) String() string {
	return fmt.Sprintf("%d MiB (%d on the heap), %d goroutines, %d files", f.memory>>20, f.heap>>20, f.goroutines, f.files)
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	length, err := time.ParseDuration(os.Getenv("MESHBOX_SOAK"))
	if err != nil {
		length = soakTime
	}
	s := &soak{t: t, program: build(t), folder: t.TempDir(), census: &census{letters: map[string]*parcel{}}, gate: make(chan struct{}, soakGate)}
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
	s.server = start(s.t, s.program, s.folder, listen, "--send-rate", "0", "--presence-lease", "1m", "--ack-timeout", "10s", "--log-level", "error")
}

func (s *soak) footprint() (f footprint) {
	s.t.Helper()
	for name, value := range map[string]*int64{"process_resident_memory_bytes": &f.memory, "go_memstats_heap_alloc_bytes": &f.heap, "go_goroutines": &f.goroutines, "process_open_fds": &f.files} {
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
	s.calm.Store(true)
	for _, m := range s.members {
		s.running.Go(func() { s.read(ctx, m) })
	}
	s.await("everybody is there", func() string { // each arrival is told to all others: that takes a while
		if n := s.states()[atHome]; n < len(s.members) {
			return fmt.Sprintf("%d of %d", n, len(s.members))
		}
		return ""
	})
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
		ws, err := s.greet(ctx, m)
		if err != nil {
			s.refused(m, err)
			s.setState(m, err.Error())
			pause(ctx, time.Duration(rand.Int64N(int64(patience))))
			patience = min(2*patience, soakMaxRetry)
			continue
		}
		patience = soakRetry
		s.hellos.Add(1)
		s.setState(m, atHome)
		enough := time.AfterFunc(time.Duration(rand.Int64N(int64(stay))), func() {
			if !s.calm.Load() { // in the calm it stays
				ws.Close(websocket.StatusNormalClosure, "")
			}
		})
		err = s.attend(ctx, m, ws)
		enough.Stop()
		ws.CloseNow()
		s.setState(m, fmt.Sprint("away: ", err))
		if !s.calm.Load() {
			pause(ctx, time.Duration(rand.Int64N(int64(away))))
		}
	}
}

// greet connects and says hello. Only so many do at a time: in truth they would have
// a machine each.
func (s *soak) greet(ctx context.Context, m *soaker) (*websocket.Conn, error) {
	s.gate <- struct{}{}
	defer func() { <-s.gate }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, m.BrokerURL, nil)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 24)
	if err = ws.Write(ctx, websocket.MessageText, peer.Options{Identity: m.Identity}.HelloFrame(time.Now())); err == nil {
		var frame []byte
		if _, frame, err = ws.Read(ctx); err == nil {
			answer, _, _, _ := wire.DecodeResponse(frame)
			if refused, ok := answer.(*wire.Error); ok {
				err = &peer.Rejected{Code: refused.Code, Message: refused.Message, Close: wire.ClosePolicy}
			}
		}
	}
	if err != nil {
		ws.CloseNow()
		return nil, err
	}
	return ws, nil
}

// attend takes what comes, and forgets to ack some of it, until the connection ends.
// In the calm it acks everything. What is told of who comes and goes it does not even
// decode: with thousands that would be all that this test has time for.
func (s *soak) attend(ctx context.Context, m *soaker, ws *websocket.Conn) error {
	for {
		_, frame, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		if bytes.Contains(frame, []byte(`"subtype":"system"`)) {
			continue
		}
		answer, _, _, _ := wire.DecodeResponse(frame)
		push, ok := answer.(*wire.Push)
		if ok && s.take(m, push) && (s.calm.Load() || rand.IntN(20) > 0) {
			if err := ws.Write(ctx, websocket.MessageText, wire.Encode(&wire.ClientAck{BrokerMessageID: push.MessageID}, "")); err != nil {
				return err
			}
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
			s.t.Fatalf("%s: not within %v: %s; noted: %q; connections: %v", what, soakPatience, found, s.problems(), s.states())
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
	const (
		more     = 30       // connections to the data file, and of this test
		moreHeap = 24 << 20 // bytes: what is remembered of each, and garbage; it is collected every two minutes at least
	)
	s.await("the server is as it was before anybody came", func() string {
		if now := s.footprint(); now.goroutines > s.idle.goroutines+more || now.files > s.idle.files+more || now.heap > s.idle.heap+moreHeap {
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
