package main

import (
	"path/filepath"
	"testing"
	"time"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// Outcome: a peer that vanishes without a word (half-open TCP: no FIN, no RST) is
// ended by the pong timeout, and what is sent to it meanwhile waits for its
// return.
func TestPeerThatVanishesWithoutAWord(t *testing.T) {
	t.Setenv("MESHBOX_PING_INTERVAL", "100ms")
	t.Setenv("MESHBOX_PONG_TIMEOUT", "500ms")
	t.Setenv("MESHBOX_LOG_LEVEL", "error")
	program, folder := build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0")
	db, config := filepath.Join(folder, "meshbox.db"), t.TempDir()
	ann := agent(t, program, t.TempDir(), db, "ann")
	agent(t, program, config, db, "bob").Close()
	keyring, err := peer.OpenKeyring(config)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := keyring.Choose("")
	if err != nil {
		t.Fatal(err)
	}
	network := newRelay(t, "127.0.0.1"+s.url[len("http://localhost"):])
	away := bob
	away.BrokerURL = network.url()
	gone, err := peer.Dial(t.Context(), peer.Options{Identity: away})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	say(t, ann, bob.Key.Public(), "are you there?")
	wantText(t, gone, "are you there?") // and it does not ack
	network.mute.Store(true)
	say(t, ann, bob.Key.Public(), "hello?")
	for deadline := time.Now().Add(patience); s.metric(`broker_connections_dropped_total{reason="pong_timeout"}`) != "1"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection that went silent was not ended")
		}
	}
	say(t, ann, bob.Key.Public(), "still waiting")
	back, err := peer.Dial(t.Context(), peer.Options{Identity: bob})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for _, text := range []string{"are you there?", "hello?", "still waiting"} {
		if err := back.Ack(t.Context(), wantText(t, back, text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ann.Request(t.Context(), &wire.ListPeers{}); err != nil {
		t.Errorf("one that answers pings did not stay: %v", err)
	}
}

func say(t *testing.T, c *peer.Conn, target, text string) {
	t.Helper()
	if ack, err := c.SendText(t.Context(), target, text); err != nil || !ack.Queued {
		t.Fatalf("%q: ack %+v, %v", text, ack, err)
	}
}
