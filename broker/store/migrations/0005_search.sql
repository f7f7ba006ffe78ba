-- Search over topics, and a short way to the mentions that are unread. Where
-- messages are many, filling the index takes its time: about a minute a million.

CREATE INDEX notification_unread ON notification (member_id, topic_id) WHERE read_at IS NULL;

CREATE VIRTUAL TABLE message_text USING fts5 (
  topic,
  text,
  content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO message_text (rowid, topic, text)
  SELECT seq, topic_id, meshbox_text(ciphertext) FROM message WHERE topic_id IS NOT NULL AND body_version = 1;
