//! The store of a world: in memory or on SQLite, behind a backend that can inject refusals and delays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;
use vorpal_core::store::{
    Backend, Batch, EntryId, Loading, MapId, Millis, Outcome, Owner, Probe, Reader, Result, Room, Row, Stale,
    StoreError, Write,
};
use vorpal_proto::stanza::Stanza;
use vorpal_store::memory::{Disk, Memory};
use vorpal_store::sqlite::{Durability, Options, Sqlite};

/// The kind of store of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// in memory, with ordered maps; can fail at any commit
    Memory,
    /// a database in a temporary directory of the world
    Sqlite,
}

/// The data that survives a crash of the world.
#[derive(Debug)]
pub enum Medium {
    /// see [`Disk`]
    Memory(Disk),
    /// the directory of the database
    Sqlite(TempDir),
}

/// The injected faults of the disk.
#[derive(Debug, Default)]
pub struct Mood {
    /// the disk is full
    pub refuses: AtomicBool,
    /// the disk is full for the next batch only
    pub refuses_one: AtomicBool,
    /// writes are delayed for now
    pub waits: AtomicBool,
    /// number of free MiB; 0 for the real number
    pub free_mib: AtomicU64,
    /// the outcome of messages, by their senders' ids
    pub homes: Mutex<Homes>,
}

/// Which messages were ever committed to a log, and which failed. Recorded only if enabled.
#[derive(Debug, Default)]
pub struct Homes {
    /// whether anything is recorded
    pub watched: bool,
    /// in some log, maybe as a returned error
    pub committed: BTreeSet<String>,
    /// in a failed batch
    pub failed: BTreeSet<String>,
    /// a batch that broke a rule of the store
    pub broken: Option<String>,
    /// names that contacts were given in rosters
    pub names: BTreeSet<String>,
    /// the same in batches of which nobody learned whether they are stored: the server was killed meanwhile
    pub unknown: BTreeSet<String>,
}

impl Homes {
    /// Records a stored entry.
    pub fn note_entry(&mut self, body: &[u8]) {
        self.committed.extend(id_in(body));
    }

    /// Records a stored row.
    pub fn note_row(&mut self, row: &Row) {
        self.names.extend(name_in(row));
    }

    fn note(&mut self, group: &[Batch], outcomes: &[Outcome]) {
        if !self.watched {
            return;
        }
        let rows = |batch: &Batch| {
            let put = batch.writes.iter().filter_map(|write| match write {
                Write::Put { row: Some(row), .. } => name_in(row),
                _ => None,
            });
            put.collect::<Vec<String>>()
        };
        if outcomes.iter().any(|o| matches!(o, Outcome::Failed(StoreError::Crashed))) {
            self.unknown.extend(group.iter().flat_map(rows));
            return;
        }
        for (batch, outcome) in group.iter().zip(outcomes) {
            if let Outcome::Failed(StoreError::Bug(rule)) = outcome {
                self.broken.get_or_insert_with(|| format!("{rule}: {batch:?}"));
            }
            let ids = batch.writes.iter().filter_map(|write| match write {
                Write::Log(entry) => id_in(&entry.body),
                _ => None,
            });
            if outcome.is_committed() {
                self.names.extend(rows(batch));
            }
            let home = if outcome.is_committed() { &mut self.committed } else { &mut self.failed };
            home.extend(ids);
        }
    }
}

/// The id of a stanza in the log.
fn id_in(body: &[u8]) -> Option<String> {
    Some(Stanza::parse(std::str::from_utf8(body).ok()?).ok()?.head.id.as_ref()?.to_string())
}

/// The name in a row of a roster.
fn name_in(row: &Row) -> Option<String> {
    let (_, rest) = std::str::from_utf8(&row.value).ok()?.split_once("\"name\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

impl Medium {
    /// An empty one.
    pub fn new(store: Store) -> Medium {
        match store {
            Store::Memory => Medium::Memory(Disk::new()),
            Store::Sqlite => Medium::Sqlite(TempDir::with_prefix("vorpal-testing-").expect("a folder can be made")),
        }
    }

    /// Opens it; only one process at a time can.
    pub fn open(&self, mood: Arc<Mood>) -> Box<dyn Backend> {
        let inner: Box<dyn Backend> = match self {
            Medium::Memory(disk) => Box::new(Memory::open(disk).expect("the disk is free")),
            Medium::Sqlite(folder) => {
                let options = Options { durability: Durability::Crash, ..Options::default() };
                Box::new(Sqlite::open(folder.path(), options).expect("the database opens"))
            }
        };
        Box::new(Moody { inner, mood })
    }

    /// The process that had it open dies, and the latest commits are lost, as many as the disk may lose.
    pub fn crash(&self, forget: usize) {
        if let Medium::Memory(disk) = self {
            disk.crash(forget);
        }
    }
}

struct Moody {
    inner: Box<dyn Backend>,
    mood: Arc<Mood>,
}

impl Backend for Moody {
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        self.inner.map(name, loading)
    }

    fn last_id(&self) -> EntryId {
        self.inner.last_id()
    }

    fn next_owner(&self) -> Owner {
        self.inner.next_owner()
    }

    fn apply(&mut self, group: &[Batch], stale: &mut Stale) -> Vec<Outcome> {
        let refused = match group.len() {
            all if self.mood.refuses.load(Ordering::Relaxed) => all,
            _ => usize::from(self.mood.refuses_one.swap(false, Ordering::Relaxed)),
        };
        let (refused, rest) = group.split_at(refused);
        let mut outcomes = Vec::with_capacity(group.len());
        for batch in refused {
            stale.lost(batch);
            outcomes.push(Outcome::Failed(StoreError::Full));
        }
        if !rest.is_empty() {
            outcomes.extend(self.inner.apply(rest, stale));
        }
        self.mood.homes.lock().note(group, &outcomes);
        outcomes
    }

    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        self.inner.idle(now, busy)
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        self.inner.reader()
    }

    fn probe(&self) -> Option<Probe> {
        let mood = self.mood.clone();
        Some(Arc::new(move || {
            let free = match mood.free_mib.load(Ordering::Relaxed) {
                0 => u64::MAX,
                mib => mib << 20,
            };
            Ok(Room { free, total: u64::MAX })
        }))
    }

    fn stalled(&self) -> bool {
        self.mood.waits.load(Ordering::Relaxed) || self.inner.stalled()
    }
}
