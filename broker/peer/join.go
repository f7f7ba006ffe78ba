package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"meshbox/broker/identity"
)

// Identity is what a member needs to come back: its key and where it belongs.
type Identity struct {
	MeshID      string
	MeshSlug    string
	BrokerURL   string // ws(s)://host[:port]/ws
	MemberID    string
	DisplayName string
	PeerType    string // ai, human or connector
	CertKey     string // of the certificate that the broker made for itself, see Trust; "" if an authority's is trusted
	Key         identity.Key
}

// joinTimeout bounds the HTTP requests of joining.
const joinTimeout = 15 * time.Second

// Invitation is an invite at hand: read, verified, ready to be used.
type Invitation struct {
	identity.Invite
	token string
	trust *trusted
}

// Resolve reads an invite link of any form. A short one it looks up at the
// broker. Errors are sentences for a person.
func Resolve(ctx context.Context, link string, trust Trust) (Invitation, error) {
	trusts := &trusted{trust: trust}
	parsed, err := identity.ParseLink(link)
	if err != nil {
		return Invitation{}, err
	}
	if parsed.Token == "" {
		if parsed.Token, err = lookUp(ctx, trusts.client(), parsed); err != nil {
			return Invitation{}, err
		}
	}
	invite, err := identity.ParseToken(parsed.Token)
	if err != nil {
		return Invitation{}, err
	}
	if !invite.Verify() {
		return Invitation{}, errors.New("the invite's signature does not verify; copy the whole link again, or ask for a new one")
	}
	return Invitation{Invite: invite, token: parsed.Token, trust: trusts}, nil
}

// Join makes key a member of the mesh that the invite is for. The same key
// joining again gets its membership back.
func (i Invitation) Join(ctx context.Context, displayName string, key identity.Key) (Identity, error) {
	memberID, err := i.post(ctx, displayName, key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{MeshID: i.MeshID, MeshSlug: i.MeshSlug, BrokerURL: i.BrokerURL, MemberID: memberID, DisplayName: displayName, CertKey: i.trust.get().Key, Key: key}, nil
}

// Join is Resolve and Invitation.Join in one.
func Join(ctx context.Context, link, displayName string, key identity.Key) (Identity, error) {
	invitation, err := Resolve(ctx, link, Trust{})
	if err != nil {
		return Identity{}, err
	}
	return invitation.Join(ctx, displayName, key)
}

// lookUp asks the broker for the token behind a short code.
func lookUp(ctx context.Context, client *http.Client, link identity.Link) (string, error) {
	var answer struct {
		Found bool   `json:"found"`
		Token string `json:"token"`
		Error string `json:"error"`
	}
	if err := call(ctx, client, http.MethodGet, link.Base+"/api/public/invite-code/"+url.PathEscape(link.Code), nil, &answer); err != nil {
		return "", err
	}
	if answer.Error != "" {
		return "", fmt.Errorf("%s answered: %s", link.Base, answer.Error)
	}
	if !answer.Found {
		return "", fmt.Errorf("there is no invite with the code %s at %s; ask for a new one", link.Code, link.Base)
	}
	return answer.Token, nil
}

func (i Invitation) post(ctx context.Context, displayName string, key identity.Key) (memberID string, err error) {
	base, err := HTTPBase(i.BrokerURL)
	if err != nil {
		return "", err
	}
	request := map[string]any{"invite_token": i.token, "invite_payload": i.Invite, "peer_pubkey": key.Public(), "display_name": displayName}
	var answer struct {
		OK       bool   `json:"ok"`
		MemberID string `json:"memberId"`
		Error    string `json:"error"`
	}
	if err := call(ctx, i.trust.client(), http.MethodPost, base+"/join", request, &answer); err != nil {
		return "", err
	}
	if !answer.OK {
		return "", errors.New(explainJoin(answer.Error))
	}
	return answer.MemberID, nil
}

// explainJoin makes a sentence of a join error code.
func explainJoin(code string) string {
	switch code {
	case "invite_expired":
		return "the invite has expired; ask for a new one (meshbox invite)"
	case "invite_exhausted":
		return "the invite was used already; ask for a new one (meshbox invite)"
	case "invite_revoked":
		return "the invite was withdrawn; ask for a new one (meshbox invite)"
	case "member_revoked":
		return "your key was removed from the mesh; an admin of it would have to restore it"
	case "invite_bad_signature", "invite_owner_mismatch", "invite_not_found", "invite_mesh_mismatch", "mesh_not_found":
		return "the broker does not know this invite (" + code + "); check the link, or ask for a new one"
	}
	return code
}

// HTTPBase derives http(s)://host[:port][/base] from a broker URL.
func HTTPBase(brokerURL string) (string, error) {
	u, err := url.Parse(brokerURL)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
		return "", fmt.Errorf("%q is no ws:// or wss:// URL", brokerURL)
	}
	u.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	u.Path = strings.TrimSuffix(u.Path, "/ws")
	return strings.TrimRight(u.String(), "/"), nil
}

// call does one JSON request. Answers with an error status are decoded too:
// they say why.
func call(ctx context.Context, client *http.Client, method, location string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, location, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return unreachable(request.URL.Scheme+"://"+request.URL.Host, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(answer); err != nil {
		return fmt.Errorf("%s answered %s, and not as a meshbox does; check the link", location, response.Status)
	}
	return nil
}

// dialError is the innermost reason of an error that net wraps in layers, each
// of which names the address again.
func dialError(err error) error {
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "dial" {
		return failed.Err
	}
	return err
}
