//! How each write is done, inside the transaction of a group.

use super::tail::{Ref, Tail, peer_hash};
use super::usage;
use super::{int, uint};
use crate::shape::{Batch, EntryId, Expect, MapId, Millis, NewEntry, Owner, OwnerRow, Row, STORE, Write, flags};
use crate::span;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use std::sync::{Mutex, PoisonError};

/// What the tail and the counters will be once the group is committed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub added: Vec<(Owner, Ref)>,
    pub gone: Vec<(Owner, EntryId)>,
    /// Entries that are not in the index and take another part of their owner's archive now.
    pub resized: Vec<(Owner, EntryId, u32)>,
    pub last: EntryId,
    pub next_owner: Owner,
    /// Something was deleted from the log: `last` must be written, as the newest entry may be among it.
    pub deleted: bool,
}

/// A place in [`Pending`] to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize, usize, usize, EntryId, Owner);

impl Pending {
    pub fn mark(&self) -> Mark {
        Mark(self.added.len(), self.gone.len(), self.resized.len(), self.last, self.next_owner)
    }

    pub fn back_to(&mut self, mark: Mark) {
        self.added.truncate(mark.0);
        self.gone.truncate(mark.1);
        self.resized.truncate(mark.2);
        (self.last, self.next_owner) = (mark.3, mark.4);
    }
}

/// Why a write was not done.
pub(super) enum No {
    Refused,
    Bug(&'static str),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for No {
    fn from(error: rusqlite::Error) -> No {
        No::Sql(error)
    }
}

type Done = Result<(), No>;

/// The statements of what is written most, prepared at most once for a group: to find one in the cache of statements by its text,
/// and to put it back, costs a tenth of what it does.
#[derive(Default)]
pub(super) struct Kept<'c> {
    append: Option<CachedStatement<'c>>,
    update: Option<CachedStatement<'c>>,
}

fn kept<'k, 'c>(
    place: &'k mut Option<CachedStatement<'c>>,
    sql: &'c Connection,
    text: &str,
) -> rusqlite::Result<&'k mut CachedStatement<'c>> {
    let statement = match place.take() {
        Some(statement) => statement,
        None => sql.prepare_cached(text)?,
    };
    Ok(place.insert(statement))
}

/// A transaction that is open on the connection.
pub(super) struct Group<'a, 'c> {
    pub sql: &'c Connection,
    pub kept: &'a mut Kept<'c>,
    pub tail: &'a Mutex<Tail>,
    pub pending: &'a mut Pending,
    /// Entries above this one are not in the index.
    pub indexed: EntryId,
}

/// Whether the batch could be refused with part of it done.
pub(super) fn may_stop_halfway(batch: &Batch) -> bool {
    use Write::{Create, Delete, Disable, Require, Take};
    let conditional =
        |w: &Write| matches!(w, Create(_) | Disable { .. } | Delete { .. } | Require { .. } | Take { .. });
    batch.writes.iter().skip(1).any(conditional)
}

impl Group<'_, '_> {
    /// Does the writes in order; on `Err` those before the index are done.
    pub fn batch(&mut self, batch: &Batch) -> Result<(), (usize, No)> {
        let first = batch.writes.iter().find_map(|w| if let Write::Log(e) = w { Some(e.id) } else { None });
        if first.is_some_and(|id| id <= self.pending.last) {
            return Err((0, No::Bug("ids of log entries do not ascend")));
        }
        batch.writes.iter().enumerate().try_for_each(|(i, w)| self.write(w, batch.now).map_err(|no| (i, no)))
    }

    fn write(&mut self, write: &Write, now: Millis) -> Done {
        match write {
            Write::Create(row) => self.create(row),
            Write::Disable { owner, disabled } => {
                let sql = "UPDATE owner SET disabled = ?2 WHERE owner = ?1";
                accept(self.sql.prepare_cached(sql)?.execute(params![int(*owner), disabled])? > 0)
            }
            Write::Delete { owner } => {
                let gone = self.sql.prepare_cached("DELETE FROM owner WHERE owner = ?1")?.execute([int(*owner)])?;
                accept(gone > 0)?;
                self.sql
                    .prepare_cached("INSERT OR IGNORE INTO dead (owner, phase) VALUES (?1, 1)")?
                    .execute([int(*owner)])?;
                Ok(())
            }
            Write::Log(entry) => self.append(entry),
            Write::LogDelete { owner, ids } => ids.iter().try_for_each(|id| self.let_go(*owner, *id)),
            Write::LogTrim { owner, after, before, keep, limit } => {
                self.trim(*owner, *after, *before, *keep, *limit).map(|_| ())
            }
            Write::LogEdit { owner, id, set, clear, meta, body } => {
                // What was only delivered takes as much as before.
                let resizes = (set | clear) & flags::ARCHIVED != 0 || meta.is_some() || body.is_some();
                let before = if resizes { self.archived(*owner, *id)? } else { 0 };
                for sql in [EDIT_A, EDIT_B] {
                    let values = params![int(*id), int(*owner), set, clear, meta.as_deref(), body.as_deref()];
                    if self.sql.prepare_cached(sql)?.execute(values)? > 0 {
                        break;
                    }
                }
                let after = if resizes { self.archived(*owner, *id)? } else { 0 };
                if !self.recount(*owner, *id, before, after)? {
                    self.pending.resized.push((*owner, *id, usage::narrow(after)));
                }
                Ok(())
            }
            Write::Put { map, owner, key, row: Some(row) } => self.put(*map, *owner, key, row),
            Write::Put { map, owner, key, row: None } => self.remove(*map, *owner, key),
            Write::Clear { map, owner, prefix, limit } => {
                let query = crate::shape::MapQuery { prefix, ..Default::default() };
                let Some((from, to)) = span::of_keys(&query) else { return Ok(()) };
                let sql = "DELETE FROM map WHERE owner = ?1 AND map = ?2 AND key IN (SELECT key FROM map \
                           WHERE owner = ?1 AND map = ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5)";
                self.sql.prepare_cached(sql)?.execute(params![int(*owner), map.0, from, to, limit])?;
                Ok(())
            }
            Write::Require { map, owner, key, expect } => {
                let row = self.row(*map, *owner, key, now)?;
                accept(match expect {
                    Expect::Absent => row.is_none(),
                    Expect::Present => row.is_some(),
                    Expect::Value(value) => row.is_some_and(|r| r.value == value),
                })
            }
            Write::Take { map, owner, key, n } => {
                let row = self.row(*map, *owner, key, now)?.ok_or(No::Refused)?;
                let (count, rest) = row.count().ok_or(No::Refused)?;
                match count.checked_sub(*n).ok_or(No::Refused)? {
                    0 => self.remove(*map, *owner, key),
                    left => {
                        let value = Row::counted(left, rest).value;
                        self.put(*map, *owner, key, &Row { value, ..row })
                    }
                }
            }
            Write::Blob { map, owner, key, data: Some(data) } => {
                let sql = "INSERT INTO blob (owner, map, key, data) VALUES (?1, ?2, ?3, ?4) \
                           ON CONFLICT (owner, map, key) DO UPDATE SET data = excluded.data";
                self.sql.prepare_cached(sql)?.execute(params![int(*owner), map.0, &key[..], &data[..]])?;
                Ok(())
            }
            Write::Blob { map, owner, key, data: None } => {
                let sql = "DELETE FROM blob WHERE owner = ?1 AND map = ?2 AND key = ?3";
                self.sql.prepare_cached(sql)?.execute(params![int(*owner), map.0, &key[..]])?;
                Ok(())
            }
        }
    }

    fn create(&mut self, row: &OwnerRow) -> Done {
        if row.owner < self.pending.next_owner {
            return Err(No::Bug("the number of an owner is not new"));
        }
        let sql =
            "INSERT OR IGNORE INTO owner (owner, kind, host, name, disabled, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![int(row.owner), row.kind.code(), &*row.host, &*row.name, row.disabled, int(row.created)];
        accept(self.sql.prepare_cached(sql)?.execute(values)? > 0)?;
        self.pending.next_owner = row.owner + 1;
        set_meta(self.sql, "next_owner", self.pending.next_owner)?;
        Ok(())
    }

    // --- the log ----------------------------------------------------------------------------------------------------

    fn append(&mut self, entry: &NewEntry) -> Done {
        let [a, b] = &entry.sides;
        let (a, b) = (a.as_ref(), b.as_ref());
        let bits = |s: &crate::shape::Side| i64::from(s.dir.code()) << 8 | i64::from(s.flags);
        let sql = "INSERT INTO log (id, time, owner_a, bits_a, peer_a, meta_a, owner_b, bits_b, peer_b, meta_b, body) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        kept(&mut self.kept.append, self.sql, sql)?.execute(params![
            int(entry.id),
            int(entry.time),
            a.map(|s| int(s.owner)),
            a.map(bits),
            a.map(|s| &*s.peer),
            a.map(|s| &s.meta[..]),
            b.map(|s| int(s.owner)),
            b.map(bits),
            b.map(|s| &*s.peer),
            b.map(|s| &s.meta[..]),
            &entry.body[..],
        ])?;
        self.pending.last = entry.id;
        let archived = |s: &crate::shape::Side| match s.flags & flags::ARCHIVED {
            0 => 0,
            _ => usage::narrow(s.size(entry.body.len())),
        };
        let entry_of = |s: &crate::shape::Side| Ref { id: entry.id, peer: peer_hash(&s.peer), archived: archived(s) };
        self.pending.added.extend(entry.sides.iter().flatten().map(|s| (s.owner, entry_of(s))));
        Ok(())
    }

    /// One owner lets go of an entry.
    pub fn let_go(&mut self, owner: Owner, id: EntryId) -> Done {
        let side = self
            .sql
            .prepare_cached(SIDE)?
            .query_row([int(id), int(owner)], |r| {
                let peer = peer_hash(r.get_ref(2)?.as_str()?);
                Ok((r.get::<_, bool>(0)?, r.get::<_, bool>(1)?, peer, uint(r.get(3)?)))
            })
            .optional()?;
        let Some((first, alone, peer, archived)) = side else { return Ok(()) };
        // One that the table does not count goes with the tail.
        self.recount(owner, id, archived, 0)?;
        let sql = match (alone, first) {
            (true, _) => "DELETE FROM log WHERE id = ?1",
            (false, true) => LET_GO_A,
            (false, false) => LET_GO_B,
        };
        self.sql.prepare_cached(sql)?.execute([int(id)])?;
        if id <= self.indexed {
            let sql = "DELETE FROM log_owner WHERE owner = ?1 AND id = ?2";
            self.sql.prepare_cached(sql)?.execute([int(owner), int(id)])?;
            let sql = "DELETE FROM log_peer WHERE owner = ?1 AND peer = ?2 AND id = ?3";
            self.sql.prepare_cached(sql)?.execute([int(owner), peer, int(id)])?;
        }
        self.pending.gone.push((owner, id));
        self.pending.deleted = true;
        Ok(())
    }

    /// The owner lets go of its first entries between two ids with none of the flags `keep`: of those in the index, in the
    /// tail, and of this group. Returns of how many.
    pub fn trim(&mut self, owner: Owner, after: EntryId, before: EntryId, keep: u8, limit: u32) -> Result<usize, No> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let unindexed = self.unindexed(owner, after, before);
        let end = unindexed.first().copied().unwrap_or(before);
        let indexed = self.indexed(owner, after, end, keep, limit)?;
        let mut count = indexed.len();
        indexed.into_iter().try_for_each(|id| self.let_go(owner, id))?;
        // Where one entry is archived, or is somebody else's too, so are the others.
        let mut alone = true;
        for id in unindexed {
            if count >= most {
                break;
            }
            alone = alone && id > self.indexed && self.remove_own(owner, id, keep)?;
            count += usize::from(alone || self.let_go_unless(owner, id, keep)?);
        }
        Ok(count)
    }

    fn unindexed(&self, owner: Owner, after: EntryId, before: EntryId) -> Vec<EntryId> {
        let mut ids: Vec<EntryId> = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.between(owner, after, before).iter().map(|r| r.id).collect()
        };
        let within = |r: &Ref| r.id > after && r.id < before;
        ids.extend(self.pending.added.iter().filter(|(o, r)| *o == owner && within(r)).map(|(_, r)| r.id));
        ids
    }

    fn indexed(
        &self,
        owner: Owner,
        after: EntryId,
        before: EntryId,
        keep: u8,
        limit: u32,
    ) -> rusqlite::Result<Vec<EntryId>> {
        let sql = "SELECT o.id FROM log_owner o CROSS JOIN log l ON l.id = o.id WHERE o.owner = ?1 AND o.id > ?2 AND o.id < ?3 \
                   AND ?1 IN (l.owner_a, l.owner_b) AND CASE WHEN l.owner_a IS ?1 THEN l.bits_a ELSE l.bits_b END & ?4 = 0 ORDER BY o.id LIMIT ?5";
        let mut statement = self.sql.prepare_cached(sql)?;
        let rows =
            statement.query_map(params![int(owner), int(after), int(before), keep, limit], |r| r.get(0).map(uint))?;
        rows.collect()
    }

    /// Removes an entry that is in no index, if it is nobody else's and has none of the flags `keep`. Returns whether it was.
    fn remove_own(&mut self, owner: Owner, id: EntryId, keep: u8) -> Result<bool, No> {
        let sql = "DELETE FROM log WHERE id = ?1 AND owner_a = ?2 AND owner_b IS NULL AND bits_a & ?3 = 0";
        let gone = self.sql.prepare_cached(sql)?.execute(params![int(id), int(owner), keep])? > 0;
        if gone {
            self.pending.gone.push((owner, id));
            self.pending.deleted = true;
        }
        Ok(gone)
    }

    /// One owner lets go of an entry that has none of the flags `keep`. Returns whether it has.
    fn let_go_unless(&mut self, owner: Owner, id: EntryId, keep: u8) -> Result<bool, No> {
        let sql = "SELECT 1 FROM log WHERE id = ?1 AND ?2 IN (owner_a, owner_b) \
                   AND CASE WHEN owner_a IS ?2 THEN bits_a ELSE bits_b END & ?3 = 0";
        let found = self.sql.prepare_cached(sql)?.exists(params![int(id), int(owner), keep])?;
        if found {
            self.let_go(owner, id)?;
        }
        Ok(found)
    }

    // --- rows -------------------------------------------------------------------------------------------------------

    fn put(&mut self, map: MapId, owner: Owner, key: &[u8], row: &Row) -> Done {
        // The store's own rows are written again and again, with every message of a managed session: an update costs half of
        // what an insertion does that finds its row there. The other columns are left alone, and with them their indexes.
        if owner == STORE && row.reverse.is_none() && row.expires.is_none() {
            let sql = "UPDATE map SET value = ?4 WHERE owner = ?1 AND map = ?2 AND key = ?3 \
                       AND reverse IS NULL AND expires IS NULL";
            let update = kept(&mut self.kept.update, self.sql, sql)?;
            if update.execute(params![int(owner), map.0, key, &row.value[..]])? > 0 {
                return Ok(());
            }
        }
        let sql = "INSERT INTO map (owner, map, key, value, reverse, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                   ON CONFLICT (owner, map, key) DO UPDATE SET value = excluded.value, reverse = excluded.reverse, \
                   expires = excluded.expires";
        let values = params![int(owner), map.0, key, &row.value[..], row.reverse.as_deref(), row.expires.map(int)];
        self.sql.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub fn remove(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Done {
        let sql = "DELETE FROM map WHERE owner = ?1 AND map = ?2 AND key = ?3";
        self.sql.prepare_cached(sql)?.execute(params![int(owner), map.0, key])?;
        Ok(())
    }

    fn row(&self, map: MapId, owner: Owner, key: &[u8], now: Millis) -> rusqlite::Result<Option<Row>> {
        let sql = "SELECT value, reverse, expires FROM map WHERE owner = ?1 AND map = ?2 AND key = ?3";
        let row = self
            .sql
            .prepare_cached(sql)?
            .query_row(params![int(owner), map.0, key], |r| super::read::row(r, 0))
            .optional()?;
        Ok(row.filter(|r| !r.expired(now)))
    }
}

/// Writes one of the single values.
pub(super) fn set_meta(sql: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let statement =
        "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sql.prepare_cached(statement)?.execute(params![name, int(value)])?;
    Ok(())
}

fn accept(done: bool) -> Done {
    if done { Ok(()) } else { Err(No::Refused) }
}

/// One owner's side of an entry: whether it is the first, whether there is no other, its peer, and how many bytes of the
/// owner's archive it takes.
const SIDE: &str = "SELECT owner_a IS ?2, CASE WHEN owner_a IS ?2 THEN owner_b ELSE owner_a END IS NULL, \
                    CASE WHEN owner_a IS ?2 THEN peer_a ELSE peer_b END, \
                    CASE WHEN owner_a IS ?2 \
                    THEN CASE WHEN bits_a & 1 THEN 96 + octet_length(peer_a) + length(meta_a) \
                    + coalesce(length(body_a), length(body)) ELSE 0 END \
                    ELSE CASE WHEN bits_b & 1 THEN 96 + octet_length(peer_b) + length(meta_b) \
                    + coalesce(length(body_b), length(body)) ELSE 0 END END \
                    FROM log WHERE id = ?1 AND ?2 IN (owner_a, owner_b)";

// An owner who goes takes its side along; if the other one sees something else than the body, the body was the first one's
// alone, and goes too.
const LET_GO_A: &str = "UPDATE log SET owner_a = NULL, bits_a = NULL, peer_a = NULL, meta_a = NULL, body_a = NULL, \
                        body = coalesce(body_b, body), body_b = NULL WHERE id = ?1";
const LET_GO_B: &str = "UPDATE log SET owner_b = NULL, bits_b = NULL, peer_b = NULL, meta_b = NULL, body_b = NULL, \
                        body = coalesce(body_a, body), body_a = NULL WHERE id = ?1";

// The common body is replaced only if nobody else sees it. Right sides of SET see the row as it was.
const EDIT_A: &str = "UPDATE log SET bits_a = (bits_a & ~?4) | ?3, meta_a = coalesce(?5, meta_a), \
                      body_a = iif(?6 IS NOT NULL AND owner_b IS NOT NULL, ?6, body_a), \
                      body = iif(?6 IS NOT NULL AND owner_b IS NULL, ?6, body) WHERE id = ?1 AND owner_a = ?2";
const EDIT_B: &str = "UPDATE log SET bits_b = (bits_b & ~?4) | ?3, meta_b = coalesce(?5, meta_b), \
                      body_b = iif(?6 IS NOT NULL AND owner_a IS NOT NULL, ?6, body_b), \
                      body = iif(?6 IS NOT NULL AND owner_a IS NULL, ?6, body) WHERE id = ?1 AND owner_b = ?2";
