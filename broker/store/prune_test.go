package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// past is a file in which messages were sent long ago.
type past struct {
	*DB
	t        testing.TB
	now      time.Time
	ann, bob Member
	eve      Member
}

func newPast(t testing.TB) *past {
	db, meshID := newDB(t)
	return &past{DB: db, t: t, now: time.Now(), ann: addMember(t, db, meshID, "ann"), bob: addMember(t, db, meshID, "bob"), eve: addMember(t, db, meshID, "eve")}
}

// sent stores a message from ann to recipients, or to #general if there are
// none, that is age old.
func (h *past) sent(age time.Duration, change func(*Post), to ...Member) Post {
	h.t.Helper()
	p := topicPost(h.ann, "general", "aGk=")
	if len(to) > 0 {
		p.TopicRef, p.TargetSpec = "", to[0].PubKey
	}
	for _, m := range to {
		p.Recipients = append(p.Recipients, Recipient{MemberID: m.ID})
	}
	p.CreatedAt = h.now.Add(-age)
	p.ID = newID(p.CreatedAt)
	if change != nil {
		change(&p)
	}
	p, _, err := post(h.DB, p)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// settle records that to got messages.
func (h *past) settle(to Member, all ...Post) {
	h.t.Helper()
	done := make(chan error, 1)
	var settled []Settlement
	for _, p := range all {
		settled = append(settled, Settlement{Seq: p.Seq, TopicID: p.TopicID})
	}
	h.Settle(to.ID, settled, h.now, func(err error) { done <- err })
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// delivered is sent and settled.
func (h *past) delivered(age time.Duration, change func(*Post), to ...Member) Post {
	h.t.Helper()
	p := h.sent(age, change, to...)
	for _, m := range to {
		h.settle(m, p)
	}
	return p
}

// prune makes one pass of a new Pruner, and returns how many messages went.
func (h *past) prune(keep Retention) (gone int) {
	h.t.Helper()
	if err := h.NewPruner(keep, func(n int) { gone += n }).Pass(h.t.Context(), h.now); err != nil {
		h.t.Fatal(err)
	}
	return gone
}

// wantKept checks which of the messages are still there, deliveries included.
func (h *past) wantKept(all []Post, kept ...Post) {
	h.t.Helper()
	for i, p := range all {
		is := slices.ContainsFunc(kept, func(k Post) bool { return k.Seq == p.Seq })
		want := 0
		if is {
			want = len(p.Recipients)
		}
		if here := h.count(`SELECT count(*) FROM message WHERE seq = ?`, p.Seq) == 1; here != is {
			h.t.Errorf("message %d: there is %v, want %v", i, here, is)
		}
		if n := h.count(`SELECT count(*) FROM delivery WHERE seq = ?`, p.Seq); n != want {
			h.t.Errorf("message %d has %d deliveries, want %d", i, n, want)
		}
	}
}

func (h *past) count(query string, args ...any) (n int) {
	h.t.Helper()
	if err := h.row(h.t.Context(), &n, query, args...); err != nil {
		h.t.Fatal(err)
	}
	return n
}

const day = 24 * time.Hour

func TestDeliveredMessagesGoByAge(t *testing.T) {
	h := newPast(t)
	old, young := h.delivered(31*day, nil, h.bob), h.delivered(29*day, nil, h.bob)
	all := []Post{old, young}
	if n := h.prune(Retention{}); n != 0 {
		t.Errorf("%d went although all are to be kept", n)
	}
	if n := h.prune(Retention{Age: 30 * day}); n != 1 {
		t.Errorf("%d went, want 1", n)
	}
	h.wantKept(all, young)
}

func TestDeliveredMessagesGoByCount(t *testing.T) {
	h := newPast(t)
	var all []Post
	for range 6 {
		all = append(all, h.delivered(time.Minute, nil, h.bob))
	}
	all = append(all, h.delivered(time.Minute, nil, h.bob, h.eve)) // two rows
	if n := h.prune(Retention{Rows: 8}); n != 0 {
		t.Errorf("%d went of 8 rows, want none", n)
	}
	if n := h.prune(Retention{Rows: 4}); n != 4 {
		t.Errorf("%d went, want the 4 oldest", n)
	}
	h.wantKept(all, all[4:]...)
	if n := h.prune(Retention{Rows: 1}); n != 2 { // the newest is whole or not at all
		t.Errorf("%d went, want 2", n)
	}
	h.wantKept(all, all[6])
}

func TestMessageStaysWhileOneRecipientWaits(t *testing.T) {
	h := newPast(t)
	p := h.sent(40*day, nil, h.bob, h.eve)
	h.settle(h.bob, p)
	keep := Retention{Age: 30 * day, Rows: 1}
	if n := h.prune(keep); n != 0 {
		t.Errorf("%d went while eve waits", n)
	}
	h.wantKept([]Post{p}, p)
	if waiting, err := h.Pending(t.Context(), Mailbox{MemberID: h.eve.ID}, Waiting{Limit: 10}); err != nil || len(waiting) != 1 {
		t.Errorf("%d messages wait for eve, %v; want 1", len(waiting), err)
	}
	if err := h.ExpireDeliveries(h.now.Add(-7*day), h.now); err != nil {
		t.Fatal(err)
	}
	if n := h.prune(keep); n != 1 {
		t.Errorf("%d went after it expired for eve, want 1", n)
	}
	h.wantKept([]Post{p})
}

// Outcome: after the clock went back, messages keep the order in which they were
// accepted, a retry finds its message, and what was sent by the wrong clock
// expires with the first that was sent after it.
func TestClockThatWentBackBreaksNothing(t *testing.T) {
	h := newPast(t)
	named := func(p *Post) { p.ClientMessageID = "c1" }
	ahead := h.sent(-365*day, named, h.bob)
	h.sent(0, nil, h.bob)
	h.sent(-time.Minute, nil, h.bob)
	if again := h.sent(-2*time.Minute, named, h.bob); again.ID != ahead.ID {
		t.Errorf("the retry is %s, want %s", again.ID, ahead.ID)
	}
	waiting := func() (seqs []int64) {
		pending, err := h.Pending(t.Context(), Mailbox{MemberID: h.bob.ID}, Waiting{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pending {
			seqs = append(seqs, p.Seq-ahead.Seq)
		}
		return seqs
	}
	expire := func(cutoff time.Time) []int64 {
		if err := h.ExpireDeliveries(cutoff, h.now); err != nil {
			t.Fatal(err)
		}
		return waiting()
	}
	if got := expire(h.now); !slices.Equal(got, []int64{0, 1, 2}) {
		t.Errorf("%v wait, want all in order", got)
	}
	if got := expire(h.now.Add(time.Second)); !slices.Equal(got, []int64{2}) {
		t.Errorf("%v wait, want the newest alone", got)
	}
}

// A retry within 24 hours must find its message, or it would be stored twice.
func TestMessageStaysWhileItMayBeRetried(t *testing.T) {
	h := newPast(t)
	named := func(name string) func(*Post) { return func(p *Post) { p.ClientMessageID = name } }
	fresh := h.delivered(IdempotencyWindow-time.Hour, named("c1"), h.bob)
	over := h.delivered(IdempotencyWindow+time.Hour, named("c2"), h.bob)
	unnamed := h.delivered(time.Hour, nil, h.bob)
	last := h.delivered(0, nil, h.bob)
	all := []Post{fresh, over, unnamed, last}
	h.prune(Retention{Rows: 1})
	h.wantKept(all, fresh, last)
	h.prune(Retention{Age: time.Millisecond})
	h.wantKept(all, fresh, last)
	again := fresh
	again.ID, again.CreatedAt = NewID(), h.now
	if got, posted, err := post(h.DB, again); err != nil || !posted.Duplicate || got.ID != fresh.ID {
		t.Errorf("the retry got %s, duplicate %v, %v; want %s", got.ID, posted.Duplicate, err, fresh.ID)
	}
}

// What could not go at first goes later, by the same Pruner.
func TestPassesLookAgainAfterAnHour(t *testing.T) {
	h := newPast(t)
	p := h.sent(40*day, nil, h.bob)
	last := h.delivered(0, nil, h.bob)
	gone := 0
	pruner := h.NewPruner(Retention{Age: 30 * day}, func(n int) { gone += n })
	for _, after := range []time.Duration{0, time.Minute, time.Hour} {
		if gone != 0 {
			t.Errorf("%d went by %v", gone, after)
		}
		if err := pruner.Pass(t.Context(), h.now.Add(after)); err != nil {
			t.Fatal(err)
		}
		h.settle(h.bob, p)
	}
	if gone != 1 {
		t.Errorf("%d went, want 1", gone)
	}
	h.wantKept([]Post{p, last}, last)
}

// Topics are history: neither their messages go, nor what says of one that it
// was kept from somebody, nor do cursors move.
func TestHistoryIsNotPruned(t *testing.T) {
	h := newPast(t)
	posted, direct, last := h.sent(40*day, nil), h.delivered(40*day, nil, h.bob), h.sent(0, nil)
	h.settle(h.bob, posted, last)
	if err := h.Update(func(tx *Tx) error {
		return tx.exec(`INSERT INTO delivery (seq, member_id, settled_at, outcome) VALUES (?, ?, 1, 'dropped_by_grant')`, posted.Seq, h.eve.ID)
	}); err != nil {
		t.Fatal(err)
	}
	cursors := func() int {
		return h.count(`SELECT sum(delivered_seq * 7 + read_seq) FROM topic_member`)
	}
	before := cursors()
	if n := h.prune(Retention{Age: time.Millisecond, Rows: 1}); n != 1 {
		t.Errorf("%d went, want the direct one alone", n)
	}
	if history, err := h.History(t.Context(), posted.TopicID, Page{Limit: 10}); err != nil || len(history) != 2 {
		t.Errorf("history has %d messages, %v; want 2", len(history), err)
	}
	if n := h.count(`SELECT count(*) FROM delivery WHERE seq = ? AND outcome = 'dropped_by_grant'`, posted.Seq); n != 1 {
		t.Errorf("%d rows say that eve did not get it, want 1", n)
	}
	if after := cursors(); after != before || before == 0 {
		t.Errorf("cursors went from %d to %d", before, after)
	}
	h.wantKept([]Post{direct})
}

// A broadcast in an empty room has no deliveries, and must go all the same; each
// is looked at once, also over restarts.
func TestMessagesForNobodyGoToo(t *testing.T) {
	h := newPast(t)
	forNobody := func(p *Post) { p.TopicRef, p.TargetSpec = "", "*" }
	old, young := h.sent(40*day, forNobody), h.sent(time.Hour, forNobody)
	general := h.sent(40*day, nil)
	if n := h.prune(Retention{Age: 30 * day}); n != 1 {
		t.Errorf("%d went, want 1", n)
	}
	h.wantKept([]Post{old, young, general}, young, general)
	if mark, err := h.Setting(t.Context(), prunedKey); err != nil || mark != fmt.Sprint(general.Seq) {
		t.Errorf("the next pass begins behind %s, %v; want %d", mark, err, general.Seq)
	}
}

// A cursor that is behind would skip a number that is used again.
func TestNumbersAreNotUsedAgain(t *testing.T) {
	h := newPast(t)
	last := h.delivered(40*day, nil, h.bob)
	h.prune(Retention{Age: 30 * day})
	if n := h.count(`SELECT count(*) FROM message`); n != 0 {
		t.Fatalf("%d messages are left", n)
	}
	path := h.Path()
	h.Close()
	h.DB = mustOpen(t, path, Options{Server: true})
	if next := h.sent(0, nil, h.bob); next.Seq <= last.Seq {
		t.Errorf("seq %d after %d", next.Seq, last.Seq)
	}
}

func TestPruningTakesManySmallSteps(t *testing.T) {
	h := newPast(t)
	var all []Post
	for i := range 3*pruneMessages + 7 {
		to := []Member{h.bob}
		if i%2 == 0 {
			to = append(to, h.eve)
		}
		all = append(all, h.delivered(40*day, nil, to...))
	}
	var steps []int
	ctx, cancel := context.WithCancel(t.Context())
	pruner := h.NewPruner(Retention{Age: 30 * day}, func(n int) {
		if steps = append(steps, n); len(steps) == 2 {
			cancel() // as on shutdown
		}
	})
	if err := pruner.Pass(ctx, h.now); !errors.Is(err, context.Canceled) || len(steps) != 2 {
		t.Errorf("after %v: %v; want two steps and context.Canceled", steps, err)
	}
	if err := pruner.Pass(t.Context(), h.now); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int{pruneMessages, pruneMessages, pruneMessages, 7}) {
		t.Errorf("steps %v", steps)
	}
	h.wantKept(all)
	if n := h.count(`SELECT count(*) FROM delivery`); n != 0 {
		t.Errorf("%d deliveries are left", n)
	}
}

// A broadcast to many is a step of its own.
func TestStepsAreBoundedInDeliveriesToo(t *testing.T) {
	h := newPast(t)
	toMany := func(p *Post) {
		p.TopicRef, p.TargetSpec = "", "*"
		for i := range pruneRows - 1 {
			p.Recipients = append(p.Recipients, Recipient{MemberID: fmt.Sprint(i)})
		}
	}
	for range 3 {
		h.sent(40*day, toMany)
	}
	if err := h.Update(func(tx *Tx) error { return tx.exec(`UPDATE delivery SET settled_at = 1, outcome = 'acked'`) }); err != nil {
		t.Fatal(err)
	}
	var steps []int
	if err := h.NewPruner(Retention{Age: 30 * day}, func(n int) { steps = append(steps, n) }).Pass(t.Context(), h.now); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int{1, 1, 1}) || h.count(`SELECT count(*) FROM delivery`) != 0 {
		t.Errorf("steps %v, want three of one", steps)
	}
}

// Space is used again: a file in which as much is pruned as is sent stops
// growing.
func TestFileStopsGrowing(t *testing.T) {
	h := newPast(t)
	const rounds, perRound = 20, 200
	body := strings.Repeat("x", 2000)
	var pages []int
	for range rounds {
		for range perRound {
			h.delivered(time.Hour, func(p *Post) { p.Ciphertext = body }, h.bob)
		}
		h.prune(Retention{Rows: perRound})
		pages = append(pages, h.count(`PRAGMA page_count`))
	}
	if settled, end := slices.Max(pages[:5]), pages[rounds-1]; end > settled+settled/10 {
		t.Errorf("pages after each round: %v; want no growth after the fifth", pages)
	}
	if n := h.count(`SELECT count(*) FROM message`); n != perRound {
		t.Errorf("%d messages are left, want %d", n, perRound)
	}
}

// The write-ahead log begins anew although somebody always reads: its file is
// cut each time.
func TestLogStaysBoundedUnderConstantReaders(t *testing.T) {
	h := newPast(t)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 { // each begins before the other ends
		busy.Go(func() { h.readAlways(stop, 4*time.Millisecond) })
	}
	body := strings.Repeat("x", 16<<10)
	for range 16 {
		busy.Go(func() { h.sendAlways(stop, body) })
	}
	cuts, before, largest := 0, int64(0), int64(0)
	for deadline := time.Now().Add(30 * time.Second); cuts < 3 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		info, err := os.Stat(h.Path() + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < before {
			cuts++
		}
		before = info.Size()
		largest = max(largest, before)
	}
	close(stop)
	busy.Wait()
	if t.Logf("cut %d times, %d MiB at most", cuts, largest>>20); cuts < 3 {
		t.Errorf("the log was cut %d times and grew to %d MiB", cuts, largest>>20)
	}
}

func (h *past) sendAlways(stop <-chan struct{}, body string) {
	for {
		select {
		case <-stop:
			return
		default:
			h.sent(0, func(p *Post) { p.Ciphertext = body }, h.bob)
		}
	}
}

// readAlways reads in transactions that overlap with those of another.
func (h *past) readAlways(stop <-chan struct{}, each time.Duration) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		tx, err := h.read.Begin()
		if err != nil {
			h.t.Error(err)
			return
		}
		var n int
		if err := tx.QueryRow(`SELECT count(*) FROM mesh`).Scan(&n); err != nil {
			h.t.Error(err)
		}
		time.Sleep(each)
		tx.Rollback()
	}
}

// BenchmarkAppendWhilePruning is what senders notice of pruning in a large file.
func BenchmarkAppendWhilePruning(b *testing.B) {
	for _, pruning := range []bool{false, true} {
		b.Run(fmt.Sprintf("pruning=%v", pruning), func(b *testing.B) {
			h := newPast(b)
			fill(b, h, 300_000)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			gone := 0
			go func() {
				defer close(done)
				if pruning {
					_ = h.NewPruner(Retention{Age: time.Hour}, func(n int) { gone += n }).Pass(ctx, h.now)
				}
			}()
			waits := appendMany(b, h)
			cancel()
			<-done
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(waits[len(waits)-1].Microseconds())/1000, "max-ms")
			b.ReportMetric(float64(len(waits))/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(gone)/b.Elapsed().Seconds(), "pruned/s")
		})
	}
}

// fill stores n delivered messages of two days ago.
func fill(b *testing.B, h *past, n int) {
	b.Helper()
	created := h.now.Add(-2 * day)
	body := strings.Repeat("x", 400)
	for at := 0; at < n; at += 1000 {
		err := h.Update(func(tx *Tx) error {
			for range 1000 {
				p := topicPost(h.ann, "", body)
				p.TopicRef, p.ClientMessageID, p.ID, p.Priority, p.CreatedAt = "", NewID(), newID(created), "next", created
				p.Recipients = []Recipient{{MemberID: h.bob.ID}}
				if _, err := tx.post(&p); err != nil {
					return err
				}
			}
			return tx.exec(`UPDATE delivery SET settled_at = 1, outcome = 'acked' WHERE settled_at IS NULL`)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// appendMany appends b.N messages from 50 senders that wait for each ack, and
// returns how long each waited.
func appendMany(b *testing.B, h *past) (waits []time.Duration) {
	var mu sync.Mutex
	body := strings.Repeat("x", 400)
	b.SetParallelism(25)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			p := topicPost(h.ann, "", body)
			p.TopicRef, p.Recipients, p.ClientMessageID = "", []Recipient{{MemberID: h.bob.ID}}, NewID()
			began := time.Now()
			if _, _, err := post(h.DB, p); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(began))
		}
		mu.Lock()
		waits = append(waits, mine...)
		mu.Unlock()
	})
	return waits
}
