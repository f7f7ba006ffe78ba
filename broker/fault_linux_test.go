package broker

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// smallDisk returns a folder on a file system of its own, of so many KiB. Who may
// not mount runs the test again in a namespace where it may, or skips it.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	folder := t.TempDir()
	output, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dk", size), "tmpfs", folder).CombinedOutput()
	if err == nil {
		t.Cleanup(func() { syscall.Unmount(folder, syscall.MNT_DETACH) })
		return folder
	}
	if os.Getenv("MESHBOX_TEST_UNSHARED") == "" {
		again := exec.Command("unshare", "-Urm", os.Args[0], "-test.run", "^"+t.Name()+"$")
		again.Env = append(os.Environ(), "MESHBOX_TEST_UNSHARED=1")
		inside, err := again.CombinedOutput()
		if err == nil {
			t.Skip("passed in a namespace of its own")
		}
		if strings.Contains(string(inside), "--- FAIL") {
			t.Fatalf("in a namespace of its own:\n%s", inside)
		}
	}
	t.Skipf("a small disk can be mounted neither here nor with unshare; run the test as root: %v %s", err, output)
	return ""
}

// fill takes all the space that is left, and returns how to give it back.
func fill(t *testing.T, folder string) (free func()) {
	t.Helper()
	return reserve(t, folder, 1<<20)
}

// reserve takes so many KiB, or what there is.
func reserve(t *testing.T, folder string, size int) (free func()) {
	t.Helper()
	name := filepath.Join(folder, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for range size {
		if _, err = file.Write(make([]byte, 1024)); errors.Is(err, syscall.ENOSPC) {
			break
		}
	}
	file.Close()
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// bulky is message number i, of about a page of the data file.
func bulky(i int) string { return fmt.Sprint(i, " ", strings.Repeat("x", 3000)) }

// sendUntilRefused sends bulky messages from number from on, and returns the
// number of the one that was refused, and why.
func (g *guest) sendUntilRefused(target string, from int) (next int, refusal string) {
	g.t.Helper()
	for i := from; i < 20_000; i++ {
		nonce, ciphertext := peer.Plain(bulky(i))
		ack, err := g.Send(g.t.Context(), wire.Send{TargetSpec: target, Priority: wire.PriorityNext, Nonce: nonce, Ciphertext: ciphertext})
		if err != nil {
			g.t.Fatal(err)
		}
		if !ack.Queued {
			return i, ack.Error
		}
	}
	g.t.Fatal("no send was refused")
	return 0, ""
}

func (g *guest) wantBulky(from, upto int) {
	g.t.Helper()
	for i := from; i < upto; i++ {
		g.wantPush(bulky(i))
	}
}

// Outcome: while the disk is full, sends are refused with busy, and everything
// else goes on: /health, hellos, lists, and the delivery of what is stored. When
// there is space again, sending works without a restart, and what could not be
// written meanwhile (acks, the session key that a first message earns) is.
func TestFullDiskRefusesSendsAndLosesNothing(t *testing.T) {
	folder := smallDisk(t, 4096)
	h := newHouseIn(t, folder)
	ann, bob := h.arrive("ann"), h.join("bob")
	hook := ann.hook("disk", "")
	for i := range 20 {
		ann.post(bob.Key.Public(), bulky(i), wire.PriorityNext)
	}
	free := fill(t, folder)
	n, refusal := ann.sendUntilRefused(bob.Key.Public(), 20)
	if !strings.HasPrefix(refusal, "busy: the disk of the broker is full") {
		t.Errorf("refused with %q", refusal)
	}
	h.posts(hook.URL, "no space for this").wantUndelivered(http.StatusServiceUnavailable, wire.Busy)
	h.worksWithoutWriting(ann)
	h.wantHealth("full")
	back := h.dial(bob, peer.Options{})
	back.wantBulky(0, n)
	back.wantQuiet()
	session := h.dial(bob, peer.Options{Session: identity.NewKey()})
	session.wantUnsent("#general", "no space for this", wire.Busy)

	free()
	session.say("#general", "space again")
	h.wantHealth("up")
	ann.wantPush("space again")
	ann.post(bob.Key.Public(), bulky(n), wire.PriorityNext)
	back.wantBulky(n, n+1)
	h.settled()
	eventually(t, "the session is remembered", func() bool {
		_, err := h.db.SessionKeyByKey(t.Context(), h.mesh.ID, session.Key())
		leases, _ := h.db.Leases(t.Context())
		return err == nil && len(leases) == 2 // ann's is the other
	})
	h.restart()
	h.dial(bob, peer.Options{}).wantQuiet()
}

// worksWithoutWriting checks what needs no space.
func (h *house) worksWithoutWriting(g *guest) {
	h.t.Helper()
	if peers := ask[*wire.PeersList](g, &wire.ListPeers{}).Peers; len(peers) == 0 {
		h.t.Error("nobody is listed")
	}
	history := ask[*wire.TopicHistoryResponse](g, &wire.TopicHistory{Topic: wire.General})
	if history.Topic == "" {
		h.t.Errorf("history = %+v", history)
	}
}

// wantHealth waits until /health says how the data file is.
func (h *house) wantHealth(db string) {
	h.t.Helper()
	want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[db == "up"]
	eventually(h.t, "/health says "+db, func() bool {
		response, err := http.Get(h.url + "/health")
		if err != nil {
			h.t.Fatal(err)
		}
		defer response.Body.Close()
		var health struct{ DB, Message string }
		if err := json.NewDecoder(response.Body).Decode(&health); err != nil {
			h.t.Fatal(err)
		}
		return response.StatusCode == want && health.DB == db && (health.Message == "") == (db == "up")
	})
}

// Outcome: /health says that a full disk is full although nobody sends, and that it
// has space again, without a restart.
func TestHealthOfAFullDisk(t *testing.T) {
	folder := smallDisk(t, 4096)
	h := newHouseIn(t, folder)
	ann := h.arrive("ann")
	h.wantHealth("up")
	free := fill(t, folder)
	_, refusal := ann.sendUntilRefused("#general", 0) // the WAL has some space of its own
	if !strings.HasPrefix(refusal, "busy: ") {
		t.Fatalf("refused with %q", refusal)
	}
	ann.Close()
	time.Sleep(1200 * time.Millisecond) // what sends learned says nothing any more
	h.wantHealth("full")
	free()
	h.wantHealth("up")
}

// Outcome: the same when messages themselves fill the disk, so that the WAL can
// no longer be moved into the data file either. With more space it is.
func TestDiskFilledByMessages(t *testing.T) {
	const size = 12 << 10 // KiB: more than the 1000 pages after which SQLite begins to move
	folder := smallDisk(t, 4*size)
	free := reserve(t, folder, 3*size)
	h := newHouseIn(t, folder)
	ann, bob := h.arrive("ann"), h.join("bob")
	n, refusal := ann.sendUntilRefused(bob.Key.Public(), 0)
	if !strings.HasPrefix(refusal, "busy: ") {
		t.Errorf("refused with %q", refusal)
	}
	t.Logf("full after %d messages", n)
	h.worksWithoutWriting(ann)
	back := h.dial(bob, peer.Options{})
	back.wantBulky(0, n)
	free()
	ann.post(bob.Key.Public(), bulky(n), wire.PriorityNext)
	back.wantBulky(n, n+1)
	h.settled()
	h.wantSound()
	h.restart()
	h.dial(bob, peer.Options{}).wantQuiet()
	h.wantSound()
}

// wantSound checks that the WAL can be moved into the data file, and that the
// file is in order.
func (h *house) wantSound() {
	h.t.Helper()
	beside, err := sql.Open("sqlite", h.db.Path()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer beside.Close()
	var busy, frames, moved int
	if err := beside.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &moved); err != nil || frames != moved {
		h.t.Errorf("wal_checkpoint: %d of %d frames moved, %v", moved, frames, err)
	}
	var verdict string
	if err := beside.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		h.t.Errorf("integrity_check: %s, %v", verdict, err)
	}
}

// Outcome: a server that starts on a full disk says so and ends; the file is as
// it was, and serves when there is space.
func TestFullDiskIsNamedAtTheStart(t *testing.T) {
	folder := smallDisk(t, 4096)
	h := newHouseIn(t, folder)
	ann, bob := h.arrive("ann"), h.join("bob")
	ann.say(bob.Key.Public(), "stored")
	path := h.db.Path()
	h.stop()
	free := fill(t, folder)
	for _, name := range []string{path, filepath.Join(folder, "new.db")} {
		db, err := store.Open(name, store.Options{Server: true})
		if err == nil {
			err = db.SetSetting("public_url", "http://localhost")
			db.Close()
		}
		if !errors.Is(err, store.ErrFull) {
			t.Errorf("%s: %v, want ErrFull", filepath.Base(name), err)
		}
	}
	free()
	h.open(path, store.Options{Server: true})
	h.dial(bob, peer.Options{}).wantPush("stored")
}
