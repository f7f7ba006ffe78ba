-- Search over topics, who made an invite, and mentions that count as read where
-- their message was. Where messages are many, filling the index takes its time:
-- about a minute a million.

ALTER TABLE invite ADD COLUMN created_by TEXT REFERENCES member (id);

UPDATE notification SET read_at = coalesce((SELECT last_read_at FROM topic_member tm
    WHERE tm.topic_id = notification.topic_id AND tm.member_id = notification.member_id), created_at)
  WHERE read_at IS NULL AND (SELECT seq FROM message m WHERE m.id = message_id) <= (SELECT read_seq FROM topic_member tm
    WHERE tm.topic_id = notification.topic_id AND tm.member_id = notification.member_id);
CREATE INDEX notification_unread ON notification (member_id, topic_id) WHERE read_at IS NULL;

CREATE VIRTUAL TABLE message_text USING fts5 (
  topic,
  text,
  content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO message_text (rowid, topic, text)
  SELECT seq, topic_id, meshbox_text(ciphertext) FROM message WHERE topic_id IS NOT NULL AND body_version = 1;
