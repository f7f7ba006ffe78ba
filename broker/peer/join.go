package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	Key         identity.Key
}

// joinTimeout bounds the HTTP requests of joining.
const joinTimeout = 15 * time.Second

// Join makes key a member of the mesh that link invites to. The same key
// joining again gets its membership back. Errors are sentences for a person.
func Join(ctx context.Context, link, displayName string, key identity.Key) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	parsed, err := identity.ParseLink(link)
	if err != nil {
		return Identity{}, err
	}
	if parsed.Token == "" {
		if parsed.Token, err = lookUp(ctx, parsed); err != nil {
			return Identity{}, err
		}
	}
	invite, err := identity.ParseToken(parsed.Token)
	if err != nil {
		return Identity{}, err
	}
	if !invite.Verify() {
		return Identity{}, errors.New("the invite's signature does not verify; copy the whole link again, or ask for a new one")
	}
	memberID, err := postJoin(ctx, invite, parsed.Token, displayName, key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{MeshID: invite.MeshID, MeshSlug: invite.MeshSlug, BrokerURL: invite.BrokerURL, MemberID: memberID, DisplayName: displayName, Key: key}, nil
}

// lookUp asks the broker for the token behind a short code.
func lookUp(ctx context.Context, link identity.Link) (string, error) {
	var answer struct {
		Found bool   `json:"found"`
		Token string `json:"token"`
	}
	if err := call(ctx, http.MethodGet, link.Base+"/api/public/invite-code/"+url.PathEscape(link.Code), nil, &answer); err != nil {
		return "", err
	}
	if !answer.Found {
		return "", fmt.Errorf("there is no invite with the code %s at %s; ask for a new one", link.Code, link.Base)
	}
	return answer.Token, nil
}

func postJoin(ctx context.Context, invite identity.Invite, token, displayName string, key identity.Key) (memberID string, err error) {
	base, err := HTTPBase(invite.BrokerURL)
	if err != nil {
		return "", err
	}
	request := map[string]any{"invite_token": token, "invite_payload": invite, "peer_pubkey": key.Public(), "display_name": displayName}
	var answer struct {
		OK       bool   `json:"ok"`
		MemberID string `json:"memberId"`
		Error    string `json:"error"`
	}
	if err := call(ctx, http.MethodPost, base+"/join", request, &answer); err != nil {
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
func call(ctx context.Context, method, location string, body, answer any) error {
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
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("cannot reach the broker: %w; is it running?", err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(answer); err != nil {
		return fmt.Errorf("%s answered %s, which is no meshbox answer; check the link", location, response.Status)
	}
	return nil
}
