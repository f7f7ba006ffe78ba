-- A meshbox data file of schema version 1, as text: members, invites and session
-- keys, but no topics yet. Mesh "home" has an owner, an active member, a revoked
-- one and an unused place; mesh "lab" is empty; mesh "attic" has no owner.
PRAGMA application_id = 0x6d626f78;
PRAGMA user_version = 1;

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
  revoked_at   INTEGER
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

INSERT INTO mesh (id, slug, owner_pubkey, owner_seed, root_key, owner_member_id, created_at) VALUES
  ('00Vmesh0home0000000000000000aa', 'home', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', x'1111111111111111111111111111111111111111111111111111111111111111', x'2222222222222222222222222222222222222222222222222222222222222222', NULL, 1760000000000),
  ('00Vmesh0lab00000000000000000aa', 'lab', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', x'3333333333333333333333333333333333333333333333333333333333333333', x'4444444444444444444444444444444444444444444444444444444444444444', NULL, 1760000001000),
  ('00Vmesh0attic000000000000000aa', 'attic', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', x'5555555555555555555555555555555555555555555555555555555555555555', x'6666666666666666666666666666666666666666666666666666666666666666', NULL, 1760000002000);
INSERT INTO invite (id, mesh_id, code, token, role, label, grants_owner, max_uses, uses, created_at, expires_at) VALUES
  ('00Vinvite0first0000000000000aa', '00Vmesh0home0000000000000000aa', 'aB3dE6gH', 'eyJ2IjoxfQ', 'admin', '', 1, 1, 1, 1760000000000, 1760086400000);
INSERT INTO member (id, mesh_id, pubkey, display_name, role, invite_id, joined_at, revoked_at) VALUES
  ('00Vmember0olga00000000000000aa', '00Vmesh0home0000000000000000aa', 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 'olga', 'admin', '00Vinvite0first0000000000000aa', 1760000100000, NULL),
  ('00Vmember0adam00000000000000aa', '00Vmesh0home0000000000000000aa', 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', 'adam', 'member', NULL, 1760000200000, NULL),
  ('00Vmember0rita00000000000000aa', '00Vmesh0home0000000000000000aa', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'rita', 'member', NULL, 1760000300000, 1760000400000),
  ('00Vmember0otto00000000000000aa', '00Vmesh0attic000000000000000aa', '1212121212121212121212121212121212121212121212121212121212121212', 'otto', 'member', NULL, 1760000500000, NULL);
UPDATE mesh SET owner_member_id = '00Vmember0olga00000000000000aa' WHERE slug = 'home';
INSERT INTO session_key (mesh_id, pubkey, member_id, proven, created_at, last_used_at) VALUES
  ('00Vmesh0home0000000000000000aa', '3434343434343434343434343434343434343434343434343434343434343434', '00Vmember0adam00000000000000aa', 1, 1760000250000, 1760000260000);
INSERT INTO setting (key, value) VALUES ('public_url', 'http://localhost:7900');
