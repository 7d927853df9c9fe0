//! The writer: a queue in front of a backend, and the loop that commits the batches in it.
//!
//! Each store has one writer. It takes all batches that have arrived, within two limits, commits them together, reports all results
//! together, and repeats. No timer collects a group: the next group collects during the sync.
//!
//! *Invariant:* ids, the queue and commits have the same order, because ids are taken under the queue's lock.
//!
//! *Invariant:* after a batch fails, later batches that share an owner with it fail too, until that owner is reported as reloaded
//! ([`Queue::reloaded`]).

#![expect(clippy::disallowed_methods, reason = "a test delays commits")]

use crate::pulse::Pulse;
use crate::shape::{
    Backend, Batch, BatchId, EntryId, Ids, Journal, Loading, MapId, Millis, Outcome, Owner, Probe, Reader, Result,
    Stale, StoreError, Timestamp, Write, next_id,
};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vorpal_core::watch::counts::{Count, Counts};

/// Maximum number of batches in a commit.
pub const MAX_GROUP_BATCHES: usize = 512;

/// Maximum size of a commit in bytes, as [`Batch::weight`] counts them; a larger batch is committed alone.
pub const MAX_GROUP_BYTES: usize = 4 << 20;

/// With more batches than this in the queue, work that may be refused is refused, until the queue is down to half. See
/// [`Queue::set_most`].
pub const MAX_BACKLOG_BATCHES: usize = 64 * 1024;

/// The same in bytes, as [`Batch::weight`] counts them.
pub const MAX_BACKLOG_BYTES: usize = 64 << 20;

/// How long the queue must be empty before background work is done.
const QUIET: Duration = Duration::from_millis(250);

/// How often an idle writer looks for expired rows, and for deleted content to erase.
const LOOK: Duration = Duration::from_secs(2);

/// How often a writer that is never idle does background work nevertheless.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a writer checks whether a delayed commit may proceed (tests only).
const STALL: Duration = Duration::from_millis(1);

/// The source of new numbers. Used only under the queue's lock.
#[derive(Debug)]
pub struct IdSource {
    now: Timestamp,
    last: EntryId,
    next_owner: Owner,
    batch: BatchId,
}

impl IdSource {
    /// A new id for a log entry; see [`next_id`].
    pub fn entry(&mut self) -> EntryId {
        self.last = next_id(self.last, self.now);
        self.last
    }

    /// A number for a new owner.
    pub fn owner(&mut self) -> Owner {
        self.next_owner += 1;
        self.next_owner - 1
    }

    /// The number of the batch that is being built.
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// The time given at the submission.
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl Ids for IdSource {
    fn entry(&mut self) -> EntryId {
        IdSource::entry(self)
    }

    fn owner(&mut self) -> Owner {
        IdSource::owner(self)
    }

    fn batch(&self) -> BatchId {
        IdSource::batch(self)
    }
}

impl Journal for Queue {
    fn submit(&self, now: Timestamp, build: &mut dyn FnMut(&mut dyn Ids) -> Batch) -> bool {
        self.submit_with(now, |ids| build(ids)).is_ok()
    }

    fn reloaded(&self, owner: Owner) {
        Queue::reloaded(self, owner);
    }

    fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Item {
    Batch(Batch, usize),
    Reloaded(Owner),
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    batches: usize,
    bytes: usize,
    ids: IdSource,
    closed: bool,
    /// the queue counts as full above this
    most: Backlog,
    /// the writer is waiting for batches: waking it otherwise would be an unnecessary system call
    resting: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// read for each message, without the lock
    full: AtomicBool,
    arrived: Condvar,
    pulse: Pulse,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A closure that panics while it builds a batch has at most used up some ids.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length of the queue has changed.
    fn measure(&self, state: &State) {
        let full = self.full.load(Ordering::Relaxed);
        let part = if full { 2 } else { 1 };
        let now = state.batches > state.most.batches / part || state.bytes > state.most.bytes / part;
        if now != full {
            self.full.store(now, Ordering::Relaxed);
        }
    }
}

/// The batches that wait to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Number of batches.
    pub batches: usize,
    /// Number of bytes, as [`Batch::weight`] counts them.
    pub bytes: usize,
}

/// The queue. Clones are the same queue.
///
/// It accepts every batch: one that settles a promise must not fail because the queue is full. When it is full ([`Journal::is_full`])
/// the core makes no new promises; other batches are limited for each session (unsettled stanzas, their bytes).
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

impl Queue {
    /// Submits the batch that `build` returns, with ids from the given source. `build` runs under the queue's lock: it must
    /// be short and must not use the queue. Never waits for the disk. `id` and `now` of the batch are set here.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the writer has ended; `build` is not called then.
    pub fn submit_with(&self, now: Timestamp, build: impl FnOnce(&mut IdSource) -> Batch) -> Result<BatchId> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.ids.now = now;
        let mut batch = build(&mut state.ids);
        let id = state.ids.batch;
        batch.id = id;
        batch.now = now.as_millis();
        state.ids.batch.0 += 1;
        let weight = batch.weight();
        state.batches += 1;
        state.bytes += weight;
        let wake = state.items.is_empty() && state.resting;
        state.items.push_back(Item::Batch(batch, weight));
        self.0.measure(&state);
        drop(state);
        if wake {
            self.0.arrived.notify_one();
        }
        Ok(id)
    }

    /// Submits a batch that needs no new ids.
    ///
    /// # Errors
    /// As [`Queue::submit_with`].
    pub fn submit(&self, now: Timestamp, batch: Batch) -> Result<BatchId> {
        self.submit_with(now, |_| batch)
    }

    /// The owner's state was loaded again after one of its batches failed: batches submitted from now on are based on the stored
    /// state.
    pub fn reloaded(&self, owner: Owner) {
        self.0.lock().items.push_back(Item::Reloaded(owner));
        self.0.arrived.notify_one();
    }

    /// The lowest id the next log entry can have: every entry submitted so far has a lower one.
    pub fn next_id(&self) -> EntryId {
        self.0.lock().ids.last + 1
    }

    /// The waiting batches, without the group that is being committed.
    pub fn backlog(&self) -> Backlog {
        let state = self.0.lock();
        Backlog { batches: state.batches, bytes: state.bytes }
    }

    /// Sets the limits above which the queue counts as full, instead of [`MAX_BACKLOG_BATCHES`] and [`MAX_BACKLOG_BYTES`].
    pub fn set_most(&self, most: Backlog) {
        let mut state = self.0.lock();
        state.most = most;
        self.0.measure(&state);
    }

    /// The state of the writer.
    pub fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// Whether the queue is closed: the writer is ending, or has ended.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Closes the queue; the writer ends when it has written what is queued.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

/// The result of a batch.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its number.
    pub id: BatchId,
    /// Its owners.
    pub owners: SmallVec<[Owner; 2]>,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The result of a step of the writer.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// One commit; the results of its group, in the order of submission.
    Committed(Vec<Done>),
    /// Nothing was queued.
    Empty,
    /// A test delays the commit.
    Stalled,
    /// A test made the store crash: the simulated process is dead, and no result may be reported.
    Crashed,
}

/// The writer. Its creator gives it a thread ([`Writer::run`]) or calls [`Writer::step`] itself.
pub struct Writer {
    queue: Queue,
    backend: Box<dyn Backend>,
    stale: Stale,
    group: Vec<Batch>,
    /// the bytes of the group
    bytes: usize,
    counts: Arc<Counts>,
    extra: Option<ExtraWrites>,
}

/// Returns additional writes for a group, whatever its content.
pub type ExtraWrites = Box<dyn FnMut() -> Vec<Write> + Send>;

/// The number of the batch of additional writes. Its outcome is not reported.
const EXTRA: BatchId = BatchId(u64::MAX);

impl Writer {
    /// A writer for a store that has no other writer, and its queue.
    pub fn new(backend: Box<dyn Backend>) -> (Queue, Writer) {
        let ids = IdSource {
            now: Timestamp::from_millis(0),
            last: backend.last_id(),
            next_owner: backend.next_owner(),
            batch: BatchId::default(),
        };
        let most = Backlog { batches: MAX_BACKLOG_BATCHES, bytes: MAX_BACKLOG_BYTES };
        let state = State { items: VecDeque::new(), batches: 0, bytes: 0, ids, closed: false, most, resting: false };
        let queue = Queue(Arc::new(Shared {
            state: Mutex::new(state),
            full: AtomicBool::new(false),
            arrived: Condvar::new(),
            pulse: Pulse::default(),
        }));
        let counts = Arc::default();
        (
            queue.clone(),
            Writer { queue, backend, stale: Stale::default(), group: Vec::new(), bytes: 0, counts, extra: None },
        )
    }

    /// Sets a source of additional writes for each group that is about to be committed. It must not block. Its writes name no owner,
    /// and come after those of the group.
    pub fn set_extra_writes(&mut self, extra: ExtraWrites) {
        self.extra = Some(extra);
    }

    /// Sets the counters to use.
    pub fn count_in(&mut self, counts: Arc<Counts>) {
        self.counts = counts;
    }

    /// A probe for the free disk space; see [`Backend::probe`].
    pub fn probe(&self) -> Option<Probe> {
        self.backend.probe()
    }

    /// The number of a map; see [`Backend::map`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        self.backend.map(name, loading)
    }

    /// A new reader; see [`Backend::reader`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn reader(&self) -> Result<Box<dyn Reader>> {
        self.backend.reader()
    }

    /// Makes one commit of the batches that have arrived, within the limits. Blocks only on the disk.
    pub fn step(&mut self) -> Step {
        if self.backend.stalled() {
            return Step::Stalled;
        }
        self.take();
        if self.group.is_empty() {
            return Step::Empty;
        }
        let own = self.group.len();
        let extra = self.extra.as_mut().map_or_else(Vec::new, |extra| extra());
        if !extra.is_empty() {
            let now = self.group.last().map_or(0, |batch| batch.now);
            self.group.push(Batch { id: EXTRA, now, writes: extra, ..Batch::default() });
        }
        let began = self.queue.0.pulse.begin();
        let mut outcomes = self.backend.apply(&self.group, &mut self.stale);
        self.group.truncate(own);
        if outcomes.len() > own {
            // A crash affects the whole group.
            let crashed = outcomes.drain(own..).any(|o| matches!(o, Outcome::Failed(StoreError::Crashed)));
            if crashed {
                return Step::Crashed;
            }
        }
        let took = self.queue.0.pulse.end(began, &outcomes, self.bytes);
        self.count(took, &outcomes);
        debug_assert_eq!(outcomes.len(), self.group.len());
        if outcomes.iter().any(|o| matches!(o, Outcome::Failed(StoreError::Crashed))) {
            return Step::Crashed;
        }
        let done = self.group.drain(..).zip(outcomes);
        Step::Committed(done.map(|(b, outcome)| Done { id: b.id, owners: b.owners, outcome }).collect())
    }

    fn count(&self, took: Duration, outcomes: &[Outcome]) {
        let counts = &self.counts;
        counts.commit_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        counts.commit_batches.record(outcomes.len() as u64);
        let committed = outcomes.iter().filter(|outcome| outcome.is_committed()).count();
        counts.add(Count::BatchesCommitted, committed as u64);
        if committed == outcomes.len() {
            counts.add(Count::BytesCommitted, self.bytes as u64);
            return;
        }
        let each = self.group.iter().zip(outcomes);
        let bytes = each.filter(|(_, outcome)| outcome.is_committed()).map(|(batch, _)| batch.weight());
        counts.add(Count::BytesCommitted, bytes.sum::<usize>() as u64);
        for outcome in outcomes {
            match outcome {
                Outcome::Committed => {}
                Outcome::Refused { .. } => counts.one(Count::BatchesRefused),
                Outcome::Failed(StoreError::Full) => counts.one(Count::BatchesFull),
                Outcome::Failed(StoreError::Stale) => counts.one(Count::BatchesStale),
                Outcome::Failed(_) => counts.one(Count::BatchesBroken),
            }
        }
    }

    /// Does a piece of background work; see [`Backend::idle`].
    ///
    /// # Errors
    /// Those of the backend; the work is retried at the next call.
    pub fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        self.backend.idle(now, busy)
    }

    /// Writes until the queue is closed and empty, then closes the store. `told` is called once for each commit, on this
    /// thread, and must not wait for the writer. `clock` returns the time; `weather` is called with errors of background work that
    /// will be retried.
    pub fn run(
        mut self,
        clock: impl Fn() -> Timestamp,
        mut told: impl FnMut(Vec<Done>),
        mut weather: impl FnMut(StoreError),
    ) {
        let mut rested = clock();
        loop {
            match self.step() {
                Step::Committed(done) => {
                    told(done);
                    let now = clock();
                    let busy = now < rested.plus(PATIENCE);
                    if !busy {
                        rested = now;
                    }
                    if let Err(error) = self.idle(now.as_millis(), busy) {
                        weather(error);
                    }
                }
                Step::Empty => {
                    if !self.rest(&clock, &mut weather) {
                        return;
                    }
                }
                Step::Stalled => std::thread::sleep(STALL),
                Step::Crashed => return,
            }
        }
    }

    /// Waits for batches, and does background work while idle. Returns whether to continue.
    fn rest(&mut self, clock: &impl Fn() -> Timestamp, weather: &mut impl FnMut(StoreError)) -> bool {
        let mut patience = QUIET;
        loop {
            let mut state = self.queue.0.lock();
            state.resting = true;
            let waited = self.queue.0.arrived.wait_timeout_while(state, patience, |s| s.items.is_empty() && !s.closed);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.resting = false;
            if !state.items.is_empty() {
                return true;
            }
            if state.closed {
                return false;
            }
            drop(state);
            patience = match self.idle(clock().as_millis(), false) {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    weather(error);
                    LOOK
                }
            };
        }
    }

    /// Takes the next group from the queue.
    fn take(&mut self) {
        self.group.clear();
        self.bytes = 0;
        let mut state = self.queue.0.lock();
        let mut bytes = 0;
        while let Some(item) = state.items.front() {
            match item {
                Item::Reloaded(owner) if self.group.is_empty() => self.stale.reloaded(*owner),
                Item::Reloaded(_) => break,
                Item::Batch(_, weight) => {
                    bytes += weight;
                    let full = self.group.len() >= MAX_GROUP_BATCHES || bytes > MAX_GROUP_BYTES;
                    if full && !self.group.is_empty() {
                        break;
                    }
                }
            }
            if let Some(Item::Batch(batch, weight)) = state.items.pop_front() {
                state.batches -= 1;
                state.bytes -= weight;
                self.bytes += weight;
                self.group.push(batch);
            }
        }
        self.queue.0.measure(&state);
    }
}

impl Drop for Writer {
    /// However the writer ends, even by a panic, the queue is closed.
    fn drop(&mut self) {
        self.queue.0.lock().closed = true;
    }
}

#[cfg(test)]
mod tests;
