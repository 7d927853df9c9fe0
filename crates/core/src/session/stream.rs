//! What is on the stream of a session: what waits to be written, what was sent, and whether it reads the log.
//!
//! Each part has its methods in a file of its own: `managed.rs` (XEP-0198), `wire.rs` (writing), `capacity.rs` (limits),
//! `answers.rs`, `untold.rs`, `directed.rs`.

use crate::session::carrier::Wake;
use crate::session::flags::Slot;
use crate::session::out::{Out, Role, Shared};
use crate::session::peer::Peer;
use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vorpal_proto::error::StreamError;
use vorpal_proto::stanza::Stanza;

use crate::bounds::Bounds;
use crate::session::answers;
use crate::session::checkpoint::Checkpoint;
use crate::session::debt::Debt;
use crate::session::deferred::Deferred;
use crate::session::directed::Directed;
use crate::session::inquiries::Inquiries;
use crate::session::ledger::{Ledger, MAX_UNSETTLED_BYTES, Pending};
use crate::session::queue::{Item, Queue};
use crate::session::stale::Stale;
use crate::store::EntryId;

/// Answers up to this size, in bytes, cost the client nothing. Of a larger one the rest is charged to its traffic budget.
pub(crate) const UNCHARGED: usize = 16 << 10;

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
pub(crate) struct Held {
    pub out: Out,
    pub latest_only: bool,
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
    pub(super) wake: Option<Arc<dyn Wake>>,
    /// the client behind the connection that carries it, or carried it last
    pub(super) peer: Peer,
    /// which connection it is: a task of an older one finds itself out
    pub(super) epoch: u32,
    /// the epoch of the newest connection that carried it: older ones were replaced, and did not let go of it
    pub(super) carrying: u32,
    /// the newest connection that ever carried it, among all there were
    pub(super) carried_by: u64,
    /// what the client sent
    pub(super) ledger: Ledger,
    /// an IQ that must be answered before the next stanza is taken
    pub(super) barrier: Option<u64>,
    /// that is no IQ, but says something to many: they are to have it first
    pub(super) fans: bool,
    /// questions that wait for the store
    pub(super) inquiries: Option<Box<Inquiries>>,
    /// what it has not been told since it became available
    pub(super) untold: crate::session::untold::List,
    /// bytes of large answers that nobody has charged to the client yet
    pub(super) answered: usize,
    /// whose presence did not fit
    pub(super) stale: Stale,
    /// the client asked for stream management: what it sends is promised
    pub(super) managed: bool,
    /// stream management of what is sent, once `<enabled/>` was
    pub(super) sm: Option<Management>,
    /// the client asked how far its stanzas are handled when this was the last of them
    pub(super) owes_ack: Option<u64>,
    /// the row that the owed answer waits for is on its way
    pub(super) storing: bool,
    /// that row could not be written
    pub(super) refused: bool,
    /// a batch on its way has the session's row and may be refused: no other row of it is submitted until that is known
    pub(super) conditional: bool,
    /// stanzas whose batch failed, by number
    pub(super) debts: Vec<Debt>,
    /// answers that the client has not acknowledged
    pub(super) answers: Option<Box<answers::Answers>>,
    pub(super) queue: Queue,
    pub(super) held: VecDeque<Held>,
    /// sent, and not yet acknowledged; without stream management: not yet written to the socket
    pub(super) unacked: VecDeque<Out>,
    pub(super) weight: usize,
    pub(super) reading: Option<Reading>,
    /// entries from here on are given live; below it the log was read
    pub(super) joined: EntryId,
    /// entries that were written while the session held their stanzas: not to be read again
    pub(super) had: BTreeSet<EntryId>,
    /// what came while the log was read
    pub(super) deferred: Deferred,
    /// the last presence that was broadcast
    pub(super) presence: Option<Stanza>,
    /// to whom presence was sent directly (RFC 6121 §4.6)
    pub(super) directed: Directed,
    /// the version of the roster that the client is known to have
    pub(super) roster_ver: u64,
    /// it can be resumed, also after a crash
    pub(super) resumable: bool,
    /// the secret by which it is resumed
    pub(super) token: Option<String>,
    /// for how long it is kept without a connection, in milliseconds
    pub(super) keep: u64,
    /// when the session was bound, in milliseconds since 1970
    pub(super) since: u64,
    /// what was read since everything was settled, in bytes
    pub(super) unsettled_bytes: usize,
    /// the connection waits until less is unsettled
    pub(super) paused: bool,
    /// it waits until less is in the queue
    pub(super) crowded: bool,
    pub(super) closing: Option<Closing>,
    /// since when it has no connection, in steady time
    pub(super) detached: Option<Duration>,
    /// what the account had received by then, in bytes
    pub(super) received_before: u64,
    /// the client is known to have every entry up to here that was meant for the session
    pub(super) cursor: EntryId,
    /// what the newest row of its progress says that was handed to the store
    pub(super) progress: (u64, EntryId),
    /// the newest entry that the client took
    pub(super) newest_taken: EntryId,
    /// something was sent that the stored checkpoint does not say; of what was acknowledged since it says less, and not too little
    pub(super) unlisted: bool,
    /// its checkpoint is due
    pub(super) due: bool,
    /// the newest entry that was sent
    pub(super) newest_sent: EntryId,
    /// an entry was sent behind a newer one
    pub(super) disordered: bool,
    /// what had been sent at the last checkpoint
    pub(super) listed: u64,
    /// what the client has and the cursor does not say; and after a restart, until it is resumed, what was sent before
    pub(super) checkpoint: Option<Box<Checkpoint>>,
    /// it has let go of what the log has
    pub(super) hibernates: bool,
    /// while it hibernates: below this its client has what it let go of
    pub(super) awake_from: EntryId,
    /// while it hibernates: from here on the log is to be read as well, for what nobody took
    pub(super) back_to: Option<EntryId>,
    /// it is back after a restart, and nobody has resumed it yet
    pub(super) restored: bool,
    pub(super) slots: Vec<Option<Box<dyn Any + Send>>>,
    pub(super) max_queued: usize,
    /// an answer that alone is larger than that, and was taken
    pub(super) largest: usize,
    pub(super) max_held: usize,
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

impl Stream {
    /// A stream without a connection, with nothing on it.
    pub(crate) fn new(bounds: &Bounds) -> Stream {
        Stream {
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
            conditional: false,
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
            directed: Directed::default(),
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
        }
    }

    pub(crate) fn push(&mut self, mut out: Out) -> Pushed {
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
    pub(crate) fn outs(&mut self) -> impl Iterator<Item = &mut Out> {
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

    pub(super) fn enqueue(&mut self, item: Item) {
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

    pub(crate) fn weigh(&mut self) {
        self.weight = self.queue.weight() + self.outs_held().map(|out| out.weight).sum::<usize>();
    }

    pub(crate) fn outs_held(&self) -> impl Iterator<Item = &Out> {
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
    pub(crate) fn waits_for_room(&mut self) -> Option<&Arc<dyn Wake>> {
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

/// What a session leaves behind that ends.
pub(crate) struct Remains {
    /// stanzas that its client is not known to have
    pub held: Vec<Out>,
    /// it was reading the log
    pub was_reading: bool,
    /// it could be resumed: it has rows
    pub resumable: bool,
}

impl Stream {
    /// The number of the connection that carries it, or carried it last.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the newest connection that carried it, among all of the server, is older than this one.
    pub(crate) fn is_older_than(&self, connection: u64) -> bool {
        self.carried_by < connection
    }

    /// The connection, if there is one.
    pub(crate) fn connection(&self) -> Option<Arc<dyn Wake>> {
        self.wake.clone()
    }

    /// Whether it is closed, or about to be.
    pub(crate) fn is_over(&self) -> bool {
        self.closing.is_some()
    }

    /// Another connection takes it over: the old one is closed.
    pub(crate) fn replace(&mut self) {
        if let Some(old) = self.wake.take() {
            self.closing = Some(Closing::Replaced);
            old.wake();
        }
    }

    /// The connection is closed, and the session stays.
    pub(crate) fn let_go(&mut self) {
        self.closing.get_or_insert(Closing::Detached);
    }

    /// The session ends. What of it is still on its way to the disk must not bring its rows back.
    pub(crate) fn end(&mut self, closing: Closing) -> Remains {
        self.closing = Some(closing);
        let wake = self.wake.take();
        let resumable = std::mem::take(&mut self.resumable);
        self.owes_ack = None;
        let was_reading = self.reading.take().is_some();
        let held = self.drain();
        self.inquiries = None;
        self.untold = None;
        self.stale = Stale::default();
        if let Some(wake) = wake {
            wake.wake();
        }
        Remains { held, was_reading, resumable }
    }

    /// The last presence that was broadcast, while the session is available.
    pub(crate) fn presence(&self) -> Option<&Stanza> {
        self.presence.as_ref()
    }

    /// The session has broadcast this presence.
    pub(crate) fn set_presence(&mut self, presence: Stanza) {
        self.presence = Some(presence);
    }

    /// The session is not available any more: nobody's presence is for it.
    pub(crate) fn becomes_unavailable(&mut self) {
        self.presence = None;
        self.untold = None;
        self.stale = Stale::default();
    }

    /// When the session was bound, in milliseconds since 1970.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// The session was bound at this time, in milliseconds since 1970.
    pub(crate) fn bound_at(&mut self, millis: u64) {
        self.since = millis;
    }

    /// The version of the roster that the client is known to have.
    pub(crate) fn roster_ver(&self) -> u64 {
        self.roster_ver
    }

    /// The client has this version of the roster.
    pub(crate) fn set_roster_ver(&mut self, ver: u64) {
        self.roster_ver = ver;
    }

    /// The client has asked for an answer of this size: see [`Stream::take_answered`].
    pub(crate) fn charge_answer(&mut self, bytes: usize) {
        self.answered += bytes.saturating_sub(UNCHARGED);
    }

    /// The next stanza is not processed before this one is answered.
    pub(crate) fn wait_for(&mut self, Pending(n): Pending) {
        self.barrier = Some(n);
    }

    /// The next stanza is not processed before everybody has this one, which is for many.
    pub(crate) fn wait_for_fan(&mut self, Pending(n): Pending) {
        (self.barrier, self.fans) = (Some(n), true);
    }

    /// Whether the next stanza waits until everybody has this one.
    pub(crate) fn waits_for_fan(&self, n: u64) -> bool {
        self.barrier == Some(n) && self.fans
    }
}
