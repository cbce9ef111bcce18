"""The tables of the catalog's database, version 8.

A digest is kept as one byte for its algorithm and the hash; `public_until` and `members_until` are unix seconds, 0 when
never. `changes.level` is what the log says now (0 nothing, 1 members, 2 public), `highest` the widest audience that was
ever told. `links` says what a repository names, which is a claim; `fetched` what really came from it, or was seen
there. `records` are those of the cluster's own repositories (`node.records`); `digest` is null for what was deleted,
`rival` what somebody else wrote at the same time and lost, `told_by` the member that told of it, empty for what was
written here. `node.sharing` explains `sharing`, `granted`, `shared` and `fetched.lent`. `blobs.mtime_ns` is 0 when the
file must be verified before it is used. `dropped` remembers the CIDs of blobs that were here, the newest hundred
thousand. `foreign_roots` are DAGs of other tools (`node.foreign`), `whole` once all that came of one is kept; their
blocks have bytes of their own (`data`), or are a part of the blob `within`. `tags.lasting` is 1 for what an operator
brought as a file.
"""

from typing import Final

SCHEMA_VERSION: Final = 8
RECORDS: Final = """
CREATE TABLE records (
    repository TEXT,
    kind TEXT,
    name TEXT,
    digest BLOB,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT NOT NULL,
    subject BLOB,
    stamp INTEGER NOT NULL,
    origin TEXT NOT NULL,
    base INTEGER NOT NULL,
    rival BLOB,
    rival_origin TEXT,
    rival_stamp INTEGER,
    seq INTEGER NOT NULL,
    PRIMARY KEY (repository, kind, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX records_seq ON records (seq);
CREATE INDEX records_stamp ON records (stamp);
CREATE INDEX records_digest ON records (digest, kind) WHERE digest IS NOT NULL;
CREATE INDEX records_rival ON records (repository, name) WHERE rival_origin IS NOT NULL;
CREATE INDEX records_subject ON records (subject, repository) WHERE subject IS NOT NULL;
"""
RECORDS_BY_NAME: Final = "CREATE INDEX records_name ON records (name) WHERE kind != 'tag';"
TOLD_BY: Final = """
ALTER TABLE records ADD COLUMN told_by TEXT NOT NULL DEFAULT '';
CREATE INDEX records_told_by ON records (told_by) WHERE told_by != '';
"""
SHARED: Final = """
ALTER TABLE fetched ADD COLUMN lent INTEGER NOT NULL DEFAULT 0;
CREATE INDEX fetched_digest ON fetched (digest);
CREATE TABLE sharing (namespace TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE granted (namespace TEXT PRIMARY KEY, to_all INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE shared (
    digest BLOB,
    repository INTEGER,
    shown INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE UNIQUE INDEX shared_seq ON shared (seq);
"""
DROPPED: Final = """
CREATE TABLE dropped (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    cid BLOB NOT NULL,
    size INTEGER NOT NULL
);
"""
FOREIGN: Final = """
CREATE TABLE foreign_roots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cid BLOB NOT NULL UNIQUE,
    public_until REAL NOT NULL,
    members_until REAL NOT NULL,
    kept_at REAL NOT NULL,
    whole INTEGER NOT NULL
);
CREATE TABLE foreign_blocks (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    length INTEGER NOT NULL,
    data BLOB,
    within BLOB,
    offset INTEGER NOT NULL
);
CREATE TABLE foreign_links (root INTEGER, block INTEGER, PRIMARY KEY (root, block)) WITHOUT ROWID;
CREATE INDEX foreign_links_block ON foreign_links (block);
"""
LASTING: Final = "ALTER TABLE tags ADD COLUMN lasting INTEGER NOT NULL DEFAULT 0;"
SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    cid BLOB NOT NULL,
    size INTEGER NOT NULL,
    public_until REAL NOT NULL,
    members_until REAL NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    durable INTEGER NOT NULL,
    verified_at REAL NOT NULL
);
CREATE INDEX blobs_cid ON blobs (cid);
CREATE INDEX blobs_size ON blobs (size);
CREATE INDEX blobs_verified_at ON blobs (verified_at);
CREATE INDEX blobs_public_until ON blobs (public_until) WHERE public_until > 0;
CREATE INDEX blobs_members_until ON blobs (members_until) WHERE members_until > 0;
CREATE INDEX blobs_not_durable ON blobs (id) WHERE durable = 0;
CREATE TABLE leaves (hash BLOB, blob INTEGER, leaf INTEGER NOT NULL, PRIMARY KEY (hash, blob)) WITHOUT ROWID;
CREATE TABLE interior (hash BLOB, blob INTEGER, data BLOB NOT NULL, PRIMARY KEY (hash, blob)) WITHOUT ROWID;
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    level INTEGER NOT NULL,
    highest INTEGER NOT NULL
);
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (namespace, name)
);
CREATE TABLE links (
    repository INTEGER,
    digest BLOB,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    role TEXT NOT NULL,
    public_until REAL NOT NULL,
    members_until REAL NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX links_digest ON links (digest);
CREATE TABLE fetched (repository INTEGER, digest BLOB, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE TABLE tags (
    repository INTEGER,
    tag TEXT,
    digest BLOB NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    seen_at REAL NOT NULL,
    seq INTEGER NOT NULL,
    logged_at REAL NOT NULL,
    PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE INDEX tags_seq ON tags (seq) WHERE seq > 0;
{RECORDS}{RECORDS_BY_NAME}{TOLD_BY}{SHARED}{DROPPED}{FOREIGN}{LASTING}"""
UPGRADES: Final = {
    1: RECORDS,
    2: RECORDS_BY_NAME,
    3: TOLD_BY,
    4: SHARED,
    5: DROPPED,
    6: FOREIGN,
    7: LASTING,
}
"""What leads from each older version to the next."""
