package wire

// Webhooks (protocol, services, section 3): secret addresses that services post to,
// and that speak in a topic.

// CreateWebhook makes a webhook that acts for one's own member. Any member may, for
// the topics it may post to, but no session that its member restricted (ours).
// Answered by WebhookAck, or webhook_exists.
type CreateWebhook struct {
	Name  string `json:"name"`            // as of a topic, see ValidTopicName; one of the mesh
	Topic string `json:"topic,omitempty"` // (ours) id or name; absent: general
}

// DeleteWebhook ends a webhook of one's own; who runs the mesh ends those of all
// (ours). Answered by WebhookAck with the name alone.
type DeleteWebhook struct {
	Name string `json:"name"`
}

// ListWebhooks asks for one's own webhooks; who runs the mesh gets those of all
// (ours). Answered by WebhookList.
type ListWebhooks struct{}

// WebhookAck answers create_webhook, and is the only one to show the secret, and
// delete_webhook.
type WebhookAck struct {
	Name   string `json:"name"`
	URL    string `json:"url,omitempty"`    // with the secret
	Secret string `json:"secret,omitempty"` // what the url ends with
	Topic  string `json:"topic,omitempty"`  // (ours) name of the topic it speaks in
}

// WebhookList answers list_webhooks, by name.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
}

// Webhook is a webhook as its member sees it later.
type Webhook struct {
	Name      string `json:"name"`
	URL       string `json:"url"`    // ends with "…" where the secret was
	Active    bool   `json:"active"` // false: its member may not post to the topic any more, so what comes is refused
	CreatedAt string `json:"createdAt"`
	Topic     string `json:"topic"`  // (ours)
	MadeBy    string `json:"madeBy"` // (ours) the member's name
}

// Type implements Message.
func (*CreateWebhook) Type() string { return "create_webhook" }
func (*DeleteWebhook) Type() string { return "delete_webhook" }
func (*ListWebhooks) Type() string  { return "list_webhooks" }
func (*WebhookAck) Type() string    { return "webhook_ack" }
func (*WebhookList) Type() string   { return "webhook_list" }
