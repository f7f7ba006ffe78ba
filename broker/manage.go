package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rsc.io/qr"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Running a mesh (wire/mesh.go), for its owner and its admins. Who may is asked
// again inside the transaction that changes something.

func (r request) inviteCreate(m *wire.InviteCreate) {
	terms, problem := termsOf(m)
	if problem != "" {
		r.fail(wire.InvalidArgs, problem)
		return
	}
	if !r.moderates() {
		return
	}
	mesh, err := r.b.db.MeshByID(context.Background(), r.presence.meshID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	made, err := NewInvite(mesh, r.b.cfg.PublicURL, terms, time.Now())
	if err == nil {
		err = r.b.db.CreateInvite(made, r.presence.member.ID)
	}
	if err != nil {
		r.moderationFailed(err, "")
		return
	}
	r.b.changed(mesh.ID, wire.ChangedInvites)
	r.answer(&wire.InviteCreated{Invite: r.b.describeInvite(store.InviteUse{Invite: made}, time.Now())})
}

// termsOf reads the terms of an invite; problem is a sentence, or "".
func termsOf(m *wire.InviteCreate) (terms InviteTerms, problem string) {
	terms = InviteTerms{Role: m.Role, Uses: m.Uses, Label: wire.CleanLine(m.Label, wire.MaxNameLen)}
	ttl := m.TTLSeconds
	if terms.Role == "" {
		terms.Role = store.RoleMember
	}
	if terms.Uses == 0 {
		terms.Uses = 1
	}
	if ttl == 0 {
		ttl = wire.DefaultInviteTTL
	}
	terms.TTL = time.Duration(ttl) * time.Second
	switch {
	case terms.Role != store.RoleMember && terms.Role != store.RoleAdmin:
		problem = "The role must be member or admin."
	case terms.Uses < 1 || terms.Uses > wire.MaxInviteUses:
		problem = fmt.Sprintf("An invite works 1 to %d times.", wire.MaxInviteUses)
	case ttl < wire.MinInviteTTL || ttl > wire.MaxInviteTTL:
		problem = "An invite is valid for a minute at least and a year at most; ttlSeconds is in seconds."
	}
	return terms, problem
}

func (r request) inviteList() {
	if !r.moderates() {
		return
	}
	now := time.Now()
	invites, err := r.b.db.Invites(context.Background(), r.presence.meshID, wire.MaxInvites, now)
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.InviteListResponse{Invites: make([]wire.Invite, len(invites))}
	for i, invite := range invites {
		response.Invites[i] = r.b.describeInvite(invite, now)
	}
	r.answer(response)
}

func (r request) inviteRevoke(m *wire.InviteRevoke) {
	if !r.moderates() {
		return
	}
	_, changed, err := r.b.db.RevokeInvite(r.presence.meshID, r.presence.member.ID, m.ID, time.Now())
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.NotFound, "There is no invite with this id or code; invite_list shows them.")
		return
	case err != nil:
		r.moderationFailed(err, "")
		return
	case changed:
		r.b.changed(r.presence.meshID, wire.ChangedInvites)
	}
	r.answer(&wire.Ack{ID: r.id, Queued: false})
}

// describeInvite is an invite for the wire. What lets somebody in is told only
// as long as it does.
func (b *Broker) describeInvite(i store.InviteUse, now time.Time) wire.Invite {
	invite := wire.Invite{
		ID: i.ID, State: i.State(now), Role: i.Role, Label: i.Label, Uses: i.Uses, MaxUses: i.MaxUses,
		CreatedAt: wire.Time(i.CreatedAt), ExpiresAt: wire.Time(i.ExpiresAt), Joined: []wire.Joined{},
	}
	for _, m := range i.Joined {
		invite.Joined = append(invite.Joined, wire.Joined{Name: m.DisplayName, Pubkey: m.PubKey, JoinedAt: wire.Time(m.JoinedAt)})
	}
	if invite.State == store.InviteOpen {
		base := strings.TrimRight(b.cfg.PublicURL, "/")
		invite.Code, invite.ShortLink, invite.Link = i.Code, base+"/i/"+i.Code, base+"/join/"+i.Token
		invite.QR = qrRows(invite.ShortLink)
	}
	return invite
}

// qrRows is text as a QR code in rows of "1" and "0", nil if it does not fit
// one: a page then draws it without a library of its own.
func qrRows(text string) []string {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil
	}
	rows := make([]string, code.Size)
	for y := range rows {
		row := make([]byte, code.Size)
		for x := range row {
			row[x] = '0'
			if code.Black(x, y) {
				row[x] = '1'
			}
		}
		rows[y] = string(row)
	}
	return rows
}

func (r request) memberList() {
	if !r.moderates() {
		return
	}
	meshID := r.presence.meshID
	mesh, err := r.b.db.MeshByID(context.Background(), meshID)
	var members []store.Member
	if err == nil {
		members, err = r.b.db.Members(context.Background(), meshID)
	}
	if err != nil {
		r.storeFailed(err)
		return
	}
	now, online := time.Now(), r.b.connectedMembers(r.presence)
	response := &wire.MemberListResponse{Members: []wire.MemberInfo{}}
	for _, m := range members {
		if m.PubKey == "" {
			continue // a place that was claimed; its id is the secret of who claimed it
		}
		seen := r.b.seen.newest(m.ID, m.LastSeenAt)
		if online[m.ID] {
			seen = now
		}
		response.Members = append(response.Members, wire.MemberInfo{
			MemberID: m.ID, Pubkey: m.PubKey, DisplayName: m.DisplayName, Role: mesh.RoleOf(m), JoinedAt: wire.Time(m.JoinedAt),
			LastSeenAt: wire.OptionalTime(seen), Online: online[m.ID], RevokedAt: wire.OptionalTime(m.RevokedAt),
		})
	}
	r.answer(response)
}

// connectedMembers returns the ids of the members with a live connection, as far
// as they let who asks see it.
func (b *Broker) connectedMembers(asking *presence) map[string]bool {
	hiding := b.grants.deny(asking.member.PubKey, "read")
	b.mu.RLock()
	defer b.mu.RUnlock()
	online := map[string]bool{}
	if r := b.rooms[asking.meshID]; r != nil {
		for _, p := range r.all {
			if p.conn != nil && (p.member.ID == asking.member.ID || p.visible && !hiding[p.member.ID]) {
				online[p.member.ID] = true
			}
		}
	}
	return online
}

func (r request) meshRename(m *wire.MeshRename) {
	if !store.ValidMeshName(m.Name) {
		r.fail(wire.InvalidArgs, "The name of a mesh is 1 to 31 of a-z, 0-9 and -, and starts with a letter or digit.")
		return
	}
	err := r.b.db.RenameMesh(r.presence.meshID, r.presence.member.ID, m.Name)
	switch {
	case errors.Is(err, store.ErrExists):
		r.fail(wire.InvalidArgs, "There is another mesh of this name; choose another one.")
		return
	case err != nil:
		r.moderationFailed(err, "")
		return
	}
	r.b.changed(r.presence.meshID, wire.ChangedMesh)
	r.answer(&wire.Ack{ID: r.id, Queued: false})
}
