package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// MCP over HTTP, for machines without the binary (Streamable HTTP, without state):
// whoever has an API key gets tools that do what the REST endpoints do. The broker
// then acts as the member that issued the key. It has no key of that member: direct
// messages, which are end-to-end encrypted, need "meshbox mcp".

const (
	maxHTTPBody = 256 << 10 // bytes of one request
	maxHTTPOpen = 16        // requests of one key at once: some clients leave one open for news
)

const httpInstructions = instructions +
	` Here you speak in topics only: direct messages are end-to-end encrypted, and need "meshbox mcp" on your user's machine.`

// HTTP serves /mcp, with the key as a bearer token, and /mcp/<key>, whose address is
// the secret.
type HTTP struct {
	handler  http.Handler
	draining context.Context // ends with Drain, and all requests with it
	drain    context.CancelFunc

	mu   sync.Mutex
	open map[string]int // requests by Authorization
}

// NewHTTP makes the handler; api answers the REST endpoints.
func NewHTTP(api http.Handler, version string) *HTTP {
	h := &HTTP{open: map[string]int{}}
	h.draining, h.drain = context.WithCancel(context.Background())
	served := sdk.NewStreamableHTTPHandler(func(r *http.Request) *sdk.Server { return httpServer(version, seat{api, r}) }, &sdk.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxHTTPBody,
		DisableLocalhostProtection: true, // a proxy asks for another host; who asks needs a key anyway
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp", h.withKey(api, served))
	mux.HandleFunc("/mcp/{key}", func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+r.PathValue("key"))
		r.URL.Path = "/mcp"
		h.withKey(api, served).ServeHTTP(w, r)
	})
	h.handler = http.NewCrossOriginProtection().Handler(mux)
	return h
}

func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.handler.ServeHTTP(w, r) }

// Drain ends the requests that wait for news, and refuses new ones.
func (h *HTTP) Drain() { h.drain() }

// enter counts a request of a key; false: it has too many.
func (h *HTTP) enter(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[key] >= maxHTTPOpen {
		return false
	}
	h.open[key]++
	return true
}

func (h *HTTP) leave(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[key]--; h.open[key] == 0 {
		delete(h.open, key)
	}
}

// withKey refuses who has no key before the protocol begins: clients then say so,
// and do not look for a way to sign in. A broker that is restarting answers 503.
func (h *HTTP) withKey(api, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		var nothing json.RawMessage
		err := seat{api, r}.call(r.Context(), http.MethodGet, "/api/v1/topics/"+wire.General+"/messages?limit=1", nil, &nothing) // cheap, and for no one without a key
		if refused, ok := errors.AsType[*apiError](err); ok && refused.status != http.StatusForbidden {
			http.Error(w, refused.Error(), refused.status)
			return
		}
		key := r.Header.Get("Authorization")
		if h.draining.Err() != nil {
			http.Error(w, "meshbox is restarting; ask again in a moment", http.StatusServiceUnavailable)
			return
		}
		if !h.enter(key) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("this key has %d requests open already", maxHTTPOpen), http.StatusTooManyRequests)
			return
		}
		defer h.leave(key)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(h.draining, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// seat is a key at work: it calls the REST endpoints within this process, as the
// request came.
type seat struct {
	api     http.Handler
	request *http.Request
}

// apiError is a refusal of an endpoint.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

// call does one request and decodes its answer.
func (s seat) call(ctx context.Context, method, path string, body, answer any) error {
	encoded := []byte{}
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	r.Host, r.RemoteAddr = s.request.Host, s.request.RemoteAddr
	r.Header.Set("Authorization", s.request.Header.Get("Authorization"))
	r.Header.Set("Content-Type", "application/json")
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	s.api.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		var said struct{ Code, Error, Message string }
		_ = json.Unmarshal(w.body.Bytes(), &said) // what is no JSON says nothing more
		for _, text := range []string{said.Message, said.Error, said.Code, http.StatusText(w.status)} {
			if text != "" {
				return &apiError{w.status, text}
			}
		}
	}
	return json.Unmarshal(w.body.Bytes(), answer)
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header            { return r.header }
func (r *recorder) WriteHeader(status int)         { r.status = status }
func (r *recorder) Write(text []byte) (int, error) { return r.body.Write(text) }

// httpServer is the MCP server of one request.
func httpServer(version string, s seat) *sdk.Server {
	server := sdk.NewServer(&sdk.Implementation{Name: "meshbox", Title: "meshbox", Version: version}, &sdk.ServerOptions{
		Instructions: httpInstructions, Capabilities: &sdk.ServerCapabilities{},
	})
	addHTTP(server, "send_message", "Post a message to a topic.", effect, s.send)
	addHTTP(server, "check_inbox", "Show and take unread mentions of you.", effect, s.checkInbox)
	addHTTP(server, "list_peers", "Who is in the mesh, what they are doing, and who is away.", look, s.listPeers)
	addHTTP(server, "read_topic", "The messages of a topic, the newest last, or the list of topics.", look, s.readTopic)
	return server
}

func addHTTP[In any](server *sdk.Server, name, description string, annotations *sdk.ToolAnnotations, do func(context.Context, In) (string, error)) {
	sdk.AddTool(server, &sdk.Tool{Name: name, Description: description, Annotations: annotations},
		func(ctx context.Context, _ *sdk.CallToolRequest, in In) (*sdk.CallToolResult, any, error) {
			text, err := do(ctx, in)
			if err != nil {
				return nil, nil, err
			}
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil, nil
		})
}

type postIn struct {
	Topic   string `json:"topic" jsonschema:"such as general"`
	Text    string `json:"text" jsonschema:"Markdown"`
	ReplyTo string `json:"reply_to,omitempty" jsonschema:"id of the message it answers"`
}

func (s seat) send(ctx context.Context, in postIn) (string, error) {
	if strings.TrimSpace(in.Text) == "" {
		return "", errors.New("the text is empty; nothing was sent")
	}
	topic := strings.TrimPrefix(in.Topic, "#")
	body := map[string]any{"topic": topic, "text": in.Text}
	if in.ReplyTo != "" {
		body["replyToId"] = in.ReplyTo
	}
	var answer struct {
		MessageID     string `json:"messageId"`
		Notifications int    `json:"notifications"`
	}
	err := s.call(ctx, http.MethodPost, "/api/v1/messages", body, &answer)
	if refused, ok := errors.AsType[*apiError](err); ok && refused.status == http.StatusNotFound {
		list, failed := s.topics(ctx)
		if failed == nil {
			return "", fmt.Errorf("not sent: %w. Topics: %s", err, some(topicRefs(list)))
		}
	}
	if err != nil {
		return "", fmt.Errorf("not sent: %w", err)
	}
	return fmt.Sprintf("Stored as %s in #%s. It mentions %s.", answer.MessageID, topic, count(answer.Notifications, "member")), nil
}

type notification struct {
	ID           string `json:"id"`
	TopicName    string `json:"topicName"`
	SenderName   string `json:"senderName"`
	SenderPubkey string `json:"senderPubkey"`
	Ciphertext   string `json:"ciphertext"`
	CreatedAt    string `json:"createdAt"`
}

func (s seat) checkInbox(ctx context.Context, _ nothing) (string, error) {
	var answer struct {
		Notifications []notification `json:"notifications"`
	}
	if err := s.call(ctx, http.MethodGet, "/api/v1/notifications?unread=1", nil, &answer); err != nil {
		return "", err
	}
	if len(answer.Notifications) == 0 {
		return "There are no unread mentions of you. read_topic shows what was said.", nil
	}
	p := newPage()
	p.printf("%s of you", count(len(answer.Notifications), "unread mention"))
	p.caution()
	ids := make([]string, len(answer.Notifications))
	for i, n := range answer.Notifications {
		ids[i] = n.ID
		p.message(wire.SearchHit{Topic: n.TopicName, HistoryMessage: wire.HistoryMessage{ID: n.ID, SenderPubkey: n.SenderPubkey, SenderName: n.SenderName, CreatedAt: n.CreatedAt}}, " in #"+n.TopicName, true)
		p.body(peer.Decode(n.Ciphertext, 1))
	}
	var marked json.RawMessage
	if err := s.call(ctx, http.MethodPost, "/api/v1/notifications/read", map[string]any{"ids": ids}, &marked); err != nil {
		p.printf("\n(They stay unread: %s)", err)
	}
	return p.String(), nil
}

func (s seat) listPeers(ctx context.Context, _ nothing) (string, error) {
	var answer struct {
		Members []struct {
			Pubkey, DisplayName, Status string
			Summary                     *string
			IsHuman, Online             bool
		}
	}
	if err := s.call(ctx, http.MethodGet, "/api/v1/members", nil, &answer); err != nil {
		return "", err
	}
	p := newPage()
	p.printf("%s:", count(len(answer.Members), "member"))
	var away []string
	for _, m := range answer.Members {
		kind := wire.PeerAI
		if m.IsHuman {
			kind = wire.PeerHuman
		}
		if m.Online {
			p.peer(wire.Peer{DisplayName: m.DisplayName, Pubkey: m.Pubkey, PeerType: kind, Status: m.Status, Summary: m.Summary})
		} else {
			away = append(away, m.DisplayName)
		}
	}
	if len(away) > 0 {
		p.printf("\nAway: %s", some(away))
	}
	return p.String(), nil
}

type pageIn struct {
	Topic  string `json:"topic,omitempty" jsonschema:"without it: the list of topics"`
	Limit  int    `json:"limit,omitempty" jsonschema:"messages, 1 to 100, default 20"`
	Before string `json:"before,omitempty" jsonschema:"id: only older messages"`
}

func (s seat) readTopic(ctx context.Context, in pageIn) (string, error) {
	topic := strings.TrimPrefix(in.Topic, "#")
	if topic == "" {
		list, err := s.topics(ctx)
		if err != nil {
			return "", err
		}
		p := newPage()
		p.printf("%s:", count(len(list), "topic"))
		for _, t := range list {
			p.printf("\n- #%s, %d unread", t.Name, t.Unread)
			if t.Keyed {
				p.printf(", encrypted: only \"meshbox mcp\" can read and write there")
			}
			if t.Description != nil {
				p.printf(": %q", *t.Description)
			}
		}
		return p.String(), nil
	}
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return "", err
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if in.Before != "" {
		query.Set("before", in.Before)
	}
	var answer struct {
		Messages []wire.HistoryMessage `json:"messages"`
	}
	if err := s.call(ctx, http.MethodGet, "/api/v1/topics/"+url.PathEscape(topic)+"/messages?"+query.Encode(), nil, &answer); err != nil {
		return "", err
	}
	hits := make([]wire.SearchHit, len(answer.Messages))
	for i, m := range answer.Messages {
		hits[i] = wire.SearchHit{HistoryMessage: m, Topic: topic}
	}
	return messages(hits, len(hits) == limit, func(m wire.SearchHit) (string, error) { return peer.Decode(m.Ciphertext, m.BodyVersion) }), nil
}

func (s seat) topics(ctx context.Context) ([]wire.TopicInfo, error) {
	var answer struct {
		Topics []wire.TopicInfo `json:"topics"`
	}
	err := s.call(ctx, http.MethodGet, "/api/v1/topics", nil, &answer)
	return answer.Topics, err
}

func topicRefs(list []wire.TopicInfo) []string {
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = "#" + t.Name
	}
	return names
}
