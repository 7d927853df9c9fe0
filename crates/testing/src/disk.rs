//! The store of a world: in memory or on SQLite, behind a backend that can be told to refuse and to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use vorpal_core::store::{
    Backend, Batch, EntryId, Loading, MapId, Millis, Outcome, Owner, Reader, Result, Stale, StoreError,
};
use vorpal_store::memory::{Disk, Memory};
use vorpal_store::sqlite::{Durability, Options, Sqlite};

/// What a world stores its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// ordered maps; can fail at any commit
    Memory,
    /// a database in a folder that goes with the world
    Sqlite,
}

/// What survives a crash of the world.
#[derive(Debug)]
pub enum Medium {
    /// see [`Disk`]
    Memory(Disk),
    /// the folder of the database
    Sqlite(TempDir),
}

/// What the disk is told to do wrong from now on.
#[derive(Debug, Default)]
pub struct Mood {
    /// nothing is written: there is no room
    pub refuses: AtomicBool,
    /// there is no room for the next batch alone
    pub refuses_one: AtomicBool,
    /// nothing is written for the time being
    pub waits: AtomicBool,
}

impl Medium {
    /// An empty one.
    pub fn new(store: Store) -> Medium {
        match store {
            Store::Memory => Medium::Memory(Disk::new()),
            Store::Sqlite => Medium::Sqlite(TempDir::with_prefix("vorpal-testing-").expect("a folder can be made")),
        }
    }

    /// Opens it, as one process at a time can.
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

    /// The process that had it open dies.
    pub fn crash(&self) {
        if let Medium::Memory(disk) = self {
            disk.crash(0);
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
        outcomes
    }

    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        self.inner.idle(now, busy)
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        self.inner.reader()
    }

    fn stalled(&self) -> bool {
        self.mood.waits.load(Ordering::Relaxed) || self.inner.stalled()
    }
}
