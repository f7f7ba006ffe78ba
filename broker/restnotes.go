package broker

import (
	"net/http"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// maxNotifications is how many one answer holds, and how many ids one request.
const maxNotifications = 200

// restNotification is a mention as GET /notifications has it.
type restNotification struct {
	ID             string  `json:"id"` // the message's
	NotificationID string  `json:"notificationId"`
	TopicID        string  `json:"topicId"`
	TopicName      string  `json:"topicName"`
	SenderName     string  `json:"senderName"`
	SenderPubkey   string  `json:"senderPubkey"`
	Ciphertext     string  `json:"ciphertext"`
	Kind           string  `json:"kind"`
	ReadAt         *string `json:"readAt"`
	CreatedAt      string  `json:"createdAt"`
}

// noted are the caller's notifications, as far as its key reaches.
func (c *caller) noted() store.Noted {
	return store.Noted{MemberID: c.as.member.ID, Topics: c.key.TopicScopes}
}

func (c *caller) getNotifications(r *http.Request) (any, error) {
	which, query := c.noted(), r.URL.Query()
	var err error
	if which.Since, err = instantOf(query.Get("since"), "since"); err != nil {
		return nil, err
	}
	switch query.Get("unread") {
	case "", "0", "false":
	case "1", "true":
		which.Unread = true
	default:
		return nil, badRequest("The parameter unread must be 1, or left out.")
	}
	found, err := c.db.Notifications(r.Context(), which, maxNotifications)
	if err != nil {
		return nil, err
	}
	list := make([]restNotification, len(found))
	for i, n := range found {
		m := n.Message
		list[i] = restNotification{
			m.ID, n.ID, m.TopicID, m.TopicName, m.SenderName, m.SenderPubKey, m.Ciphertext, n.Kind, wire.OptionalTime(n.ReadAt), wire.Time(n.CreatedAt),
		}
	}
	return map[string]any{"notifications": list, "since": wire.OptionalTime(which.Since), "mentionedAs": c.as.member.DisplayName}, nil
}

// instantOf reads a time that a request names, the zero time if it names none.
func instantOf(text, name string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, badRequest("The time given as %s must be RFC 3339, such as 2026-11-23T07:56:00Z.", name)
	}
	return at, nil
}

// notesRead is the body of POST /notifications/read.
type notesRead struct {
	IDs    []string `json:"ids"` // of notifications, or of their messages
	All    bool     `json:"all"`
	Before string   `json:"before"` // with All: only those up to then, RFC 3339
}

func (c *caller) postNotificationsRead(r *http.Request) (any, error) {
	var body notesRead
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	switch {
	case body.All == (body.IDs != nil):
		return nil, badRequest(`Send either {"ids": [...]} or {"all": true}.`)
	case len(body.IDs) > maxNotifications:
		return nil, badRequest("At most %d ids fit one request.", maxNotifications)
	case body.Before != "" && !body.All:
		return nil, badRequest("The field before goes with all alone.")
	}
	which, now := c.noted(), time.Now()
	which.IDs = body.IDs
	var err error
	if which.Until, err = instantOf(body.Before, "before"); err != nil {
		return nil, err
	}
	marked, err := c.db.ReadNotifications(which, now)
	if err != nil {
		return nil, err
	}
	if marked > 0 {
		c.toldOwn(c.as)
	}
	if body.All {
		return map[string]any{"marked": "all", "before": orNull(body.Before)}, nil
	}
	return map[string]any{"marked": marked, "readAt": wire.Time(now)}, nil
}
