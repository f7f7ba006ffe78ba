package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

const (
	maxSearches = 2               // at a time: whoever searches must not keep others from reading
	searchTime  = 3 * time.Second // then a search is given up
)

// topicSearch looks in one topic or in all that the member may see. It waits
// until others have finished theirs; only its own connection waits with it.
func (r request) topicSearch(m *wire.TopicSearch) {
	limit, ok := r.pageLimit(m.Limit)
	if !ok {
		return
	}
	if utf8.RuneCountInString(m.Query) > wire.MaxQueryLen {
		r.fail(wire.InvalidArgs, fmt.Sprintf("A query has at most %d characters; look for fewer words.", wire.MaxQueryLen))
		return
	}
	search := store.Search{MeshID: r.presence.meshID, MemberID: r.presence.member.ID, Query: m.Query, BeforeID: m.BeforeID, Limit: limit + 1}
	if m.Topic != "" {
		topic, ok := r.findTopic(m.Topic)
		if !ok {
			return
		}
		search.TopicID = topic.ID
	}
	found, err := r.b.search(search)
	if err != nil {
		r.searchFailed(err)
		return
	}
	response := &wire.TopicSearchResponse{Query: m.Query, More: len(found) > limit, Messages: []wire.SearchHit{}}
	for _, msg := range found[:min(limit, len(found))] {
		response.Messages = append(response.Messages, wire.SearchHit{HistoryMessage: historyMessage(msg), Topic: msg.TopicName})
	}
	r.answer(response)
}

func (b *Broker) search(s store.Search) ([]store.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), searchTime)
	defer cancel()
	select {
	case b.searches <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-b.searches }()
	found, err := b.db.Search(ctx, s)
	if ctx.Err() != nil {
		err = ctx.Err() // whatever the driver calls it
	}
	return found, err
}

func (r request) searchFailed(err error) {
	switch {
	case errors.Is(err, store.ErrNoWords):
		r.fail(wire.InvalidArgs, "There is no word in the query; type letters or digits to look for.")
	case errors.Is(err, store.ErrTooMany):
		r.fail(wire.InvalidArgs, fmt.Sprintf("A query has at most %d words; look for fewer.", store.MaxTerms))
	case errors.Is(err, store.ErrNotFound):
		r.fail(wire.InvalidArgs, "There is no message with the id given as beforeId.")
	case errors.Is(err, context.DeadlineExceeded):
		r.fail(wire.Busy, "The search took too long; look for longer words, or in one topic, or try again in a moment.")
	default:
		r.storeFailed(err)
	}
}
