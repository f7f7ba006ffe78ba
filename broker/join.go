package broker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// Joining over HTTP (protocol section 8).

// joinRequest is the body of POST /join.
type joinRequest struct {
	InviteToken   string           `json:"invite_token"`
	InvitePayload *identity.Invite `json:"invite_payload"`
	PeerPubkey    string           `json:"peer_pubkey"`
	DisplayName   string           `json:"display_name"`
}

// joinResponse answers it: OK and MemberID, or Error.
type joinResponse struct {
	OK            bool   `json:"ok"`
	MemberID      string `json:"memberId,omitempty"`
	AlreadyMember bool   `json:"alreadyMember,omitempty"`
	Error         string `json:"error,omitempty"`
}

func (b *Broker) postJoin(w http.ResponseWriter, r *http.Request) {
	if problem := b.mayGuess(w, r); problem != nil {
		writeJSON(w, problem.status, joinResponse{Error: problem.problem.Message})
		return
	}
	var body joinRequest
	joined, err := b.join(r, &body)
	b.tried(r, err)
	switch {
	case err == nil:
		b.yieldKey(joined.Mesh.ID, body.PeerPubkey)
		if !joined.Already {
			b.joined(joined.Mesh.ID)
		}
		b.log.Info("joined", "mesh", joined.Mesh.ID, "member", joined.Member.ID, "already", joined.Already)
		writeJSON(w, http.StatusOK, joinResponse{OK: true, MemberID: joined.Member.ID, AlreadyMember: joined.Already})
	case store.IsTrouble(err):
		b.log.Error("join failed", "err", err)
		writeJSON(w, http.StatusServiceUnavailable, joinResponse{Error: "The broker can not write to its data file at the moment; try again later."})
	default:
		b.log.Info("join refused", "reason", err)
		writeJSON(w, http.StatusBadRequest, joinResponse{Error: err.Error()})
	}
}

// join does what POST /join asks for. Its errors are for the client, unless
// store.IsTrouble says otherwise.
func (b *Broker) join(r *http.Request, body *joinRequest) (store.Joined, error) {
	if err := json.NewDecoder(r.Body).Decode(body); err != nil {
		return store.Joined{}, errors.New("the body must be a JSON object with invite_token, peer_pubkey and display_name")
	}
	name := wire.CleanLine(body.DisplayName, wire.MaxNameLen)
	switch {
	case body.InviteToken == "":
		return store.Joined{}, errors.New("invite_token is missing: send the part of the invite link after /join/")
	case !identity.IsPublicKey(body.PeerPubkey):
		return store.Joined{}, errors.New("peer_pubkey must be an Ed25519 public key as 64 lowercase hex digits")
	case name == "":
		return store.Joined{}, errors.New("display_name is missing: send the name others shall see")
	}
	token, err := identity.ParseToken(body.InviteToken)
	if err != nil {
		return store.Joined{}, errInviteSignature
	}
	payload := token
	if body.InvitePayload != nil {
		payload = *body.InvitePayload
	}
	if !payload.Verify() {
		return store.Joined{}, errInviteSignature
	}
	return b.db.Join(store.Joining{
		MeshID: payload.MeshID, OwnerPubKey: payload.OwnerPubKey, Token: token.Token(), PubKey: body.PeerPubkey, DisplayName: name,
	}, time.Now())
}

// joined says that a member came by an invite.
func (b *Broker) joined(meshID string) {
	b.changed(meshID, wire.ChangedMembers)
	b.changed(meshID, wire.ChangedInvites)
}

var errInviteSignature = errors.New("invite_bad_signature")

// getInviteCode turns a short code into the token it stands for.
func (b *Broker) getInviteCode(w http.ResponseWriter, r *http.Request) {
	type found struct {
		Found bool   `json:"found"`
		Token string `json:"token,omitempty"`
		Error string `json:"error,omitempty"` // (ours)
	}
	if problem := b.mayGuess(w, r); problem != nil {
		writeJSON(w, problem.status, found{Error: problem.problem.Message})
		return
	}
	invite, err := b.db.InviteByCode(r.Context(), r.PathValue("code"))
	b.tried(r, err)
	writeJSON(w, http.StatusOK, found{Found: err == nil, Token: invite.Token})
}

// claimRequest is the body of POST /invites/{code}/claim.
type claimRequest struct {
	RecipientX25519 string `json:"recipient_x25519_pubkey"` // base64url
	PeerPubkey      string `json:"peer_pubkey"`             // hex (ours); "": bound by the first hello
	DisplayName     string `json:"display_name"`
}

// claimResponse answers it.
type claimResponse struct {
	SealedRootKey string `json:"sealed_root_key"` // base64url of crypto_box_seal
	MeshID        string `json:"mesh_id"`
	MemberID      string `json:"member_id"`
	OwnerPubkey   string `json:"owner_pubkey"`
	CanonicalV2   string `json:"canonical_v2"`
	MeshSlug      string `json:"mesh_slug"` // (ours)
}

func (b *Broker) postClaim(w http.ResponseWriter, r *http.Request) {
	if problem := b.mayGuess(w, r); problem != nil {
		claimFailed(w, problem.status, problem.problem.Message)
		return
	}
	var body claimRequest
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		claimFailed(w, http.StatusBadRequest, "malformed")
		return
	}
	recipient, err := base64.RawURLEncoding.DecodeString(trimPadding(body.RecipientX25519))
	if err != nil || len(recipient) != 32 || (body.PeerPubkey != "" && !identity.IsPublicKey(body.PeerPubkey)) {
		claimFailed(w, http.StatusBadRequest, "malformed")
		return
	}
	joined, sealed, err := b.claim(r, body, recipient)
	b.tried(r, err)
	if err != nil {
		b.log.Info("claim refused", "reason", err)
		status, code := claimError(err)
		claimFailed(w, status, code)
		return
	}
	b.yieldKey(joined.Mesh.ID, body.PeerPubkey)
	b.joined(joined.Mesh.ID)
	writeJSON(w, http.StatusOK, claimResponse{
		SealedRootKey: base64.RawURLEncoding.EncodeToString(sealed), MeshID: joined.Mesh.ID, MemberID: joined.Member.ID,
		OwnerPubkey: joined.Mesh.OwnerPubKey, MeshSlug: joined.Mesh.Slug,
		CanonicalV2: identity.CanonicalV2(joined.Mesh.ID, joined.Invite.ID, joined.Invite.ExpiresAt.Unix(), joined.Invite.Role, joined.Mesh.OwnerPubKey),
	})
}

// claim joins by a short code and seals the mesh's root key for the claimer.
// The key is sealed first: nobody may become a member by a request that then
// fails.
func (b *Broker) claim(r *http.Request, body claimRequest, recipient []byte) (joined store.Joined, sealed []byte, err error) {
	invite, err := b.db.InviteByCode(r.Context(), r.PathValue("code"))
	if err != nil {
		return joined, nil, err
	}
	mesh, err := b.db.MeshByID(r.Context(), invite.MeshID)
	if err != nil {
		return joined, nil, err
	}
	if token, err := identity.ParseToken(invite.Token); err != nil || !token.Verify() {
		return joined, nil, errInviteSignature
	}
	if sealed, err = identity.SealAnonymous(recipient, mesh.RootKey); err != nil {
		return joined, nil, errMalformedKey
	}
	name := wire.CleanLine(body.DisplayName, wire.MaxNameLen)
	if name == "" {
		name = "guest"
	}
	joined, err = b.db.Join(store.Joining{
		MeshID: mesh.ID, OwnerPubKey: mesh.OwnerPubKey, Token: invite.Token, PubKey: body.PeerPubkey, DisplayName: name,
	}, time.Now())
	return joined, sealed, err
}

var errMalformedKey = errors.New("malformed")

// claimError maps what went wrong to status and code (protocol section 8).
func claimError(err error) (status int, code string) {
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrInviteNotFound):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, store.ErrInviteRevoked), errors.Is(err, store.ErrMemberRevoked):
		return http.StatusGone, "revoked"
	case errors.Is(err, store.ErrInviteExpired):
		return http.StatusGone, "expired"
	case errors.Is(err, store.ErrInviteExhausted):
		return http.StatusGone, "exhausted"
	case errors.Is(err, errInviteSignature):
		return http.StatusBadRequest, "bad_signature"
	case errors.Is(err, errMalformedKey), errors.Is(err, store.ErrKeyTaken):
		return http.StatusBadRequest, "malformed"
	}
	return http.StatusServiceUnavailable, "busy"
}

func claimFailed(w http.ResponseWriter, status int, code string) {
	writeJSON(w, status, joinResponse{Error: code})
}

// trimPadding accepts base64url with padding too.
func trimPadding(s string) string {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	return s
}
