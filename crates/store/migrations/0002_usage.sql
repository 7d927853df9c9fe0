-- What the archive of each owner takes in bytes: 96 for each archived entry, its peer, its opaque bytes and its stanza. Counted
-- are the entries up to 'through'; those above it are counted in memory, as they are not in the index yet. The entries that
-- are there already are read once for it.
CREATE TABLE usage (
    owner    INTEGER NOT NULL PRIMARY KEY,
    archived INTEGER NOT NULL,
    through  INTEGER NOT NULL
) STRICT;

INSERT INTO usage (owner, archived, through)
SELECT owner, sum(bytes), max(id) FROM (
    SELECT owner_a AS owner, id, CASE WHEN bits_a & 1 THEN
        96 + octet_length(peer_a) + length(meta_a) + coalesce(length(body_a), length(body)) ELSE 0 END AS bytes
    FROM log WHERE owner_a IS NOT NULL AND id <= (SELECT coalesce(max(value), 0) FROM meta WHERE name = 'indexed')
    UNION ALL
    SELECT owner_b, id, CASE WHEN bits_b & 1 THEN
        96 + octet_length(peer_b) + length(meta_b) + coalesce(length(body_b), length(body)) ELSE 0 END
    FROM log WHERE owner_b IS NOT NULL AND id <= (SELECT coalesce(max(value), 0) FROM meta WHERE name = 'indexed')
) GROUP BY owner;
