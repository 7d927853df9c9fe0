//! The store of a world: in memory or on SQLite, behind a backend that can inject refusals and delays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use vorpal_core::store::{
    Backend, Batch, Direction, Entry, EntryId, Loading, MapId, Millis, Outcome, Owner, OwnerRow, Probe, Reader, Result,
    Room, Row, Stale, StoreError, Write,
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
    /// in whose logs messages were committed, other than as sent, and as which entry last
    pub held: BTreeMap<String, BTreeMap<Owner, EntryId>>,
    /// what was committed of accounts themselves, in order, until somebody takes it
    pub facts: Vec<Fact>,
}

/// What a commit has made of an account.
#[derive(Clone, Debug)]
pub enum Fact {
    /// it is there
    Created(OwnerRow),
    /// it is not there any more
    Deleted(Owner),
    /// it may not log in, or may again
    Disabled(Owner, bool),
    /// what its password is checked against
    Key(Owner, Bytes),
}

impl Fact {
    fn of(write: &Write, credentials: Option<MapId>) -> Option<Fact> {
        match write {
            Write::Create(row) => Some(Fact::Created(row.clone())),
            Write::Delete { owner } => Some(Fact::Deleted(*owner)),
            Write::Disable { owner, disabled } => Some(Fact::Disabled(*owner, *disabled)),
            Write::Put { map, owner, row: Some(row), .. } if Some(*map) == credentials => {
                Some(Fact::Key(*owner, row.value.clone()))
            }
            _ => None,
        }
    }
}

impl Homes {
    /// An entry is known to be stored, in the log of this owner.
    pub fn note_entry(&mut self, entry: &Entry, owner: Owner) {
        let Some(id) = id_in(&entry.body) else { return };
        if entry.dir != Direction::Sent {
            self.held.entry(id.clone()).or_default().insert(owner, entry.id);
        }
        self.committed.insert(id);
    }

    /// Records a stored row.
    pub fn note_row(&mut self, row: &Row) {
        self.names.extend(name_in(row));
    }

    fn note(&mut self, group: &[Batch], outcomes: &[Outcome], credentials: Option<MapId>) {
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
            let entries = batch.writes.iter().filter_map(|write| match write {
                Write::Log(entry) => Some(entry),
                _ => None,
            });
            if outcome.is_committed() {
                self.names.extend(rows(batch));
                self.facts.extend(batch.writes.iter().filter_map(|write| Fact::of(write, credentials)));
            }
            for entry in entries {
                let Some(id) = id_in(&entry.body) else { continue };
                if !outcome.is_committed() {
                    self.failed.insert(id);
                    continue;
                }
                let holders = entry.sides.iter().flatten().filter(|side| side.dir != Direction::Sent);
                self.held.entry(id.clone()).or_default().extend(holders.map(|side| (side.owner, entry.id)));
                self.committed.insert(id);
            }
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
        Box::new(Moody { inner, mood, credentials: None })
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
    /// the map of what passwords are checked against
    credentials: Option<MapId>,
}

impl Backend for Moody {
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        let map = self.inner.map(name, loading)?;
        if name == "credentials" {
            self.credentials = Some(map);
        }
        Ok(map)
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
        self.mood.homes.lock().note(group, &outcomes, self.credentials);
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
