-- A meshbox data file of schema version 6, as text: nothing was handed to an agent, and
-- topics are not encrypted. Mesh "home" has its owner and a member, of whom one said
-- something and the other got it, and an API key.
PRAGMA application_id = 0x6d626f78;
PRAGMA user_version = 6;

-- What the server remembers about itself.
CREATE TABLE setting (
  key   TEXT PRIMARY KEY,  -- public_url: the base of links, written by each start of the server
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A mesh: a closed room of members, with a key of its own that signs invites.
CREATE TABLE mesh (
  id              TEXT PRIMARY KEY,
  slug            TEXT NOT NULL UNIQUE,             -- its name in links and commands, [a-z0-9-]
  owner_pubkey    TEXT NOT NULL,                    -- Ed25519 public key that signs this mesh's invites
  owner_seed      BLOB NOT NULL CHECK (length(owner_seed) = 32), -- its Ed25519 seed
  root_key        BLOB NOT NULL CHECK (length(root_key) = 32),   -- handed to members inside invites
  owner_member_id TEXT REFERENCES member (id),      -- NULL until the mesh's first link was used
  created_at      INTEGER NOT NULL
) STRICT;

-- A member: one key that may say hello to one mesh.
CREATE TABLE member (
  id             TEXT PRIMARY KEY,
  mesh_id        TEXT NOT NULL REFERENCES mesh (id),
  pubkey         TEXT,                              -- NULL: claimed by short code, awaits its first hello
  display_name   TEXT NOT NULL,
  role           TEXT NOT NULL CHECK (role IN ('member', 'admin')),
  role_tag       TEXT,                              -- free label an admin gave ("lead", "reviewer")
  message_mode   TEXT NOT NULL DEFAULT 'push',
  default_groups TEXT NOT NULL DEFAULT '[]',        -- JSON [{name, role?}], used when nothing newer is known
  groups         TEXT,                              -- JSON, as last left by a member connection; NULL: never set
  summary        TEXT,                              -- likewise
  visible        INTEGER NOT NULL DEFAULT 1,        -- 0: hidden from lists, broadcasts and groups
  profile        TEXT,                              -- JSON {avatar?, title?, bio?, capabilities?}
  stats          TEXT,                              -- JSON counters, cumulative
  invite_id      TEXT REFERENCES invite (id),       -- the invite it came by, NULL for none
  joined_at      INTEGER NOT NULL,
  last_seen_at   INTEGER,                           -- end of its latest connection
  claim_until    INTEGER,                           -- while pubkey is NULL: the first hello must come before
  revoked_at     INTEGER,                           -- banned since; NULL: active
  UNIQUE (mesh_id, pubkey)
) STRICT;
CREATE INDEX member_revoked ON member (revoked_at) WHERE revoked_at IS NOT NULL;

-- What a member lets a given peer do to it. Peers without a row may do all.
CREATE TABLE peer_grant (
  member_id TEXT NOT NULL REFERENCES member (id),
  peer_key  TEXT NOT NULL,                          -- the peer's member key
  caps      TEXT NOT NULL,                          -- JSON array of read, dm, broadcast and state-read
  PRIMARY KEY (member_id, peer_key)
) STRICT, WITHOUT ROWID;

-- An invite. The signed token is the link; this row says what it is worth.
CREATE TABLE invite (
  id           TEXT PRIMARY KEY,
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  code         TEXT NOT NULL UNIQUE,                -- 8 base62 characters, for /i/<code>
  token        TEXT NOT NULL UNIQUE,                -- base64url of the signed JSON
  role         TEXT NOT NULL CHECK (role IN ('member', 'admin')),
  label        TEXT NOT NULL DEFAULT '',            -- what the inviter called it
  grants_owner INTEGER NOT NULL DEFAULT 0,          -- 1: the mesh's first link; who uses it owns the mesh
  max_uses     INTEGER NOT NULL CHECK (max_uses > 0),
  uses         INTEGER NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND max_uses),
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  revoked_at   INTEGER,
  created_by   TEXT REFERENCES member (id)          -- NULL: the operator
) STRICT;
CREATE INDEX invite_mesh ON invite (mesh_id);

-- A session key that was used by a member: where messages to it go when the
-- session is over. Forgotten 30 days after its last use.
CREATE TABLE session_key (
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  pubkey       TEXT NOT NULL,
  member_id    TEXT NOT NULL REFERENCES member (id),
  proven       INTEGER NOT NULL,                    -- 1: by session_hello; 0: a plain hello's label
  groups       TEXT,                                -- JSON, as last left by this session; NULL: never set
  summary      TEXT,
  visible      INTEGER NOT NULL DEFAULT 1,
  stats        TEXT,
  created_at   INTEGER NOT NULL,
  last_used_at INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, pubkey)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_key_member ON session_key (member_id);
CREATE INDEX session_key_age ON session_key (last_used_at);
CREATE INDEX session_key_groups ON session_key (mesh_id) WHERE groups > '[]'; -- those in any

-- A presence that outlives its connection for a while: what a peer that comes
-- back in time finds as it left it, also after a restart of the server.
CREATE TABLE lease (
  id           TEXT PRIMARY KEY,                    -- presenceId on the wire
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  member_id    TEXT NOT NULL REFERENCES member (id),
  session_key  TEXT NOT NULL DEFAULT '',
  proven       INTEGER NOT NULL,                    -- 1: the session key was proven
  name         TEXT NOT NULL,
  client       TEXT NOT NULL,                       -- JSON: what its hello said of the program
  status       TEXT NOT NULL,
  connected_at INTEGER NOT NULL
) STRICT;

-- A topic: a log of messages that members subscribe to. Every mesh has the
-- topic "general", and every member is in it.
CREATE TABLE topic (
  id          TEXT PRIMARY KEY,
  mesh_id     TEXT NOT NULL REFERENCES mesh (id),
  name        TEXT NOT NULL,
  description TEXT,
  visibility  TEXT NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'private', 'dm')),
  created_by  TEXT REFERENCES member (id),          -- NULL: made with the mesh
  created_at  INTEGER NOT NULL,
  UNIQUE (mesh_id, name)
) STRICT;

-- Who is in a topic, and how far they are.
CREATE TABLE topic_member (
  topic_id      TEXT NOT NULL REFERENCES topic (id),
  member_id     TEXT NOT NULL REFERENCES member (id),
  role          TEXT NOT NULL CHECK (role IN ('lead', 'member', 'observer')),
  joined_at     INTEGER NOT NULL,
  read_seq      INTEGER NOT NULL DEFAULT 0,         -- message.seq of the newest one read
  last_read_at  INTEGER,
  delivered_seq INTEGER NOT NULL DEFAULT 0,         -- message.seq up to which all were delivered
  delivered_at  INTEGER,                            -- when delivered_seq last moved
  since_seq     INTEGER NOT NULL DEFAULT 0,         -- the newest message.seq when it joined: later ones are for it
  PRIMARY KEY (topic_id, member_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX topic_member_member ON topic_member (member_id);

-- A stretch of a topic that a member was not pushed, because more waited than is
-- pushed to who was away: it is in the topic's history.
CREATE TABLE topic_gap (
  topic_id  TEXT NOT NULL REFERENCES topic (id),
  member_id TEXT NOT NULL REFERENCES member (id),
  after_seq INTEGER NOT NULL,                       -- the stretch begins behind this message.seq
  upto_seq  INTEGER NOT NULL,                       -- and ends with this one
  at        INTEGER NOT NULL,
  PRIMARY KEY (topic_id, member_id, after_seq)
) STRICT, WITHOUT ROWID;

-- Every message, in the order in which it was accepted. AUTOINCREMENT, because
-- cursors would skip a number that was used twice after pruning.
CREATE TABLE message (
  seq               INTEGER PRIMARY KEY AUTOINCREMENT,
  id                TEXT NOT NULL UNIQUE,           -- messageId on the wire
  mesh_id           TEXT NOT NULL,
  topic_id          TEXT,                           -- NULL: direct, group or broadcast
  sender_member_id  TEXT NOT NULL,
  sender_pubkey     TEXT NOT NULL,                  -- the session's key if it had one, else the member's
  sender_name       TEXT NOT NULL,                  -- as it was then
  sender_type       TEXT,                           -- ai, human, connector or NULL
  target_spec       TEXT NOT NULL,                  -- as the sender wrote it
  priority          TEXT NOT NULL CHECK (priority IN ('now', 'next', 'low')),
  nonce             TEXT NOT NULL,                  -- base64, as it came
  ciphertext        TEXT NOT NULL,                  -- base64, as it came
  body_version      INTEGER NOT NULL,
  reply_to_id       TEXT,                           -- message.id in the same topic
  client_message_id TEXT,                           -- the sender's idempotency key, for 24 h
  fingerprint       TEXT,                           -- what that key was first used for
  created_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX message_topic ON message (topic_id, seq) WHERE topic_id IS NOT NULL;
CREATE UNIQUE INDEX message_client ON message (sender_member_id, client_message_id)
  WHERE client_message_id IS NOT NULL;

-- The delivery of one direct, group or broadcast message to one recipient: a
-- member, or one of its sessions when that was what the sender addressed. A
-- topic message has such a row only for a member whose grants kept it out.
CREATE TABLE delivery (
  seq         INTEGER NOT NULL,                     -- message.seq
  member_id   TEXT NOT NULL,                        -- the recipient
  session_key TEXT NOT NULL DEFAULT '',             -- '': all connections of the member
  pushed_at   INTEGER,                              -- first handed to a connection; NULL: not yet, as far as is known here
  settled_at  INTEGER,                              -- NULL: it waits
  outcome     TEXT CHECK (outcome IN ('acked', 'expired', 'dropped_by_grant')),
  PRIMARY KEY (seq, member_id, session_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_waiting ON delivery (member_id, seq) WHERE settled_at IS NULL;

-- One mention of a member in a topic message.
CREATE TABLE notification (
  id         TEXT PRIMARY KEY,
  member_id  TEXT NOT NULL REFERENCES member (id),
  message_id TEXT NOT NULL,                         -- message.id
  topic_id   TEXT NOT NULL REFERENCES topic (id),
  kind       TEXT NOT NULL DEFAULT 'mention',
  created_at INTEGER NOT NULL,
  read_at    INTEGER
) STRICT;
CREATE INDEX notification_member ON notification (member_id, created_at);
CREATE UNIQUE INDEX notification_once ON notification (member_id, message_id);
CREATE INDEX notification_unread ON notification (member_id, topic_id) WHERE read_at IS NULL;

-- The words of topic messages that are not encrypted, for search. The rowid is
-- message.seq; the text itself is not kept twice, so a row can only be removed
-- by who knows what was in it. The topic's id is a word of its own, so that a whole
-- word is looked for in one topic only; the beginning of one costs what the file
-- has of such words.
CREATE VIRTUAL TABLE message_text USING fts5 (
  topic,                                            -- message.topic_id
  text,
  content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);

-- An API key: a secret by which scripts act as the member that issued it. It is
-- random, so its plain hash is as good as a slow one, and can be looked up.
CREATE TABLE api_key (
  id           TEXT PRIMARY KEY,
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  member_id    TEXT NOT NULL REFERENCES member (id), -- who issued it
  label        TEXT NOT NULL,                       -- what the issuer calls it
  prefix       TEXT NOT NULL,                       -- the first 11 characters of the secret, to tell keys apart
  hash         TEXT NOT NULL UNIQUE,                -- hex SHA-256 of the secret, which itself is not kept
  capabilities TEXT NOT NULL,                       -- JSON array of send, read, state_write and admin
  topic_scopes TEXT,                                -- JSON array of topic names it is confined to; NULL: none
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,                             -- NULL: never
  last_used_at INTEGER,                             -- a few seconds old while it is used
  revoked_at   INTEGER
) STRICT;
CREATE INDEX api_key_member ON api_key (member_id);
CREATE INDEX api_key_mesh ON api_key (mesh_id, created_at);

-- What happened in a mesh besides messages: an append-only chain in which each
-- entry carries the hash of the one before. Never content of messages.
CREATE TABLE audit (
  mesh_id    TEXT NOT NULL REFERENCES mesh (id),
  number     INTEGER NOT NULL,                      -- 1, 2, 3… within the mesh
  id         TEXT NOT NULL UNIQUE,
  event      TEXT NOT NULL,                         -- member_joined, topic_created…
  actor      TEXT NOT NULL,                         -- key of the member who did it, "operator" or "server"
  payload    TEXT NOT NULL,                         -- JSON object
  hash       TEXT NOT NULL,                         -- hex SHA-256 over the entry and the hash before it
  created_at INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, number)
) STRICT, WITHOUT ROWID;

INSERT INTO mesh (id, slug, owner_pubkey, owner_seed, root_key, created_at) VALUES
  ('m00000000000000000000000000001', 'home', '0000000000000000000000000000000000000000000000000000000000000000', zeroblob(32), zeroblob(32), 1700000000000);
INSERT INTO member (id, mesh_id, pubkey, display_name, role, joined_at) VALUES
  ('p00000000000000000000000000001', 'm00000000000000000000000000001', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'olga', 'admin', 1700000000000),
  ('p00000000000000000000000000002', 'm00000000000000000000000000001', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'bob', 'member', 1700000001000);
UPDATE mesh SET owner_member_id = 'p00000000000000000000000000001';
INSERT INTO topic (id, mesh_id, name, created_at) VALUES
  ('t00000000000000000000000000001', 'm00000000000000000000000000001', 'general', 1700000000000);
INSERT INTO topic_member (topic_id, member_id, role, joined_at) VALUES
  ('t00000000000000000000000000001', 'p00000000000000000000000000001', 'lead', 1700000000000),
  ('t00000000000000000000000000001', 'p00000000000000000000000000002', 'member', 1700000001000);
INSERT INTO message (id, mesh_id, topic_id, sender_member_id, sender_pubkey, sender_name, target_spec, priority, nonce, ciphertext, body_version, created_at) VALUES
  ('x00000000000000000000000000001', 'm00000000000000000000000000001', 't00000000000000000000000000001', 'p00000000000000000000000000001',
   'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'olga', '#general', 'next', '', 'aGVsbG8=', 1, 1700000002000);
INSERT INTO message_text (rowid, topic, text) VALUES (1, 't00000000000000000000000000001', 'hello');
UPDATE topic_member SET delivered_seq = 1, delivered_at = 1700000003000 WHERE member_id = 'p00000000000000000000000000002';
INSERT INTO delivery (seq, member_id, settled_at, outcome) VALUES (2, 'p00000000000000000000000000002', 1700000004000, 'acked');
INSERT INTO message (id, mesh_id, sender_member_id, sender_pubkey, sender_name, target_spec, priority, nonce, ciphertext, body_version, created_at) VALUES
  ('x00000000000000000000000000002', 'm00000000000000000000000000001', 'p00000000000000000000000000001',
   'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'olga', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'next', '', 'aGVsbG8=', 1, 1700000003500);
INSERT INTO api_key (id, mesh_id, member_id, label, prefix, hash, capabilities, created_at) VALUES
  ('k00000000000000000000000000001', 'm00000000000000000000000000001', 'p00000000000000000000000000001', 'script', 'cm_AAAAAAAA',
   'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', '["send","read"]', 1700000005000);
