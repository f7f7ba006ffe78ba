package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// rejection is why a hello was refused: what the client is told, and under
// which reason it is counted.
type rejection struct {
	err    *wire.Error
	metric string
}

// refuse returns a rejection that is counted under its own code.
func refuse(code, message string) *rejection {
	return &rejection{err: wire.NewError(code, message), metric: code}
}

// refused makes a rejection of what package identity found, counted under
// prefix and its code.
func refused(err error, prefix string) *rejection {
	found, ok := errors.AsType[*identity.Error](err)
	if !ok {
		return refuse(wire.Internal, "The hello could not be checked; try again.")
	}
	return &rejection{err: wire.NewError(found.Code, found.Message), metric: prefix + found.Code}
}

// sentences of rejections that the broker itself finds. They say nothing about
// the mesh.
var (
	rejectCapacity     = refuse(wire.Capacity, "This mesh has as many connections as it may; close one, or raise --max-connections.")
	rejectReplayed     = refuse(wire.Replayed, "This very hello was accepted before; sign a new one with the current time.")
	rejectUnauthorized = refuse(wire.Unauthorized, "This key is not a member here; join with an invite link first.")
	rejectRevoked      = &rejection{err: wire.NewError(wire.Revoked, "This key was removed from the mesh; ask an admin to restore it."), metric: "banned"}
	rejectSessionKey   = refuse(wire.BadSessionPubkey, "The session key must be 64 lowercase hex digits, and no key of another member; make a new one for each session.")
	rejectParentID     = refuse(wire.ParentMemberIDMismatch, "The parentMemberId is not that of the parent's key; send the memberId that joining returned.")
	rejectInternal     = refuse(wire.Internal, "The broker could not read its data file; its log says why.")
)

// hello handles the first frame of a connection, of either kind. It reports
// whether the connection goes on.
func (c *conn) hello(m wire.Message, reqID string) bool {
	began := time.Now()
	var p *presence
	var rejected *rejection
	switch m := m.(type) {
	case *wire.Hello:
		p, rejected = c.memberHello(m, began)
	case *wire.SessionHello:
		p, rejected = c.sessionHello(m, began)
	}
	if rejected == nil {
		if rejected = c.greet(p, reqID); rejected != nil {
			c.b.replays.Forget(signatureOf(m)) // it may be said again when there is a place
		}
	}
	if rejected != nil {
		c.reject(rejected, reqID)
		return false
	}
	c.b.metrics.helloSeconds.Observe(time.Since(began).Seconds())
	return true
}

func signatureOf(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Hello:
		return m.Signature
	case *wire.SessionHello:
		return m.Signature
	}
	return ""
}

// reject tells the client why, counts, and closes.
func (c *conn) reject(r *rejection, reqID string) {
	c.b.metrics.rejected.WithLabelValues(r.metric).Inc()
	c.log.Info("hello rejected", "reason", r.metric)
	c.send(r.err, reqID)
	c.end(r.err.Code)
}

// helloTooLate runs, on a goroutine of its timer, when no valid hello came.
func (c *conn) helloTooLate() {
	c.b.metrics.rejected.WithLabelValues(wire.HelloTimeout).Inc()
	c.send(wire.NewError(wire.HelloTimeout, fmt.Sprintf("No valid hello came within %.0f seconds; say hello right after connecting.",
		c.b.cfg.Limits.HelloTimeout.Seconds())), "")
	c.end(wire.HelloTimeout)
}

// memberHello checks a plain hello in the order of protocol section 2.
func (c *conn) memberHello(h *wire.Hello, now time.Time) (*presence, *rejection) {
	if h.SessionPubkey != nil && !identity.IsPublicKey(*h.SessionPubkey) {
		return nil, rejectSessionKey
	}
	label := ""
	if h.SessionPubkey != nil {
		label = *h.SessionPubkey
	}
	if c.b.full(h.MeshID, h.Pubkey, label, h.SessionID) {
		return nil, rejectCapacity
	}
	claim := identity.Hello{MeshID: h.MeshID, MemberID: h.MemberID, PubKey: h.Pubkey, Timestamp: h.Timestamp.Float(), Signature: h.Signature}
	if err := claim.Verify(now); err != nil {
		return nil, refused(err, "")
	}
	if !c.b.replays.Remember(h.Signature, now) {
		return nil, rejectReplayed
	}
	p, rejected := c.admitMember(h, now)
	if rejected != nil {
		c.b.replays.Forget(h.Signature)
	}
	return p, rejected
}

// admitMember looks up who a verified hello belongs to.
func (c *conn) admitMember(h *wire.Hello, now time.Time) (*presence, *rejection) {
	member, err := c.b.db.MemberByKey(context.Background(), h.MeshID, h.Pubkey)
	if errors.Is(err, store.ErrNotFound) {
		member, err = c.bindClaim(h, now)
	}
	if rejected := judge(member, err); rejected != nil {
		return nil, rejected
	}
	if member.ID != h.MemberID {
		return nil, rejectUnauthorized
	}
	p := c.newPresence(member, h.Client, now)
	p.caps = identity.AllCaps()
	if h.SessionPubkey != nil {
		p.sessionKey = *h.SessionPubkey
		if rejected := c.checkLabel(p); rejected != nil {
			return nil, rejected
		}
	}
	member.State.LastSeenAt = c.b.seen.newest(member.ID, member.State.LastSeenAt)
	p.restore(member.State)
	return p, nil
}

// bindClaim gives the key of a hello to the place it names, if that was claimed
// by short code and waits for its key. It looks before it writes: anybody can
// sign a hello with a key of their own.
func (c *conn) bindClaim(h *wire.Hello, now time.Time) (store.Member, error) {
	member, err := c.b.db.MemberByID(context.Background(), h.MeshID, h.MemberID)
	if err != nil {
		return member, err
	}
	if member.PubKey != "" {
		return member, store.ErrNotFound
	}
	if err := c.b.db.BindClaim(h.MeshID, h.MemberID, h.Pubkey, now); err != nil {
		return member, err
	}
	c.b.yieldKey(h.MeshID, h.Pubkey)
	c.b.joined(h.MeshID)
	return c.b.db.MemberByKey(context.Background(), h.MeshID, h.Pubkey)
}

// judge refuses who is no active member.
func judge(m store.Member, err error) *rejection {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return rejectUnauthorized
	case err != nil:
		return rejectInternal
	case !m.RevokedAt.IsZero():
		return rejectRevoked
	}
	return nil
}

// sessionHello checks a session hello in the order of protocol section 3.
func (c *conn) sessionHello(h *wire.SessionHello, now time.Time) (*presence, *rejection) {
	a := h.ParentAttestation
	claim := identity.SessionHello{
		MeshID: h.MeshID, ParentMemberPubKey: h.ParentMemberPubkey, SessionPubKey: h.SessionPubkey,
		Timestamp: h.Timestamp.Float(), Signature: h.Signature,
		Attestation: identity.Attestation{
			SessionPubKey: a.SessionPubkey, ParentMemberPubKey: a.ParentMemberPubkey, ExpiresAt: a.ExpiresAt.Float(),
			Signature: a.Signature, Version: a.Version, AllowedCaps: a.AllowedCaps,
		},
	}
	if err := claim.CheckBinding(); err != nil {
		return nil, refused(err, "")
	}
	if c.b.full(h.MeshID, h.ParentMemberPubkey, h.SessionPubkey, h.SessionID) {
		return nil, rejectCapacity
	}
	if err := claim.Attestation.Verify(now); err != nil {
		return nil, refused(err, "attestation_")
	}
	if err := claim.VerifySignature(now); err != nil {
		return nil, refused(err, "session_")
	}
	if !c.b.replays.Remember(h.Signature, now) {
		return nil, rejectReplayed
	}
	p, rejected := c.admitSession(h, claim.Attestation.Caps(), now)
	if rejected != nil {
		c.b.replays.Forget(h.Signature)
	}
	return p, rejected
}

// admitSession looks up the member who vouches for a verified session.
func (c *conn) admitSession(h *wire.SessionHello, caps identity.Caps, now time.Time) (*presence, *rejection) {
	parent, taken, err := c.b.db.ParentMember(context.Background(), h.MeshID, h.ParentMemberPubkey, h.SessionPubkey)
	if rejected := judge(parent, err); rejected != nil {
		return nil, rejected
	}
	if parent.ID != h.ParentMemberID {
		return nil, rejectParentID
	}
	p := c.newPresence(parent, h.Client, now)
	p.sessionKey, p.proven, p.caps = h.SessionPubkey, true, caps
	if taken {
		return nil, rejectSessionKey
	}
	known, rejected := c.checkSessionOwner(p)
	if rejected != nil {
		return nil, rejected
	}
	state := store.State{Groups: parent.Groups, Visible: true}
	if known.MemberID == parent.ID {
		state = known.State
	}
	p.restore(state)
	return p, nil
}

// checkLabel refuses the session key of a plain hello if it is a member key, or
// belongs to another member.
func (c *conn) checkLabel(p *presence) *rejection {
	_, err := c.b.db.MemberByKey(context.Background(), p.meshID, p.sessionKey)
	switch {
	case err == nil:
		return rejectSessionKey
	case !errors.Is(err, store.ErrNotFound):
		return rejectInternal
	}
	_, rejected := c.checkSessionOwner(p)
	return rejected
}

// checkSessionOwner refuses a session key that belongs to another member: by
// proof for ever, by a mere label as long as this one proves nothing either. It
// returns what is known of the key.
func (c *conn) checkSessionOwner(p *presence) (known store.SessionKey, rejected *rejection) {
	known, err := c.b.db.SessionKeyByKey(context.Background(), p.meshID, p.sessionKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return known, nil
	case err != nil:
		return known, rejectInternal
	case known.MemberID != p.member.ID && (known.Proven || !p.proven):
		return known, rejectSessionKey
	}
	return known, nil
}

// newPresence starts the presence of a verified hello.
func (c *conn) newPresence(m store.Member, said wire.Client, now time.Time) *presence {
	p := &presence{
		id: store.NewID(), meshID: m.MeshID, member: m, name: wire.CleanLine(said.DisplayName, wire.MaxNameLen),
		client: tidy(said), connectedAt: now, conn: c, status: wire.StatusIdle, visible: true,
	}
	if p.name == "" {
		p.name = m.DisplayName
	}
	if m.Profile != "" {
		p.profile = new(wire.Profile)
		_ = json.Unmarshal([]byte(m.Profile), p.profile) // written by set_profile
	}
	return p
}

// tidy bounds what a program says of itself.
func tidy(said wire.Client) wire.Client {
	said.SessionID = wire.CleanLine(said.SessionID, wire.MaxIDLen)
	said.CWD = wire.CleanLine(said.CWD, wire.MaxTextLen)
	said.Hostname = wire.CleanLine(said.Hostname, wire.MaxNameLen)
	said.PeerType = wire.PeerType(said.PeerType)
	said.Channel = wire.CleanLine(said.Channel, wire.MaxNameLen)
	said.Model = wire.CleanLine(said.Model, wire.MaxNameLen)
	said.Groups = tidyGroups(said.Groups)
	said.Capabilities = tidyWords(said.Capabilities, maxCapabilities)
	return said
}

// restore gives the presence what it, or its member, left behind. Groups of the
// hello win over restored ones, those over the member's default groups.
func (p *presence) restore(s store.State) {
	p.member.State = s
	p.summary, p.visible, p.stats = s.Summary, s.Visible, json.RawMessage(s.Stats)
	switch {
	case p.client.Groups != nil:
		p.groups = p.client.Groups
	case s.Groups != "":
		p.groups = fromJSON(s.Groups)
	default:
		p.groups = fromJSON(p.member.DefaultGroups)
	}
}

// fromJSON reads groups that toJSON wrote.
func fromJSON(text string) (groups []wire.Group) {
	_ = json.Unmarshal([]byte(text), &groups)
	return groups
}

// greet makes the presence known and answers the hello. Everything is in place
// before the ack leaves, because a client sends requests in the instant it gets
// it.
func (c *conn) greet(p *presence, reqID string) *rejection {
	c.presence = p
	c.log = c.log.With("mesh", p.meshID, "member", p.member.ID) // before the write loop learns of the feed
	mesh := c.b.whereIs(p)
	p.runsMesh = mesh.ID != "" && mesh.RoleOf(p.member) != store.RoleMember && p.caps.Allows(capAdmin)
	silent, replaced, refusal := c.b.arrive(p, func() []byte { return wire.Encode(p.ack(mesh), reqID) })
	switch refusal {
	case wire.Capacity:
		c.presence = nil
		return rejectCapacity
	case wire.BadSessionPubkey:
		c.presence = nil
		return rejectSessionKey
	}
	c.helloGate.Stop()
	c.fresh.Leave()
	c.b.metrics.connections.Inc()
	c.out.ring() // for what waits
	if replaced != nil {
		replaced.end(wire.SessionReplaced)
	}
	if !silent {
		c.b.announce(p)
	}
	if c.b.isVisible(p) { // also of one that took a place: it may come from elsewhere
		c.b.changed(p.meshID, wire.ChangedPeers)
	}
	if p.rekeyed && p.earned.Load() {
		c.b.keepEarned(p) // the store knows the old key
	}
	if !p.proven && p.client.Groups != nil && toJSON(p.client.Groups) != p.member.Groups {
		c.b.saveState(p) // @group must find it also if the broker is killed
	}
	return nil
}

// announce tells the others that a peer came, or came back.
func (b *Broker) announce(p *presence) {
	b.mu.RLock()
	event, visible, summary := p.event(), p.visible, p.summary
	b.mu.RUnlock()
	if !visible {
		return
	}
	if seen := p.member.State.LastSeenAt; !seen.IsZero() {
		event.LastSeenAt, event.Summary = wire.Time(seen), summary
		b.tellOthers(p, wire.EventPeerReturned, event)
		return
	}
	b.tellOthers(p, wire.EventPeerJoined, event)
}

// isVisible reports whether others see p.
func (b *Broker) isVisible(p *presence) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return p.visible
}

// whereIs returns the mesh of p if its hello asked for mesh events; others do not
// pay for a look at it.
func (b *Broker) whereIs(p *presence) (mesh store.Mesh) {
	if !p.wants(wire.CapMeshEvents) {
		return mesh
	}
	mesh, err := b.db.MeshByID(context.Background(), p.meshID)
	if err != nil {
		b.log.Warn("the name of a mesh could not be read", "mesh", p.meshID, "err", err)
	}
	return mesh
}

// ack is the hello_ack for p, with what whereIs found. Broker.mu is held.
func (p *presence) ack(mesh store.Mesh) *wire.HelloAck {
	ack := &wire.HelloAck{
		PresenceID: p.id, MemberDisplayName: p.name,
		MemberProfile: wire.MemberProfile{Groups: fromJSON(p.member.DefaultGroups), MessageMode: p.member.MessageMode},
		MeshPolicy:    &wire.MeshPolicy{SelfEditable: wire.SelfEditable{Groups: true, RoleTag: true, DisplayName: true, MessageMode: true}},
		Services:      []string{},
	}
	if mesh.ID != "" {
		ack.MeshName, ack.MemberRole = mesh.Slug, mesh.RoleOf(p.member)
		if !p.runsMesh {
			ack.MemberRole = store.RoleMember // whatever its member is, this session may not act as that
		}
	}
	if ack.MemberProfile.Groups == nil {
		ack.MemberProfile.Groups = []wire.Group{}
	}
	if p.member.RoleTag != "" {
		ack.MemberProfile.RoleTag = &p.member.RoleTag
	}
	if before := p.member.State; !before.LastSeenAt.IsZero() {
		ack.Restored, ack.LastSeenAt, ack.LastSummary = true, wire.Time(before.LastSeenAt), before.Summary
		ack.RestoredStats = json.RawMessage(before.Stats)
		if p.client.Groups == nil && before.Groups != "" {
			ack.RestoredGroups = p.groups
		}
	}
	return ack
}
