-- Version 1 knew members but no messages: topics, messages and their delivery.

CREATE TABLE lease (
  id           TEXT PRIMARY KEY,
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  member_id    TEXT NOT NULL REFERENCES member (id),
  session_key  TEXT NOT NULL DEFAULT '',
  proven       INTEGER NOT NULL,
  name         TEXT NOT NULL,
  client       TEXT NOT NULL,
  status       TEXT NOT NULL,
  connected_at INTEGER NOT NULL
) STRICT;

CREATE TABLE topic (
  id          TEXT PRIMARY KEY,
  mesh_id     TEXT NOT NULL REFERENCES mesh (id),
  name        TEXT NOT NULL,
  description TEXT,
  visibility  TEXT NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'private', 'dm')),
  created_by  TEXT REFERENCES member (id),
  created_at  INTEGER NOT NULL,
  UNIQUE (mesh_id, name)
) STRICT;

CREATE TABLE topic_member (
  topic_id      TEXT NOT NULL REFERENCES topic (id),
  member_id     TEXT NOT NULL REFERENCES member (id),
  role          TEXT NOT NULL CHECK (role IN ('lead', 'member', 'observer')),
  joined_at     INTEGER NOT NULL,
  read_seq      INTEGER NOT NULL DEFAULT 0,
  last_read_at  INTEGER,
  delivered_seq INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (topic_id, member_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX topic_member_member ON topic_member (member_id);

CREATE TABLE message (
  seq               INTEGER PRIMARY KEY AUTOINCREMENT,
  id                TEXT NOT NULL UNIQUE,
  mesh_id           TEXT NOT NULL,
  topic_id          TEXT,
  sender_member_id  TEXT NOT NULL,
  sender_pubkey     TEXT NOT NULL,
  sender_name       TEXT NOT NULL,
  sender_type       TEXT,
  target_spec       TEXT NOT NULL,
  priority          TEXT NOT NULL CHECK (priority IN ('now', 'next', 'low')),
  nonce             TEXT NOT NULL,
  ciphertext        TEXT NOT NULL,
  body_version      INTEGER NOT NULL,
  reply_to_id       TEXT,
  client_message_id TEXT,
  fingerprint       TEXT,
  created_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX message_topic ON message (topic_id, seq) WHERE topic_id IS NOT NULL;
CREATE UNIQUE INDEX message_client ON message (sender_member_id, client_message_id)
  WHERE client_message_id IS NOT NULL;

CREATE TABLE delivery (
  seq         INTEGER NOT NULL,
  member_id   TEXT NOT NULL,
  session_key TEXT NOT NULL DEFAULT '',
  settled_at  INTEGER,
  outcome     TEXT CHECK (outcome IN ('acked', 'expired')),
  PRIMARY KEY (seq, member_id, session_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_waiting ON delivery (member_id, seq) WHERE settled_at IS NULL;

CREATE TABLE notification (
  id         TEXT PRIMARY KEY,
  member_id  TEXT NOT NULL REFERENCES member (id),
  message_id TEXT NOT NULL,
  topic_id   TEXT NOT NULL REFERENCES topic (id),
  kind       TEXT NOT NULL DEFAULT 'mention',
  created_at INTEGER NOT NULL,
  read_at    INTEGER
) STRICT;
CREATE INDEX notification_member ON notification (member_id, created_at);
CREATE UNIQUE INDEX notification_once ON notification (member_id, message_id);
