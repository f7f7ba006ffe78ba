-- Webhooks, by which services speak in a topic for a member.

CREATE TABLE webhook (
  id         TEXT PRIMARY KEY,
  mesh_id    TEXT NOT NULL REFERENCES mesh (id),
  member_id  TEXT NOT NULL REFERENCES member (id),
  topic_id   TEXT NOT NULL REFERENCES topic (id),
  name       TEXT NOT NULL,
  pubkey     TEXT NOT NULL,
  hash       TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  UNIQUE (mesh_id, name)
) STRICT;
CREATE INDEX webhook_member ON webhook (member_id);
