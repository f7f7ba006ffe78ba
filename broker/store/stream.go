package store

import (
	"context"
)

// TopicEnd returns the seq of the newest message of a topic, 0 if it has none.
func (db *DB) TopicEnd(ctx context.Context, topicID string) (seq int64, err error) {
	err = db.row(ctx, &seq, `SELECT coalesce(max(seq), 0) FROM message WHERE topic_id = ?`, topicID)
	return seq, err
}

// TopicPlace returns the seq of a message of a topic, ErrNotFound if the topic has
// no such message.
func (db *DB) TopicPlace(ctx context.Context, topicID, messageID string) (seq int64, err error) {
	err = db.row(ctx, &seq, `SELECT seq FROM message WHERE id = ? AND topic_id = ?`, messageID, topicID)
	return seq, err
}

// TopicAfter returns messages of a topic that come after a seq, oldest first, but
// those that the member's grants kept out. Readers see commits in the order of the
// seqs, because one writer makes them all: nothing appears behind a cursor later.
func (db *DB) TopicAfter(ctx context.Context, topicID, memberID string, after int64, limit int) ([]Message, error) {
	return db.historyWhere(ctx, `x.topic_id = ?2 AND x.seq > ?3 AND `+notDropped+` ORDER BY x.seq LIMIT ?4`, memberID, topicID, after, limit)
}
