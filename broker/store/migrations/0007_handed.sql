-- What an agent's program handed to the agent, and how the agent came to hear of it.

ALTER TABLE delivery ADD COLUMN handed_by TEXT;

CREATE TABLE topic_handed (
  topic_id  TEXT NOT NULL REFERENCES topic (id),
  member_id TEXT NOT NULL REFERENCES member (id),
  from_seq  INTEGER NOT NULL,
  upto_seq  INTEGER NOT NULL,
  handed_by TEXT NOT NULL,
  PRIMARY KEY (topic_id, member_id, from_seq)
) STRICT, WITHOUT ROWID;
