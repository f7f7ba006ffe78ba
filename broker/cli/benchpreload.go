package cli

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"meshbox/broker"
	"meshbox/broker/bench"
	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	preloadMembers = 100
	preloadTopic   = 10 // every so many messages are posts to #general, the others direct ones
)

// preload makes a data file with n stored messages of size bytes, as if a mesh
// had been in use for a while: its members wrote to each other and to #general,
// and everything direct was delivered. It goes through the store, which has
// nothing else to do and so commits hundreds at a time.
func (a *app) preload(path string, n, size int, say func(string)) error {
	first := broker.NewMesh("home", defaultURL, time.Now())
	invite, err := broker.NewInvite(first.Mesh, defaultURL, benchTerms, time.Now())
	if err != nil {
		return err
	}
	first.Invites = append(first.Invites, invite)
	db, err := store.Open(path, store.Options{Schema: a.assets.Schema, Server: true, First: &first})
	if err != nil {
		return err
	}
	members, err := preloadMesh(db, first.Mesh, invite)
	if err == nil {
		err = fill(db, members, n, size, say)
	}
	if closed := db.Close(); err == nil {
		err = closed
	}
	return err
}

func preloadMesh(db *store.DB, mesh store.Mesh, invite store.Invite) ([]store.Member, error) {
	members := make([]store.Member, preloadMembers)
	for i := range members {
		joined, err := db.Join(store.Joining{
			MeshID: mesh.ID, OwnerPubKey: mesh.OwnerPubKey, Token: invite.Token, PubKey: identity.NewKey().Public(),
			DisplayName: fmt.Sprintf("earlier-%d", i+1),
		}, time.Now())
		if err != nil {
			return nil, err
		}
		members[i] = joined.Member
	}
	return members, nil
}

// filling is a data file that is being filled.
type filling struct {
	db   *store.DB
	busy sync.WaitGroup // for what is on its way to the disk

	mu     sync.Mutex
	err    error                         // the first one
	stored map[string][]store.Settlement // direct messages to settle, by recipient
}

// fill stores n messages, and settles the direct ones.
func fill(db *store.DB, members []store.Member, n, size int, say func(string)) error {
	f := &filling{db: db, stored: map[string][]store.Settlement{}}
	body := base64.StdEncoding.EncodeToString([]byte(bench.Text(size)))
	for i := range n {
		if i%1000 == 0 {
			say(fmt.Sprintf("preload: %d of %d messages", i, n))
			if err := f.settle(); err != nil {
				return err
			}
		}
		f.add(earlier(i, members, body))
	}
	f.busy.Wait()
	return f.settle()
}

func (f *filling) add(post *store.Post) {
	f.busy.Add(1)
	f.db.Append(post, nil, func(_ store.Posted, err error) {
		f.keep(err, post)
		f.busy.Done()
	})
}

// keep notes what became of a message.
func (f *filling) keep(err error, post *store.Post) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.err == nil {
		f.err = err
	}
	for _, to := range post.Recipients {
		f.stored[to.MemberID] = append(f.stored[to.MemberID], store.Settlement{Seq: post.Seq})
	}
}

// settle has all that was stored so far delivered, and waits for that.
func (f *filling) settle() error {
	f.mu.Lock()
	stored, err := f.stored, f.err
	f.stored = map[string][]store.Settlement{}
	f.mu.Unlock()
	if err != nil {
		f.busy.Wait()
		return err
	}
	outcomes := make(chan error, len(stored))
	for memberID, all := range stored {
		f.db.Settle(memberID, all, time.Now(), func(err error) { outcomes <- err })
	}
	for range stored {
		if failed := <-outcomes; failed != nil {
			err = failed
		}
	}
	return err
}

// earlier is message i of the preloaded ones.
func earlier(i int, members []store.Member, body string) *store.Post {
	n := len(members)
	from, to := members[i%n], members[(i+1+i/n%(n-1))%n] // never oneself
	p := &store.Post{Message: store.Message{
		ID: store.NewID(), MeshID: from.MeshID, SenderMemberID: from.ID, SenderPubKey: from.PubKey, SenderName: from.DisplayName,
		SenderType: wire.PeerAI, TargetSpec: to.PubKey, Priority: wire.PriorityNext, Nonce: strings.Repeat("A", 32), Ciphertext: body,
		ClientMessageID: fmt.Sprintf("earlier-%d", i), CreatedAt: time.Now(),
	}}
	if i%preloadTopic == 0 {
		p.TopicRef, p.TargetSpec, p.BodyVersion = wire.General, "#"+wire.General, 1
	} else {
		p.Recipients = []store.Recipient{{MemberID: to.ID}}
	}
	return p
}
