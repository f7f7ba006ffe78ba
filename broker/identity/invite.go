package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxTokenChars bounds an invite token. Real ones have about 700 characters.
const maxTokenChars = 8192

// inviteVersion is the only version of invite whose token this package reads and verifies (§8).
const inviteVersion = 1

// Invite is a mesh owner's signed offer to join (§8).
type Invite struct {
	V           int    `json:"v"` // 1
	MeshID      string `json:"mesh_id"`
	MeshSlug    string `json:"mesh_slug"`
	BrokerURL   string `json:"broker_url"`    // ws:// or wss://, ending in /ws
	ExpiresAt   int64  `json:"expires_at"`    // Unix s
	MeshRootKey string `json:"mesh_root_key"` // opaque here
	Role        string `json:"role"`          // "admin" or "member"; the broker's stored invite decides, not this
	OwnerPubKey string `json:"owner_pubkey"`  // 64 lowercase hex, the signer
	Signature   string `json:"signature"`     // 128 lowercase hex, by OwnerPubKey over Canonical

	// InviteID is ours, and not signed: the signed fields of two invites made in one second on the same
	// terms are the same, and so would their tokens be, of which each stands for uses of its own.
	InviteID string `json:"invite_id,omitempty"`
}

// Canonical returns the bytes the owner signs:
// <v>|<mesh_id>|<mesh_slug>|<broker_url>|<expires_at>|<mesh_root_key>|<role>|<owner_pubkey>.
func (i Invite) Canonical() string {
	return join(strconv.Itoa(i.V), i.MeshID, i.MeshSlug, i.BrokerURL,
		strconv.FormatInt(i.ExpiresAt, 10), i.MeshRootKey, i.Role, i.OwnerPubKey)
}

// Sign sets OwnerPubKey to owner's public key, whatever it was, and Signature to owner's over
// Canonical. An invite that names one owner and is signed by another verifies nowhere, so there is
// nothing to gain from leaving the field to the caller.
func (i *Invite) Sign(owner Key) {
	i.OwnerPubKey = owner.Public()
	i.Signature = owner.Sign(i.Canonical())
}

// Verify reports whether the invite is of version 1, signed by OwnerPubKey, and can be read in one way
// only. It does not look at ExpiresAt, nor at who owns the mesh: the first needs a clock, the second
// the broker's word.
func (i Invite) Verify() bool {
	return i.V == inviteVersion && !i.isAmbiguous() && VerifyHex(i.OwnerPubKey, i.Canonical(), i.Signature)
}

// isAmbiguous reports whether a field contains the delimiter of the signed text, so that a holder of
// the invite could move text from one field to its neighbour under the same signature.
func (i Invite) isAmbiguous() bool {
	return strings.Contains(i.MeshID+i.MeshSlug+i.BrokerURL+i.MeshRootKey+i.Role, delimiter)
}

// Token returns the invite as text to hand on: base64url, without padding, of its JSON.
func (i Invite) Token() string {
	text, err := json.Marshal(i)
	if err != nil {
		panic("identity: an invite of strings and integers did not marshal: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParseToken reads a token, with or without padding, and with white space anywhere. Its error is a sentence
// for the person who pasted it. A token that parses is not verified: see Invite.Verify. Names that
// JSON repeats or spells in another case are harmless, because what is verified is the Invite
// returned here, never the JSON.
func ParseToken(token string) (Invite, error) {
	text, err := decodeToken(token)
	if err != nil {
		return Invite{}, err
	}
	var invite Invite
	if err := json.Unmarshal(text, &invite); err != nil {
		return Invite{}, errors.New("the invite token does not contain an invite; ask for a new link")
	}
	if invite.V != inviteVersion {
		return Invite{}, fmt.Errorf("the invite is of version %d, and only version %d is supported; update meshbox or ask for a new link", invite.V, inviteVersion)
	}
	if field := invite.missing(); field != "" {
		return Invite{}, fmt.Errorf("the invite has no %s; ask for a new link", field)
	}
	return invite, nil
}

// decodeToken returns the JSON text of a token.
func decodeToken(token string) ([]byte, error) {
	token = trimToken(token)
	switch {
	case token == "":
		return nil, errors.New("the invite token is empty; copy the whole link")
	case len(token) > maxTokenChars:
		return nil, fmt.Errorf("the invite token has more than %d characters; copy the link alone", maxTokenChars)
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, errors.New("the invite token is damaged; copy the whole link, without what stands around it")
	}
	return text, nil
}

// trimToken drops padding and all white space, also that which a mail program put inside by wrapping.
func trimToken(token string) string {
	return strings.TrimRight(strings.Join(strings.Fields(token), ""), "=")
}

// missing names a field that is empty although a client can not go on without it, or returns "". The
// shapes of fields are for Verify, whose failure has a code in the protocol.
func (i Invite) missing() string {
	switch "" {
	case i.MeshID:
		return "mesh_id"
	case i.BrokerURL:
		return "broker_url"
	case i.OwnerPubKey:
		return "owner_pubkey"
	case i.Signature:
		return "signature"
	}
	return ""
}

// CanonicalV2 returns the text that stands for an invite in the answer to a claim by short code (§8):
// v=2|<mesh_id>|<invite_id>|<expires_at>|<role>|<owner_pubkey>, with expiresAt in Unix s.
func CanonicalV2(meshID, inviteID string, expiresAt int64, role, ownerPubKey string) string {
	return join("v=2", meshID, inviteID, strconv.FormatInt(expiresAt, 10), role, ownerPubKey)
}
