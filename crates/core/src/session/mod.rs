//! A session: what outlives the connection (RFC 6120 §7, XEP-0198 §5).
//!
//! The face of a session (its address, priority and flags) may be read by everybody. What is on its stream is behind a
//! short lock of its own. Lock order: account, then session. A detached session has no connection and loses nothing.

pub(crate) mod answers;
pub mod checkpoint;
pub(crate) mod deadlines;
pub(crate) mod debt;
pub mod guard;
pub mod inquiries;
pub mod ledger;
mod managed;
mod peer;
mod queue;
pub mod row;
pub(crate) mod untold;
pub mod wire;

pub use guard::{OpenSession, Outgoing, Verdict};
pub use managed::Vitals;
pub(crate) use out::Shared;
pub use out::{Out, Role};
pub use peer::{Cipher, Facts, Peer, Tls};
pub use wire::Wire;

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use vorpal_proto::error::StreamError;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::bounds::Bounds;
use crate::session::checkpoint::Checkpoint;
use crate::session::debt::Debt;
use crate::session::guard::Guard;
use crate::session::inquiries::Inquiries;
use crate::session::ledger::{Ledger, MAX_UNSETTLED_BYTES, Pending};
use crate::store::EntryId;
use capacity::{Stale, is_state};
use deferred::Deferred;
use queue::{Item, Queue};

mod capacity;
mod deferred;
pub mod inspect;
mod out;

/// The number of a session: unique in the store for ever, so that a log entry can name it.
pub type SessionId = u64;

/// About what a stanza takes in a queue besides its bytes: its place, the index of its children, the blocks of the allocator. A
/// small stanza takes much more than is written of it.
pub(crate) const OUT_BYTES: usize = 448;

/// After so many stanzas the client is asked how far it is (XEP-0198 §4); after fewer, with the next tick.
pub(crate) const ASK_AFTER: u32 = 5;

/// Or when this part of what a session may hold waits or is unacknowledged.
pub(crate) const ASK_PART: usize = 8;

/// A client is not read from while more than this part of what a session may hold waits to be written to it, counted as memory.
pub(crate) const PAUSE_PART: usize = 2;

/// Woken when there is something to do for a connection. Never blocks.
pub trait Wake: Send + Sync {
    /// There is something to write, to read again, or to close.
    fn wake(&self);
}

/// A connection, for the session that it is to carry.
#[derive(Clone)]
pub struct Carrier {
    /// woken when there is something to do
    pub wake: Arc<dyn Wake>,
    /// its number among all connections: [`crate::core::Core::next_connection`]
    pub order: u64,
    /// what [`crate::core::Core::revocations`] said when its client's password was looked up
    pub revocations: u32,
    /// where its client is
    pub peer: Peer,
}

/// A bit in every session: `m.session_flag("carbons")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub(crate) u8);

/// A value in every session: `m.session_slot::<T>("name")`.
pub struct Slot<T> {
    pub(crate) at: usize,
    pub(crate) value: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}

/// A session. See the module's text.
pub struct Session {
    /// its number
    pub id: SessionId,
    /// its full address
    pub jid: Jid,
    flags: AtomicU64,
    priority: AtomicI32,
    /// set with the stream's state; read without its lock
    attached: AtomicBool,
    /// what it is sent is counted: set with the stream's state, read without its lock
    counted: AtomicBool,
    /// its account keeps a list by which what is written is judged
    guarded: AtomicBool,
    stream: Mutex<Stream>,
}

const UNAVAILABLE: i32 = i32::MIN;

/// An entry that a session took, and as what.
pub(crate) type Taken = (EntryId, Role);

/// What became of a stanza that was given to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits to be written.
    Queued,
    /// It is left to the log, which the session will read; or, of presence at the bound, left out.
    Left,
    /// The session has reached its bound.
    Full,
}

/// A presence that is held until something important comes, or a newer one of the same sender.
struct Held {
    out: Out,
    latest_only: bool,
}

/// XEP-0198 on what is sent to a session.
pub struct Management {
    /// stanzas sent, modulo 2^32 on the wire
    pub(crate) sent: u64,
    /// stanzas the client has acknowledged
    pub(crate) acked: u64,
    /// an `<r/>` of ours waits for its answer
    pub(crate) asked: bool,
    /// stanzas sent since we asked last
    pub(crate) unasked: u32,
}

/// Reading the log instead of being given it live: after joining, while detached, when too slow, and after a restart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// the next id to be read
    pub pos: EntryId,
    /// below this id the session was, or will be, given live what was planned for it
    pub had_to: EntryId,
    /// a page is being fetched
    pub fetching: bool,
    /// the newest entry so far that is left to the log: what is not in the log and comes now follows it
    pub left: EntryId,
}

/// What is on a session's stream.
pub struct Stream {
    pub(crate) wake: Option<Arc<dyn Wake>>,
    /// the client behind the connection that carries it, or carried it last
    pub(crate) peer: Peer,
    /// which connection it is: a task of an older one finds itself out
    pub(crate) epoch: u32,
    /// the epoch of the newest connection that carried it: older ones were replaced, and did not let go of it
    carrying: u32,
    /// the newest connection that ever carried it, among all there were
    pub(crate) carried_by: u64,
    /// what the client sent
    pub ledger: Ledger,
    /// an IQ that must be answered before the next stanza is taken
    pub(crate) barrier: Option<u64>,
    /// that is no IQ, but says something to many: they are to have it first
    pub(crate) fans: bool,
    /// questions that wait for the store
    pub(crate) inquiries: Option<Box<Inquiries>>,
    /// what it has not been told since it became available
    pub(crate) untold: crate::session::untold::List,
    /// bytes of large answers that nobody has charged to the client yet
    pub(crate) answered: usize,
    /// whose presence did not fit
    pub(crate) stale: Stale,
    /// the client asked for stream management: what it sends is promised
    pub managed: bool,
    /// stream management of what is sent, once `<enabled/>` was
    pub sm: Option<Management>,
    /// the client asked how far its stanzas are handled when this was the last of them
    pub(crate) owes_ack: Option<u64>,
    /// the row that the owed answer waits for is on its way
    pub(crate) storing: bool,
    /// that row could not be written
    pub(crate) refused: bool,
    /// stanzas whose batch failed, by number
    pub(crate) debts: Vec<Debt>,
    /// answers that the client has not acknowledged
    pub(crate) answers: Option<Box<answers::Answers>>,
    queue: Queue,
    held: VecDeque<Held>,
    /// sent, and not yet acknowledged; without stream management: not yet written to the socket
    unacked: VecDeque<Out>,
    weight: usize,
    pub(crate) reading: Option<Reading>,
    /// entries from here on are given live; below it the log was read
    pub(crate) joined: EntryId,
    /// entries that were written while the session held their stanzas: not to be read again
    pub(crate) had: BTreeSet<EntryId>,
    /// what came while the log was read
    deferred: Deferred,
    /// the last presence that was broadcast
    pub(crate) presence: Option<Stanza>,
    /// to whom presence was sent directly (RFC 6121 §4.6)
    pub(crate) directed: BTreeSet<Jid>,
    /// of those, what is not stored yet as it is
    pub(crate) directed_changes: BTreeSet<Jid>,
    /// the version of the roster that the client is known to have
    pub(crate) roster_ver: u64,
    /// it can be resumed, also after a crash
    pub(crate) resumable: bool,
    /// the secret by which it is resumed
    pub(crate) token: Option<String>,
    /// for how long it is kept without a connection, in milliseconds
    pub(crate) keep: u64,
    /// when the session was bound, in milliseconds since 1970
    pub(crate) since: u64,
    /// what was read since everything was settled, in bytes
    unsettled_bytes: usize,
    /// the connection waits until less is unsettled
    paused: bool,
    /// it waits until less is in the queue
    crowded: bool,
    pub(crate) closing: Option<Closing>,
    /// since when it has no connection, in steady time
    pub(crate) detached: Option<Duration>,
    /// what the account had received by then, in bytes
    pub(crate) received_before: u64,
    /// the client is known to have every entry up to here that was meant for the session
    pub(crate) cursor: EntryId,
    /// what the newest row of its progress says that was handed to the store
    pub(crate) progress: (u64, EntryId),
    /// the newest entry that the client took
    newest_taken: EntryId,
    /// something was sent that the stored checkpoint does not say; of what was acknowledged since it says less, and not too little
    unlisted: bool,
    /// its checkpoint is due
    due: bool,
    /// the newest entry that was sent
    newest_sent: EntryId,
    /// an entry was sent behind a newer one
    disordered: bool,
    /// what had been sent at the last checkpoint
    listed: u64,
    /// what the client has and the cursor does not say; and after a restart, until it is resumed, what was sent before
    checkpoint: Option<Box<Checkpoint>>,
    /// it has let go of what the log has
    hibernates: bool,
    /// while it hibernates: below this its client has what it let go of
    awake_from: EntryId,
    /// while it hibernates: from here on the log is to be read as well, for what nobody took
    back_to: Option<EntryId>,
    /// it is back after a restart, and nobody has resumed it yet
    restored: bool,
    slots: Vec<Option<Box<dyn Any + Send>>>,
    max_queued: usize,
    /// an answer that alone is larger than that, and was taken
    largest: usize,
    max_held: usize,
}

/// What a connection has to do after it was given what waits.
#[derive(Debug)]
pub enum Pulled {
    /// Nothing is left.
    Empty,
    /// There is more.
    More,
    /// The session is over: the stream is closed, with this error if there is one.
    Closed(Option<StreamError>),
    /// Another connection has the session: the stream is closed with `conflict` (RFC 6120 §4.9.3.3).
    Replaced,
    /// The session waits for another connection: the socket goes, without an end of the stream.
    Detached,
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub(crate) enum Closing {
    /// with the closing tag alone
    Normal,
    /// with an error before it
    Error(StreamError),
    /// another connection has the session now
    Replaced,
    /// the client does not read, or the server stops: the socket goes, the session stays
    Detached,
}

impl Session {
    /// A session that just came to be: attached by nobody, unavailable.
    pub fn new(id: SessionId, jid: Jid, bounds: &Bounds) -> Session {
        let stream = Stream {
            wake: None,
            peer: Peer::default(),
            epoch: 0,
            carrying: 0,
            carried_by: 0,
            ledger: Ledger::default(),
            barrier: None,
            fans: false,
            inquiries: None,
            untold: None,
            answered: 0,
            stale: Stale::default(),
            managed: false,
            sm: None,
            owes_ack: None,
            storing: false,
            refused: false,
            debts: Vec::new(),
            answers: None,
            queue: Queue::default(),
            held: VecDeque::new(),
            unacked: VecDeque::new(),
            weight: 0,
            reading: None,
            joined: EntryId::MAX,
            had: BTreeSet::new(),
            deferred: Deferred::default(),
            presence: None,
            directed: BTreeSet::new(),
            directed_changes: BTreeSet::new(),
            roster_ver: 0,
            resumable: false,
            token: None,
            keep: 0,
            since: 0,
            paused: false,
            crowded: false,
            closing: None,
            unsettled_bytes: 0,
            detached: None,
            received_before: 0,
            cursor: 0,
            progress: (u64::MAX, 0),
            newest_taken: 0,
            unlisted: false,
            due: false,
            newest_sent: 0,
            disordered: false,
            listed: 0,
            checkpoint: None,
            hibernates: false,
            awake_from: 0,
            back_to: None,
            restored: false,
            slots: Vec::new(),
            max_queued: bounds.queued,
            largest: 0,
            max_held: bounds.held,
        };
        Session {
            id,
            jid,
            flags: AtomicU64::new(0),
            priority: AtomicI32::new(UNAVAILABLE),
            attached: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
            stream: Mutex::new(stream),
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & (1 << flag.0) != 0
    }

    /// Sets or clears a flag.
    pub fn set(&self, flag: Flag, on: bool) {
        if on {
            self.flags.fetch_or(1 << flag.0, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!(1 << flag.0), Ordering::AcqRel);
        }
    }

    pub(crate) fn flags(&self) -> u64 {
        self.flags.load(Ordering::Acquire)
    }

    pub(crate) fn restore_flags(&self, flags: u64) {
        self.flags.store(flags, Ordering::Release);
    }

    /// The priority of its presence, if it is available (RFC 6121 §4.7.2.3).
    pub fn priority(&self) -> Option<i8> {
        match self.priority.load(Ordering::Acquire) {
            UNAVAILABLE => None,
            priority => i8::try_from(priority).ok(),
        }
    }

    pub(crate) fn set_priority(&self, priority: Option<i8>) {
        self.priority.store(priority.map_or(UNAVAILABLE, i32::from), Ordering::Release);
    }

    /// Whether it has sent presence and not taken it back.
    pub fn is_available(&self) -> bool {
        self.priority().is_some()
    }

    /// Whether a connection carries it now.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Whether the client acknowledges what it is sent (XEP-0198).
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    pub(crate) fn set_counted(&self) {
        self.counted.store(true, Ordering::Release);
    }

    pub(crate) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::Release);
    }

    /// Whether its account keeps a list by which what is written to it is judged.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Acquire)
    }

    pub(crate) fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Release);
    }

    /// Writes this connection's output, up to about `limit` bytes, except what the guard withholds.
    pub(crate) fn pull(&self, guard: &mut impl Guard, epoch: u32, out: &mut impl Wire, limit: usize) -> Pulled {
        let mut stream = self.stream();
        match stream.end_of(epoch) {
            Some(end @ Pulled::Closed(_)) => {
                // What was said before the end is still written.
                stream.pull(self, guard, out, usize::MAX);
                end
            }
            Some(end) => end,
            None if stream.pull(self, guard, out, limit) => Pulled::More,
            None => Pulled::Empty,
        }
    }

    /// How the stream of this connection ends, if it does: for one that has not said yet that it carries the session.
    pub fn end_of(&self, epoch: u32) -> Option<Pulled> {
        self.stream().end_of(epoch)
    }

    /// The number of the connection that carries it now.
    pub fn epoch(&self) -> u32 {
        self.stream().epoch
    }

    /// A connection carries it from here on. Gives the number of the connection.
    pub(crate) fn attach(&self, carrier: Carrier) -> u32 {
        let mut stream = self.stream();
        stream.epoch += 1;
        stream.carrying = stream.epoch;
        stream.carried_by = carrier.order;
        stream.peer = carrier.peer;
        stream.wake = Some(carrier.wake);
        // A page that another connection was fetching may never come.
        if let Some(reading) = &mut stream.reading {
            reading.fetching = false;
        }
        stream.detached = None;
        stream.closing = None;
        self.attached.store(true, Ordering::Release);
        stream.epoch
    }

    /// What is on its stream, locked for a moment. Outside of the kernel this is [`Core::stream`].
    ///
    /// [`Core::stream`]: crate::core::Core::stream
    pub(crate) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock()
    }

    /// Gives it a stanza.
    pub(crate) fn push(&self, out: Out) -> Pushed {
        let mut stream = self.stream();
        let pushed = stream.push(out);
        if pushed != Pushed::Full {
            stream.wake();
        }
        pushed
    }
}

impl Stream {
    fn push(&mut self, mut out: Out) -> Pushed {
        if let Some(reading) = &mut self.reading {
            match out.entry {
                // The log will be read up to there.
                Some(entry) if entry >= reading.had_to => {
                    reading.left = reading.left.max(entry);
                    return Pushed::Left;
                }
                Some(_) => {}
                None => {
                    let after = reading.left;
                    return self.defer(after, out);
                }
            }
        }
        // One that reads already is given, whatever it weighs, what was on its way when it began: a bounded rest.
        if out.weight == 0 {
            out.weigh();
        }
        if !self.has_room_for(&out) && self.reading.is_none() {
            if let Some(entry) = out.entry {
                self.reading = Some(Reading { pos: entry, had_to: entry, fetching: false, left: entry });
                return Pushed::Left;
            }
            return self.overflows(&out);
        }
        self.weight += out.weight;
        self.queue.push_back(Item::Stanza(out));
        Pushed::Queued
    }

    /// Whether it is given what comes: attached, and not reading the log.
    pub(crate) fn is_live(&self) -> bool {
        self.wake.is_some() && self.reading.is_none()
    }

    /// From here on, or from further back if it reads already, the session reads the log. `horizon` is the id below which
    /// nothing waits for its commit.
    pub(crate) fn read_from(&mut self, from: EntryId, horizon: EntryId) {
        if self.hibernates {
            self.back_to = Some(self.back_to.map_or(from, |before| before.min(from)));
            return;
        }
        match &mut self.reading {
            None => {
                // From here on the session holds less than it has.
                self.cursor = self.cursor.max(self.floor(horizon).saturating_sub(1));
                let left = horizon.saturating_sub(1);
                self.reading = Some(Reading { pos: from, had_to: horizon, fetching: false, left });
            }
            Some(reading) if from < reading.pos => {
                reading.had_to = reading.had_to.max(reading.pos);
                reading.pos = from;
            }
            Some(_) => {}
        }
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    /// Everything it holds and the client is not known to have.
    fn outs(&mut self) -> impl Iterator<Item = &mut Out> {
        let held = self.held.iter_mut().map(|held| &mut held.out);
        self.unacked.iter_mut().chain(held).chain(self.queue.outs_mut()).chain(self.deferred.iter_mut())
    }

    /// Whether it holds this entry.
    pub(crate) fn has(&mut self, entry: EntryId) -> bool {
        self.outs().any(|out| out.entry == Some(entry))
    }

    /// If it holds a copy of this entry, that one is from here on to reach somebody, as a message that was missed.
    pub(crate) fn owes_its_copy(&mut self, entry: EntryId) -> bool {
        let copy = self.outs().find(|out| out.entry == Some(entry) && out.role == Role::Extra && !out.sleeps);
        copy.map(|copy| copy.role = Role::Missed).is_some()
    }

    /// Messages that it was promised and the log does not have.
    pub(crate) fn unlogged(&mut self) -> impl Iterator<Item = &mut Out> {
        self.outs().filter(|out| out.must_be_logged())
    }

    /// The message that is shared is in the log now: if the session holds it, it knows its place. True if it does.
    pub(crate) fn logged(&mut self, shared: &Arc<Shared>, entry: EntryId) -> bool {
        let own = |out: &Out| out.entry.is_none() && out.is_of(shared);
        let Some(out) = self.outs().find(|out| own(out)) else { return false };
        out.entry = Some(entry);
        self.had.insert(entry);
        true
    }

    /// Whether it will come upon the entry when it reads the log.
    pub(crate) fn will_read(&self, entry: EntryId) -> bool {
        self.reading.is_some_and(|reading| entry >= reading.had_to)
    }

    /// What came from the log, in its order; and before it what came before it.
    pub(crate) fn push_read(&mut self, mut out: Out) {
        if let Some(entry) = out.entry {
            self.has_read_to(entry);
        }
        out.weigh();
        self.enqueue(Item::Stanza(out));
    }

    /// All entries below this one were read: what follows them goes out.
    pub(crate) fn has_read_to(&mut self, entry: EntryId) {
        while let Some(out) = self.deferred.take_before(entry) {
            // It was weighed when it came.
            self.queue.push_back(Item::Stanza(out));
        }
    }

    fn enqueue(&mut self, item: Item) {
        let before = self.queue.weight();
        self.queue.push_back(item);
        self.weight += self.queue.weight() - before;
    }

    /// The log was read to its end: what came meanwhile follows.
    pub(crate) fn end_reading(&mut self) {
        self.reading = None;
        self.had.clear();
        for out in self.deferred.take() {
            // It was weighed when it came.
            self.queue.push_back(Item::Stanza(out));
        }
    }

    /// Whether the session has taken enough of what it was given to be given more of the log.
    pub(crate) fn is_hungry(&self) -> bool {
        // One that sleeps does not know yet from where on.
        self.reading.is_some_and(|r| !r.fetching) && !self.hibernates && self.has_room()
    }

    /// Whether there is room for what it would read of the log, or for an answer that it waits for.
    pub(crate) fn could_read_on(&self) -> bool {
        let asks = || self.has_room() && self.inquiries.as_ref().is_some_and(|inquiries| inquiries.is_due());
        self.is_hungry() || self.may_be_told() || asks()
    }

    /// An element that is no stanza: has no number, is never held back.
    pub(crate) fn push_nonza(&mut self, bytes: Vec<u8>) {
        self.enqueue(Item::Nonza(bytes));
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    /// The bytes of large answers that the client has asked for since this was asked last. They are to be charged to it: few bytes
    /// ask for them.
    pub fn take_answered(&mut self) -> usize {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    /// Goes out before everything that waits.
    pub(crate) fn push_first(&mut self, bytes: Vec<u8>) {
        self.enqueue_first(Item::Nonza(bytes));
        self.wake();
    }

    fn enqueue_first(&mut self, item: Item) {
        let before = self.queue.weight();
        self.queue.push_front(item);
        self.weight += self.queue.weight() - before;
    }

    /// The lowest id that the client is not known to have.
    pub(crate) fn floor(&self, horizon: EntryId) -> EntryId {
        let queued = self.queue.outs().filter_map(|out| out.entry);
        let others = self.outs_held().filter_map(|out| out.entry);
        let reading = self.reading.map(|r| r.pos);
        queued.chain(others).chain(reading).min().unwrap_or(horizon).min(horizon)
    }

    fn weigh(&mut self) {
        self.weight = self.queue.weight() + self.outs_held().map(|out| out.weight).sum::<usize>();
    }

    fn outs_held(&self) -> impl Iterator<Item = &Out> {
        self.unacked.iter().chain(self.held.iter().map(|held| &held.out)).chain(self.deferred.iter())
    }

    /// The session ends: everything that it holds and that was not taken.
    pub(crate) fn drain(&mut self) -> Vec<Out> {
        let mut all: Vec<Out> = self.unacked.drain(..).collect();
        all.extend(self.held.drain(..).map(|held| held.out));
        all.extend(self.queue.take_outs());
        all.extend(self.deferred.take());
        self.weight = 0;
        all
    }

    /// The connection, if it paused because too much was unsettled or unwritten: it may be able to go on.
    fn waits_for_room(&mut self) -> Option<&Arc<dyn Wake>> {
        if !self.paused {
            return None;
        }
        // What it waits for may be less than this: at the end of a stream, and before a resumption, a full queue is no obstacle.
        self.paused = self.is_busy();
        self.wake.as_ref()
    }

    /// Whether the connection must not take the next stanza yet. It is woken when it may.
    pub fn must_pause(&mut self) -> bool {
        self.crowded = self.is_crowded();
        self.paused = self.is_busy();
        self.paused
    }

    /// Whether too much is unsettled, an answer is owed first, or too much waits to be written.
    fn is_busy(&self) -> bool {
        let heavy = self.unsettled_bytes >= MAX_UNSETTLED_BYTES && !self.ledger.is_level();
        self.ledger.is_full() || heavy || self.barrier.is_some() || self.is_crowded()
    }

    /// A stanza was read.
    pub(crate) fn enter(&mut self, bytes: usize) -> Pending {
        if self.ledger.is_level() {
            self.unsettled_bytes = 0;
        }
        self.unsettled_bytes = self.unsettled_bytes.saturating_add(bytes);
        self.ledger.enter()
    }

    /// The module's value in this session.
    pub fn slot<T: Default + Send + 'static>(&mut self, slot: Slot<T>) -> &mut T {
        if self.slots.len() <= slot.at {
            self.slots.resize_with(slot.at + 1, || None);
        }
        self.slots[slot.at]
            .get_or_insert_with(|| Box::new(T::default()))
            .downcast_mut()
            .expect("a slot is made with its type")
    }
}
