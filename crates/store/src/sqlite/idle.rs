//! Work between groups: the index is filled, the write-ahead log is emptied, what is gone is removed. Each step is bounded.

use super::tail::Ref;
use super::write::{Group, Kept, No, Pending, set_meta};
use super::{LOCK_WAIT, Sqlite, error, int, lock, uint, usage};
use crate::shape::{EntryId, MapId, Millis, Owner, Result, StoreError};
use rusqlite::wal::CheckpointMode;
use rusqlite::{params, params_from_iter};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the writer waits for readers when the write-ahead log has become too long. If they stay (a backup by another
/// program, say) it goes on, and waits again when the log has grown by a quarter of its bound.
const READER_WAIT: Duration = Duration::from_millis(100);

/// Number of rows of the index inserted by one statement.
const ROWS: usize = 32;

type Sql<T> = rusqlite::Result<T>;

impl Sqlite {
    pub(super) fn do_idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        let enough = if busy { self.options.tail_bulk } else { self.options.tail_rest };
        let unindexed = lock(&self.tail).len();
        let mut more = false;
        if self.filling.is_some() || unindexed > enough {
            // A step grows with the tail, so that it always catches up.
            let steps = 1 + unindexed / self.options.tail_bulk.max(1);
            more = self.fill_index(self.options.tail_piece * steps).map_err(|e| error::from("filling the index", e))?;
        }
        if !busy {
            more |= self.tidy(now)?;
        }
        more |= self.erase(now, busy || more)?;
        self.checkpoint(busy)?;
        self.rested();
        Ok(more)
    }

    // --- the index --------------------------------------------------------------------------------------------------

    /// Indexes up to `limit` entries of the tail. Returns whether there is more of what is being filled.
    fn fill_index(&mut self, limit: usize) -> Sql<bool> {
        let (to, from) = self.filling.unwrap_or((self.last, 0));
        // From now on a deletion looks into the index for everything up to there.
        self.filling = Some((to, from));
        let piece = lock(&self.tail).piece(from, to, limit);
        let count: usize = piece.iter().map(|(_, refs)| refs.len()).sum();
        let finished = count < limit;
        self.execute("BEGIN IMMEDIATE")?;
        self.index(&piece)?;
        self.count(&piece)?;
        if finished {
            set_meta(&self.sql, "indexed", to)?;
        }
        self.execute("COMMIT")?;
        lock(&self.tail).drop_piece(&piece);
        if finished {
            self.indexed = to;
            self.filling = None;
        } else {
            self.filling = piece.last().map(|(owner, _)| (to, *owner));
        }
        Ok(!finished)
    }

    /// Entries that were indexed before a crash, but not yet all of their time, are met again.
    fn index(&self, piece: &[(Owner, Vec<Ref>)]) -> Sql<()> {
        let by_owner = piece.iter().flat_map(|(owner, refs)| refs.iter().map(|entry| [int(*owner), int(entry.id)]));
        self.insert_all("INSERT OR IGNORE INTO log_owner (owner, id)", "", by_owner)?;
        let by_peer = piece.iter().flat_map(|(owner, refs)| {
            let mut refs: Vec<Ref> = refs.clone();
            refs.sort_unstable_by_key(|r| (r.peer, r.id));
            refs.into_iter().map(|entry| [int(*owner), entry.peer, int(entry.id)])
        });
        self.insert_all("INSERT OR IGNORE INTO log_peer (owner, peer, id)", "", by_peer)
    }

    /// These entries, of each owner the next ones, are counted in the table `usage` from now on. After a crash some are already.
    fn count(&self, piece: &[(Owner, Vec<Ref>)]) -> Sql<()> {
        let row = |(owner, refs): &(Owner, Vec<Ref>)| {
            let first = refs.first().map_or(EntryId::MAX, |r| r.id);
            let through = if first > self.recovered { 0 } else { usage::counted(&self.sql, *owner)?.1 };
            let fresh: u64 = refs.iter().filter(|r| r.id > through).map(|r| u64::from(r.archived)).sum();
            Ok([int(*owner), int(fresh), int(refs.last().map_or(0, |r| r.id))])
        };
        let rows = piece.iter().map(row).collect::<Sql<Vec<_>>>()?;
        self.insert_all("INSERT INTO usage (owner, archived, through)", usage::ADD, rows.into_iter())
    }

    /// Inserts rows by a statement that begins and ends so. A quarter of what a row costs is the statement around it: so each
    /// has many.
    fn insert_all<const N: usize>(&self, begin: &str, end: &str, rows: impl Iterator<Item = [i64; N]>) -> Sql<()> {
        let row = format!("({})", ["?"; N].join(", "));
        let insert = |count| format!("{begin} VALUES {} {end}", vec![row.as_str(); count].join(", "));
        let mut many = self.sql.prepare_cached(&insert(ROWS))?;
        let mut values = Vec::with_capacity(ROWS * N);
        for row in rows {
            values.extend(row);
            if values.len() == ROWS * N {
                many.execute(params_from_iter(&values))?;
                values.clear();
            }
        }
        let mut one = self.sql.prepare_cached(&insert(1))?;
        values.chunks(N).try_for_each(|row| one.execute(params_from_iter(row)).map(|_| ()))
    }

    // --- the write-ahead log ----------------------------------------------------------------------------------------

    /// Copies it to the database, so that the next commit can start it over. Readers that are in the middle of a question keep
    /// it from starting over; when it is very long the writer waits for them a moment.
    fn checkpoint(&mut self, busy: bool) -> Result<()> {
        let pages = self.wal.load(Ordering::Relaxed);
        let enough = if busy { self.options.wal_busy } else { self.options.wal_rest };
        if pages <= u64::from(enough) {
            return Ok(());
        }
        self.note_written()?;
        self.copy_log(pages).map_err(|e| error::from("copying the write-ahead log", e))
    }

    fn copy_log(&mut self, pages: u64) -> Sql<()> {
        let most = u64::from(self.options.wal_max).max(self.wal_retry);
        let (mode, wait) =
            if pages > most { (CheckpointMode::RESTART, READER_WAIT) } else { (CheckpointMode::PASSIVE, LOCK_WAIT) };
        self.sql.busy_timeout(wait)?;
        let result = self.sql.wal_checkpoint_v2(None::<&str>, mode);
        self.sql.busy_timeout(LOCK_WAIT)?;
        match result {
            Ok((all, copied)) if all == copied => {
                self.wal.store(0, Ordering::Relaxed);
                self.wal_retry = 0;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(e) => {
                self.wal_retry = pages + u64::from(self.options.wal_max / 4);
                Err(e)
            }
        }
    }

    // --- what is gone -----------------------------------------------------------------------------------------------

    /// Removes some of what has expired, and of what deleted owners left.
    pub(super) fn tidy(&mut self, now: Millis) -> Result<bool> {
        let failed = |e| error::from("removing what is gone", e);
        let mut room = self.options.tidy;
        let due = self.due(now, room).map_err(failed)?;
        let dead = self.dead().map_err(failed)?;
        if due.is_empty() && dead.is_none() {
            return Ok(false);
        }
        self.execute("BEGIN IMMEDIATE").map_err(failed)?;
        let mut pending = Pending { last: self.last, next_owner: self.next_owner, ..Pending::default() };
        let (sql, indexed) = (&self.sql, self.index_mark());
        let mut kept = Kept::default();
        let mut group = Group { sql, kept: &mut kept, tail: &self.tail, pending: &mut pending, indexed };
        let mut gone = || -> Result<bool, No> {
            room -= due.len();
            for (owner, map, key) in &due {
                group.remove(*map, *owner, key)?;
            }
            let Some((owner, phase)) = dead else { return Ok(room == 0) };
            sweep(&mut group, owner, phase, room)?;
            Ok(true)
        };
        let more = gone().map_err(|no| match no {
            No::Sql(e) => failed(e),
            No::Bug(rule) => StoreError::Bug(rule),
            No::Refused => StoreError::Bug("a removal was refused"),
        })?;
        drop(kept);
        if pending.deleted {
            set_meta(&self.sql, "last", pending.last).map_err(failed)?;
        }
        self.execute("COMMIT").map_err(failed)?;
        self.committed(pending);
        Ok(more)
    }

    fn due(&self, now: Millis, limit: usize) -> Sql<Vec<(Owner, MapId, Vec<u8>)>> {
        let sql = "SELECT owner, map, key FROM map WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
        let mut statement = self.sql.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([int(now), limit], |r| Ok((uint(r.get(0)?), MapId(r.get(1)?), r.get(2)?)))?;
        rows.collect()
    }

    fn dead(&self) -> Sql<Option<(Owner, u8)>> {
        let sql = "SELECT owner, phase FROM dead WHERE phase < 2 ORDER BY owner LIMIT 1";
        let mut statement = self.sql.prepare_cached(sql)?;
        let mut rows = statement.query_map([], |r| Ok((uint(r.get(0)?), r.get(1)?)))?;
        rows.next().transpose()
    }
}

/// Removes up to `room` things of a deleted owner, and its row among the dead when nothing is left.
fn sweep(group: &mut Group<'_, '_>, owner: Owner, phase: u8, mut room: usize) -> Result<(), No> {
    for table in ["map", "blob"] {
        let by = if table == "map" { "(map, key)" } else { "rowid" };
        let columns = if table == "map" { "map, key" } else { "rowid" };
        let sql = format!(
            "DELETE FROM {table} WHERE owner = ?1 AND {by} IN (SELECT {columns} FROM {table} WHERE owner = ?1 LIMIT ?2)"
        );
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        room -= group.sql.prepare_cached(&sql)?.execute(params![int(owner), limit])?;
    }
    let limit = u32::try_from(room).unwrap_or(u32::MAX);
    room -= group.trim(owner, 0, EntryId::MAX, 0, limit)?;
    if room > 0 {
        group.sql.prepare_cached("DELETE FROM usage WHERE owner = ?1")?.execute([int(owner)])?;
        let sql =
            if phase == 0 { "DELETE FROM dead WHERE owner = ?1" } else { "UPDATE dead SET phase = 2 WHERE owner = ?1" };
        group.sql.prepare_cached(sql)?.execute([int(owner)])?;
    }
    Ok(())
}
