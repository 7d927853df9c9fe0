//! Questions, on a read-only connection of their own.
//!
//! A log is its index and its tail. The tail is copied first, then one state of the database is read: what it says of the
//! copied ids, of the index below them, and of what has been committed since the copy. So the answer is that of one state, and the
//! index may grow meanwhile.

use super::tail::{Tail, peer_hash};
use super::{error, int, uint, usage};
use crate::shape::{
    Direction, ENTRY_BYTES, Entry, EntryId, EntrySize, KeyedRow, Kind, LogQuery, MapId, MapQuery, Owner, OwnerRow,
    Reader, Result, Row,
};
use crate::span;
use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params, params};
use std::sync::{Arc, Mutex, PoisonError};

const READING: &str = "reading";

/// A reader; has its own connection.
pub(super) struct SqliteReader {
    pub sql: Connection,
    pub tail: Arc<Mutex<Tail>>,
}

type Sql<T> = rusqlite::Result<T>;

impl Reader for SqliteReader {
    fn find(&mut self, kind: Kind, host: &str, name: &str) -> Result<Option<OwnerRow>> {
        self.one(&owner_where("kind = ?1 AND host = ?2 AND name = ?3"), params![kind.code(), host, name], owner_row)
    }

    fn owner(&mut self, owner: Owner) -> Result<Option<OwnerRow>> {
        self.one(&owner_where("owner = ?1"), [int(owner)], owner_row)
    }

    fn owners(&mut self, kind: Kind, host: &str, past: Option<&str>, limit: usize) -> Result<Vec<OwnerRow>> {
        let sql = owner_where("kind = ?1 AND host = ?2 AND name >= ?3 ORDER BY name LIMIT ?4");
        let from = past.map(|name| format!("{name}\0")).unwrap_or_default();
        self.all(&sql, params![kind.code(), host, from, count(limit)], owner_row)
    }

    fn load(&mut self, owner: Owner, limit: usize) -> Result<Vec<KeyedRow>> {
        let sql = "SELECT owner, map, key, value, reverse, expires FROM map WHERE owner = ?1 AND map < ?2 \
                   ORDER BY map, key LIMIT ?3";
        self.all(sql, params![int(owner), MapId::COLD, count(limit)], keyed_row)
    }

    fn map_get(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Row>> {
        let sql = "SELECT value, reverse, expires FROM map WHERE owner = ?1 AND map = ?2 AND key = ?3";
        self.one(sql, params![int(owner), map.0, key], |r| row(r, 0))
    }

    fn map_range(&mut self, map: MapId, owner: Owner, query: MapQuery) -> Result<Vec<KeyedRow>> {
        let Some((from, to)) = span::of_keys(&query) else { return Ok(Vec::new()) };
        let end = if to.is_some() { "AND key < ?4" } else { "AND ?4 IS NULL" };
        let order = if query.descending { "DESC" } else { "" };
        let sql = format!(
            "SELECT owner, map, key, value, reverse, expires FROM map \
             WHERE owner = ?1 AND map = ?2 AND key >= ?3 {end} ORDER BY key {order} LIMIT ?5"
        );
        self.all(&sql, params![int(owner), map.0, from, to, count(query.limit)], keyed_row)
    }

    fn map_count(&mut self, map: MapId, owner: Owner, prefix: &[u8], cap: usize) -> Result<usize> {
        let Some((from, to)) = span::of_keys(&MapQuery { prefix, ..MapQuery::default() }) else { return Ok(0) };
        let end = if to.is_some() { "AND key < ?4" } else { "AND ?4 IS NULL" };
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM map WHERE owner = ?1 AND map = ?2 AND key >= ?3 {end} LIMIT ?5)"
        );
        let found = self.one(&sql, params![int(owner), map.0, from, to, count(cap)], |r| r.get::<_, i64>(0))?;
        Ok(found.and_then(|n| usize::try_from(n).ok()).unwrap_or(0))
    }

    fn map_reverse(
        &mut self,
        map: MapId,
        reverse: &[u8],
        past: Option<(Owner, &[u8])>,
        limit: usize,
    ) -> Result<Vec<KeyedRow>> {
        let sql = "SELECT owner, map, key, value, reverse, expires FROM map \
                   WHERE map = ?1 AND reverse = ?2 AND (owner, key) >= (?3, ?4) \
                   AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.owner = map.owner) ORDER BY owner, key LIMIT ?5";
        let (owner, key) = past.map_or((0, Vec::new()), |(owner, key)| (owner, span::after_key(key)));
        self.all(sql, params![map.0, reverse, int(owner), key, count(limit)], keyed_row)
    }

    fn log_range(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<Entry>> {
        self.scan(owner, query, ENTRY, entry)
    }

    fn log_count(&mut self, owner: Owner, query: LogQuery) -> Result<usize> {
        self.scan(owner, query, "l.id", |_| Ok(())).map(|found| found.len())
    }

    fn log_sizes(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<EntrySize>> {
        self.scan(owner, query, SIZE, size)
    }

    fn log_archived(&mut self, owner: Owner) -> Result<u64> {
        // An entry that moves from the tail to the table meanwhile is counted once: by where the table ends.
        let tail: Vec<_> = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.of(owner).iter().map(|r| (r.id, u64::from(r.archived))).collect()
        };
        let (counted, through) = usage::counted(&self.sql, owner).map_err(|e| error::from(READING, e))?;
        Ok(counted + tail.iter().filter(|(id, _)| *id > through).map(|(_, bytes)| bytes).sum::<u64>())
    }

    fn log_get(&mut self, owner: Owner, id: EntryId) -> Result<Option<Entry>> {
        let sql = format!("SELECT {ENTRY} FROM log l WHERE id = ?2 AND ?1 IN (owner_a, owner_b)");
        self.one(&sql, [int(owner), int(id)], entry)
    }

    fn blob(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Bytes>> {
        let sql = "SELECT data FROM blob WHERE owner = ?1 AND map = ?2 AND key = ?3";
        self.one(sql, params![int(owner), map.0, key], |r| bytes(r.get_ref(0)?))
    }

    fn blobs(&mut self, map: MapId, owner: Owner, past: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, u64)>> {
        let sql =
            "SELECT key, length(data) FROM blob WHERE owner = ?1 AND map = ?2 AND key >= ?3 ORDER BY key LIMIT ?4";
        let from = past.map(span::after_key).unwrap_or_default();
        self.all(sql, params![int(owner), map.0, from, count(limit)], |r| Ok((bytes(r.get_ref(0)?)?, uint(r.get(1)?))))
    }

    fn maps(&mut self) -> Result<Vec<(MapId, Box<str>)>> {
        self.all("SELECT map, name FROM map_name ORDER BY map", [], |r| Ok((MapId(r.get(0)?), r.get(1)?)))
    }
}

impl SqliteReader {
    fn one<T>(&self, sql: &str, values: impl Params, map: fn(&rusqlite::Row) -> Sql<T>) -> Result<Option<T>> {
        let read = || self.sql.prepare_cached(sql)?.query_row(values, map).optional();
        read().map_err(|e| error::from(READING, e))
    }

    fn all<T>(&self, sql: &str, values: impl Params, map: fn(&rusqlite::Row) -> Sql<T>) -> Result<Vec<T>> {
        let read = || self.sql.prepare_cached(sql)?.query_map(values, map)?.collect::<Sql<Vec<T>>>();
        read().map_err(|e| error::from(READING, e))
    }

    /// The entries a query asks for, as `map` makes them.
    fn scan<T>(
        &mut self,
        owner: Owner,
        query: LogQuery,
        columns: &'static str,
        map: fn(&rusqlite::Row) -> Sql<T>,
    ) -> Result<Vec<T>> {
        if query.limit == 0 || query.after.saturating_add(1) >= query.before {
            return Ok(Vec::new());
        }
        let peer = query.peer.map(peer_hash);
        let (unindexed, first, known) = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let within = tail.between(owner, query.after, query.before).iter();
            let ids: Vec<EntryId> = within.filter(|r| peer.is_none_or(|p| p == r.peer)).map(|r| r.id).collect();
            (ids, tail.of(owner).first().map_or(EntryId::MAX, |r| r.id), tail.last)
        };
        // What is not in the copy but in the index has been committed since, and is found as such.
        let first = first.min(known.saturating_add(1));
        let scan = Scan { sql: &self.sql, owner, query, peer, columns, map };
        let read = || {
            let state = self.sql.unchecked_transaction()?;
            let mut found = Vec::new();
            if query.newest_first {
                scan.since(known, &mut found)?;
                scan.each(unindexed.iter().rev(), &mut found)?;
                scan.index(first, &mut found)?;
            } else {
                scan.index(first, &mut found)?;
                scan.each(unindexed.iter(), &mut found)?;
                scan.since(known, &mut found)?;
            }
            state.commit()?;
            Ok(found)
        };
        read().map_err(|e| error::from(READING, e))
    }
}

/// A walk through one owner's log; each step adds to what was found, up to the limit.
struct Scan<'a, T> {
    sql: &'a Connection,
    owner: Owner,
    query: LogQuery<'a>,
    peer: Option<i64>,
    columns: &'static str,
    map: fn(&rusqlite::Row) -> Sql<T>,
}

impl<T> Scan<'_, T> {
    /// What the index has below the tail.
    fn index(&self, first: EntryId, found: &mut Vec<T>) -> Sql<()> {
        let (index, hashed) = match self.peer {
            Some(_) => ("log_peer", "i.peer = ?7"),
            None => ("log_owner", "?7 IS NULL"),
        };
        let sql = format!(
            "SELECT {} FROM {index} i CROSS JOIN log l ON l.id = i.id \
             WHERE i.owner = ?1 AND i.id > ?2 AND i.id < ?3 AND {hashed} \
             AND ?1 IN (l.owner_a, l.owner_b) AND {MATCH} ORDER BY i.id {} LIMIT ?6",
            self.columns,
            self.order()
        );
        self.rows(&sql, self.query.after, self.query.before.min(first), self.peer, found)
    }

    /// These entries of the tail.
    fn each<'i>(&self, ids: impl Iterator<Item = &'i EntryId>, found: &mut Vec<T>) -> Sql<()> {
        let sql = format!(
            "SELECT {} FROM log l \
             WHERE id = ?7 AND id > ?2 AND id < ?3 AND ?1 IN (owner_a, owner_b) AND {MATCH} LIMIT ?6",
            self.columns
        );
        for id in ids.map(|id| int(*id)) {
            if found.len() >= self.query.limit {
                break;
            }
            self.rows(&sql, self.query.after, self.query.before, Some(id), found)?;
        }
        Ok(())
    }

    /// What has been committed since the tail was copied: a few groups at most.
    fn since(&self, known: EntryId, found: &mut Vec<T>) -> Sql<()> {
        if self.query.before <= known.saturating_add(1) {
            return Ok(());
        }
        let sql = format!(
            "SELECT {} FROM log l \
             WHERE id > ?2 AND id < ?3 AND ?7 IS NULL AND ?1 IN (owner_a, owner_b) AND {MATCH} ORDER BY id {} LIMIT ?6",
            self.columns,
            self.order()
        );
        self.rows(&sql, self.query.after.max(known), self.query.before, None, found)
    }

    fn order(&self) -> &'static str {
        if self.query.newest_first { "DESC" } else { "ASC" }
    }

    fn rows(&self, sql: &str, after: EntryId, before: EntryId, by: Option<i64>, found: &mut Vec<T>) -> Sql<()> {
        let room = count(self.query.limit.saturating_sub(found.len()));
        let q = &self.query;
        let mut statement = self.sql.prepare_cached(sql)?;
        let mut rows = statement.query(params![int(self.owner), int(after), int(before), q.flags, q.peer, room, by])?;
        while let Some(row) = rows.next()? {
            found.push((self.map)(row)?);
        }
        Ok(())
    }
}

/// The columns of an entry as owner ?1 sees it.
const ENTRY: &str = "l.id, l.time, l.owner_a IS ?1, l.bits_a, l.peer_a, l.meta_a, l.bits_b, l.peer_b, l.meta_b, \
                     coalesce(CASE WHEN l.owner_a IS ?1 THEN l.body_a ELSE l.body_b END, l.body)";

/// The columns of an entry's size as owner ?1 sees it. A length is read without what it is the length of.
const SIZE: &str = "l.id, l.owner_a IS ?1, l.bits_a, l.peer_a, l.bits_b, l.peer_b, \
                    CASE WHEN l.owner_a IS ?1 THEN octet_length(l.peer_a) + length(l.meta_a) \
                    + coalesce(length(l.body_a), length(l.body)) ELSE octet_length(l.peer_b) + length(l.meta_b) \
                    + coalesce(length(l.body_b), length(l.body)) END";

/// What a query wants of an entry besides its id.
const MATCH: &str = "CASE WHEN l.owner_a IS ?1 THEN l.bits_a ELSE l.bits_b END & ?4 = ?4 \
                     AND (?5 IS NULL OR CASE WHEN l.owner_a IS ?1 THEN l.peer_a ELSE l.peer_b END = ?5)";

fn entry(r: &rusqlite::Row) -> Sql<Entry> {
    let first = if r.get(2)? { 3 } else { 6 };
    let (dir, flags) = bits(r, first)?;
    Ok(Entry {
        id: uint(r.get(0)?),
        time: uint(r.get(1)?),
        dir,
        flags,
        peer: r.get_ref(first + 1)?.as_str()?.into(),
        meta: bytes(r.get_ref(first + 2)?)?,
        body: bytes(r.get_ref(9)?)?,
    })
}

fn size(r: &rusqlite::Row) -> Sql<EntrySize> {
    let first = if r.get(1)? { 2 } else { 4 };
    let (dir, flags) = bits(r, first)?;
    let peer = r.get_ref(first + 1)?.as_str()?.into();
    Ok(EntrySize { id: uint(r.get(0)?), dir, flags, peer, bytes: ENTRY_BYTES + uint(r.get(6)?) })
}

/// The direction and the flags of a side.
fn bits(r: &rusqlite::Row, at: usize) -> Sql<(Direction, u8)> {
    let bits: i64 = r.get(at)?;
    let code = |n: i64| u8::try_from(n & 0xff).unwrap_or(0);
    let dir = Direction::from_code(code(bits >> 8));
    Ok((dir.ok_or(rusqlite::Error::IntegralValueOutOfRange(at, bits))?, code(bits)))
}

fn owner_where(condition: &str) -> String {
    format!("SELECT owner, kind, host, name, disabled, created FROM owner WHERE {condition}")
}

fn owner_row(r: &rusqlite::Row) -> Sql<OwnerRow> {
    let code: u8 = r.get(1)?;
    let kind = Kind::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, i64::from(code)))?;
    Ok(OwnerRow {
        owner: uint(r.get(0)?),
        kind,
        host: r.get(2)?,
        name: r.get(3)?,
        disabled: r.get(4)?,
        created: uint(r.get(5)?),
    })
}

fn keyed_row(r: &rusqlite::Row) -> Sql<KeyedRow> {
    Ok(KeyedRow { owner: uint(r.get(0)?), map: MapId(r.get(1)?), key: bytes(r.get_ref(2)?)?, row: row(r, 3)? })
}

/// A row of a map from three columns: value, reverse, expires.
pub(super) fn row(r: &rusqlite::Row, at: usize) -> Sql<Row> {
    let reverse = match r.get_ref(at + 1)? {
        ValueRef::Null => None,
        value => Some(bytes(value)?),
    };
    Ok(Row { value: bytes(r.get_ref(at)?)?, reverse, expires: r.get::<_, Option<i64>>(at + 2)?.map(uint) })
}

fn bytes(value: ValueRef) -> Sql<Bytes> {
    Ok(Bytes::copy_from_slice(value.as_blob()?))
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
