package broker

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// restTopic is a topic as GET /topics has it.
type restTopic struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Description *string `json:"description"`
	Visibility  string  `json:"visibility"`
	CreatedAt   string  `json:"createdAt"`
	Unread      int     `json:"unread"`
	Keyed       bool    `json:"keyed,omitempty"` // (ours) it is encrypted
}

func (c *caller) getTopics(r *http.Request) (any, error) {
	views, err := c.db.Topics(r.Context(), c.as.meshID, c.as.member.ID)
	if err != nil {
		return nil, err
	}
	topics := []restTopic{}
	for _, v := range views {
		if c.key.InScope(v.Name) {
			topics = append(topics, restTopic{v.ID, v.Name, orNull(v.Description), v.Visibility, wire.Time(v.CreatedAt), v.Unread, v.Topic.Encrypted()})
		}
	}
	return map[string]any{"topics": topics}, nil
}

// orNull is text for a field that is null where there is none.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// restMessage is a message of a topic as REST has it.
type restMessage struct {
	ID             string  `json:"id"`
	SenderMemberID string  `json:"senderMemberId"`
	SenderPubkey   string  `json:"senderPubkey"`
	SenderName     string  `json:"senderName"`
	Nonce          string  `json:"nonce"`
	Ciphertext     string  `json:"ciphertext"`
	BodyVersion    int     `json:"bodyVersion"`
	ReplyToID      *string `json:"replyToId"`
	CreatedAt      string  `json:"createdAt"`
}

func restMessageOf(m store.Message) restMessage {
	return restMessage{
		m.ID, m.SenderMemberID, m.SenderPubKey, m.SenderName, m.Nonce, m.Ciphertext, m.BodyVersion, orNull(m.ReplyToID), wire.Time(m.CreatedAt),
	}
}

func (c *caller) getMessages(r *http.Request) (any, error) {
	page := store.Page{Limit: wire.DefaultHistory, From: r.URL.Query().Get("before")}
	if asked := r.URL.Query().Get("limit"); asked != "" {
		limit, err := strconv.Atoi(asked)
		if err != nil || limit < 1 || limit > wire.MaxHistory {
			return nil, badRequest("The limit must be 1 to %d.", wire.MaxHistory)
		}
		page.Limit = limit
	}
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	found, err := c.db.History(r.Context(), topic.ID, page)
	if errors.Is(err, store.ErrNotFound) {
		return nil, badRequest("The topic has no message with the id given as before.")
	}
	if err != nil {
		return nil, err
	}
	messages := make([]restMessage, len(found))
	for i, m := range found {
		messages[i] = restMessageOf(m)
	}
	return map[string]any{"topic": topic.Name, "topicId": topic.ID, "messages": messages}, nil
}

func (c *caller) patchRead(r *http.Request) (any, error) {
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	err = c.markRead(c.as, topic.ID, "", now)
	if errors.Is(err, store.ErrForbidden) {
		return nil, forbidden("You are not in this topic; join it first.")
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"topic": topic.Name, "topicId": topic.ID, "readAt": wire.Time(now)}, nil
}
