package wire

// The keys of encrypted topics (protocol, services, section 2). The protocol has them
// over HTTP with an API key; these messages give a connection the same (ours). A
// topic is named by its id or name.
//
// A sealed key is base64 of the sealer's X25519 public key (32 bytes) followed by
// crypto_box_easy of the topic's key (48 bytes); its nonce (24 bytes, base64) is beside it.

// TopicKey asks for one's own copy of a topic's key. Answered by TopicKeyResponse, or
// by the error topic_unencrypted or key_not_sealed_for_member.
type TopicKey struct {
	Topic string `json:"topic"`
}

// TopicKeyResponse answers topic_key.
type TopicKeyResponse struct {
	Topic        string `json:"topic"` // its name
	TopicID      string `json:"topicId"`
	EncryptedKey string `json:"encryptedKey"`
	Nonce        string `json:"nonce"`
	SenderPubkey string `json:"senderPubkey"` // X25519 key, 64 hex, of who encrypted the topic; the copy itself names who sealed it
	CreatedAt    string `json:"createdAt"`    // of the copy
}

// TopicClaimKey makes an encrypted topic of one that is not, for good; for its leads.
// The copy is one's own. Answered by TopicClaimKeyResponse, or by the error
// already_encrypted.
type TopicClaimKey struct {
	Topic string `json:"topic"`
	OwnSeal
}

// OwnSeal is the key of a topic as who made it sealed it for itself.
type OwnSeal struct {
	EncryptedKeyPubkey string `json:"encryptedKeyPubkey,omitempty"` // its X25519 key, 64 hex
	EncryptedKey       string `json:"encryptedKey,omitempty"`
	Nonce              string `json:"nonce,omitempty"`
}

// TopicClaimKeyResponse answers topic_claim_key.
type TopicClaimKeyResponse struct {
	Topic        string `json:"topic"`
	TopicID      string `json:"topicId"`
	SenderPubkey string `json:"senderPubkey"`
	MemberID     string `json:"memberId"` // one's own
	Claimed      bool   `json:"claimed"`
}

// TopicPendingSeals asks who of a topic has no copy of its key yet, or only one
// whose sealer is not in the topic any more.
type TopicPendingSeals struct {
	Topic string `json:"topic"`
}

// MaxPendingSeals is how many members one answer names; when they have their copies,
// ask again.
const MaxPendingSeals = 50

// TopicPendingSealsResponse answers topic_pending_seals.
type TopicPendingSealsResponse struct {
	Topic        string        `json:"topic"`
	TopicID      string        `json:"topicId"`
	SenderPubkey *string       `json:"senderPubkey"` // null: the topic is not encrypted
	Pending      []PendingSeal `json:"pending"`
}

// PendingSeal is a member that waits for a copy.
type PendingSeal struct {
	MemberID    string `json:"memberId"`
	Pubkey      string `json:"pubkey"` // Ed25519, to seal for
	DisplayName string `json:"displayName"`
}

// TopicSeal gives a member its copy. If it has one that counts, that stays, and is
// what the answer is about. Answered by TopicSealResponse, or by the error
// topic_unencrypted or recipient_not_in_topic.
type TopicSeal struct {
	Topic        string `json:"topic"`
	MemberID     string `json:"memberId"`
	EncryptedKey string `json:"encryptedKey"`
	Nonce        string `json:"nonce"`
}

// TopicSealResponse answers topic_seal.
type TopicSealResponse struct {
	Topic    string `json:"topic"`
	TopicID  string `json:"topicId"`
	MemberID string `json:"memberId"`
	SealedAt string `json:"sealedAt"`
}

// Type implements Message.
func (*TopicKey) Type() string                  { return "topic_key" }
func (*TopicKeyResponse) Type() string          { return "topic_key_response" }
func (*TopicClaimKey) Type() string             { return "topic_claim_key" }
func (*TopicClaimKeyResponse) Type() string     { return "topic_claim_key_response" }
func (*TopicPendingSeals) Type() string         { return "topic_pending_seals" }
func (*TopicPendingSealsResponse) Type() string { return "topic_pending_seals_response" }
func (*TopicSeal) Type() string                 { return "topic_seal" }
func (*TopicSealResponse) Type() string         { return "topic_seal_response" }
