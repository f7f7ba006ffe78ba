package wire

import "encoding/json"

// responses are the messages the broker sends.
var responses = table(
	func() Message { return new(Error) },
	func() Message { return new(HelloAck) },
	func() Message { return new(Ack) },
	func() Message { return new(Push) },
	func() Message { return new(MessageStatusResult) },
	func() Message { return new(DeliveryStatus) },
	func() Message { return new(Grants) },
	func() Message { return new(PeersList) },
	func() Message { return new(TopicCreated) },
	func() Message { return new(TopicListResponse) },
	func() Message { return new(TopicMembersResponse) },
	func() Message { return new(TopicHistoryResponse) },
	func() Message { return new(TopicSearchResponse) },
	func() Message { return new(TopicReceiptsResponse) },
	func() Message { return new(DisconnectAck) },
	func() Message { return new(KickAck) },
	func() Message { return new(BanAck) },
	func() Message { return new(UnbanAck) },
	func() Message { return new(ListBansResult) },
	func() Message { return new(InviteCreated) },
	func() Message { return new(InviteListResponse) },
	func() Message { return new(MemberListResponse) },
	func() Message { return new(AuditResult) },
	func() Message { return new(AuditVerifyResult) },
	func() Message { return new(APIKeyCreated) },
	func() Message { return new(APIKeyListResponse) },
	func() Message { return new(APIKeyRevokeResponse) },
	func() Message { return new(WebhookAck) },
	func() Message { return new(WebhookList) },
)

// HelloAck answers a hello; when it leaves, the connection is fully registered.
type HelloAck struct {
	PresenceID        string          `json:"presenceId"`
	MemberDisplayName string          `json:"memberDisplayName"`
	MemberProfile     MemberProfile   `json:"memberProfile"`
	MeshPolicy        *MeshPolicy     `json:"meshPolicy,omitempty"`
	Restored          bool            `json:"restored,omitempty"`
	LastSummary       string          `json:"lastSummary,omitempty"`
	LastSeenAt        string          `json:"lastSeenAt,omitempty"`
	RestoredGroups    []Group         `json:"restoredGroups,omitempty"`
	RestoredStats     json.RawMessage `json:"restoredStats,omitempty"`
	Services          []string        `json:"services"`

	// For who asked for mesh events (ours).
	MeshName   string `json:"meshName,omitempty"`
	MemberRole string `json:"memberRole,omitempty"` // owner, admin or member
}

// MemberProfile is the part of a member that an administrator sets.
type MemberProfile struct {
	RoleTag     *string `json:"roleTag"`
	Groups      []Group `json:"groups"`
	MessageMode string  `json:"messageMode"`
}

// MeshPolicy says which parts of its own entry a member may edit.
type MeshPolicy struct {
	SelfEditable SelfEditable `json:"selfEditable"`
}

// SelfEditable is the only policy meshbox has: everything is.
type SelfEditable struct {
	Groups      bool `json:"groups"`
	RoleTag     bool `json:"roleTag"`
	DisplayName bool `json:"displayName"`
	MessageMode bool `json:"messageMode"`
}

// Ack answers a send: Queued true means the message is on disk. Else Error is
// "<code>: <sentence>". It also answers requests that need no more than a yes.
type Ack struct {
	ID        string `json:"id"`
	MessageID string `json:"messageId"`
	Queued    bool   `json:"queued"`
	Error     string `json:"error,omitempty"`
}

// Push carries a message, or with Subtype "system" an event, to a connection.
type Push struct {
	MessageID          string          `json:"messageId"`
	MeshID             string          `json:"meshId"`
	SenderPubkey       string          `json:"senderPubkey"`
	SenderMemberPubkey string          `json:"senderMemberPubkey,omitempty"`
	SenderMemberID     string          `json:"senderMemberId,omitempty"`
	SenderName         string          `json:"senderName,omitempty"`
	SenderPeerType     string          `json:"senderPeerType,omitempty"` // (ours)
	Topic              string          `json:"topic,omitempty"`
	ReplyToID          string          `json:"replyToId,omitempty"`
	Priority           string          `json:"priority"`
	Nonce              string          `json:"nonce"`
	Ciphertext         string          `json:"ciphertext"`
	CreatedAt          string          `json:"createdAt"`
	ClientMessageID    string          `json:"client_message_id,omitempty"`
	RequestFingerprint string          `json:"request_fingerprint,omitempty"`
	BodyVersion        int             `json:"bodyVersion,omitempty"`
	Subtype            string          `json:"subtype,omitempty"`
	Event              string          `json:"event,omitempty"`
	EventData          json.RawMessage `json:"eventData,omitempty"`
}

// The states of one recipient's copy of a message.
const (
	CopyStored  = "stored"           // on disk; it waits
	CopyPushed  = "pushed"           // handed to a connection, not acked yet
	CopyAcked   = "acked"            // the recipient's program has it
	CopyHanded  = "handed"           // acked, and the program gave it to its agent
	CopyExpired = "expired"          // it was not pushed in time; of a topic it is in the history
	CopyDropped = "dropped_by_grant" // the recipient does not take this from the sender
)

// The statuses of a recipient that existing clients know.
const (
	StatusDelivered    = "delivered"
	StatusHeld         = "held"         // not delivered, though the recipient is connected
	StatusDisconnected = "disconnected" // not delivered, and the recipient is away
)

// MessageStatusResult answers message_status. A sender is shown all copies, a
// recipient its own.
type MessageStatusResult struct {
	MessageID   string  `json:"messageId"`
	TargetSpec  string  `json:"targetSpec"`
	Delivered   bool    `json:"delivered"`   // all copies shown were acked, and there is one
	DeliveredAt *string `json:"deliveredAt"` // when the last of them was
	CreatedAt   string  `json:"createdAt"`   // (ours) when it was stored
	Recipients  []Copy  `json:"recipients"`
}

// Copy is what became of a message for one recipient. Of a topic, PushedAt is
// known as long as the recipient is connected, and SettledAt is when the
// recipient's mark passed the message, which may be some time after its ack.
type Copy struct {
	Name      string  `json:"name"`
	Pubkey    string  `json:"pubkey"` // of the session if that was addressed, else of the member
	Status    string  `json:"status"`
	State     string  `json:"state"`               // (ours) and so is what follows
	PushedAt  *string `json:"pushedAt,omitempty"`  // first handed to a connection
	SettledAt *string `json:"settledAt,omitempty"` // acked, expired or dropped
	HandedBy  string  `json:"handedBy,omitempty"`  // of a handed one: woken, at turn end or next tool call
	Seen      bool    `json:"seen,omitempty"`      // its read mark in the topic is past it: who sets none is never said to have seen it
}

// DeliveryStatus answers delivery_subscribe with all copies, and then comes with
// those that changed, under the same _reqId. After Final nothing more comes.
type DeliveryStatus struct {
	MessageID  string `json:"messageId"`
	TargetSpec string `json:"targetSpec"`
	CreatedAt  string `json:"createdAt"`
	Recipients []Copy `json:"recipients"`
	Final      bool   `json:"final"` // all copies are settled
}

// Grants answers get_grants: what the listed peers may do.
type Grants struct {
	Grants map[string][]string `json:"grants"` // by member key
}

// The events of system pushes.
const (
	EventPeerJoined   = "peer_joined"
	EventPeerReturned = "peer_returned"
	EventPeerLeft     = "peer_left"
	EventPeerVisible  = "peer_visible"
	EventPeerHidden   = "peer_hidden"
	EventMeshChanged  = "mesh_changed" // (ours) for who asked for mesh events
)

// MeshChange is the eventData of mesh_changed: of what the broker would now
// answer otherwise than a moment ago. It carries nothing else but the mesh's name,
// so that many changes are one event, and what one may not see is not told. What
// another process does to the data file, and what merely expires, is no event.
type MeshChange struct {
	What     []string `json:"what"`               // ChangedPeers and so on, each once
	MeshName string   `json:"meshName,omitempty"` // with ChangedMesh: what it is now
}

// What may have changed.
const (
	ChangedPeers   = "peers"   // list_peers
	ChangedTopics  = "topics"  // topic_list, and topic_members of some
	ChangedMembers = "members" // member_list, and topic_members of general
	ChangedInvites = "invites" // invite_list; only who may ask for it is told
	ChangedMesh    = "mesh"    // the mesh's name
)

// PeerEvent is the eventData of presence events.
type PeerEvent struct {
	Name       string  `json:"name"`
	Pubkey     string  `json:"pubkey"`
	Groups     []Group `json:"groups"`
	LastSeenAt string  `json:"lastSeenAt,omitempty"`
	Summary    string  `json:"summary,omitempty"`
}

// PeersList answers list_peers.
type PeersList struct {
	Peers []Peer `json:"peers"`
}

// Peer is one presence as others see it.
type Peer struct {
	Pubkey       string          `json:"pubkey"` // the session key if there is one, else the member key
	MemberPubkey string          `json:"memberPubkey"`
	DisplayName  string          `json:"displayName"`
	Status       string          `json:"status"`
	Summary      *string         `json:"summary"`
	Groups       []Group         `json:"groups"`
	SessionID    string          `json:"sessionId"`
	ConnectedAt  string          `json:"connectedAt"`
	CWD          string          `json:"cwd"`
	PeerRole     string          `json:"peerRole"`
	Hostname     string          `json:"hostname,omitempty"`
	PeerType     string          `json:"peerType,omitempty"`
	Channel      string          `json:"channel,omitempty"`
	Model        string          `json:"model,omitempty"`
	Stats        json.RawMessage `json:"stats,omitempty"`
	Visible      bool            `json:"visible"`
	Profile      *Profile        `json:"profile,omitempty"`
}

// TopicCreated answers topic_create; Created is false if the name was taken.
type TopicCreated struct {
	Topic   TopicRef `json:"topic"`
	Created bool     `json:"created"`
}

// TopicRef names a topic.
type TopicRef struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Visibility string `json:"visibility"`
}

// TopicListResponse answers topic_list.
type TopicListResponse struct {
	Topics []TopicInfo `json:"topics"`
}

// TopicInfo is one topic as the asking member sees it.
type TopicInfo struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"`
	Description   *string `json:"description"`
	Visibility    string  `json:"visibility"`
	MemberCount   int     `json:"memberCount"`
	CreatedAt     string  `json:"createdAt"`
	Unread        int     `json:"unread"`               // (ours) 0 where one is no member; at most 1000
	LastMessageAt *string `json:"lastMessageAt"`        // (ours)
	Role          string  `json:"role,omitempty"`       // (ours) one's own; "": one is not in it
	Mentions      int     `json:"mentions,omitempty"`   // (ours) unread ones of oneself
	ReadUpToID    string  `json:"readUpToId,omitempty"` // (ours) the newest message that one has read
	Encrypted     bool    `json:"encrypted,omitempty"`  // (ours) the newest message has body version 2: the broker can not read it
}

// TopicMembersResponse answers topic_members.
type TopicMembersResponse struct {
	Topic   string            `json:"topic"`
	Members []TopicMemberInfo `json:"members"`
}

// TopicMemberInfo is one member of a topic.
type TopicMemberInfo struct {
	MemberID    string  `json:"memberId"`
	Pubkey      string  `json:"pubkey"`
	DisplayName string  `json:"displayName"`
	Role        string  `json:"role"`
	JoinedAt    string  `json:"joinedAt"`
	LastReadAt  *string `json:"lastReadAt"`
}

// TopicHistoryResponse answers topic_history, newest first.
type TopicHistoryResponse struct {
	Topic    string           `json:"topic"`
	Messages []HistoryMessage `json:"messages"`
}

// HistoryMessage is one stored message of a topic.
type HistoryMessage struct {
	ID             string `json:"id"`
	SenderPubkey   string `json:"senderPubkey"`
	SenderMemberID string `json:"senderMemberId"`
	SenderName     string `json:"senderName"`
	SenderPeerType string `json:"senderPeerType,omitempty"` // (ours)
	Nonce          string `json:"nonce"`
	Ciphertext     string `json:"ciphertext"`
	BodyVersion    int    `json:"bodyVersion"`
	ReplyToID      string `json:"replyToId,omitempty"`
	CreatedAt      string `json:"createdAt"`

	// ClientMessageID lets a sender recognise its own message in history when
	// the ack was lost with the connection (ours).
	ClientMessageID string `json:"client_message_id,omitempty"`
}

// TopicSearchResponse answers topic_search, newest first. More says that older
// ones match too: ask again with the id of the last one as beforeId.
type TopicSearchResponse struct {
	Query    string      `json:"query"`
	Messages []SearchHit `json:"messages"`
	More     bool        `json:"more"`
}

// SearchHit is a message that was looked for.
type SearchHit struct {
	HistoryMessage
	Topic string `json:"topic"` // its name
}

// TopicReceiptsResponse answers topic_receipts with one's newest messages (at
// most 50), and then comes with those whose numbers changed.
type TopicReceiptsResponse struct {
	Topic    string    `json:"topic"`
	Receipts []Receipt `json:"receipts"`
}

// Receipt says how far one message got. Seen is at most Acked, and that at most
// Recipients; message_status tells who they are.
type Receipt struct {
	MessageID  string `json:"messageId"`
	Recipients int    `json:"recipients"` // members of the topic when it came, without the sender
	Acked      int    `json:"acked"`      // of them, those that have it: acked, or read in the history
	Seen       int    `json:"seen"`       // of them, those whose read mark is past it
}

// Removed are the names of the presences that a kick or disconnect ended, one
// for each. Clients read either list.
type Removed struct {
	Kicked   []string `json:"kicked"`
	Affected []string `json:"affected"`
}

// NewRemoved has no names; its lists are not null.
func NewRemoved() Removed { return Removed{Kicked: []string{}, Affected: []string{}} }

// Add adds the name of one presence.
func (r *Removed) Add(name string) {
	r.Kicked, r.Affected = append(r.Kicked, name), append(r.Affected, name)
}

// DisconnectAck answers disconnect.
type DisconnectAck struct{ Removed }

// KickAck answers kick.
type KickAck struct {
	Removed
	SkippedControlPlane []string `json:"skipped_control_plane,omitempty"` // member connections, left alone
}

// BanAck answers ban with the member's name.
type BanAck struct {
	Banned string `json:"banned"`
}

// UnbanAck answers unban with the member's name.
type UnbanAck struct {
	Unbanned string `json:"unbanned"`
}

// ListBansResult answers list_bans, oldest ban first.
type ListBansResult struct {
	Bans []BannedMember `json:"bans"`
}

// BannedMember is one banned member.
type BannedMember struct {
	Name      string `json:"name"`
	Pubkey    string `json:"pubkey"`
	RevokedAt string `json:"revokedAt"`
}

// AuditResult answers audit_query, newest first.
type AuditResult struct {
	Entries []AuditEntry `json:"entries"`
	Total   int          `json:"total"` // that match, in all
}

// AuditEntry is one entry of the audit chain.
type AuditEntry struct {
	ID        string          `json:"id"`
	EventType string          `json:"eventType"`
	Actor     string          `json:"actor"` // a member's public key, "operator" or "server"
	Payload   json.RawMessage `json:"payload"`
	Hash      string          `json:"hash"`
	CreatedAt string          `json:"createdAt"`
}

// AuditVerifyResult answers audit_verify.
type AuditVerifyResult struct {
	Valid    bool   `json:"valid"`
	Entries  int    `json:"entries"`
	BrokenAt string `json:"brokenAt,omitempty"` // id of the first entry that does not fit
}

// Type implements Message.
func (*HelloAck) Type() string              { return "hello_ack" }
func (*Ack) Type() string                   { return "ack" }
func (*Push) Type() string                  { return "push" }
func (*MessageStatusResult) Type() string   { return "message_status_result" }
func (*DeliveryStatus) Type() string        { return "delivery_status" }
func (*Grants) Type() string                { return "grants" }
func (*PeersList) Type() string             { return "peers_list" }
func (*TopicCreated) Type() string          { return "topic_created" }
func (*TopicListResponse) Type() string     { return "topic_list_response" }
func (*TopicMembersResponse) Type() string  { return "topic_members_response" }
func (*TopicHistoryResponse) Type() string  { return "topic_history_response" }
func (*TopicSearchResponse) Type() string   { return "topic_search_response" }
func (*TopicReceiptsResponse) Type() string { return "topic_receipts_response" }
func (*DisconnectAck) Type() string         { return "disconnect_ack" }
func (*KickAck) Type() string               { return "kick_ack" }
func (*BanAck) Type() string                { return "ban_ack" }
func (*UnbanAck) Type() string              { return "unban_ack" }
func (*ListBansResult) Type() string        { return "list_bans_result" }
func (*AuditResult) Type() string           { return "audit_result" }
func (*AuditVerifyResult) Type() string     { return "audit_verify_result" }
