//! The store in memory: for tests, for the simulator, and as the plain meaning of what other backends do.
//!
//! A [`Disk`] is what survives a crash; a [`Memory`] is a store opened on it. The disk can be told to refuse, to delay, to
//! crash and to forget what it had said was durable.

mod faults;
mod state;

pub use faults::Fault;

use crate::check;
use crate::shape::{
    Backend, Batch, ENTRY_BYTES, Entry, EntryId, EntrySize, KeyedRow, Kind, Loading, LogQuery, MapId, MapQuery, Millis,
    Outcome, Owner, OwnerRow, Probe, Reader, Result, Room, Row, Stale, StoreError, flags,
};
use bytes::Bytes;
use faults::Faults;
use state::{Changes, No, State};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How many things [`Backend::idle`] removes at a time.
const TIDY_MAX: usize = 1000;

#[derive(Debug, Default)]
struct Inner {
    state: State,
    faults: Faults,
    /// Groups committed since the disk was made.
    commits: u64,
    /// The way back from the latest commits, as many as the disk may forget.
    history: VecDeque<Changes>,
    forgetful: usize,
    /// Which opening of the disk is in force; others have crashed or were closed.
    epoch: u64,
    open: bool,
    /// What it says of its room, once it was told.
    room: Option<Room>,
}

impl Inner {
    fn crash(&mut self, forget: usize) {
        self.state.rollback();
        for _ in 0..forget {
            let Some(changes) = self.history.pop_back() else { break };
            self.state.revert(changes);
        }
        self.epoch += 1;
        self.open = false;
    }

    fn kept(&mut self, changes: Changes) {
        self.history.push_back(changes);
        while self.history.len() > self.forgetful {
            self.history.pop_front();
        }
    }
}

/// What survives. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<(Mutex<Inner>, Condvar)>);

impl Disk {
    /// An empty disk that forgets nothing.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// An empty disk that may forget up to `commits` of the latest commits when it crashes, though it said they were durable.
    pub fn forgetful(commits: usize) -> Disk {
        let disk = Disk::new();
        disk.lock().forgetful = commits;
        disk
    }

    /// How many groups have been committed.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Plans a fault for a commit; the first is number 1. One fault for each commit; a later plan replaces an earlier one.
    pub fn at(&self, commit: u64, fault: Fault) {
        self.lock().faults.plan(commit, fault);
    }

    /// Plans a fault for the next commit.
    pub fn next(&self, fault: Fault) {
        let mut inner = self.lock();
        let next = inner.commits + 1;
        inner.faults.plan(next, fault);
    }

    /// What it says of its room from now on. It takes what it is given all the same.
    pub fn set_room(&self, room: Room) {
        self.lock().room = Some(room);
    }

    /// Lets the commit go that waits because of [`Fault::Delay`].
    pub fn release(&self) {
        let mut inner = self.lock();
        let next = inner.commits + 1;
        inner.faults.release(next);
        self.0.1.notify_all();
    }

    /// Makes every read fail, or work again.
    pub fn reads_fail(&self, error: Option<StoreError>) {
        self.lock().faults.reads = error;
    }

    /// The process dies now: the store that is open answers nothing any more, and the disk forgets the latest `forget` commits,
    /// as far as it may.
    pub fn crash(&self, forget: usize) {
        self.lock().crash(forget);
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic leaves at worst a half-applied group, which the next commit or crash would take along: tests only.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store opened on a disk.
#[derive(Debug)]
pub struct Memory {
    disk: Disk,
    epoch: u64,
}

impl Memory {
    /// Opens the disk, as one process at a time can.
    pub fn open(disk: &Disk) -> Result<Memory> {
        let mut inner = disk.lock();
        if inner.open {
            return Err(StoreError::Locked { path: "memory".into(), pid: std::process::id() });
        }
        inner.open = true;
        inner.epoch += 1;
        let epoch = inner.epoch;
        drop(inner);
        Ok(Memory { disk: disk.clone(), epoch })
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.epoch == self.epoch { Ok(inner) } else { Err(StoreError::Crashed) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut inner = self.disk.lock();
        if inner.epoch == self.epoch {
            inner.open = false;
            inner.epoch += 1;
        }
    }
}

impl Backend for Memory {
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        let mut inner = self.lock()?;
        let maps = &mut inner.state.maps;
        if let Some((id, _)) = maps.iter().find(|(_, n)| **n == *name) {
            return Ok(*id);
        }
        let id = crate::maps::next(maps, loading)?;
        maps.push((id, name.into()));
        Ok(id)
    }

    fn last_id(&self) -> EntryId {
        self.disk.lock().state.last
    }

    fn next_owner(&self) -> Owner {
        self.disk.lock().state.next_owner()
    }

    fn apply(&mut self, group: &[Batch], stale: &mut Stale) -> Vec<Outcome> {
        let all_failed = |error: &StoreError| group.iter().map(|_| Outcome::Failed(error.clone())).collect();
        let mut inner = match self.lock() {
            Ok(inner) => inner,
            Err(error) => return all_failed(&error),
        };
        let commit = inner.commits + 1;
        while inner.faults.stalls(commit) && inner.epoch == self.epoch {
            inner = self.disk.0.1.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.epoch != self.epoch {
            return all_failed(&StoreError::Crashed);
        }
        let fault = inner.faults.take(commit);
        if let Some(Fault::CrashBefore) = fault {
            inner.crash(0);
            return all_failed(&StoreError::Crashed);
        }
        let mut outcomes = Vec::with_capacity(group.len());
        let last = group.len().saturating_sub(1);
        for (i, batch) in group.iter().enumerate() {
            if matches!(fault, Some(Fault::CrashAmid(at)) if i >= at) {
                break;
            }
            let outcome = match &fault {
                _ if !stale.admits(batch) => Outcome::Failed(StoreError::Stale),
                Some(Fault::Fail(error)) => Outcome::Failed(error.clone()),
                Some(Fault::FailOne(at, error)) if i == (*at).min(last) => Outcome::Failed(error.clone()),
                Some(Fault::Refuse(at)) if i == (*at).min(last) => Outcome::Refused { write: 0 },
                _ => one(&mut inner.state, batch),
            };
            if matches!(outcome, Outcome::Failed(_)) || batch.updates && !outcome.is_committed() {
                stale.lost(batch);
            }
            outcomes.push(outcome);
        }
        let changes = inner.state.commit();
        inner.kept(changes);
        inner.commits = commit;
        if let Some(Fault::CrashAfter | Fault::CrashAmid(_)) = fault {
            inner.crash(0);
            return all_failed(&StoreError::Crashed);
        }
        outcomes
    }

    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        if busy {
            return Ok(true);
        }
        let mut inner = self.lock()?;
        let more = inner.state.tidy(now, TIDY_MAX);
        // What is tidied goes with the latest commit, if that is forgotten.
        let changes = inner.state.commit();
        match inner.history.back_mut() {
            Some(latest) => latest.append(changes),
            None => drop(changes),
        }
        Ok(more)
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        drop(self.lock()?);
        Ok(Box::new(MemoryReader { disk: self.disk.clone(), epoch: self.epoch }))
    }

    fn probe(&self) -> Option<Probe> {
        let disk = self.disk.clone();
        let boundless = Room { free: u64::MAX, total: u64::MAX };
        Some(Arc::new(move || Ok(disk.lock().room.unwrap_or(boundless))))
    }

    fn stalled(&self) -> bool {
        let inner = self.disk.lock();
        inner.epoch == self.epoch && inner.faults.stalls(inner.commits + 1)
    }
}

fn one(state: &mut State, batch: &Batch) -> Outcome {
    if let Err(rule) = check::batch(batch, |map| state.maps.iter().any(|(id, _)| *id == map)) {
        return Outcome::Failed(StoreError::Bug(rule));
    }
    match state.batch(batch) {
        Ok(()) => Outcome::Committed,
        Err(No::Refused(write)) => Outcome::Refused { write },
        Err(No::Bug(rule)) => Outcome::Failed(StoreError::Bug(rule)),
    }
}

struct MemoryReader {
    disk: Disk,
    epoch: u64,
}

impl MemoryReader {
    fn read<T>(&self, question: impl FnOnce(&State) -> T) -> Result<T> {
        let inner = self.disk.lock();
        if inner.epoch != self.epoch {
            return Err(StoreError::Crashed);
        }
        match &inner.faults.reads {
            Some(error) => Err(error.clone()),
            None => Ok(question(&inner.state)),
        }
    }
}

impl Reader for MemoryReader {
    fn find(&mut self, kind: Kind, host: &str, name: &str) -> Result<Option<OwnerRow>> {
        self.read(|s| s.find(kind, host, name))
    }

    fn owner(&mut self, owner: Owner) -> Result<Option<OwnerRow>> {
        self.read(|s| s.owner(owner))
    }

    fn owners(&mut self, kind: Kind, host: &str, past: Option<&str>, limit: usize) -> Result<Vec<OwnerRow>> {
        self.read(|s| s.owners(kind, host, past, limit))
    }

    fn load(&mut self, owner: Owner, limit: usize) -> Result<Vec<KeyedRow>> {
        self.read(|s| s.load(owner, limit))
    }

    fn map_get(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Row>> {
        self.read(|s| s.row(map, owner, key))
    }

    fn map_range(&mut self, map: MapId, owner: Owner, query: MapQuery) -> Result<Vec<KeyedRow>> {
        self.read(|s| s.range(map, owner, query))
    }

    fn map_count(&mut self, map: MapId, owner: Owner, prefix: &[u8], cap: usize) -> Result<usize> {
        self.read(|s| s.range(map, owner, MapQuery { prefix, limit: cap, ..MapQuery::default() }).len())
    }

    fn map_reverse(
        &mut self,
        map: MapId,
        reverse: &[u8],
        past: Option<(Owner, &[u8])>,
        limit: usize,
    ) -> Result<Vec<KeyedRow>> {
        self.read(|s| s.reverse(map, reverse, past, limit))
    }

    fn log_range(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<Entry>> {
        self.read(|s| s.log(owner, query))
    }

    fn log_count(&mut self, owner: Owner, query: LogQuery) -> Result<usize> {
        self.read(|s| s.log(owner, query).len())
    }

    fn log_sizes(&mut self, owner: Owner, query: LogQuery) -> Result<Vec<EntrySize>> {
        self.read(|s| s.log(owner, query).into_iter().map(size).collect())
    }

    fn log_archived(&mut self, owner: Owner) -> Result<u64> {
        let query = LogQuery { flags: flags::ARCHIVED, ..LogQuery::default() };
        self.read(|s| s.log(owner, query).into_iter().map(|entry| size(entry).bytes).sum())
    }

    fn log_get(&mut self, owner: Owner, id: EntryId) -> Result<Option<Entry>> {
        self.read(|s| s.entry(owner, id))
    }

    fn blob(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Bytes>> {
        self.read(|s| s.blob(map, owner, key))
    }

    fn blobs(&mut self, map: MapId, owner: Owner, past: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, u64)>> {
        self.read(|s| s.blobs(map, owner, past, limit))
    }

    fn maps(&mut self) -> Result<Vec<(MapId, Box<str>)>> {
        self.read(|s| {
            let mut maps = s.maps.clone();
            maps.sort();
            maps
        })
    }
}

fn size(entry: Entry) -> EntrySize {
    let Entry { id, dir, flags, peer, meta, body, .. } = entry;
    let bytes = ENTRY_BYTES + (peer.len() + meta.len() + body.len()) as u64;
    EntrySize { id, dir, flags, peer, bytes }
}

#[cfg(test)]
mod tests;
