package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Moderation, for the owner and the admins of a mesh. A disconnect closes
// sockets, and their peers may come back. A kick ends the sessions of a peer and
// leaves its member connections alone. A ban revokes the member.
//
// A ban is a fact of the store; what is live follows it. enforceBans runs right
// after a ban is committed here, and every enforceEvery for the bans of commands
// beside the server. That also ends what a hello brings in that was checked just
// before the ban: it is gone within enforceEvery, and until then the store
// refuses what it sends.

// kick ends the sessions of a peer at once: no lease waits for them.
func (r request) kick(m *wire.Kick) {
	here, ok := r.present(m.Target)
	if !ok {
		return
	}
	response := &wire.KickAck{Removed: wire.NewRemoved()}
	var sessions []*presence
	for _, p := range here {
		if p.proven {
			sessions = append(sessions, p)
			response.Add(p.name)
		} else {
			response.SkippedControlPlane = append(response.SkippedControlPlane, p.name)
		}
	}
	if err := r.b.db.RecordKick(r.moderation(here[0].member), response.Kicked); err != nil {
		r.moderationFailed(err, m.Target)
		return
	}
	for _, p := range sessions {
		r.b.expel(p, func(c *conn) { c.drop(wire.Kicked) })
	}
	r.answer(response)
}

// disconnect closes all connections of a peer. Its presence stays as long as one
// whose connection broke.
func (r request) disconnect(m *wire.Disconnect) {
	here, ok := r.present(m.Target)
	if !ok {
		return
	}
	response := &wire.DisconnectAck{Removed: wire.NewRemoved()}
	var conns []*conn
	for _, p := range here {
		if c := r.b.connOf(p); c != nil {
			conns = append(conns, c)
			response.Add(p.name)
		}
	}
	if err := r.b.db.RecordDisconnect(r.moderation(here[0].member), response.Kicked); err != nil {
		r.moderationFailed(err, m.Target)
		return
	}
	r.answer(response) // first: it may be for one that is closed
	for _, c := range conns {
		c.drop(wire.Disconnected)
	}
}

// ban revokes a member and ends all that it has here.
func (r request) ban(m *wire.Ban) {
	if !r.moderates() {
		return
	}
	member, err := r.bannable(m.Target)
	if err == nil {
		_, err = r.b.db.RevokeMember(r.moderation(member))
	}
	if err != nil {
		r.moderationFailed(err, m.Target)
		return
	}
	r.b.attempt("enforce bans", r.b.enforceBans)
	r.b.memberChanged(r.presence.meshID, member.ID)
	r.answer(&wire.BanAck{Banned: member.DisplayName})
}

// unban lifts a ban.
func (r request) unban(m *wire.Unban) {
	if !r.moderates() {
		return
	}
	found, err := r.b.db.FindMembers(context.Background(), r.presence.meshID, m.Target)
	var member store.Member
	if err == nil {
		member, err = store.OneToRestore(m.Target, found)
	}
	if m.Target != "" && (errors.Is(err, store.ErrNotFound) || err == nil && !member.Revoked()) {
		r.fail(wire.NotFound, fmt.Sprintf("Nobody called %q is banned; list_bans shows who is.", short(m.Target)))
		return
	}
	if err == nil {
		_, err = r.b.db.RestoreMember(r.moderation(member))
	}
	if err != nil {
		r.moderationFailed(err, m.Target)
		return
	}
	r.b.memberChanged(r.presence.meshID, member.ID)
	r.answer(&wire.UnbanAck{Unbanned: member.DisplayName})
}

// memberChanged says that a member was banned or restored: with it the numbers of
// recipients in its topics change, and its invites are withdrawn.
func (b *Broker) memberChanged(meshID, memberID string) {
	b.changed(meshID, wire.ChangedMembers)
	b.changed(meshID, wire.ChangedInvites)
	topics, err := b.db.TopicsOf(context.Background(), memberID)
	if err != nil {
		b.log.Warn("topics of a member could not be read", "member", memberID, "err", err)
	}
	for _, id := range topics {
		b.ledger.topicMoved(id)
	}
	encrypted, err := b.db.EncryptedTopicsOf(context.Background(), meshID, memberID)
	if err != nil {
		b.log.Warn("encrypted topics of a member could not be read", "member", memberID, "err", err)
	}
	for _, t := range encrypted { // what it sealed for others may not count any more
		b.sealsChanged(t)
	}
}

func (r request) listBans() {
	if !r.moderates() {
		return
	}
	bans, err := r.b.db.Bans(context.Background(), r.presence.meshID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.ListBansResult{Bans: make([]wire.BannedMember, len(bans))}
	for i, m := range bans {
		response.Bans[i] = wire.BannedMember{Name: m.DisplayName, Pubkey: m.PubKey, RevokedAt: wire.Time(m.RevokedAt)}
	}
	r.answer(response)
}

// moderates reports whether this connection's member may moderate, and answers
// if not. What then writes asks again, within its transaction.
func (r request) moderates() bool {
	may, err := r.b.db.Moderates(context.Background(), r.presence.meshID, r.presence.member.ID)
	switch {
	case err != nil:
		r.storeFailed(err)
	case !may:
		r.moderationFailed(store.ErrForbidden, "")
	}
	return err == nil && may
}

// moderation is what this connection's member does to another one.
func (r request) moderation(to store.Member) store.Moderation {
	return store.Moderation{MeshID: r.presence.meshID, MemberID: to.ID, By: r.presence.member.ID, At: time.Now()}
}

// present returns the presences of the one member that target names, or those of
// them that it names, leased ones too. It answers if there is none, or if this
// connection may not ask.
func (r request) present(target string) ([]*presence, bool) {
	if !r.moderates() {
		return nil, false
	}
	here := r.b.presencesNamed(r.presence.meshID, target)
	if _, err := store.OnlyMember(target, membersOf(here)); err != nil {
		r.moderationFailed(err, target)
		return nil, false
	}
	return here, true
}

// bannable returns the member that target names, here or away. A member who was
// banned before counts only if there is no other.
func (r request) bannable(target string) (store.Member, error) {
	found, err := r.b.db.FindMembers(context.Background(), r.presence.meshID, target)
	if err != nil {
		return store.Member{}, err
	}
	for _, m := range membersOf(r.b.presencesNamed(r.presence.meshID, target)) { // sessions have names of their own
		if !slices.ContainsFunc(found, func(known store.Member) bool { return known.ID == m.ID }) {
			found = append(found, m)
		}
	}
	return store.OneToRevoke(target, found)
}

// moderationFailed answers an act on members that was refused.
func (r request) moderationFailed(err error, target string) {
	ambiguous, isAmbiguous := errors.AsType[*store.AmbiguousError](err)
	switch {
	case isAmbiguous:
		r.fail(wire.InvalidArgs, sentence(ambiguous.Error()))
	case target == "" && errors.Is(err, store.ErrNotFound):
		r.fail(wire.InvalidArgs, "The target is missing; name a peer by its name or key.")
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.NotFound, fmt.Sprintf("There is nobody called %q; list_peers shows who is here.", short(target)))
	case errors.Is(err, store.ErrForbidden):
		r.fail(wire.Forbidden, "Only the owner and the admins of the mesh can do this; ask one of them.")
	case errors.Is(err, store.ErrOwner), errors.Is(err, store.ErrSelf):
		r.fail(wire.Forbidden, sentence(err.Error()))
	default:
		r.storeFailed(err)
	}
}

// short is what a client wrote, for a sentence.
func short(target string) string { return wire.CleanLine(target, wire.MaxNameLen) }

// sentence is the text of an error as a sentence.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

// presencesNamed returns the presences that target names: all of a member by its
// name or key, or a session by its own. They are in the order they came.
func (b *Broker) presencesNamed(meshID, target string) (named []*presence) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if r := b.rooms[meshID]; r != nil && target != "" {
		for _, p := range r.all {
			if p.goesBy(target) {
				named = append(named, p)
			}
		}
	}
	slices.SortFunc(named, func(x, y *presence) int { return x.connectedAt.Compare(y.connectedAt) })
	return named
}

// goesBy reports whether target names p or its member.
func (p *presence) goesBy(target string) bool {
	return store.NameMatches(target, p.name) || store.NameMatches(target, p.member.DisplayName) || p.member.ID == target ||
		store.KeyMatches(target, p.member.PubKey) || store.KeyMatches(target, p.sessionKey)
}

// membersOf returns the distinct members of presences.
func membersOf(here []*presence) (members []store.Member) {
	for _, p := range here {
		if !slices.ContainsFunc(members, func(m store.Member) bool { return m.ID == p.member.ID }) {
			members = append(members, p.member)
		}
	}
	return members
}

// connOf returns the connection of p, nil if it is leased.
func (b *Broker) connOf(p *presence) *conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return p.conn
}

// expel ends a presence at once, leased or not: the others see it leave, no
// lease brings it back, and close is told its connection if there is one.
func (b *Broker) expel(p *presence, close func(*conn)) {
	c := b.connOf(p)
	if c != nil {
		b.saveState(p) // as a connection does that ends by itself
	}
	if !b.end(p) {
		if next := b.successor(p); next != nil {
			b.expel(next, close) // its peer connected anew meanwhile
		}
		return
	}
	if c != nil {
		close(c)
	}
	b.dropLease(p.id)
}

// successor returns the presence that took the place of p, nil if none did.
func (b *Broker) successor(p *presence) *presence {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if r := b.rooms[p.meshID]; r != nil && r.all[p.id] != p {
		return r.all[p.id]
	}
	return nil
}

// enforceBans ends the presences of revoked members.
func (b *Broker) enforceBans() error {
	revoked, err := b.db.RevokedMembers(context.Background())
	if err != nil {
		return err
	}
	for _, members := range revoked {
		b.forgetKeys(members)
	}
	for _, p := range b.presencesAmong(revoked) {
		b.log.Info("banned", "mesh", p.meshID, "member", p.member.ID, "presence", p.id)
		b.expel(p, func(c *conn) {
			c.out.add(wire.Encode(rejectRevoked.err, "")) // if there is room
			c.drop(wire.Banned)
		})
		b.memberChanged(p.meshID, p.member.ID)
	}
	return nil
}

// presencesAmong returns the presences of members, whose ids are given by mesh.
func (b *Broker) presencesAmong(members map[string][]string) (here []*presence) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for meshID, r := range b.rooms {
		for _, id := range members[meshID] {
			for p := range r.byMember[id] {
				here = append(here, p)
			}
		}
	}
	return here
}
