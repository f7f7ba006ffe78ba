-- What became of each message, grants, and the audit chain.

CREATE INDEX member_revoked ON member (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX session_key_groups ON session_key (mesh_id) WHERE groups > '[]';

CREATE TABLE peer_grant (
  member_id TEXT NOT NULL REFERENCES member (id),
  peer_key  TEXT NOT NULL,
  caps      TEXT NOT NULL,
  PRIMARY KEY (member_id, peer_key)
) STRICT, WITHOUT ROWID;

-- For whom a message was is known from here on by number; for older ones the
-- times of joining and of the message are as near as one can get.
ALTER TABLE topic_member ADD COLUMN delivered_at INTEGER;
ALTER TABLE topic_member ADD COLUMN since_seq INTEGER NOT NULL DEFAULT 0;
UPDATE topic_member SET since_seq = coalesce((SELECT seq FROM message x
  WHERE x.topic_id = topic_member.topic_id AND x.created_at <= joined_at ORDER BY seq DESC LIMIT 1), 0);

CREATE TABLE topic_gap (
  topic_id  TEXT NOT NULL REFERENCES topic (id),
  member_id TEXT NOT NULL REFERENCES member (id),
  after_seq INTEGER NOT NULL,
  upto_seq  INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (topic_id, member_id, after_seq)
) STRICT, WITHOUT ROWID;

-- SQLite cannot change a CHECK, so the table is made anew.
ALTER TABLE delivery RENAME TO delivery_3;
DROP INDEX delivery_waiting;
CREATE TABLE delivery (
  seq         INTEGER NOT NULL,
  member_id   TEXT NOT NULL,
  session_key TEXT NOT NULL DEFAULT '',
  pushed_at   INTEGER,
  settled_at  INTEGER,
  outcome     TEXT CHECK (outcome IN ('acked', 'expired', 'dropped_by_grant')),
  PRIMARY KEY (seq, member_id, session_key)
) STRICT, WITHOUT ROWID;
INSERT INTO delivery (seq, member_id, session_key, settled_at, outcome)
  SELECT seq, member_id, session_key, settled_at, outcome FROM delivery_3;
DROP TABLE delivery_3;
CREATE INDEX delivery_waiting ON delivery (member_id, seq) WHERE settled_at IS NULL;

CREATE TABLE audit (
  mesh_id    TEXT NOT NULL REFERENCES mesh (id),
  number     INTEGER NOT NULL,
  id         TEXT NOT NULL UNIQUE,
  event      TEXT NOT NULL,
  actor      TEXT NOT NULL,
  payload    TEXT NOT NULL,
  hash       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, number)
) STRICT, WITHOUT ROWID;
