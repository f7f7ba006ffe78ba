-- Encrypted topics: their keys, sealed for each member.

ALTER TABLE topic ADD COLUMN sealer_pubkey TEXT;

CREATE TABLE topic_seal (
  topic_id      TEXT NOT NULL REFERENCES topic (id),
  member_id     TEXT NOT NULL REFERENCES member (id),
  sealed_by     TEXT REFERENCES member (id),
  encrypted_key TEXT NOT NULL,
  nonce         TEXT NOT NULL,
  created_at    INTEGER NOT NULL,
  PRIMARY KEY (topic_id, member_id)
) STRICT, WITHOUT ROWID;
