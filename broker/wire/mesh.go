package wire

// Running a mesh, over the same signed socket as everything else: what its owner
// and its admins do with invites, members and its name. All of it is (ours).
// Others are answered with the error forbidden, and so is a session whose member
// restricted it, unless its attestation allows the capability "admin". Members
// are revoked and restored by ban and unban.

// InviteCreate makes an invite to the mesh; answered by InviteCreated.
type InviteCreate struct {
	Role       string `json:"role,omitempty"`       // what who joins becomes: member (default) or admin
	Uses       int    `json:"uses,omitempty"`       // how many may join by it, 1 (default) to 1000
	TTLSeconds int    `json:"ttlSeconds,omitempty"` // how long it is valid, 60 to a year; default a week
	Label      string `json:"label,omitempty"`      // what the inviter calls it, at most 64 characters
}

// InviteCreated answers invite_create.
type InviteCreated struct {
	Invite Invite `json:"invite"`
}

// InviteList asks for the newest invites (at most 200); the mesh's first link,
// which makes its user the owner, is not among them.
type InviteList struct{}

// InviteListResponse answers invite_list, newest first.
type InviteListResponse struct {
	Invites []Invite `json:"invites"`
}

// InviteRevoke withdraws an invite, named by its id or its code; answered by an
// Ack, also if that was done before. Error: not_found.
type InviteRevoke struct {
	ID string `json:"id"`
}

// Invite is an invite as who runs the mesh sees it. Links and code are what lets
// somebody in, and are absent unless its state is open.
type Invite struct {
	ID        string   `json:"id"`
	State     string   `json:"state"` // open, used_up, expired or revoked
	Role      string   `json:"role"`
	Label     string   `json:"label"`
	Uses      int      `json:"uses"`
	MaxUses   int      `json:"maxUses"`
	CreatedAt string   `json:"createdAt"`
	ExpiresAt string   `json:"expiresAt"`           // RFC 3339, unlike expires_at in the token
	Code      string   `json:"code,omitempty"`      // 8 letters and digits
	ShortLink string   `json:"shortLink,omitempty"` // http(s)://host/i/<code>
	Link      string   `json:"link,omitempty"`      // http(s)://host/join/<token>
	QR        []string `json:"qr,omitempty"`        // of the short link: rows of "1" (dark) and "0", without a margin
	Joined    []Joined `json:"joined"`              // by it, oldest first
}

// Joined is a member who came by an invite.
type Joined struct {
	Name     string `json:"name"`
	Pubkey   string `json:"pubkey"` // "" while a place claimed by short code waits for its key
	JoinedAt string `json:"joinedAt"`
}

// MemberList asks for all members of the mesh, also revoked ones.
type MemberList struct{}

// MemberListResponse answers member_list, oldest member first.
type MemberListResponse struct {
	Members []MemberInfo `json:"members"`
}

// MemberInfo is one member as who runs the mesh sees it.
type MemberInfo struct {
	MemberID    string  `json:"memberId"`
	Pubkey      string  `json:"pubkey"` // its first 16 digits are the fingerprint that meshbox shows
	DisplayName string  `json:"displayName"`
	Role        string  `json:"role"` // owner, admin or member
	JoinedAt    string  `json:"joinedAt"`
	LastSeenAt  *string `json:"lastSeenAt"` // now, if it is connected
	Online      bool    `json:"online"`
	RevokedAt   *string `json:"revokedAt"`
}

// MeshRename gives the mesh another name, 1 to 31 of a-z, 0-9 and -. Links made
// before go on working. Answered by an Ack.
type MeshRename struct {
	Name string `json:"name"`
}

// Bounds of invites.
const (
	MaxInvites       = 200 // of one invite_list_response
	MaxInviteUses    = 1000
	MinInviteTTL     = 60                 // seconds
	MaxInviteTTL     = 365 * 24 * 60 * 60 // seconds
	DefaultInviteTTL = 7 * 24 * 60 * 60   // seconds
)

// Type implements Message.
func (*InviteCreate) Type() string       { return "invite_create" }
func (*InviteCreated) Type() string      { return "invite_created" }
func (*InviteList) Type() string         { return "invite_list" }
func (*InviteListResponse) Type() string { return "invite_list_response" }
func (*InviteRevoke) Type() string       { return "invite_revoke" }
func (*MemberList) Type() string         { return "member_list" }
func (*MemberListResponse) Type() string { return "member_list_response" }
func (*MeshRename) Type() string         { return "mesh_rename" }
