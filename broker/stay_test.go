package broker

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

func TestStayReconnectsUntilItIsNoUse(t *testing.T) {
	h := newHouse(t)
	ann := h.join("ann")
	greeted := make(chan *peer.Conn, 8)
	ended := make(chan error, 1)
	paused := make(chan error, 8)
	go func() {
		ended <- peer.Stay(t.Context(), peer.Options{Identity: ann, Client: wire.Client{SessionID: "s"}}, func(ctx context.Context, c *peer.Conn) error {
			greeted <- c
			<-c.Done()
			return c.Err()
		}, func(err error, _ time.Duration) { paused <- err })
	}()
	<-greeted
	h.allConns()[0].end(wire.ShuttingDown)
	if rejected, ok := errors.AsType[*peer.Rejected](<-paused); !ok || rejected.Close != wire.CloseGoingAway {
		t.Errorf("paused because of %v, want 1001", rejected)
	}
	<-greeted // it came back
	h.revoke(ann)
	h.allConns()[0].end(wire.ShuttingDown)
	if rejected, ok := errors.AsType[*peer.Rejected](<-ended); !ok || rejected.Code != wire.Revoked || rejected.Close != wire.CloseBanned {
		t.Errorf("ended with %v, want revoked", rejected)
	}
}

func TestDrainSendsEverybodyAwayAndLetsNobodyIn(t *testing.T) {
	h := newHouse(t)
	ann, bob := h.arrive("ann"), h.arrive("bob")
	ann.say("#general", "last words")
	h.Drain(t.Context())
	ann.wantClosed(1001, wire.ShuttingDown)
	bob.wantClosed(1001, wire.ShuttingDown)
	response, err := http.Get(h.url + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an upgrade while draining: %d, want 503", response.StatusCode)
	}
	if _, answer := h.get("/health/ready"); answer["status"] != "draining" {
		t.Errorf("ready answers %v", answer)
	}
	h.restart()
	h.dial(bob.id, peer.Options{}).wantPush("last words") // it was not acked
}

// Session keys are remembered once they sent a message, or lived for 10 s.
func TestOneShotSessionsAreForgotten(t *testing.T) {
	h := newHouse(t)
	bob := h.arrive("bob")
	silent, talking := identity.NewKey(), identity.NewKey()
	one := h.dial(h.join("one"), peer.Options{Session: silent})
	two := h.dial(h.join("two"), peer.Options{Session: talking})
	two.say("#general", "here I am")
	one.Close()
	two.Close()
	eventually(t, "both are gone", func() bool { return h.countPresences() == 1 })
	bob.wantUnsent(silent.Public(), "x", wire.TargetNotFound)
	bob.say(talking.Public(), "for your old session")
	h.dial(two.id, peer.Options{Session: talking}).wantPush("for your old session")
}
