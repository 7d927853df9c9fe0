//! The store on SQLite: one database file, one connection that writes, a read-only one for each reader.
//!
//! A group is one transaction in the write-ahead log, synced at its commit. The owners' index of the log is filled in bulk
//! (`docs/decisions/0001-commit-path.md`).

mod erase;
mod error;
mod idle;
mod migrate;
mod read;
mod tail;
mod undone;
mod usage;
mod write;

use crate::check;
use crate::lock::Lock;
use crate::shape::{
    Backend, Batch, EntryId, Loading, MapId, Millis, Outcome, Owner, Probe, Reader, Result, Room, Stale, StoreError,
};
use erase::Erasing;
use read::SqliteReader;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tail::{Ref, Tail, peer_hash};
use write::{Group, Kept, No, Pending};

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "vorpal.db";

/// Number of attempts for a group: as a whole, with a savepoint around each batch, then without batches that aborted the
/// transaction.
const TRIES: usize = 4;

/// Maximum number of cached statements on each connection; there are fewer.
const STATEMENTS: usize = 64;

/// How long a statement waits for another connection's lock, which none holds for longer than a moment.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Durability of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// What is committed survives a power failure: every commit is synced.
    #[default]
    Power,
    /// What is committed survives a crash of this process; after a power failure the latest commits may be missing.
    Crash,
}

/// Settings of the database. The numbers are limits; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Durability of commits.
    pub durability: Durability,
    /// Unindexed log entries (counted for each owner) above which the index is filled even if the writer is busy.
    pub tail_bulk: usize,
    /// Unindexed log entries above which the index is filled when the writer is idle.
    pub tail_rest: usize,
    /// Unindexed log entries above which no entries are accepted until the index has been filled.
    pub tail_max: usize,
    /// Log entries indexed in one step; more when the tail is longer than `tail_bulk`.
    pub tail_piece: usize,
    /// Pages in the write-ahead log (4 KiB each) above which they are copied to the database even if the writer is busy.
    pub wal_busy: u32,
    /// Pages above which they are copied when the writer is idle.
    pub wal_rest: u32,
    /// Pages above which the writer waits for readers to leave, so that the write-ahead log can start over.
    pub wal_max: u32,
    /// Maximum number of rows, entries or blobs removed in one step because they expired or their owner was deleted.
    pub tidy: usize,
    /// Idle time after which the write-ahead log, which may contain deleted content, is emptied.
    pub erase_rest: Millis,
    /// Maximum time after a commit until it is emptied, even if others follow.
    pub erase_busy: Millis,
    /// Pages checked in one step for copies of what has been deleted.
    pub erase_pages: usize,
    /// Page cache of the writing connection, in KiB.
    pub write_cache: u32,
    /// Page cache of each reader, in KiB.
    pub read_cache: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            durability: Durability::Power,
            tail_bulk: 32_768,
            tail_rest: 2_048,
            tail_max: 131_072,
            tail_piece: 1_024,
            wal_busy: 2_048,
            wal_rest: 256,
            wal_max: 16_384,
            tidy: 1_000,
            erase_rest: 5_000,
            erase_busy: 60_000,
            erase_pages: 64,
            write_cache: 32 << 10,
            read_cache: 4 << 10,
        }
    }
}

/// A store in a data directory.
pub struct Sqlite {
    sql: Connection,
    path: PathBuf,
    options: Options,
    tail: Arc<Mutex<Tail>>,
    last: EntryId,
    next_owner: Owner,
    maps: Vec<(MapId, Box<str>)>,
    /// Entries above this one are not in the index.
    indexed: EntryId,
    /// The newest entry when the store was opened: of those up to there the table `usage` may count some already.
    recovered: EntryId,
    /// A filling of the index that is under way: up to which entry, and which owner is next.
    filling: Option<(EntryId, Owner)>,
    /// Pages in the write-ahead log after the latest commit.
    wal: Arc<AtomicU64>,
    /// Pages before which the writer does not wait for readers again.
    wal_retry: u64,
    broken: Option<StoreError>,
    erasing: Erasing,
    /// A commit failed, but its frames may nevertheless be in the write-ahead log.
    undone: bool,
    /// Last, so that it is released after everything else is closed.
    _lock: Lock,
}

impl Sqlite {
    /// Opens the store of a data directory, creating both if necessary (readable by this user only); takes the lock, and migrates
    /// the schema.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], or that of the disk.
    pub fn open(directory: &Path, options: Options) -> Result<Sqlite> {
        let io = |source| StoreError::Io { doing: "making the data directory", source: Arc::new(source) };
        make_directory(directory).map_err(io)?;
        let lock = Lock::take(directory)?;
        let path = directory.join(DATABASE_FILE);
        make_file(&path).map_err(io)?;
        let failed = |e| error::from("opening the database", e);
        let unclosed = erase::is_unclosed(&path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut sql = Connection::open_with_flags(&path, flags).map_err(failed)?;
        configure(&sql, options.write_cache).map_err(failed)?;
        let synchronous = match options.durability {
            Durability::Power => "FULL",
            Durability::Crash => "NORMAL",
        };
        sql.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = ON; PRAGMA secure_delete = ON; \
             PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {}",
            u64::from(options.wal_max) * 4096,
        ))
        .map_err(failed)?;
        let mode: String = sql.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(failed)?;
        if mode != "wal" {
            let source = Arc::new(std::io::Error::from(std::io::ErrorKind::Unsupported));
            return Err(StoreError::Io { doing: "starting a write-ahead log: is this a network file system?", source });
        }
        migrate::run(&mut sql, migrate::MIGRATIONS)?;
        let erasing = Erasing::begin(&sql, unclosed)?;
        let wal = Arc::new(AtomicU64::new(0));
        let pages = wal.clone();
        let count = move |_: &mut rusqlite::hooks::Wal, n| {
            pages.store(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        sql.wal_hook(Some(count)).map_err(failed)?;
        let mut store = Sqlite {
            sql,
            path,
            options,
            tail: Arc::default(),
            last: 0,
            next_owner: 1,
            maps: Vec::new(),
            indexed: 0,
            recovered: 0,
            filling: None,
            wal,
            wal_retry: 0,
            broken: None,
            erasing,
            undone: false,
            _lock: lock,
        };
        store.rebuild().map_err(failed)?;
        Ok(store)
    }

    /// Reads what is kept in memory: the counters, the names of maps, the tail.
    fn rebuild(&mut self) -> rusqlite::Result<()> {
        let meta = |name: &str| -> rusqlite::Result<u64> {
            let sql = "SELECT coalesce(max(value), 0) FROM meta WHERE name = ?1";
            self.sql.query_row(sql, [name], |r| r.get(0).map(uint))
        };
        self.indexed = meta("indexed")?;
        self.next_owner = meta("next_owner")?.max(1);
        let newest = self.sql.query_row("SELECT coalesce(max(id), 0) FROM log", [], |r| r.get(0).map(uint))?;
        self.last = newest.max(meta("last")?).max(self.indexed);
        self.recovered = self.last;
        self.sql.execute("UPDATE dead SET phase = 0 WHERE phase = 2", [])?;
        self.maps = {
            let mut names = self.sql.prepare("SELECT map, name FROM map_name")?;
            let names = names.query_map([], |r| Ok((MapId(r.get(0)?), r.get(1)?)))?;
            names.collect::<rusqlite::Result<_>>()?
        };
        let mut tail = Tail::default();
        tail.last = self.last;
        let mut newer = self.sql.prepare(&format!(
            "SELECT id, owner_a, peer_a, owner_b, peer_b, {}, {} FROM log l WHERE id > ?1 ORDER BY id",
            usage::ARCHIVED_A,
            usage::ARCHIVED_B
        ))?;
        let mut rows = newer.query([int(self.indexed)])?;
        while let Some(row) = rows.next()? {
            let id = uint(row.get(0)?);
            for side in [1, 3] {
                if let Some(owner) = row.get::<_, Option<i64>>(side)? {
                    let archived = usage::narrow(uint(row.get(5 + side / 2)?));
                    tail.push(uint(owner), Ref { id, peer: peer_hash(row.get_ref(side + 1)?.as_str()?), archived });
                }
            }
        }
        // A crash may have left part of it in the index: fill that first, and look there, too, for what is deleted.
        self.filling = (tail.len() > 0).then_some((self.last, 0));
        *lock(&self.tail) = tail;
        Ok(())
    }

    /// Applies the group in one transaction. `fates` are batches known to fail; `guarded` puts a savepoint around each batch.
    fn attempt(
        &mut self,
        group: &[Batch],
        stale: &mut Stale,
        fates: &[Option<StoreError>],
        guarded: bool,
    ) -> Result<Vec<Outcome>, (Option<usize>, StoreError)> {
        let failed = |e| (None, error::from("starting a commit", e));
        self.execute("BEGIN IMMEDIATE").map_err(failed)?;
        let mut pending = Pending { last: self.last, next_owner: self.next_owner, ..Pending::default() };
        let mut outcomes = Vec::with_capacity(group.len());
        let mut kept = Kept::default();
        for (i, batch) in group.iter().enumerate() {
            let fate = fates.get(i).and_then(Option::as_ref);
            let outcome = if !stale.admits(batch) {
                Outcome::Failed(StoreError::Stale)
            } else if let Some(error) = fate.cloned().or_else(|| self.unfit(batch)) {
                Outcome::Failed(error)
            } else {
                match self.one(batch, &mut pending, &mut kept, guarded) {
                    Ok(outcome) => outcome,
                    Err(e) => return Err((Some(i), error::from("writing", e))),
                }
            };
            if matches!(outcome, Outcome::Failed(_)) || batch.updates && !outcome.is_committed() {
                stale.lost(batch);
            }
            outcomes.push(outcome);
        }
        drop(kept);
        let failed = |e| (None, error::from("committing", e));
        if pending.deleted {
            write::set_meta(&self.sql, "last", pending.last).map_err(failed)?;
        }
        if let Err(e) = self.execute("COMMIT") {
            self.undone = error::may_be_written(&e);
            return Err(failed(e));
        }
        self.committed(pending);
        Ok(outcomes)
    }

    /// Why a batch cannot be attempted at all.
    fn unfit(&self, batch: &Batch) -> Option<StoreError> {
        if let Err(rule) = check::batch(batch, |map| self.maps.iter().any(|(id, _)| *id == map)) {
            return Some(StoreError::Bug(rule));
        }
        // The index could not be filled for a long time: the disk is full, or nearly full.
        let logs = batch.writes.iter().any(|w| matches!(w, crate::shape::Write::Log(_)));
        (logs && lock(&self.tail).len() > self.options.tail_max).then_some(StoreError::Full)
    }

    /// Applies one batch in the open transaction, completely or not at all. `Err` means that the transaction has to be aborted.
    fn one<'c>(
        &'c self,
        batch: &Batch,
        pending: &mut Pending,
        kept: &mut Kept<'c>,
        guarded: bool,
    ) -> rusqlite::Result<Outcome> {
        let guarded = guarded || write::may_stop_halfway(batch);
        let mark = pending.mark();
        if guarded {
            self.execute("SAVEPOINT batch")?;
        }
        let mut group = Group { sql: &self.sql, kept, tail: &self.tail, pending, indexed: self.index_mark() };
        let outcome = match group.batch(batch) {
            Ok(()) => Outcome::Committed,
            Err((write, No::Refused)) => Outcome::Refused { write },
            Err((_, No::Bug(rule))) => Outcome::Failed(StoreError::Bug(rule)),
            // Without a savepoint it is not known how much of it was done; and some errors end the transaction.
            Err((_, No::Sql(e))) if !guarded || self.sql.is_autocommit() => return Err(e),
            Err((_, No::Sql(e))) if error::breaks(&e) => return Err(e),
            Err((_, No::Sql(e))) => Outcome::Failed(error::from("writing", e)),
        };
        if !outcome.is_committed() {
            pending.back_to(mark);
            if guarded {
                self.execute("ROLLBACK TO batch")?;
            }
        }
        if guarded {
            self.execute("RELEASE batch")?;
        }
        Ok(outcome)
    }

    /// Entries above this one are in no index; below it, they may be in both index and tail while the index is being filled.
    fn index_mark(&self) -> EntryId {
        self.filling.map_or(self.indexed, |(to, _)| to)
    }

    fn committed(&mut self, pending: Pending) {
        self.last = pending.last;
        self.next_owner = pending.next_owner;
        let mut tail = lock(&self.tail);
        pending.added.into_iter().for_each(|(owner, entry)| tail.push(owner, entry));
        pending.resized.into_iter().for_each(|(owner, id, archived)| tail.resize(owner, id, archived));
        pending.gone.chunk_by(|a, b| a.0 == b.0).for_each(|gone| tail.remove(gone));
        tail.last = self.last;
    }

    /// Rolls back a failed transaction, if SQLite has not done so already.
    fn abandon(&mut self) {
        if !self.sql.is_autocommit()
            && let Err(e) = self.execute("ROLLBACK")
        {
            self.broken = Some(StoreError::Broken { doing: "taking back a failed commit", source: Arc::new(e) });
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.sql.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// Remembers an error after which nothing more may be written.
    fn note(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Broken { .. }) && self.broken.is_none() {
            self.broken = Some(error.clone());
        }
    }

    fn name_map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        let id = crate::maps::next(&self.maps, loading)?;
        let sql = "INSERT INTO map_name (map, name) VALUES (?1, ?2)";
        self.sql.execute(sql, (id.0, name)).map_err(|e| error::from("naming a map", e))?;
        self.maps.push((id, name.into()));
        Ok(id)
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // If this fails, the next start finds a log with content, and does it.
        if self.broken.is_none() && self.supersede().is_ok() && self.close().is_err() {
            self.abandon();
        }
    }
}

impl Backend for Sqlite {
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        match self.maps.iter().find(|(_, n)| **n == *name) {
            Some((id, _)) => Ok(*id),
            None => self.name_map(name, loading).inspect_err(|e| self.note(e)),
        }
    }

    fn last_id(&self) -> EntryId {
        self.last
    }

    fn next_owner(&self) -> Owner {
        self.next_owner
    }

    fn apply(&mut self, group: &[Batch], stale: &mut Stale) -> Vec<Outcome> {
        let before = stale.clone();
        let mut fates = vec![None; group.len()];
        let mut guarded = false;
        let mut cause = StoreError::Closed;
        for _ in 0..TRIES {
            if let Some(broken) = &self.broken {
                cause = broken.clone();
                break;
            }
            if let Err(error) = self.supersede() {
                cause = error;
                break;
            }
            let (batch, error) = match self.attempt(group, stale, &fates, guarded) {
                Ok(outcomes) => return outcomes,
                Err(error) => error,
            };
            self.abandon();
            self.note(&error);
            *stale = before.clone();
            cause = error.clone();
            match batch.and_then(|i| fates.get_mut(i)) {
                Some(fate) if guarded => *fate = Some(error),
                Some(_) => guarded = true,
                None => break,
            }
        }
        // Done before the failure is reported. If it cannot be done now, nothing is written until it is.
        let _ = self.supersede();
        group.iter().for_each(|batch| stale.lost(batch));
        group.iter().map(|_| Outcome::Failed(cause.clone())).collect()
    }

    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let done = self.supersede().and_then(|()| self.do_idle(now, busy));
        if let Err(error) = &done {
            self.abandon();
            self.note(error);
        }
        done
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let sql = Connection::open_with_flags(&self.path, flags)?;
            configure(&sql, self.options.read_cache)?;
            sql.execute_batch("PRAGMA query_only = ON")?;
            Ok(sql)
        };
        let sql = open().map_err(|e| error::from("opening the database for reading", e))?;
        Ok(Box::new(SqliteReader { sql, tail: self.tail.clone() }))
    }

    fn probe(&self) -> Option<Probe> {
        let path = self.path.clone();
        Some(Arc::new(move || room(&path)))
    }
}

/// Free and total space of a file's file system, for users other than root.
fn room(path: &Path) -> Result<Room> {
    let io = |source| StoreError::Io { doing: "asking for the room on the disk", source: Arc::new(source) };
    let stat = rustix::fs::statvfs(path).map_err(|error| io(std::io::Error::from(error)))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Room { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

/// Settings of all connections; `cache` is in KiB.
fn configure(sql: &Connection, cache: u32) -> rusqlite::Result<()> {
    sql.busy_timeout(LOCK_WAIT)?;
    sql.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it a statement is prepared again whenever a bound of a range gets another value, at ten times the cost.
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    sql.execute_batch(&format!("PRAGMA cache_size = -{cache}; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF"))
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The database contains all credentials; SQLite gives its other files the permissions of this one.
fn make_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// A number for SQLite, whose integers are signed. Stored numbers have been checked; a bound of a query saturates.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number from SQLite. No stored number is negative.
fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests;
