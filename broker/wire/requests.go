package wire

import "encoding/json"

// requests are the messages a client may send.
var requests = table(
	func() Message { return new(Hello) },
	func() Message { return new(SessionHello) },
	func() Message { return new(Send) },
	func() Message { return new(ClientAck) },
	func() Message { return new(MessageStatus) },
	func() Message { return new(DeliverySubscribe) },
	func() Message { return new(SetGrants) },
	func() Message { return new(GetGrants) },
	func() Message { return new(ListPeers) },
	func() Message { return new(SetStatus) },
	func() Message { return new(SetSummary) },
	func() Message { return new(SetVisible) },
	func() Message { return new(SetProfile) },
	func() Message { return new(SetStats) },
	func() Message { return new(JoinGroup) },
	func() Message { return new(LeaveGroup) },
	func() Message { return new(TopicCreate) },
	func() Message { return new(TopicList) },
	func() Message { return new(TopicJoin) },
	func() Message { return new(TopicLeave) },
	func() Message { return new(TopicInvite) },
	func() Message { return new(TopicMarkRead) },
	func() Message { return new(TopicMembers) },
	func() Message { return new(TopicHistory) },
	func() Message { return new(TopicDescribe) },
	func() Message { return new(TopicSearch) },
	func() Message { return new(TopicReceipts) },
	func() Message { return new(Disconnect) },
	func() Message { return new(Kick) },
	func() Message { return new(Ban) },
	func() Message { return new(Unban) },
	func() Message { return new(ListBans) },
	func() Message { return new(InviteCreate) },
	func() Message { return new(InviteList) },
	func() Message { return new(InviteRevoke) },
	func() Message { return new(MemberList) },
	func() Message { return new(MeshRename) },
	func() Message { return new(AuditQuery) },
	func() Message { return new(AuditVerify) },
	func() Message { return new(APIKeyCreate) },
	func() Message { return new(APIKeyList) },
	func() Message { return new(APIKeyRevoke) },
	func() Message { return new(CreateWebhook) },
	func() Message { return new(DeleteWebhook) },
	func() Message { return new(ListWebhooks) },
)

// Group is a group a presence is in; a name may be a path ("core/backend"), and
// whoever is in it is in every parent of it too.
type Group struct {
	Name string `json:"name"`
	Role string `json:"role,omitempty"`
}

// Client is what a hello of either kind says about the program behind it.
type Client struct {
	DisplayName  string   `json:"displayName,omitempty"`
	SessionID    string   `json:"sessionId"`
	PID          float64  `json:"pid"`
	CWD          string   `json:"cwd"`
	Hostname     string   `json:"hostname,omitempty"`
	PeerType     string   `json:"peerType,omitempty"` // ai, human or connector
	Channel      string   `json:"channel,omitempty"`
	Model        string   `json:"model,omitempty"`
	Groups       []Group  `json:"groups,omitempty"` // nil: restore what was
	Capabilities []string `json:"capabilities,omitempty"`
}

// Capabilities of a hello that meshbox knows.
const (
	CapClientAck  = "client_ack"  // it acks every push
	CapNoLease    = "no_lease"    // (ours) its presence ends with its connection: a command that asks and leaves
	CapUnheld     = "unheld"      // (ours) it takes messages also while it is working or dnd, and decides by itself when to show them
	CapSiblings   = "siblings"    // (ours) it is pushed what other connections of its own member say in topics
	CapMeshEvents = "mesh_events" // (ours) it wants mesh_changed, and to know in the hello_ack where it is and as what
)

// Hello is a member proving its key (protocol section 2).
type Hello struct {
	MeshID        string  `json:"meshId"`
	MemberID      string  `json:"memberId"`
	Pubkey        string  `json:"pubkey"`
	SessionPubkey *string `json:"sessionPubkey,omitempty"` // an unproven routing label
	Client
	ProtocolVersion json.RawMessage `json:"protocolVersion,omitempty"`
	Timestamp       *Millis         `json:"timestamp"`
	Signature       string          `json:"signature"`
}

// Attestation is a member vouching for a session key (protocol section 3).
type Attestation struct {
	SessionPubkey      string   `json:"sessionPubkey"`
	ParentMemberPubkey string   `json:"parentMemberPubkey"`
	ExpiresAt          *Millis  `json:"expiresAt"`
	Signature          string   `json:"signature"`
	Version            int      `json:"version,omitempty"`
	AllowedCaps        []string `json:"allowed_caps,omitzero"` // nil: absent; empty: none
}

// SessionHello is a session proving its own key and who vouches for it
// (protocol section 3).
type SessionHello struct {
	MeshID             string      `json:"meshId"`
	ParentMemberID     string      `json:"parentMemberId"`
	ParentMemberPubkey string      `json:"parentMemberPubkey"`
	SessionPubkey      string      `json:"sessionPubkey"`
	ParentAttestation  Attestation `json:"parentAttestation"`
	Client
	Role      string  `json:"role,omitempty"`
	Timestamp *Millis `json:"timestamp"`
	Signature string  `json:"signature"`
}

// Send posts one message (protocol section 5). TargetSpec is a 64-hex key, "*",
// "@all", "@group", or "#" and a topic's id or name. Nonce and Ciphertext are
// standard base64.
type Send struct {
	TargetSpec         string   `json:"targetSpec"`
	Priority           string   `json:"priority"` // now, next or low; absent means next
	Nonce              string   `json:"nonce"`
	Ciphertext         string   `json:"ciphertext"`
	ID                 string   `json:"id,omitempty"`
	ClientMessageID    string   `json:"client_message_id,omitempty"`
	RequestFingerprint string   `json:"request_fingerprint,omitempty"`
	Mentions           []string `json:"mentions,omitempty"`
	ReplyToID          string   `json:"replyToId,omitempty"`
	BodyVersion        int      `json:"bodyVersion,omitempty"` // 1 plaintext, 2 topic key
}

// ClientAck settles a push; it has no response.
type ClientAck struct {
	ClientMessageID string `json:"clientMessageId,omitempty"`
	BrokerMessageID string `json:"brokerMessageId,omitempty"`
	HandedBy        string `json:"handedBy,omitempty"` // (ours) one of Hearings: it was given to an agent
}

// How an agent comes to hear of a message.
const (
	Woken        = "woken"          // a turn began at once
	AtTurnEnd    = "at turn end"    // a hook of its client said so
	NextToolCall = "next tool call" // the result of a tool said so, or it looked by itself
)

// Hearings are all of these.
var Hearings = []string{Woken, AtTurnEnd, NextToolCall}

// MessageStatus asks what became of a message; for its sender and those it was
// addressed to.
type MessageStatus struct {
	MessageID string `json:"messageId"` // or the first 8 or more characters of it
}

// DeliverySubscribe asks for what becomes of one's own message, now and with
// each change, until all is settled (ours).
type DeliverySubscribe struct {
	MessageID string `json:"messageId"` // or the first 8 or more characters of it
}

// SetGrants changes what peers may do to one's member; answered by an Ack (ours).
type SetGrants struct {
	Grants map[string][]string `json:"grants"` // by member key; null removes an entry
}

// GetGrants asks for one's own entries (ours).
type GetGrants struct{}

// ListPeers asks who is here.
type ListPeers struct{}

// SetStatus sets one's status; no response. Source tells how it is known: by
// default somebody said so (protocol section 4).
type SetStatus struct {
	Status string `json:"status"`
	Source string `json:"source,omitempty"` // (ours) SourceJSONL or nothing
}

// SourceJSONL says that a status was read from the agent's log.
const SourceJSONL = "jsonl"

// SetSummary says what one is working on; no response.
type SetSummary struct {
	Summary string `json:"summary"`
}

// SetVisible hides or shows this member's presence; answered by an Ack.
type SetVisible struct {
	Visible bool `json:"visible"`
}

// Profile is what a member tells about itself.
type Profile struct {
	Avatar       string   `json:"avatar,omitempty"`
	Title        string   `json:"title,omitempty"`
	Bio          string   `json:"bio,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
}

// SetProfile replaces one's profile; answered by an Ack.
type SetProfile struct{ Profile }

// SetStats replaces one's counters, any JSON object; no response.
type SetStats struct {
	Stats json.RawMessage `json:"stats"`
}

// JoinGroup enters a group; no response.
type JoinGroup struct {
	Name string `json:"name"`
	Role string `json:"role,omitempty"`
}

// LeaveGroup leaves a group; no response.
type LeaveGroup struct {
	Name string `json:"name"`
}

// TopicCreate creates a topic, or returns the one of that name.
type TopicCreate struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Visibility  string `json:"visibility,omitempty"` // public (default), private or dm
}

// TopicList asks for the topics one may see.
type TopicList struct{}

// TopicJoin subscribes to a topic, by id or name.
type TopicJoin struct {
	Topic string `json:"topic"`
	Role  string `json:"role,omitempty"` // member (default) or observer
}

// TopicLeave unsubscribes from a topic, by id or name.
type TopicLeave struct {
	Topic string `json:"topic"`
}

// TopicInvite adds a member to a topic; for its leads.
type TopicInvite struct {
	Topic  string `json:"topic"`
	Member string `json:"member"` // member id or public key
	Role   string `json:"role,omitempty"`
}

// TopicMarkRead moves one's read mark forward: to a message, or to the newest.
// Mentions up to there count as read.
type TopicMarkRead struct {
	Topic     string `json:"topic"`
	MessageID string `json:"messageId,omitempty"` // (ours) "": the newest, also one that nobody has been shown yet
}

// TopicMembers asks who is in a topic.
type TopicMembers struct {
	Topic string `json:"topic"`
}

// TopicHistory asks for messages, newest first. At most one of the ids may be
// given; without, the newest are meant.
type TopicHistory struct {
	Topic    string   `json:"topic"`
	Limit    int      `json:"limit,omitempty"`    // 1–200, default 50
	BeforeID string   `json:"beforeId,omitempty"` // older ones than this
	AfterID  string   `json:"afterId,omitempty"`  // (ours) newer ones than this, the oldest of them
	AroundID string   `json:"aroundId,omitempty"` // (ours) this one, and as many before as after it
	IDs      []string `json:"ids,omitempty"`      // (ours) these, as far as the topic has them; at most 200
}

// TopicDescribe says what a topic is for; for its leads, and for who may moderate
// the mesh. Answered by an Ack (ours).
type TopicDescribe struct {
	Topic       string `json:"topic"`
	Description string `json:"description"` // one line, at most 2000 characters; "" removes it
}

// TopicSearch looks for words in messages that are not encrypted, in one topic or
// in all that one may see. All words must be there, each as a whole or, from three
// letters on, as the beginning of one; words between double quotes must stand side
// by side. Case, accents and punctuation are no matter. It counts as a send against
// the rate of the member (ours).
type TopicSearch struct {
	Query    string `json:"query"`           // at most 200 characters and 12 words
	Topic    string `json:"topic,omitempty"` // id or name; "": all
	Limit    int    `json:"limit,omitempty"` // 1–200, default 50
	BeforeID string `json:"beforeId,omitempty"`
}

// TopicReceipts asks how far one's own newest messages in a topic got, now and
// with each change: every answer carries the same _reqId, until the connection
// ends or asks for another topic (ours).
type TopicReceipts struct {
	Topic string `json:"topic"`
}

// Disconnect closes all connections of a peer, which may come back. Target, here
// and below, is a display name in any case, a member or session key, or the
// first 8 digits or more of one.
type Disconnect struct {
	Target string `json:"target"`
}

// Kick ends the sessions of a peer.
type Kick struct {
	Target string `json:"target"`
}

// Ban revokes a member and ends its presences.
type Ban struct {
	Target string `json:"target"`
}

// Unban lifts a ban.
type Unban struct {
	Target string `json:"target"`
}

// ListBans asks who is banned.
type ListBans struct{}

// AuditQuery asks for entries of the audit chain, newest first.
type AuditQuery struct {
	Limit     int    `json:"limit,omitempty"` // 1–200, default 50
	Offset    int    `json:"offset,omitempty"`
	EventType string `json:"eventType,omitempty"` // "": all
}

// AuditVerify asks whether the audit chain is unbroken.
type AuditVerify struct{}

// Type implements Message.
func (*Hello) Type() string             { return "hello" }
func (*SessionHello) Type() string      { return "session_hello" }
func (*Send) Type() string              { return "send" }
func (*ClientAck) Type() string         { return "client_ack" }
func (*MessageStatus) Type() string     { return "message_status" }
func (*DeliverySubscribe) Type() string { return "delivery_subscribe" }
func (*SetGrants) Type() string         { return "set_grants" }
func (*GetGrants) Type() string         { return "get_grants" }
func (*ListPeers) Type() string         { return "list_peers" }
func (*SetStatus) Type() string         { return "set_status" }
func (*SetSummary) Type() string        { return "set_summary" }
func (*SetVisible) Type() string        { return "set_visible" }
func (*SetProfile) Type() string        { return "set_profile" }
func (*SetStats) Type() string          { return "set_stats" }
func (*JoinGroup) Type() string         { return "join_group" }
func (*LeaveGroup) Type() string        { return "leave_group" }
func (*TopicCreate) Type() string       { return "topic_create" }
func (*TopicList) Type() string         { return "topic_list" }
func (*TopicJoin) Type() string         { return "topic_join" }
func (*TopicLeave) Type() string        { return "topic_leave" }
func (*TopicInvite) Type() string       { return "topic_invite" }
func (*TopicMarkRead) Type() string     { return "topic_mark_read" }
func (*TopicMembers) Type() string      { return "topic_members" }
func (*TopicHistory) Type() string      { return "topic_history" }
func (*TopicDescribe) Type() string     { return "topic_describe" }
func (*TopicSearch) Type() string       { return "topic_search" }
func (*TopicReceipts) Type() string     { return "topic_receipts" }
func (*Disconnect) Type() string        { return "disconnect" }
func (*Kick) Type() string              { return "kick" }
func (*Ban) Type() string               { return "ban" }
func (*Unban) Type() string             { return "unban" }
func (*ListBans) Type() string          { return "list_bans" }
func (*AuditQuery) Type() string        { return "audit_query" }
func (*AuditVerify) Type() string       { return "audit_verify" }
