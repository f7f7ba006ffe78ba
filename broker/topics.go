package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

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
	}
	p := r.presence
	topic, created, err := r.b.db.CreateTopic(store.Topic{
		ID: store.NewID(), MeshID: p.meshID, Name: m.Name, Description: wire.CleanLine(m.Description, wire.MaxTextLen),
		Visibility: visibility, CreatedAt: time.Now(),
	}, p.member.ID)
	if err != nil {
		r.topicFailed(err, m.Name, "this name is taken; choose another one")
		return
	}
	if created {
		r.b.changed(p.meshID, wire.ChangedTopics)
	}
	r.answer(&wire.TopicCreated{Topic: wire.TopicRef{ID: topic.ID, Name: topic.Name, Visibility: topic.Visibility}, Created: created})
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
			Role: v.Role, Mentions: v.Mentions, ReadUpToID: v.ReadUpTo, Encrypted: v.LastEncrypted,
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
	if err := r.b.db.JoinTopic(r.presence.meshID, r.presence.member.ID, m.Topic, role, time.Now()); err != nil {
		r.topicFailed(err, m.Topic, "")
		return
	}
	r.b.changed(r.presence.meshID, wire.ChangedTopics)
	r.done()
}

func (r request) topicLeave(m *wire.TopicLeave) {
	if err := r.b.db.LeaveTopic(r.presence.meshID, r.presence.member.ID, m.Topic); err != nil {
		r.topicFailed(err, m.Topic, "#general is where everybody is; it can not be left")
		return
	}
	r.b.changed(r.presence.meshID, wire.ChangedTopics)
	r.done()
}

func (r request) topicInvite(m *wire.TopicInvite) {
	role, ok := topicRole(m.Role)
	if !ok {
		r.fail(wire.InvalidArgs, "The role must be member or observer.")
		return
	}
	p := r.presence
	if err := r.b.db.InviteToTopic(p.meshID, p.member.ID, m.Topic, m.Member, role, time.Now()); err != nil {
		r.topicFailed(err, m.Topic, "only a lead of the topic can add people to it")
		return
	}
	r.b.changed(r.presence.meshID, wire.ChangedTopics)
	r.done()
}

func (r request) topicDescribe(m *wire.TopicDescribe) {
	p := r.presence
	if err := r.b.db.DescribeTopic(p.meshID, p.member.ID, m.Topic, wire.CleanLine(m.Description, wire.MaxTextLen)); err != nil {
		r.topicFailed(err, m.Topic, "only a lead of the topic, or who runs the mesh, can say what it is for")
		return
	}
	r.b.changed(p.meshID, wire.ChangedTopics)
	r.done()
}

// topicMarkRead tells the other connections of the member too: what one read
// here is not unread there.
func (r request) topicMarkRead(m *wire.TopicMarkRead) {
	own := r.presence
	topic, err := r.b.db.MarkRead(own.meshID, own.member.ID, m.Topic, m.MessageID, time.Now())
	if errors.Is(err, store.ErrNoMessage) {
		r.fail(wire.InvalidArgs, "The topic has no message with the id given as messageId.")
		return
	}
	if err != nil {
		r.topicFailed(err, m.Topic, "you are not in this topic; join it first")
		return
	}
	r.b.ledger.topicMoved(topic.ID)
	r.b.tellChange(own.meshID, wire.MeshChange{What: []string{wire.ChangedTopics}}, func(p *presence) bool { return p != own && p.member.ID == own.member.ID })
	r.done()
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
	if named := len(slices.DeleteFunc([]string{m.BeforeID, m.AfterID, m.AroundID}, func(id string) bool { return id == "" })); named > 1 || named == 1 && m.IDs != nil {
		r.fail(wire.InvalidArgs, "Give one of beforeId, afterId, aroundId and ids, or none for the newest messages.")
		return
	}
	if len(m.IDs) > wire.MaxHistory {
		r.fail(wire.InvalidArgs, fmt.Sprintf("At most %d ids fit one request.", wire.MaxHistory))
		return
	}
	topic, ok := r.findTopic(m.Topic)
	if !ok {
		return
	}
	messages, err := r.readHistory(topic.ID, m, limit)
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

func (r request) readHistory(topicID string, m *wire.TopicHistory, limit int) ([]store.Message, error) {
	if m.IDs != nil {
		return r.b.db.MessagesByID(context.Background(), topicID, m.IDs)
	}
	return r.b.db.History(context.Background(), topicID, store.Page{Before: m.BeforeID, After: m.AfterID, Around: m.AroundID, Limit: limit})
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

// topicSearch looks in one topic or in all that the member may see.
func (r request) topicSearch(m *wire.TopicSearch) {
	limit, ok := r.pageLimit(m.Limit)
	if !ok {
		return
	}
	if utf8.RuneCountInString(m.Query) > wire.MaxQueryLen {
		r.fail(wire.InvalidArgs, fmt.Sprintf("A query has at most %d characters; look for fewer words.", wire.MaxQueryLen))
		return
	}
	search := store.Search{MeshID: r.presence.meshID, MemberID: r.presence.member.ID, Query: m.Query, BeforeID: m.BeforeID, Limit: limit + 1}
	if m.Topic != "" {
		topic, ok := r.findTopic(m.Topic)
		if !ok {
			return
		}
		search.TopicID = topic.ID
	}
	found, err := r.b.db.Search(context.Background(), search)
	switch {
	case errors.Is(err, store.ErrNoWords):
		r.fail(wire.InvalidArgs, "There is no word in the query; type letters or digits to look for.")
		return
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.InvalidArgs, "There is no message with the id given as beforeId.")
		return
	case err != nil:
		r.storeFailed(err)
		return
	}
	response := &wire.TopicSearchResponse{Query: m.Query, More: len(found) > limit, Messages: []wire.SearchHit{}}
	for _, msg := range found[:min(limit, len(found))] {
		response.Messages = append(response.Messages, wire.SearchHit{HistoryMessage: historyMessage(msg), Topic: msg.TopicName})
	}
	r.answer(response)
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
		r.fail(wire.TopicNotFound, fmt.Sprintf("topic %q not found; topic_list shows those you may see", wire.CleanLine(ref, wire.MaxNameLen)))
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
