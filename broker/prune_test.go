package broker

import (
	"testing"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// stored returns how many messages of ids are on disk.
func (h *house) stored(ids ...string) (n int) {
	h.t.Helper()
	raw := h.openRaw()
	defer raw.Close()
	for _, id := range ids {
		var found int
		if err := raw.QueryRow(`SELECT count(*) FROM message WHERE id = ?`, id).Scan(&found); err != nil {
			h.t.Fatal(err)
		}
		n += found
	}
	return n
}

func TestDeliveredMessagesArePruned(t *testing.T) {
	var keep time.Duration
	h := newHouse(t, func(l *Limits) { l.KeepDelivered, l.PruneEvery = keep, 10*time.Millisecond })
	ann, bob, away := h.arrive("ann"), h.arrive("bob"), h.join("away")
	send := func(target, clientID string) string {
		ack, err := ann.Send(t.Context(), wire.Send{TargetSpec: target, Ciphertext: "aGk=", ClientMessageID: clientID})
		if err != nil || !ack.Queued {
			t.Fatalf("ack %+v, %v", ack, err)
		}
		return ack.MessageID
	}
	kept := []string{send("#general", ""), send(away.Key.Public(), ""), send("*", ""), send(bob.Key(), "may be retried")}
	gone := send(bob.Key(), "")
	for range 4 { // general, *, and two for bob alone
		for push := bob.next(); ; push = bob.next() {
			if push == nil {
				t.Fatal("bob misses a push")
			}
			if push.Subtype != "system" {
				_ = bob.Ack(t.Context(), push)
				break
			}
		}
	}
	eventually(t, "bob's acks are on disk", func() bool { return h.queueDepth() == 2 })
	keep = 10 * time.Millisecond
	h.restart()
	eventually(t, "what bob alone got is gone", func() bool { return h.stored(gone) == 0 })
	if n := h.stored(kept...); n != len(kept) {
		t.Errorf("%d of %d are left; want history, what waits, and what may be retried", n, len(kept))
	}
	h.dial(ann.id, peer.Options{}).wantRefused(&wire.MessageStatus{MessageID: gone}, wire.NotFound)
	if n := h.metric("broker_messages_pruned_total"); n != 1 {
		t.Errorf("%v counted as pruned, want 1", n)
	}
}

func TestNothingIsPrunedWhenAllIsToBeKept(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.KeepDelivered, l.KeepDeliveries, l.PruneEvery = 0, 0, time.Millisecond })
	done := make(chan struct{})
	go func() { h.prune(t.Context()); close(done) }()
	select {
	case <-done: // there is nothing to do, ever
	case <-time.After(patience):
		t.Error("the pruner runs")
	}
}
