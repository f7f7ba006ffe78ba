package wire

// API keys (protocol, services, section 1): secrets by which scripts act as the
// member that issued them, over HTTP.

// APIKeyCreate makes a key for one's own member. Any member may; the capability
// admin takes one who runs the mesh (ours). A session that its member restricted
// may only pass on what it may do itself, for a day at most (ours). Answered by
// APIKeyCreated.
type APIKeyCreate struct {
	Label        string   `json:"label"`                 // at most 64 characters
	Capabilities []string `json:"capabilities"`          // send, read, state_write, admin (implies the others)
	TopicScopes  []string `json:"topicScopes,omitempty"` // names of the topics it is confined to; absent: all
	ExpiresAt    *string  `json:"expiresAt,omitempty"`   // RFC 3339; absent: never
}

// APIKeyCreated answers apikey_create. The secret is not shown again.
type APIKeyCreated struct {
	ID           string   `json:"id"`
	Secret       string   `json:"secret"`
	Label        string   `json:"label"`
	Prefix       string   `json:"prefix"` // the first 11 characters of the secret
	Capabilities []string `json:"capabilities"`
	TopicScopes  []string `json:"topicScopes"` // null: all
	CreatedAt    string   `json:"createdAt"`
	ExpiresAt    *string  `json:"expiresAt"` // (ours) null: never
}

// APIKeyList asks for one's own keys; who runs the mesh gets those of all (ours).
type APIKeyList struct{}

// APIKeyListResponse answers apikey_list: those that work, then the others, each
// newest first, at most MaxAPIKeys.
type APIKeyListResponse struct {
	Keys []APIKey `json:"keys"`
}

// APIKey is a key as its issuer sees it later.
type APIKey struct {
	ID           string   `json:"id"`
	Label        string   `json:"label"`
	Prefix       string   `json:"prefix"`
	Capabilities []string `json:"capabilities"`
	TopicScopes  []string `json:"topicScopes"`
	CreatedAt    string   `json:"createdAt"`
	LastUsedAt   *string  `json:"lastUsedAt"`
	RevokedAt    *string  `json:"revokedAt"`
	ExpiresAt    *string  `json:"expiresAt"`
	IssuedBy     string   `json:"issuedBy"` // (ours) the member's name
}

// APIKeyRevoke ends a key, named by its id, its prefix, or the beginning of its id.
type APIKeyRevoke struct {
	ID string `json:"id"`
}

// APIKeyRevokeResponse answers apikey_revoke.
type APIKeyRevokeResponse struct {
	Status  string `json:"status"` // KeyRevoked, KeyNotFound or KeyNotUnique
	ID      string `json:"id,omitempty"`
	Matches int    `json:"matches,omitempty"` // of KeyNotUnique
}

// The outcomes of apikey_revoke.
const (
	KeyRevoked   = "revoked" // now or before
	KeyNotFound  = "not_found"
	KeyNotUnique = "not_unique"
)

// Bounds of API keys.
const (
	MaxAPIKeys  = 200 // of one apikey_list_response
	MaxKeyScope = 100 // topics of one key
)

// Type implements Message.
func (*APIKeyCreate) Type() string         { return "apikey_create" }
func (*APIKeyCreated) Type() string        { return "apikey_created" }
func (*APIKeyList) Type() string           { return "apikey_list" }
func (*APIKeyListResponse) Type() string   { return "apikey_list_response" }
func (*APIKeyRevoke) Type() string         { return "apikey_revoke" }
func (*APIKeyRevokeResponse) Type() string { return "apikey_revoke_response" }
