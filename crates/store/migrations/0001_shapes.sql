-- The four shapes. Numbers are those of the program: see shape.rs.

-- Single values: 'last' (the highest log id ever), 'indexed' (log entries up to it are indexed), 'next_owner'.
CREATE TABLE meta (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE owner (
    owner    INTEGER NOT NULL PRIMARY KEY,
    kind     INTEGER NOT NULL,
    host     TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    disabled INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    UNIQUE (kind, host, name)
) STRICT;

-- Owners that were deleted. phase 1: what they left is being removed; 2: it has been, and is looked for once more after the
-- next start, as late writes may have followed; 0: that second time, after which the row goes.
CREATE TABLE dead (
    owner INTEGER NOT NULL PRIMARY KEY,
    phase INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_due ON dead (owner) WHERE phase < 2;

CREATE TABLE map_name (
    map  INTEGER NOT NULL PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE map (
    owner   INTEGER NOT NULL,
    map     INTEGER NOT NULL,
    key     BLOB    NOT NULL,
    value   BLOB    NOT NULL,
    reverse BLOB,
    expires INTEGER,
    PRIMARY KEY (owner, map, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX map_reverse ON map (map, reverse, owner, key) WHERE reverse IS NOT NULL;
CREATE INDEX map_expires ON map (expires) WHERE expires IS NOT NULL;

-- One row for an entry and its one or two owners. bits: the direction's code * 256 + flags. body_a, body_b: what an owner sees
-- instead of body.
CREATE TABLE log (
    id      INTEGER NOT NULL PRIMARY KEY,
    time    INTEGER NOT NULL,
    owner_a INTEGER, bits_a INTEGER, peer_a TEXT, meta_a BLOB,
    owner_b INTEGER, bits_b INTEGER, peer_b TEXT, meta_b BLOB,
    body_a  BLOB,
    body_b  BLOB,
    body    BLOB NOT NULL
) STRICT;

-- Filled in bulk; peer is a hash. The entries above 'indexed' are not, or not all, in here.
CREATE TABLE log_owner (
    owner INTEGER NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (owner, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE log_peer (
    owner INTEGER NOT NULL,
    peer  INTEGER NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (owner, peer, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    owner INTEGER NOT NULL,
    map   INTEGER NOT NULL,
    key   BLOB    NOT NULL,
    data  BLOB    NOT NULL,
    UNIQUE (owner, map, key)
) STRICT;
