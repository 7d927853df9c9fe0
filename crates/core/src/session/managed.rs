//! Stream management on a session's stream: acknowledgements both ways, and what a session holds while it has no
//! connection (XEP-0198 §4, §5).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_proto::element::el;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Stanza, Type};

use crate::session::checkpoint::{self, Checkpoint, Runs, Sent};
use crate::session::debt::Debt;
use crate::session::flags::SessionId;
use crate::session::ledger::Ledger;
use crate::session::out::{Out, Role, Taken};
use crate::session::queue::Item;
use crate::session::row::SessionRow;
use crate::session::stream::{Closing, Management, Pulled, Reading, Stream};
use crate::session::wire::ACK_REQUEST;
use crate::small::lists::give_back;
use crate::store::{EntryId, MapId, Row, STORE, Write};

/// A checkpoint is written anew after this part of the stanzas that it lists was sent, at the latest with the next beat of its
/// account.
const CHECKPOINT_PART: u64 = 16;

/// What an operator sees of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// bytes that wait, or wait to be acknowledged
    pub queued: usize,
    /// stanzas of its client that are not settled
    pub unsettled: u64,
    /// stanzas of its client, all in all
    pub received: u64,
    /// it reads the log
    pub reads: bool,
    /// it is back after a restart, and nobody has resumed it yet
    pub restored: bool,
}

impl Stream {
    /// How the stream of this connection ends, if it does.
    pub(super) fn end_of(&self, epoch: u32) -> Option<Pulled> {
        if self.epoch != epoch {
            return Some(if self.carrying > epoch { Pulled::Replaced } else { Pulled::Detached });
        }
        Some(match self.closing.clone()? {
            Closing::Normal => Pulled::Closed(None),
            Closing::Error(error) => Pulled::Closed(Some(error)),
            Closing::Replaced => Pulled::Replaced,
            Closing::Detached => Pulled::Detached,
        })
    }

    /// How it is.
    pub fn vitals(&self) -> Vitals {
        Vitals {
            queued: self.weight,
            unsettled: self.ledger.unsettled(),
            received: self.ledger.entered(),
            reads: self.reading.is_some(),
            restored: self.restored,
        }
    }

    /// The entry was not written.
    pub(crate) fn not_logged(&mut self, entry: EntryId) {
        self.outs().filter(|out| out.entry == Some(entry)).for_each(|out| out.entry = None);
        self.had.remove(&entry);
    }

    /// What is owed is void: the client will send it again.
    pub(crate) fn forget_debts(&mut self) {
        let void: Vec<Debt> = std::mem::take(&mut self.debts);
        let is_void = |out: &Out| void.iter().any(|debt| debt.is_held_as(out));
        // What was sent has its number, and goes as long as the client may have counted it.
        for out in self.unacked.iter_mut().filter(|out| is_void(out)) {
            (out.role, out.shared) = (Role::Extra, None);
        }
        self.queue.retain(true, |out| !is_void(out));
        self.held.retain(|held| !is_void(&held.out));
        self.deferred.retain(|out| !is_void(out));
        self.weigh();
        self.ledger.roll_back();
        self.unkeep_answers();
        self.refused = false;
    }

    /// The answer to `<enable/>`: what is written after it is counted.
    pub(crate) fn push_enabled(&mut self, bytes: Vec<u8>, management: Management) {
        self.enqueue(Item::Enabled(bytes, Box::new(management)));
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    /// Stream management could not be enabled: the session's row is not stored.
    pub(crate) fn not_enabled(&mut self) {
        self.managed = false;
        self.resumable = false;
        self.token = None;
        self.keep = 0;
        let failed = el("failed", ns::SM).child(el("internal-server-error", ns::STANZA_ERROR));
        self.push_nonza(failed.to_string_in(ns::CLIENT.as_str()).into_bytes());
    }

    /// The connection is gone; what it had asked is void, and so is what it was owed that is no stanza (XEP-0198 §4 counts
    /// stanzas only).
    ///
    /// `received`: what the account has received so far, in bytes.
    pub(crate) fn detach(&mut self, steady: Duration, received: u64) {
        self.received_before = received;
        self.queue.retain(false, |_| true);
        self.queue.shrink();
        self.weigh();
        self.epoch += 1;
        self.wake = None;
        self.detached = Some(steady);
        self.paused = false;
        self.crowded = false;
        self.owes_ack = None;
    }

    /// A session that was stored: detached, with nothing in its queues.
    pub(crate) fn restore(&mut self, row: &SessionRow, handled: u64, cursor: EntryId, steady: Duration) {
        self.ledger = Ledger::resumed(handled);
        self.presence = row.presence.as_deref().and_then(|text| Stanza::parse(text).ok());
        self.managed = true;
        self.resumable = true;
        self.token = Some(row.token.clone());
        self.keep = row.keep;
        self.since = row.since;
        self.joined = row.joined;
        self.roster_ver = row.roster;
        self.cursor = cursor;
        self.restored = true;
        self.detached = Some(steady);
        self.sm = Some(Management { sent: 0, acked: 0, asked: false, unasked: 0 });
    }

    /// Whether it is back after a restart, and nobody has resumed it yet.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored
    }

    /// Whether its client has everything that it was given.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.outs_held().next().is_none()
    }

    /// Whether a client can have handled `h`: not less than it has acknowledged, nor more than was sent. After a restart that is
    /// what the checkpoint says, and without one nothing is known.
    pub(crate) fn can_have(&self, h: u32, runs: &Runs) -> bool {
        let Some(sm) = &self.sm else { return false };
        if self.restored {
            return self.checkpoint.as_ref().is_none_or(|known| known.can_have(h, runs.is_exact(known.run)));
        }
        let newly = h.wrapping_sub(sm.acked as u32) as usize;
        newly <= self.unacked.iter().filter(|out| out.counted).count()
    }

    /// What a checkpoint said before the restart, if there was one.
    pub(crate) fn restore_checkpoint(&mut self, checkpoint: Option<Checkpoint>) {
        self.had.extend(checkpoint.iter().flat_map(|known| known.taken.iter().map(|(id, _)| *id)));
        self.checkpoint = checkpoint.map(Box::new);
    }

    /// Whether its checkpoint falls due now. A long one does after a part of its length: else each stanza would write numbers of a
    /// thousand others. [`Stream::falls_due_at_last`] sees to the rest.
    pub(crate) fn falls_due(&mut self) -> bool {
        let fresh = self.sm.as_ref().map_or(0, |sm| sm.sent - self.listed);
        fresh >= self.unacked.len() as u64 / CHECKPOINT_PART && self.falls_due_at_last()
    }

    /// Whether its checkpoint falls due, as it has waited long enough.
    pub(crate) fn falls_due_at_last(&mut self) -> bool {
        self.unlisted && !self.due && self.is_resumable() && self.sm.is_some() && {
            self.due = true;
            true
        }
    }

    /// What was sent, and what the client has. `horizon` is the id below which all is committed, `settled` that up to which the
    /// store knows that somebody has taken everything, `run` this run of the server if it stops.
    pub(crate) fn checkpoint(
        &mut self,
        horizon: EntryId,
        settled: EntryId,
        run: u64,
        runs: &Runs,
    ) -> Option<Checkpoint> {
        (self.due, self.unlisted) = (false, false);
        let sm = self.sm.as_ref().filter(|_| self.is_resumable())?;
        if self.restored {
            // Nothing was sent since.
            let known = self.checkpoint.as_deref()?;
            let run = if runs.is_exact(known.run) { run } else { 0 };
            return Some(Checkpoint { run, ..known.clone() });
        }
        let acked = sm.acked;
        self.listed = sm.sent;
        self.cursor = self.cursor.max(self.floor(horizon).saturating_sub(1));
        let sent =
            self.unacked.iter().filter(|out| out.counted).map(|out| match out.entry.filter(|id| *id < horizon) {
                Some(id) => Sent::Entry { id, owed: out.role.is_owed() },
                None if out.answers > 0 => Sent::Answer { n: out.answers },
                None => Sent::Unlogged,
            });
        let (sent, all) = checkpoint::listed(sent);
        // What is not listed was sent all the same: then this is not the last word.
        let run = if all { run } else { 0 };
        let taken = self.checkpoint.as_mut().map_or_else(Vec::new, |before| {
            before.taken.retain(|(entry, _)| *entry > self.cursor.min(settled));
            before.taken.clone()
        });
        if taken.is_empty() {
            self.checkpoint = None;
        }
        Some(Checkpoint { run, acked, cursor: self.cursor, taken, sent })
    }

    /// Lets go of what the log has: without a connection a session holds the numbers of what it sent, and nothing more of it. The
    /// log is read again from the first that was not acknowledged. Gives the entries it no longer holds for itself or others.
    /// `horizon` is the id below which all is committed.
    ///
    /// Nothing is let go of where that would change the order, or give something twice: where entries were not sent in
    /// the order of the log.
    pub(crate) fn hibernate(&mut self, horizon: EntryId) -> Vec<EntryId> {
        // What was missed is this session's by chance: once let go of, it would be anybody's.
        let comes_again = |out: &Out| out.entry.is_some() && out.role != Role::Missed;
        let entries: Vec<EntryId> = self.outs().filter(|out| comes_again(out)).filter_map(|out| out.entry).collect();
        let ascends = entries.is_sorted_by(|a, b| a < b);
        let (Some(first), Some(last)) = (entries.first().copied(), entries.last().copied()) else { return entries };
        // It holds something that stands in the log behind what it has yet to read.
        let ahead = self.reading.is_some_and(|reading| last >= reading.pos.max(reading.had_to));
        if !ascends || ahead || last >= horizon || first <= self.newest_taken {
            return Vec::new();
        }
        // A copy is somebody else's to hold.
        let owed =
            self.outs().filter(|out| comes_again(out) && out.role.is_owed()).filter_map(|out| out.entry).collect();
        for out in self.unacked.iter_mut().filter(|out| comes_again(out)) {
            out.stanza = Stanza::message(Type::None);
            out.weigh();
            out.sleeps = true;
        }
        // What is kept of that, and stood behind what is let go of, goes out behind it.
        let sent = self.unacked.iter().rev().find_map(|out| out.entry.filter(|_| out.sleeps));
        let (mut after, mut before, mut behind) = (sent, Vec::new(), Vec::new());
        let waiting = std::mem::take(&mut self.held).into_iter().map(|held| held.out).chain(self.queue.take_outs());
        for out in waiting {
            match after {
                _ if comes_again(&out) => after = out.entry,
                Some(after) => behind.push((after, out)),
                None => before.push(out),
            }
        }
        before.into_iter().for_each(|out| self.queue.push_back(Item::Stanza(out)));
        self.deferred.push_first(behind);
        self.deferred.retain(|out| !comes_again(out));
        self.unacked.shrink_to_fit();
        self.queue.shrink();
        // What stays is not read again with the rest.
        self.had = self.outs().filter(|out| !out.sleeps).filter_map(|out| out.entry).collect();
        self.back_to = self.reading.map(|reading| reading.pos);
        let left = self.reading.map_or(last, |reading| reading.left.max(last));
        self.reading = Some(Reading { pos: first, had_to: first, fetching: false, left });
        self.hibernates = true;
        self.awake_from = first;
        self.weigh();
        owed
    }

    /// The other way: what was not acknowledged when the session slept is read from the log.
    fn wake_up(&mut self) {
        if !std::mem::take(&mut self.hibernates) {
            return;
        }
        let from = self.awake_from;
        if let Some(reading) = &mut self.reading {
            reading.pos = reading.pos.max(from);
            reading.had_to = reading.had_to.max(from);
        }
        if let Some((back, reading)) = self.back_to.take().zip(self.reading) {
            self.read_from(back, reading.had_to);
        }
        // What was sent behind an entry that is read again goes out behind it again.
        let (mut after, mut first, mut behind) = (None, VecDeque::new(), Vec::new());
        for out in std::mem::take(&mut self.unacked) {
            match after {
                _ if out.sleeps => after = out.entry,
                Some(after) => behind.push((after, out)),
                None => first.push_back(out),
            }
        }
        self.unacked = first;
        self.deferred.push_first(behind);
    }

    /// After a restart the count goes on from the `h` with which the client resumes, and what that covers is known as far as the
    /// checkpoint says. Gives the entries that the client has; and the checkpoint that must be stored before anything is sent, if the
    /// stored one speaks of numbers beyond `h`: they are given anew, and maybe to something else.
    pub(crate) fn renumber(&mut self, h: u32) -> (Vec<Taken>, Option<Checkpoint>) {
        let (mut taken, mut answered) = (Vec::new(), Vec::new());
        let Some(known) = self.checkpoint.as_mut().filter(|_| self.restored) else { return (taken, None) };
        let newly = h.wrapping_sub(known.acked as u32);
        let sent = std::mem::take(&mut known.sent);
        let beyond = sent.len() as u64 > u64::from(newly);
        for sent in sent.into_iter().take(newly as usize) {
            match sent {
                Sent::Unlogged => {}
                Sent::Answer { n } => answered.push(n),
                Sent::Entry { id, owed } => {
                    taken.push((id, if owed { Role::Planned } else { Role::Extra }));
                    known.took(id, owed);
                    self.had.insert(id);
                }
            }
        }
        known.acked += u64::from(newly);
        known.run = 0;
        let row = beyond.then(|| (**known).clone());
        answered.into_iter().for_each(|n| self.answer_is_gone(n));
        (taken, row)
    }

    /// The `h` with which a client resumes; after [`Stream::renumber`].
    pub(crate) fn acked_at_resumption(&mut self, h: u32) -> Result<Vec<Taken>, u64> {
        if std::mem::take(&mut self.restored)
            && let Some(sm) = &mut self.sm
        {
            let acked = self.checkpoint.as_ref().map_or(0, |known| known.acked);
            sm.acked = acked + u64::from(h.wrapping_sub(acked as u32));
            sm.sent = sm.acked;
            self.listed = sm.sent;
        }
        let taken = self.acked(h)?;
        self.wake_up();
        Ok(taken)
    }

    /// Asks the client how far it is, if anything is unacknowledged and no question is on its way. For what was too little to
    /// be asked for at once.
    pub(crate) fn ask(&mut self) {
        if self.sm.as_ref().is_some_and(|sm| !sm.asked) && self.wake.is_some() && !self.unacked.is_empty() {
            self.asks();
            self.push_nonza(ACK_REQUEST.to_vec());
        }
    }

    /// A question goes out.
    pub(crate) fn asks(&mut self) {
        if let Some(sm) = &mut self.sm {
            sm.asked = true;
            sm.unasked = 0;
        }
    }

    /// Without stream management a stanza is taken when it was written to the socket. Gives the entries.
    pub(crate) fn written(&mut self) -> Vec<Taken> {
        let uncounted = self.unacked.iter().take_while(|out| !out.counted).count();
        self.take(uncounted)
    }

    /// XEP-0198 §4: the client has handled `h` of what was sent. Gives the entries it has taken, or how many were sent
    /// if `h` claims more.
    pub(crate) fn acked(&mut self, h: u32) -> Result<Vec<Taken>, u64> {
        let Some(sm) = &mut self.sm else { return Ok(Vec::new()) };
        let newly = h.wrapping_sub(sm.acked as u32) as usize;
        // Who speaks of counts has read `<enabled/>`, and with it what was sent before and not counted.
        let uncounted = self.unacked.iter().take_while(|out| !out.counted).count();
        if newly > self.unacked.len() - uncounted {
            return Err(sm.sent);
        }
        sm.acked += newly as u64;
        sm.asked = false;
        Ok(self.take(uncounted + newly))
    }

    fn take(&mut self, count: usize) -> Vec<Taken> {
        let (mut entries, mut answered) = (Vec::new(), SmallVec::<[u64; 4]>::new());
        for out in self.unacked.drain(..count) {
            self.weight -= out.weight;
            if out.weight == self.largest {
                self.largest = 0;
            }
            if let Some(entry) = out.entry {
                self.newest_taken = self.newest_taken.max(entry);
                self.awake_from = if out.sleeps { entry + 1 } else { self.awake_from };
                entries.push((entry, out.role));
            }
            if out.answers > 0 {
                answered.push(out.answers);
            }
            if let Some(shared) = out.shared {
                shared.taken.store(true, Ordering::Release);
            }
        }
        answered.into_iter().for_each(|mark| self.answer_is_gone(mark));
        give_back(&mut self.unacked);
        self.queue.give_back();
        self.note_taken(&entries);
        entries
    }

    /// What was not written, and never will be: as if it had been acknowledged. Gives the entries.
    pub(crate) fn passed_over(&mut self, withheld: &[Out]) -> Vec<Taken> {
        let shared = withheld.iter().filter_map(|out| out.shared.as_ref());
        shared.for_each(|shared| shared.taken.store(true, Ordering::Release));
        let entries: Vec<Taken> = withheld.iter().filter_map(|out| Some((out.entry?, out.role))).collect();
        self.note_taken(&entries);
        entries
    }

    /// Remembers, for the checkpoint, what the client has and the cursor does not say: an entry that was not planned for the
    /// session, which would be anybody's again after a restart, and one that was sent before an older one.
    fn note_taken(&mut self, entries: &[Taken]) {
        if !self.resumable {
            return;
        }
        let floor = match self.disordered || self.reading.is_some() {
            true => self.floor(EntryId::MAX),
            false => EntryId::MAX,
        };
        self.disordered &= floor < EntryId::MAX;
        for (entry, role) in entries {
            if *role == Role::Missed || *entry >= floor {
                self.checkpoint.get_or_insert_default().took(*entry, role.is_owed());
                self.unlisted = true;
            }
        }
    }

    /// Whether enough is unacknowledged to ask for it now.
    pub(crate) fn should_ask(&self) -> bool {
        let heavy = self.weight > self.max_queued / ASK_PART;
        self.sm.as_ref().is_some_and(|sm| !sm.asked && (sm.unasked >= ASK_AFTER || heavy)) && !self.unacked.is_empty()
    }

    /// A new connection of the same session: what the old one did not get acknowledged is sent again, in order
    /// (XEP-0198 §5).
    pub(crate) fn rewind(&mut self) {
        let mut again: Vec<Out> = self.unacked.drain(..).collect();
        again.extend(self.held.drain(..).map(|held| held.out));
        // What was nonza on the old stream means nothing on the new one.
        again.extend(self.queue.take_outs());
        again.into_iter().for_each(|out| self.queue.push_back(Item::Stanza(out)));
        self.weigh();
        self.owes_ack = None;
        if let Some(sm) = &mut self.sm {
            sm.sent = sm.acked;
            self.listed = sm.sent;
            sm.asked = false;
        }
    }

    /// Whether the session can be resumed, also after a crash.
    pub fn is_resumable(&self) -> bool {
        self.managed && self.resumable
    }

    /// Whether it outlives its connection: its client knows how to come back.
    pub(crate) fn can_wait(&self) -> bool {
        self.is_resumable() && self.sm.is_some()
    }

    /// The `h` that a client is told after the end: what is on its way to the disk is there before that is.
    pub(crate) fn h_at_end(&self) -> u32 {
        if self.debts.is_empty() { self.ledger.counted(self.ledger.entered()) as u32 } else { self.ledger.h() }
    }

    /// When the session ends if nobody comes back to it, in steady time.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        Some(self.detached?.saturating_add(Duration::from_millis(self.keep)))
    }

    /// The row that says how far the session is handled when its batch is committed, and what the client has; and the answers that
    /// are to be stored with it.
    ///
    /// Not to be called while [`Stream::conditional`]. These rows lie together, not each with its account: a commit writes whole pages, and the next one most of them again.
    pub(crate) fn progress_rows(&mut self, map: MapId, session: SessionId, n: u64, writes: &mut Vec<Write>) {
        debug_assert!(!self.conditional, "a row behind one that may be refused");
        let row = self.ledger.row(n);
        self.progress = (row, self.cursor);
        self.answer_rows(map, session, row, writes);
        let mut value: SmallVec<[u8; 24]> = SmallVec::new();
        value.extend_from_slice(&row.to_be_bytes());
        value.extend_from_slice(&self.cursor.to_be_bytes());
        if self.answers.is_some() {
            // After a restart answers are to be looked for.
            value.push(1);
        }
        let key = Bytes::from_owner(session.to_be_bytes());
        writes.push(Write::Put { map, owner: STORE, key, row: Some(Row::from(Bytes::from_owner(value))) });
    }

    /// Says `<a/>` with what is handled and stored.
    pub(crate) fn write_ack(&mut self) {
        self.owes_ack = None;
        let before = self.queue.weight();
        self.queue.push_ack(self.ledger.h());
        self.weight += self.queue.weight() - before;
        self.wake();
    }

    /// A stanza was answered, or settled: what waits for that goes on.
    pub(crate) fn dealt_with(&mut self, n: u64) {
        if self.barrier == Some(n) {
            (self.barrier, self.fans) = (None, false);
        }
        if let Some(wake) = self.waits_for_room() {
            wake.wake();
        }
    }

    /// The row that says how much is handled could not be written.
    pub(crate) fn not_stored(&mut self) {
        self.storing = false;
        self.refused = true;
        self.wake();
    }

    /// Whether something that was read is not decided yet. The connection is woken when that may have changed. What is owed
    /// is decided: it failed.
    pub fn must_settle(&mut self) -> bool {
        self.paused = self.ledger.unsettled() > self.debts.len() as u64;
        self.paused
    }
}

/// After so many stanzas the client is asked how far it is (XEP-0198 §4); after fewer, with the next tick.
pub(crate) const ASK_AFTER: u32 = 5;

/// Or when this part of what a session may hold waits or is unacknowledged.
pub(crate) const ASK_PART: usize = 8;
