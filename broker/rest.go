package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"meshbox/broker/identity"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// REST for scripts (protocol, services, section 2): what can be done with an API
// key. Whoever has one acts as the member that issued it, in that member's mesh
// alone. The store is asked about the key with each request, so a key that was
// revoked, has expired or lost its member is none from then on.

// restRoutes are the endpoints, what a key must be allowed for each, and who answers.
func (b *Broker) restRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/messages", b.rest(store.KeySend, answering((*caller).postMessage)))
	mux.HandleFunc("GET /api/v1/topics", b.rest(store.KeyRead, answering((*caller).getTopics)))
	mux.HandleFunc("GET /api/v1/topics/{name}/messages", b.rest(store.KeyRead, answering((*caller).getMessages)))
	mux.HandleFunc("GET /api/v1/topics/{name}/stream", b.rest(store.KeyRead, (*caller).getStream))
	mux.HandleFunc("PATCH /api/v1/topics/{name}/read", b.rest(store.KeyRead, answering((*caller).patchRead)))
	mux.HandleFunc("GET /api/v1/members", b.rest(store.KeyRead, answering((*caller).getMembers)))
	mux.HandleFunc("GET /api/v1/peers", b.rest(store.KeyRead, answering((*caller).getPeers)))
	mux.HandleFunc("GET /api/v1/notifications", b.rest(store.KeyRead, answering((*caller).getNotifications)))
	mux.HandleFunc("POST /api/v1/notifications/read", b.rest(store.KeyRead, answering((*caller).postNotificationsRead)))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) { restUnknown(mux, w, r) })
}

// restUnknown answers for what is below /api/ and no endpoint, or not by this
// method.
func restUnknown(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
		probe := r.WithContext(r.Context()) // a copy
		probe.Method = method
		if _, pattern := mux.Handler(probe); strings.HasPrefix(pattern, method+" ") {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		writeProblem(w, &restError{status: http.StatusNotFound, problem: problem{Error: wire.NotFound, Message: "There is no such endpoint; the README lists them."}})
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, &restError{status: http.StatusMethodNotAllowed, problem: problem{Error: "method_not_allowed", Message: "This endpoint takes " + strings.Join(allowed, " or ") + "."}})
}

// caller is who holds the API key of a request.
type caller struct {
	*Broker
	log *slog.Logger
	key store.APIKey
	as  *presence // the member that issued it; no room knows this presence
}

// restHandler answers a request of a caller. An error is answered for it, if nothing
// was before.
type restHandler func(c *caller, w http.ResponseWriter, r *http.Request) error

// answering makes a restHandler of one whose answer is a JSON object.
func answering(handle func(c *caller, r *http.Request) (any, error)) restHandler {
	return func(c *caller, w http.ResponseWriter, r *http.Request) error {
		answer, err := handle(c, r)
		if err == nil {
			writeJSON(w, http.StatusOK, answer)
		}
		return err
	}
}

// rest is the way of every request: who holds the key, whether it may, whether it
// comes too often. Then the request counts as a connection for Drain, which waits
// for it.
func (b *Broker) rest(capability string, handle restHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !b.enter() {
			writeProblem(w, unavailable("meshbox is restarting; ask again in a moment."))
			return
		}
		defer b.serving.Done()
		c, err := b.authenticate(r, time.Now())
		if err == nil {
			err = c.may(capability, time.Now())
		}
		if err == nil {
			err = handle(c, w, r)
		}
		if err != nil && r.Context().Err() == nil { // else nobody waits for an answer
			writeProblem(w, b.problemOf(err, c))
		}
	}
}

// authenticate finds out who holds the key of a request. Neither the key nor the
// header is ever logged.
func (b *Broker) authenticate(r *http.Request, now time.Time) (*caller, error) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if secret = strings.TrimSpace(secret); secret == "" || !strings.EqualFold(scheme, "Bearer") {
		return nil, &restError{status: http.StatusUnauthorized, problem: problem{Code: "error.api_key_missing",
			Message: "Send the header Authorization: Bearer cm_…; meshbox token create makes a key."}}
	}
	if !isSecret(secret) {
		return nil, errInvalidKey
	}
	key, member, err := b.db.LiveAPIKey(r.Context(), store.HashAPIKey(secret), now)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errInvalidKey
	}
	if err != nil {
		return nil, err
	}
	b.uses.note(key.ID, member, now)
	return &caller{
		Broker: b, key: key, log: b.log.With("mesh", key.MeshID, "member", key.MemberID, "key", key.ID),
		as: &presence{meshID: key.MeshID, member: member, name: member.DisplayName, caps: identity.AllCaps(), visible: member.Visible},
	}, nil
}

var errInvalidKey = &restError{status: http.StatusUnauthorized, problem: problem{Code: "error.api_key_invalid",
	Message: "This API key is unknown, revoked or expired, or its member was removed; meshbox token create makes a new one."}}

// newRequestRates bound the requests of a member, all its keys together, by five
// for each message that it may send: one that asks in a loop must not keep others
// from reading. Messages count against their own rate besides.
func newRequestRates(l Limits) *buckets {
	const perSend = 5
	limit := rate.Limit(perSend * l.SendRate)
	if l.SendRate <= 0 {
		limit = rate.Inf
	}
	return newBuckets(limit, perSend*max(1, l.SendBurst), 0)
}

// may says why the key may not do what needs a capability, or not now.
func (c *caller) may(capability string, now time.Time) error {
	if !c.key.Allows(capability) {
		return &restError{status: http.StatusForbidden, problem: problem{Code: "error.api_key_missing_capability",
			Message: fmt.Sprintf("This API key lacks the capability %s; make one with meshbox token create --cap %s.", capability, capability)}}
	}
	if wait := c.asked.take(c.as.member.ID, now); wait > 0 {
		return tooManyRequests("These are too many requests.", wait)
	}
	return nil
}

// topic returns the topic of a name or id, if it is this key's to touch, and the
// member's role in it. A key that is confined to some topics does not learn which
// others there are.
func (c *caller) topic(ctx context.Context, ref string) (store.Topic, string, error) {
	ref = strings.TrimPrefix(ref, "#")
	topic, role, err := c.db.Topic(ctx, c.as.meshID, c.as.member.ID, ref)
	switch {
	case errors.Is(err, store.ErrNotFound) && !c.key.InScope(ref), err == nil && !c.key.InScope(topic.Name):
		return topic, "", &restError{status: http.StatusForbidden, problem: problem{Code: "error.api_key_topic_out_of_scope",
			Message: "This API key is confined to other topics; make one with meshbox token create --topic."}}
	case errors.Is(err, store.ErrNotFound):
		return topic, "", &restError{status: http.StatusNotFound, problem: problem{Error: wire.TopicNotFound, Topic: short(ref),
			Message: "There is no such topic here, or it is private; GET /api/v1/topics lists those you may see."}}
	}
	return topic, role, err
}

// restError is an answer that is not 200.
type restError struct {
	status  int
	problem problem
	wait    time.Duration // then it may be tried again; 0: not said
}

// problem is the body of such an answer: a code or an error for programs, and a
// sentence (ours).
type problem struct {
	Code    string `json:"code,omitempty"`  // of the key
	Error   string `json:"error,omitempty"` // of the rest
	Topic   string `json:"topic,omitempty"`
	Message string `json:"message"`
}

func (e *restError) Error() string { return e.problem.Code + e.problem.Error }

func badRequest(sentence string, args ...any) *restError {
	return &restError{status: http.StatusBadRequest, problem: problem{Error: wire.InvalidArgs, Message: fmt.Sprintf(sentence, args...)}}
}

func forbidden(sentence string) *restError {
	return &restError{status: http.StatusForbidden, problem: problem{Error: wire.Forbidden, Message: sentence}}
}

func unavailable(sentence string) *restError {
	return &restError{status: http.StatusServiceUnavailable, problem: problem{Error: wire.Busy, Message: sentence}, wait: time.Second}
}

func tooManyRequests(sentence string, wait time.Duration) *restError {
	return &restError{status: http.StatusTooManyRequests, problem: problem{Error: wire.RateLimit,
		Message: fmt.Sprintf("%s Try again in %d s.", sentence, wholeSeconds(wait))}, wait: wait}
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// problemOf makes an answer of an error. What is no fault of the caller's is logged.
// c is nil if nobody knows who calls.
func (b *Broker) problemOf(err error, c *caller) *restError {
	if known, ok := errors.AsType[*restError](err); ok {
		return known
	}
	log := b.log
	if c != nil {
		log = c.log
	}
	log.Error("request failed", "err", err)
	if store.IsTrouble(err) {
		return unavailable("The broker can not use its data file at the moment; try again later.")
	}
	return &restError{status: http.StatusInternalServerError, problem: problem{Error: wire.Internal, Message: "The broker could not do this; its log says why."}}
}

func writeProblem(w http.ResponseWriter, e *restError) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeWithRetry(w, e, e.problem)
}

// writeWithRetry writes the body of such an answer, and when it may be tried again.
func writeWithRetry(w http.ResponseWriter, e *restError, body any) {
	if e.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(e.wait)))
	}
	writeJSON(w, e.status, body)
}

// readBody reads the JSON object of a request into body.
func readBody(r *http.Request, body any) error {
	err := json.NewDecoder(r.Body).Decode(body)
	if err == nil {
		return nil
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(large.Limit)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return badRequest("The field %q must not be a JSON %s.", short(wrong.Field), wrong.Value)
	}
	return badRequest("The body must be one JSON object.")
}

func tooLarge(limit int64) *restError {
	return &restError{status: http.StatusRequestEntityTooLarge, problem: problem{Error: wire.PayloadTooLarge,
		Message: fmt.Sprintf("This is larger than %d bytes; send less, or in parts.", limit)}}
}

// bodyLimit is how many bytes the body of a request may have. A text may be twice as
// long in JSON as it is.
func (b *Broker) bodyLimit(r *http.Request) int64 {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/api/v1/"):
		return int64(2*b.cfg.Limits.MaxMessage + wire.FrameOverhead)
	case strings.HasPrefix(path, hookPath) && path != statusPath:
		return maxDelivery
	}
	return maxBody
}
