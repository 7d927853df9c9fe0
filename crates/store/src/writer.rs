//! The writer: a queue in front of a backend, and the loop that commits what has arrived.
//!
//! There is one writer for a store. It takes whatever batches have arrived, within two bounds, commits them at once, tells all
//! results at once, and repeats; no timer gathers a group, the sync itself gathers the next one.
//!
//! *Invariant:* the order of ids, of the queue and of the commits is one order, because ids are taken under the queue's lock.
//!
//! *Invariant:* what was submitted after a batch that came to nothing, and shares an owner with it, comes to nothing too, until
//! that owner is reported as reloaded ([`Queue::reloaded`]).

use crate::pulse::Pulse;
use crate::shape::{
    Backend, Batch, BatchId, EntryId, Ids, Journal, Loading, MapId, Millis, Outcome, Owner, Probe, Reader, Result,
    Stale, StoreError, Write,
};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vorpal_core::counts::{Count, Counts};

/// Microseconds since 1970.
pub type Micros = u64;

/// The most batches in a commit.
pub const MAX_GROUP_BATCHES: usize = 512;

/// The most bytes in a commit, as [`Batch::weight`] counts them; a heavier batch is a group of its own.
pub const MAX_GROUP_BYTES: usize = 4 << 20;

/// With more batches than this in the queue what may be refused is refused; with half of it no more. See [`Queue::set_most`].
pub const MAX_BACKLOG_BATCHES: usize = 64 * 1024;

/// The same in bytes, as [`Batch::weight`] counts them.
pub const MAX_BACKLOG_BYTES: usize = 64 << 20;

/// How long nothing must arrive before work that can wait is done.
const QUIET: Duration = Duration::from_millis(250);

/// How often a writer with nothing to do looks for rows that have expired, and for deleted content to erase.
const LOOK: Duration = Duration::from_secs(2);

/// How often a writer that is never without work does what can wait all the same.
const PATIENCE: Micros = 1_000_000;

/// How soon a writer looks again whether a delayed commit may go (tests only).
const STALL: Duration = Duration::from_millis(1);

/// Where new numbers come from. Reached only under the queue's lock.
#[derive(Debug)]
pub struct IdSource {
    now: Micros,
    last: EntryId,
    next_owner: Owner,
    batch: BatchId,
}

impl IdSource {
    /// A new id for a log entry: `max(last + 1, now)`.
    pub fn entry(&mut self) -> EntryId {
        self.last = self.now.max(self.last + 1);
        self.last
    }

    /// A number for a new owner.
    pub fn owner(&mut self) -> Owner {
        self.next_owner += 1;
        self.next_owner - 1
    }

    /// The number of the batch that is being made.
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// The time that was given at the submission.
    pub fn now(&self) -> Micros {
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
    fn submit(&self, now: Micros, build: &mut dyn FnMut(&mut dyn Ids) -> Batch) -> bool {
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
    /// how much may wait before the queue counts as full
    most: Backlog,
    /// the writer waits for something to arrive: waking one that does not would be a system call for nothing
    resting: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// asked with each message: without the lock
    full: AtomicBool,
    arrived: Condvar,
    pulse: Pulse,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A closure that panics while it makes a batch has at most used up some ids.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue has become longer or shorter.
    fn measure(&self, state: &State) {
        let full = self.full.load(Ordering::Relaxed);
        let part = if full { 2 } else { 1 };
        let now = state.batches > state.most.batches / part || state.bytes > state.most.bytes / part;
        if now != full {
            self.full.store(now, Ordering::Relaxed);
        }
    }
}

/// What waits to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many batches.
    pub batches: usize,
    /// How many bytes, as [`Batch::weight`] counts them.
    pub bytes: usize,
}

/// The way in. Clones are the same queue.
///
/// It takes whatever is submitted: what settles a promise must not fail for want of room. When it is full ([`Journal::is_full`])
/// the core makes no new promises; what goes on has a bound for each session (unsettled stanzas, their bytes).
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

impl Queue {
    /// Submits what `build` makes, which takes its ids from the source it is given. `build` runs under the queue's lock: it must
    /// be short and may not use the queue. Never waits for the disk. `id` and `now` of the batch are filled in here.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the writer has ended; `build` is not called then.
    pub fn submit_with(&self, now: Micros, build: impl FnOnce(&mut IdSource) -> Batch) -> Result<BatchId> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.ids.now = now;
        let mut batch = build(&mut state.ids);
        let id = state.ids.batch;
        batch.id = id;
        batch.now = now / 1000;
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
    pub fn submit(&self, now: Micros, batch: Batch) -> Result<BatchId> {
        self.submit_with(now, |_| batch)
    }

    /// The owner's state has been loaded again after one of its batches came to nothing: what is submitted from now on is built
    /// on what is stored.
    pub fn reloaded(&self, owner: Owner) {
        self.0.lock().items.push_back(Item::Reloaded(owner));
        self.0.arrived.notify_one();
    }

    /// The lowest id the next log entry can have: every entry submitted so far has a lower one.
    pub fn next_id(&self) -> EntryId {
        self.0.lock().ids.last + 1
    }

    /// What waits to be written, without the group that is being committed.
    pub fn backlog(&self) -> Backlog {
        let state = self.0.lock();
        Backlog { batches: state.batches, bytes: state.bytes }
    }

    /// With how much the queue counts as full, if not with [`MAX_BACKLOG_BATCHES`] and [`MAX_BACKLOG_BYTES`].
    pub fn set_most(&self, most: Backlog) {
        let mut state = self.0.lock();
        state.most = most;
        self.0.measure(&state);
    }

    /// How the writer is.
    pub fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// Whether nothing more is taken: the writer ends, or has ended.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Nothing more is taken; the writer ends when it has written what is queued.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

/// The result of a batch.
#[derive(Clone, Debug)]
pub struct Done {
    /// Which.
    pub id: BatchId,
    /// Its owners.
    pub owners: SmallVec<[Owner; 2]>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a step of the writer did.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// One commit; the results of its group, in the order of submission.
    Committed(Vec<Done>),
    /// Nothing was queued.
    Empty,
    /// A test holds the commit back.
    Stalled,
    /// A test made the store crash: the process this stands for is dead, and nobody may be told anything.
    Crashed,
}

/// The one that writes. Whoever makes it lends it a thread ([`Writer::run`]) or calls [`Writer::step`] itself.
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

/// Makes the writes that go with a group, whatever it is about.
pub type ExtraWrites = Box<dyn FnMut() -> Vec<Write> + Send>;

/// The number of the batch of those. Nobody is told what became of it.
const EXTRA: BatchId = BatchId(u64::MAX);

impl Writer {
    /// A writer for a store that nobody else writes to, and its queue.
    pub fn new(backend: Box<dyn Backend>) -> (Queue, Writer) {
        let ids =
            IdSource { now: 0, last: backend.last_id(), next_owner: backend.next_owner(), batch: BatchId::default() };
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

    /// Asks this for writes from now on, for each group that is about to be committed. It must not wait for anything. Its writes
    /// name no owner, and stand behind those of the group.
    pub fn set_extra_writes(&mut self, extra: ExtraWrites) {
        self.extra = Some(extra);
    }

    /// Counts there from now on.
    pub fn count_in(&mut self, counts: Arc<Counts>) {
        self.counts = counts;
    }

    /// Who tells the room on the disk; see [`Backend::probe`].
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

    /// Commits what has arrived, within the bounds, once. Does not wait, except for the disk.
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
            // A crash is everybody's.
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

    /// Does a piece of the work that can wait; see [`Backend::idle`].
    ///
    /// # Errors
    /// Those of the backend; the work is tried again at the next call.
    pub fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        self.backend.idle(now, busy)
    }

    /// Writes until the queue is closed and empty, then closes the store. `told` is called once for each commit, on this
    /// thread, and must not wait for anything the writer does. `clock` is the time, `weather` hears of work that could not be
    /// done and will be tried again.
    pub fn run(
        mut self,
        clock: impl Fn() -> Micros,
        mut told: impl FnMut(Vec<Done>),
        mut weather: impl FnMut(StoreError),
    ) {
        let mut rested = clock();
        loop {
            match self.step() {
                Step::Committed(done) => {
                    told(done);
                    let now = clock();
                    let busy = now < rested.saturating_add(PATIENCE);
                    if !busy {
                        rested = now;
                    }
                    if let Err(error) = self.idle(now / 1000, busy) {
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

    /// Waits for something to arrive, and does what can wait when it is quiet. Returns whether to go on.
    fn rest(&mut self, clock: &impl Fn() -> Micros, weather: &mut impl FnMut(StoreError)) -> bool {
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
            patience = match self.idle(clock() / 1000, false) {
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
    /// Whether it has ended as it should or by a panic: nothing more is taken.
    fn drop(&mut self) {
        self.queue.0.lock().closed = true;
    }
}

#[cfg(test)]
mod tests;
