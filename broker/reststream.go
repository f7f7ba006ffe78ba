package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	heartbeatEvery = 30 * time.Second
	retryStream    = 10 * time.Second // when there are too many
)

// getStream sends what is said in a topic as server-sent events, until the reader
// goes, the key works no more or the broker drains. It starts with what is posted
// after ready was sent, or behind the message that Last-Event-ID names. Being
// streamed a message delivers it to nobody: the member's connections still get it.
func (c *caller) getStream(w http.ResponseWriter, r *http.Request) error {
	topic, _, err := c.topic(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	s := &stream{
		topicID: topic.ID, keyID: c.key.ID, memberID: c.as.member.ID, bell: make(chan struct{}, 1),
		out: http.NewResponseController(w), w: w,
	}
	if !c.streams.add(s) {
		return tooManyRequests("Too many streams are open.", retryStream)
	}
	defer c.streams.remove(s)
	// The doorbell is there before the cursor: what comes in between rings it.
	cursor, err := c.place(r.Context(), topic.ID, r.Header.Get("Last-Event-ID"))
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	w.WriteHeader(http.StatusOK)
	ready := event("ready", "", map[string]string{"topic": topic.Name, "topicId": topic.ID, "connectedAt": wire.Time(time.Now())})
	if err := s.write(ready, c.cfg.Limits.WriteTimeout); err == nil {
		err = c.follow(r, s, cursor)
		c.log.Debug("stream ended", "err", err)
	}
	return nil // the answer has begun
}

// place is the seq behind which a stream begins: that of a message, or the newest.
func (c *caller) place(ctx context.Context, topicID, lastID string) (int64, error) {
	if lastID == "" {
		return c.db.TopicEnd(ctx, topicID)
	}
	seq, err := c.db.TopicPlace(ctx, topicID, lastID)
	if errors.Is(err, store.ErrNotFound) {
		err = badRequest("The topic has no message with the id given as Last-Event-ID; leave it out to begin with what comes.")
	}
	return seq, err
}

// follow writes what comes after cursor until something ends the stream, and
// returns what.
func (c *caller) follow(r *http.Request, s *stream, cursor int64) error {
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	expiry := make(<-chan time.Time)
	if !c.key.ExpiresAt.IsZero() {
		timer := time.NewTimer(time.Until(c.key.ExpiresAt))
		defer timer.Stop()
		expiry = timer.C
	}
	for {
		select {
		case <-c.streams.ending:
			return errDraining
		default: // also while there is always more to write
		}
		next, err := c.pass(r, s, cursor)
		if err != nil {
			return err
		}
		if next != cursor {
			cursor = next
			continue // there may be more
		}
		select {
		case <-s.bell:
		case <-expiry:
		case now := <-heartbeat.C:
			err = s.write(event("heartbeat", "", map[string]string{"at": wire.Time(now)}), c.cfg.Limits.WriteTimeout)
		case <-c.streams.ending:
			err = errDraining
		case <-r.Context().Done():
			err = r.Context().Err()
		}
		if err != nil {
			return err
		}
	}
}

var errDraining = errors.New("the broker drains")

// pass writes one page of what comes after cursor and returns the new one. Whether
// the key still may read the topic is asked after the page was read: nothing that
// was said after it might not any more is written.
func (c *caller) pass(r *http.Request, s *stream, cursor int64) (int64, error) {
	page, err := c.db.TopicAfter(r.Context(), s.topicID, s.memberID, cursor, feedPage)
	if err != nil {
		return cursor, err
	}
	now, err := c.authenticate(r, time.Now())
	if err == nil {
		_, _, err = now.topic(r.Context(), s.topicID)
	}
	if err != nil || len(page) == 0 {
		return cursor, err
	}
	var events []byte
	for _, m := range page {
		events = append(events, event("message", m.ID, restMessageOf(m))...)
	}
	return page[len(page)-1].Seq, s.write(events, c.cfg.Limits.WriteTimeout)
}

// event is one server-sent event. JSON holds no line breaks, ids are letters and
// digits.
func event(name, id string, data any) []byte {
	text, err := json.Marshal(data)
	if err != nil {
		panic("broker: " + err.Error()) // only structs and maps of ours come here
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return fmt.Appendf(nil, "event: %s\n%sdata: %s\n\n", name, id, text)
}
