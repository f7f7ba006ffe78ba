package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Topics (protocol section 7). What a member may see of them the store decides,
// within the statement that reads them.

func (r request) topicCreate(m *wire.TopicCreate) {
	visibility := m.Visibility
	if visibility == "" {
		visibility = wire.VisibilityPublic
	}
	switch {
	case !wire.ValidTopicName(m.Name):
		r.fail(wire.InvalidArgs, "A topic's name is 1 to 50 of a-z, 0-9, _ and -, and starts with a letter or digit.")
		return
	case visibility != wire.VisibilityPublic && visibility != wire.VisibilityPrivate && visibility != wire.VisibilityDM:
		r.fail(wire.InvalidArgs, "The visibility must be public, private or dm.")
		return
	case !m.Encrypted && m.OwnSeal != wire.OwnSeal{}:
		r.fail(wire.InvalidArgs, "A key was given for a topic that is not to be encrypted; send encrypted: true, or no key.")
		return
	}
	p := r.presence
	topic, created, err := r.createTopic(store.Topic{
		ID: store.NewID(), MeshID: p.meshID, Name: m.Name, Description: wire.CleanLine(m.Description, wire.MaxTextLen),
		Visibility: visibility, CreatedAt: time.Now(),
	}, m)
	if refused, ok := errors.AsType[*sealRefusal](err); ok {
		r.fail(refused.code, refused.sentence)
		return
	}
	if err != nil {
		r.topicFailed(err, m.Name, "This name is taken. Choose another one.")
		return
	}
	if created {
		r.topicChanged(topic)
	}
	r.answer(&wire.TopicCreated{Topic: wire.TopicRef{ID: topic.ID, Name: topic.Name, Visibility: topic.Visibility, Keyed: topic.Encrypted()}, Created: created})
}

// createTopic stores a topic, with its key sealed for who makes it if it is to be
// encrypted.
func (r request) createTopic(t store.Topic, m *wire.TopicCreate) (topic store.Topic, created bool, err error) {
	by := r.presence.member.ID
	if !m.Encrypted {
		return r.b.db.CreateTopic(t, by)
	}
	if err := checkOwn(m.OwnSeal); err != nil {
		return t, false, err
	}
	t.SealerKey = m.EncryptedKeyPubkey
	return r.b.db.CreateEncryptedTopic(t, by, sealOf(r.presence, m.EncryptedKey, m.Nonce, t.CreatedAt))
}

func (r request) topicList() {
	views, err := r.b.db.Topics(context.Background(), r.presence.meshID, r.presence.member.ID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.TopicListResponse{Topics: make([]wire.TopicInfo, len(views))}
	for i, v := range views {
		response.Topics[i] = wire.TopicInfo{
			ID: v.ID, Name: v.Name, Visibility: v.Visibility, MemberCount: v.Members, CreatedAt: wire.Time(v.CreatedAt),
			Unread: v.Unread, LastMessageAt: wire.OptionalTime(v.LastMessageAt),
			Role: v.Role, Mentions: v.Mentions, ReadUpToID: v.ReadUpTo, Keyed: v.Topic.Encrypted(), Encrypted: v.LastEncrypted,
		}
		if v.Description != "" {
			response.Topics[i].Description = &v.Description
		}
	}
	r.answer(response)
}

func (r request) topicJoin(m *wire.TopicJoin) {
	role, ok := topicRole(m.Role)
	if !ok {
		r.fail(wire.InvalidArgs, "The role must be member or observer.")
		return
	}
	topic, err := r.b.db.JoinTopic(r.presence.meshID, r.presence.member.ID, m.Topic, role, time.Now())
	if err != nil {
		r.topicFailed(err, m.Topic, "")
		return
	}
	r.topicChanged(topic)
	r.done()
}

func (r request) topicLeave(m *wire.TopicLeave) {
	topic, err := r.b.db.LeaveTopic(r.presence.meshID, r.presence.member.ID, m.Topic)
	if err != nil {
		r.topicFailed(err, m.Topic, "Everybody is in #general; it can not be left.")
		return
	}
	r.topicChanged(topic)
	r.done()
}

func (r request) topicInvite(m *wire.TopicInvite) {
	role, ok := topicRole(m.Role)
	if !ok {
		r.fail(wire.InvalidArgs, "The role must be member or observer.")
		return
	}
	p := r.presence
	topic, err := r.b.db.InviteToTopic(p.meshID, p.member.ID, m.Topic, m.Member, role, time.Now())
	if err != nil {
		r.topicFailed(err, m.Topic, "Only who leads the topic can add people to it.")
		return
	}
	r.topicChanged(topic)
	r.done()
}

func (r request) topicDescribe(m *wire.TopicDescribe) {
	p := r.presence
	topic, err := r.b.db.DescribeTopic(p.meshID, p.member.ID, m.Topic, wire.CleanLine(m.Description, wire.MaxTextLen), p.caps.Allows(capAdmin))
	if err != nil {
		r.topicFailed(err, m.Topic, "Only who leads the topic, or runs the mesh, can say what it is for.")
		return
	}
	r.topicChanged(topic)
	r.done()
}

// topicMarkRead moves the read mark: what one read here is not unread on one's other
// connections.
func (r request) topicMarkRead(m *wire.TopicMarkRead) {
	err := r.b.markRead(r.presence, m.Topic, m.MessageID, time.Now())
	if errors.Is(err, store.ErrNoMessage) {
		r.fail(wire.InvalidArgs, "The topic has no message with the id given as messageId.")
		return
	}
	if err != nil {
		r.topicFailed(err, m.Topic, "You are not in this topic. Join it first.")
		return
	}
	r.done()
}

// markRead moves the read mark of p's member in a topic, and tells the member's
// other connections. Errors as of store.DB.MarkRead.
func (b *Broker) markRead(p *presence, ref, upTo string, now time.Time) error {
	topic, moved, err := b.db.MarkRead(p.meshID, p.member.ID, ref, upTo, now)
	if err == nil && moved {
		b.ledger.topicMoved(topic.ID)
		b.toldOwn(p)
	}
	return err
}

// toldOwn tells the other connections of p's member that its topics are not as they
// were.
func (b *Broker) toldOwn(p *presence) {
	b.tellChange(p.meshID, wire.MeshChange{What: []string{wire.ChangedTopics}}, b.presencesOf(p.meshID, []string{p.member.ID}, p))
}

// topicChanged tells who may see a topic that it is not as it was.
func (r request) topicChanged(t store.Topic) { r.b.topicChanged(r.presence, t) }

// topicChanged tells who may see a topic, and p, that it is not as it was.
func (b *Broker) topicChanged(p *presence, t store.Topic) {
	b.ledger.topicMoved(t.ID)
	if t.Encrypted() {
		b.sealsChanged(t)
	}
	if t.Visibility == wire.VisibilityPublic {
		b.changed(p.meshID, wire.ChangedTopics)
		return
	}
	members, err := b.db.TopicMembers(context.Background(), t.ID)
	if err != nil {
		b.log.Warn("members of a topic could not be read, nor told that it changed", "err", err)
		return
	}
	ids := []string{p.member.ID} // who left is not among them
	for _, m := range members {
		if m.MemberID != p.member.ID {
			ids = append(ids, m.MemberID)
		}
	}
	b.tellChange(p.meshID, wire.MeshChange{What: []string{wire.ChangedTopics}}, b.presencesOf(p.meshID, ids, nil))
}

func (r request) topicMembers(m *wire.TopicMembers) {
	topic, ok := r.findTopic(m.Topic)
	if !ok {
		return
	}
	members, err := r.b.db.TopicMembers(context.Background(), topic.ID)
	if err != nil {
		r.storeFailed(err)
		return
	}
	response := &wire.TopicMembersResponse{Topic: m.Topic, Members: make([]wire.TopicMemberInfo, len(members))}
	for i, tm := range members {
		response.Members[i] = wire.TopicMemberInfo{
			MemberID: tm.MemberID, Pubkey: tm.PubKey, DisplayName: tm.DisplayName, Role: tm.Role,
			JoinedAt: wire.Time(tm.JoinedAt), LastReadAt: wire.OptionalTime(tm.LastReadAt),
		}
	}
	r.answer(response)
}

func (r request) topicHistory(m *wire.TopicHistory) {
	limit, ok := r.pageLimit(m.Limit)
	if !ok {
		return
	}
	page, problem := pageOf(m, limit)
	if problem != "" {
		r.fail(wire.InvalidArgs, problem)
		return
	}
	topic, ok := r.findTopic(m.Topic)
	if !ok {
		return
	}
	var messages []store.Message
	var err error
	if m.IDs != nil {
		messages, err = r.b.db.MessagesByID(context.Background(), topic.ID, m.IDs)
	} else {
		messages, err = r.b.db.History(context.Background(), topic.ID, page)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.InvalidArgs, "The topic has no message with the id that was given.")
		return
	case err != nil:
		r.storeFailed(err)
		return
	}
	response := &wire.TopicHistoryResponse{Topic: m.Topic, Messages: make([]wire.HistoryMessage, len(messages))}
	for i, msg := range messages {
		response.Messages[i] = historyMessage(msg)
	}
	r.answer(response)
}

// pageOf reads which page of a topic is asked for; problem is a sentence, or "".
func pageOf(m *wire.TopicHistory, limit int) (page store.Page, problem string) {
	page.Limit = limit
	named := 0
	for side, id := range map[store.Side]string{store.Before: m.BeforeID, store.After: m.AfterID, store.Around: m.AroundID} {
		if id != "" {
			page.From, page.Side = id, side
			named++
		}
	}
	switch {
	case named > 1 || named == 1 && m.IDs != nil:
		problem = "Give one of beforeId, afterId, aroundId and ids, or none for the newest messages."
	case len(m.IDs) > wire.MaxHistory:
		problem = fmt.Sprintf("At most %d ids fit one request.", wire.MaxHistory)
	}
	return page, problem
}

// pageLimit is how many messages a request asks for, or answers that it is too
// many.
func (r request) pageLimit(limit int) (int, bool) {
	switch {
	case limit == 0:
		return wire.DefaultHistory, true
	case limit < 0 || limit > wire.MaxHistory:
		r.fail(wire.InvalidArgs, fmt.Sprintf("The limit must be 1 to %d.", wire.MaxHistory))
		return 0, false
	}
	return limit, true
}

func historyMessage(m store.Message) wire.HistoryMessage {
	return wire.HistoryMessage{
		ID: m.ID, SenderPubkey: m.SenderPubKey, SenderMemberID: m.SenderMemberID, SenderName: m.SenderName,
		SenderPeerType: m.SenderType, Nonce: m.Nonce, Ciphertext: m.Ciphertext, BodyVersion: m.BodyVersion,
		ReplyToID: m.ReplyToID, CreatedAt: wire.Time(m.CreatedAt), ClientMessageID: m.ClientMessageID,
	}
}

// findTopic returns the topic a request names, or answers that there is none.
func (r request) findTopic(ref string) (store.Topic, bool) {
	topic, _, err := r.b.db.Topic(context.Background(), r.presence.meshID, r.presence.member.ID, ref)
	if err != nil {
		r.topicFailed(err, ref, "")
		return topic, false
	}
	return topic, true
}

// topicFailed answers a request on a topic that the store refused; forbidden is
// why, if that was it.
func (r request) topicFailed(err error, ref, forbidden string) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.TopicNotFound, fmt.Sprintf("There is no topic %q here, or it is private. topic_list shows those you may see.", wire.CleanLine(ref, wire.MaxNameLen)))
	case errors.Is(err, store.ErrNoMember):
		r.fail(wire.InvalidArgs, "There is no member with this id or key; topic_members of general lists them.")
	case errors.Is(err, store.ErrForbidden):
		r.fail(wire.Forbidden, forbidden)
	default:
		r.storeFailed(err)
	}
}

// topicRole is the role a request asks for, member if it names none. Nobody
// becomes a lead by asking.
func topicRole(asked string) (string, bool) {
	if asked == "" {
		return wire.TopicMember, true
	}
	return asked, asked == wire.TopicMember || asked == wire.TopicObserver
}
