-- API keys, by which scripts act as a member.

CREATE TABLE api_key (
  id           TEXT PRIMARY KEY,
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  member_id    TEXT NOT NULL REFERENCES member (id),
  label        TEXT NOT NULL,
  prefix       TEXT NOT NULL,
  hash         TEXT NOT NULL UNIQUE,
  capabilities TEXT NOT NULL,
  topic_scopes TEXT,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  last_used_at INTEGER,
  revoked_at   INTEGER
) STRICT;
CREATE INDEX api_key_member ON api_key (member_id);
CREATE INDEX api_key_mesh ON api_key (mesh_id, created_at);
