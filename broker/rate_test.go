package broker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func TestSendsBeyondTheRateAreRefusedAndTheOthersAreNot(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 1.0/3600, 3 })
	ann, bob := h.arrive("ann"), h.arrive("bob")
	second := h.dial(ann.id, peer.Options{}) // the same member
	for range 2 {
		ann.say("#general", "within")
	}
	second.say("#general", "the last one")
	for _, g := range []*guest{ann, second, h.dial(ann.id, peer.Options{})} {
		g.wantUnsent("#general", "too much", wire.RateLimit)
	}
	bob.say("#general", "bob is not ann")
	if n := h.metric(`broker_messages_rejected_total{reason="rate_limit"}`); n != 3 {
		t.Errorf("%v refusals counted, want 3", n)
	}
}

// Daemons decide by words of a refusal whether to retry, so this one must have
// none of those that mean "never".
func TestRateRefusalReadsAsPassing(t *testing.T) {
	rates := newSendRates(Limits{SendRate: 0.5, SendBurst: 1})
	now := time.Now()
	if err := rates.take("ann", now); err != nil {
		t.Fatal(err)
	}
	err := rates.take("ann", now)
	if err == nil || err.Error() != "rate_limit: slow down, try again in 2 s" {
		t.Fatalf("refusal %v", err)
	}
	for _, word := range []string{"unknown", "invalid", "forbidden", "not_found", "auth", "schema", "signature"} {
		if strings.Contains(err.Error(), word) {
			t.Errorf("%q contains %q", err, word)
		}
	}
}

// A retry of what was stored is told so, at whatever rate it comes.
func TestRepeatedSendIsAckedBeyondTheRate(t *testing.T) {
	h := newHouse(t, func(l *Limits) { l.SendRate, l.SendBurst = 1.0/3600, 1 })
	ann := h.arrive("ann")
	nonce, ciphertext := peer.Plain("once")
	send := wire.Send{TargetSpec: "#general", Nonce: nonce, Ciphertext: ciphertext, ClientMessageID: "c1"}
	first, err := ann.Send(t.Context(), send)
	if err != nil || !first.Queued {
		t.Fatal(first, err)
	}
	again, err := ann.Send(t.Context(), send)
	if err != nil || !again.Queued || again.MessageID != first.MessageID {
		t.Errorf("the retry got %+v, %v; want %s", again, err, first.MessageID)
	}
}

func TestBucketsFillAndAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rates := newSendRates(Limits{SendRate: 2, SendBurst: 1})
		for range 3 {
			if err := rates.take("ann", time.Now()); err != nil {
				t.Fatal(err)
			}
			if rates.forgetIdle(time.Now()); len(rates.byKey) != 1 {
				t.Fatal("a bucket in use was forgotten, which fills it")
			}
			time.Sleep(500 * time.Millisecond)
		}
		if rates.forgetIdle(time.Now()); len(rates.byKey) != 0 {
			t.Error("a full bucket is kept")
		}
	})
}
