package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"unicode/utf8"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// address finds out whom a send is for.
func (b *Broker) address(p *presence, m *wire.Send, post *store.Post) error {
	spec := m.TargetSpec
	needed := "broadcast"
	if identity.IsPublicKey(spec) {
		needed = "dm"
	}
	if !p.caps.Allows(needed) {
		return &wire.Error{Code: wire.Forbidden, Message: missingCapability(needed), ID: m.ID}
	}
	if err := b.findRecipients(m, post); err != nil {
		return err
	}
	return b.applyGrants(p, post, needed)
}

func (b *Broker) findRecipients(m *wire.Send, post *store.Post) error {
	spec := m.TargetSpec
	switch {
	case strings.HasPrefix(spec, "#"):
		return addressTopic(spec[1:], m, post)
	case spec == "*" || spec == "@all":
		return b.addressEveryone(post)
	case strings.HasPrefix(spec, "@"):
		return b.addressGroup(groupName(spec), post)
	case identity.IsPublicKey(spec):
		return b.addressKey(spec, post)
	}
	return notFound(spec)
}

// addressTopic leaves finding the topic to the transaction that stores the
// message.
func addressTopic(ref string, m *wire.Send, post *store.Post) error {
	if ref == "" {
		return notFound("#")
	}
	post.TopicRef = ref
	if post.BodyVersion == 0 {
		post.BodyVersion = 1
	}
	post.Mentions = m.Mentions
	if post.BodyVersion == 1 {
		text, err := base64.StdEncoding.DecodeString(m.Ciphertext)
		if err != nil || !utf8.Valid(text) {
			return &refusal{wire.InvalidPayload, "the ciphertext of a version 1 body must be base64 of UTF-8 text"}
		}
		if m.Mentions == nil {
			post.Mentions = wire.MentionsIn(string(text))
		}
	}
	if len(post.Mentions) > wire.MaxMentions {
		post.Mentions = post.Mentions[:wire.MaxMentions]
	}
	return nil
}

// addressKey addresses the member or session that holds key: a session as long
// as its presence lasts, later its member.
func (b *Broker) addressKey(key string, post *store.Post) error {
	if to, ok := b.holder(post.MeshID, key); ok {
		post.Recipients = []store.Recipient{to}
		return nil
	}
	to, err := b.ownerOf(post.MeshID, key)
	if errors.Is(err, store.ErrNotFound) {
		return notFound(key)
	}
	if err != nil {
		return err
	}
	post.Recipients = []store.Recipient{to}
	return nil
}

// holder returns who among those that are here, or leased, holds key. It spares
// most messages a look into the store.
func (b *Broker) holder(meshID, key string) (to store.Recipient, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.rooms[meshID]
	if r == nil {
		return to, false
	}
	if to.MemberID, ok = r.members[key]; ok {
		return to, true // a member key comes first: a session may only have named it
	}
	if p := r.bySession[key]; p != nil {
		return store.Recipient{MemberID: p.member.ID, SessionKey: key}, true
	}
	return to, false
}

// ownerOf returns the active member that key is, or that used it for a session.
func (b *Broker) ownerOf(meshID, key string) (to store.Recipient, err error) {
	member, err := b.db.MemberByKey(context.Background(), meshID, key)
	if errors.Is(err, store.ErrNotFound) {
		var known store.SessionKey
		if known, err = b.db.SessionKeyByKey(context.Background(), meshID, key); err == nil {
			member, err = b.db.MemberByID(context.Background(), meshID, known.MemberID)
		}
		if b.reroutes() {
			to.FormerKey = key
		}
	}
	if err == nil && !member.RevokedAt.IsZero() {
		err = store.ErrNotFound
	}
	to.MemberID = member.ID
	return to, err
}

// addressEveryone addresses the other members that are not hidden.
func (b *Broker) addressEveryone(post *store.Post) error {
	known, err := b.db.VisibleMembers(context.Background(), post.MeshID)
	if err != nil {
		return err
	}
	b.addressMembers(post, known, func(*presence) bool { return true })
	return nil
}

// addressGroup addresses the other members that are in a group or below it: by
// a presence, or by what they left behind.
func (b *Broker) addressGroup(group string, post *store.Post) error {
	if group == "" {
		return notFound("@")
	}
	known, err := b.db.GroupMembers(context.Background(), post.MeshID, group)
	if err != nil {
		return err
	}
	if !b.addressMembers(post, known, func(p *presence) bool { return p.inGroup(group) }) {
		return notFound("@" + group)
	}
	return nil
}

// addressMembers addresses, except the sender, the members in known and those
// with a presence that matches; who is here but hidden is left out. known says of
// each whether it is by what a session left behind, which a member connection
// does not speak for. It reports whether there was anyone, the sender included.
func (b *Broker) addressMembers(post *store.Post, known map[string]bool, matches func(*presence) bool) bool {
	to := maps.Clone(known)
	b.mu.RLock()
	if r := b.rooms[post.MeshID]; r != nil {
		for memberID, presences := range r.byMember {
			visible, matching, member := false, false, false
			for p := range presences {
				visible = visible || p.visible
				matching = matching || p.visible && matches(p)
				member = member || !p.proven // what it says now replaces what it left
			}
			if matching {
				to[memberID] = true
			} else if !visible || member && !known[memberID] {
				delete(to, memberID)
			}
		}
	}
	b.mu.RUnlock()
	for id := range to {
		if id != post.SenderMemberID {
			post.Recipients = append(post.Recipients, store.Recipient{MemberID: id})
		}
	}
	return len(to) > 0
}
