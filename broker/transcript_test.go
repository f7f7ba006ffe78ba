package broker

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// transcript replays what existing clients send; see the head of the file.
type transcript struct {
	h      *house
	t      *testing.T
	values map[string]string // by $word
	people map[string]peer.Identity
	socket *raw
	others []*guest // of the block
}

func TestExistingClientsGetTheShapesTheyKnow(t *testing.T) {
	text, err := os.ReadFile("../testdata/wire/existing-clients.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t)
	tr := &transcript{h: h, t: t, values: map[string]string{}, people: map[string]peer.Identity{}}
	tr.join("alice", store.RoleAdmin)
	tr.join("bob", store.RoleMember)
	for _, block := range strings.Split(string(text), "\n## ")[1:] {
		name, lines, _ := strings.Cut(block, "\n")
		t.Run(name, func(t *testing.T) {
			tr.t, h.t = t, t
			for line := range strings.Lines(lines) {
				tr.step(strings.TrimSpace(line))
			}
			tr.leave()
		})
	}
	h.t = t
}

// join posts what "claudemesh join" does: token and payload.
func (tr *transcript) join(name, role string) {
	key := identity.NewKey()
	token := tr.h.invite(InviteTerms{Role: role}).Token
	payload, err := identity.ParseToken(token)
	if err != nil {
		tr.t.Fatal(err)
	}
	status, answer := tr.h.post("/join", map[string]any{"invite_token": token, "invite_payload": payload, "peer_pubkey": key.Public(), "display_name": name})
	id, ok := answer["memberId"].(string)
	if status != 200 || answer["ok"] != true || !ok || !regexp.MustCompile(`^[A-Za-z0-9]{25,32}$`).MatchString(id) {
		tr.t.Fatalf("join: %d %v", status, answer)
	}
	tr.values["$"+name+"_key"], tr.values["$"+name+"_id"] = key.Public(), id
	tr.people[name] = peer.Identity{MeshID: tr.h.mesh.ID, MemberID: id, DisplayName: name, Key: key, BrokerURL: BrokerURL(tr.h.url)}
}

func (tr *transcript) step(line string) {
	tr.t.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "as":
		tr.connect(rest)
	case "with":
		id := tr.people[rest]
		tr.others = append(tr.others, tr.h.dial(id, peer.Options{Session: identity.NewKey()}), tr.h.dial(id, peer.Options{}))
	case ">":
		tr.socket.sendText(tr.fill(rest))
	case "<":
		var want any
		if err := json.Unmarshal([]byte(rest), &want); err != nil {
			tr.t.Fatalf("%s: %v", rest, err)
		}
		got := tr.answer()
		if problem := tr.match(want, map[string]any(got), ""); problem != "" {
			tr.t.Fatalf("%s\nwant %s\ngot  %v", problem, rest, got)
		}
	}
}

// connect says the hello of a one-shot command.
func (tr *transcript) connect(name string) {
	tr.socket = tr.h.raw()
	session := identity.NewKey().Public()
	tr.socket.send(memberHello(tr.people[name], time.Now(), func(m *wire.Hello) {
		m.SessionPubkey, m.CWD, m.Hostname, m.PeerType, m.Channel = &session, "/home/"+name+"/project", "vm", "ai", "claude-code"
	}))
	var shape any
	_ = json.Unmarshal([]byte(`{"type":"hello_ack","presenceId":"…","memberDisplayName":"…","memberProfile":{"roleTag":null,"groups":[],"messageMode":"push"},"services":[]}`), &shape)
	if problem := tr.match(shape, map[string]any(tr.socket.frame()), ""); problem != "" {
		tr.t.Fatal(problem)
	}
}

// leave closes without a code, as they do, once all was handled.
func (tr *transcript) leave() {
	tr.socket.sendText(`{"type":"list_peers","_reqId":"bye"}`)
	for tr.answer()["_reqId"] != "bye" {
	}
	tr.socket.CloseNow()
	for _, g := range tr.others {
		g.Close()
	}
	tr.others = nil
	eventually(tr.t, "nobody is left", func() bool { return tr.h.countPresences() == 0 })
}

func (tr *transcript) answer() map[string]any {
	tr.t.Helper()
	for {
		if frame := tr.socket.frame(); frame["type"] != "push" {
			return frame
		}
	}
}

var word = regexp.MustCompile(`\$\w+`)

func (tr *transcript) fill(text string) string {
	return word.ReplaceAllStringFunc(text, func(w string) string { return tr.values[w] })
}

// match says where got is not what want allows.
func (tr *transcript) match(want, got any, where string) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %v is no object", where, got)
		}
		for key, value := range want {
			field, present := object[key]
			if !present {
				return where + "." + key + " is missing"
			}
			if problem := tr.match(value, field, where+"."+key); problem != "" {
				return problem
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s: %v is no list of %d", where, got, len(want))
		}
		for i := range want {
			if problem := tr.match(want[i], list[i], fmt.Sprintf("%s[%d]", where, i)); problem != "" {
				return problem
			}
		}
	case nil:
		if _, isText := got.(string); got != nil && !isText {
			return fmt.Sprintf("%s: %v is neither null nor text", where, got)
		}
	case string:
		return tr.matchText(want, got, where)
	default:
		if want != got {
			return fmt.Sprintf("%s: %v, want %v", where, got, want)
		}
	}
	return ""
}

func (tr *transcript) matchText(want string, got any, where string) string {
	text, ok := got.(string)
	if !ok {
		return fmt.Sprintf("%s: %v is no text", where, got)
	}
	if known, seen := tr.values[want]; seen {
		want = known
	} else if strings.HasPrefix(want, "$") {
		tr.values[want] = text
		return ""
	}
	if want != "…" && want != text {
		return fmt.Sprintf("%s: %q, want %q", where, text, want)
	}
	return ""
}
