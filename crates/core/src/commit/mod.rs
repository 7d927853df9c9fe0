//! Writes first, then words: how the effects of a stretch become a batch, and what happens when it is committed.
//!
//! What an account has to say waits in its queue behind everything that was submitted before; an empty queue means
//! direct. A completion marks what is committed and says everything up to the first that is not. [`Settled`] is minted
//! here and nowhere else.
//!
//! Invariant: nothing is said before the writes it speaks of are committed, and each owner speaks in the order of its
//! submissions.

pub(crate) mod checkpoint;
pub(crate) mod debt;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::core::flights::Flight;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::{Account, AccountRef};
use crate::owner::log::copy_of;
use crate::owner::plan::Targets;
use crate::owner::words::{
    Arrival, Done, Draft, Failure, Fan, Mode, PASSWORD_CHANGED, Part, Say, Waiting, Words, Work,
};
use crate::rules::promise::never_promised;
use crate::session::ledger::{Pending, Settled};
use crate::session::{Out, Pushed, Role, Session, SessionId, Shared};
use crate::small::lists::{give_back, push_one};
use crate::store::load::Load;
use crate::store::{Batch, BatchId, EntryId, NewEntry, Outcome, Row, StoreError, Write, flags};
use crate::watch::counts::Count;
use crate::watch::trace::Step;

impl Core {
    /// The results of a group of batches, in order. Called once per commit.
    pub fn complete(&self, now: Timestamp, results: impl IntoIterator<Item = (BatchId, Outcome)>) {
        self.turn(now, |turn| {
            let mut failed: Option<(StoreError, u64)> = None;
            let mut committed = false;
            for (id, outcome) in results {
                committed |= outcome.is_committed();
                if let Outcome::Failed(error) = &outcome {
                    failed.get_or_insert((error.clone(), 0)).1 += 1;
                }
                let Some(flight) = self.flights.lock().remove(&id) else { continue };
                let accounts = match flight {
                    Flight::Accounts(accounts) => accounts,
                    Flight::Created(jid, notice) => {
                        if outcome.is_committed() {
                            self.forget(&jid);
                        }
                        notice(outcome.is_committed());
                        continue;
                    }
                    Flight::Riders(riders) => {
                        self.riders_done(id, riders, outcome.is_committed());
                        continue;
                    }
                };
                let refused = matches!(outcome, Outcome::Refused { .. });
                let done = match outcome {
                    Outcome::Committed => Done::Committed,
                    Outcome::Failed(StoreError::Full) => Done::Failed(Failure::Full),
                    // What it was built on failed before: for that reason, so does this.
                    Outcome::Failed(StoreError::Stale) => {
                        let cause = accounts.iter().find_map(|lock| lock.lock().doomed);
                        Done::Failed(cause.map_or(Failure::Broken, |(_, failure)| failure))
                    }
                    Outcome::Refused { .. } | Outcome::Failed(_) => Done::Failed(Failure::Broken),
                };
                // A refusal concerns this batch alone, unless others may have been built on it.
                let alone = refused && !accounts.iter().any(|lock| lock.lock().is_built_on(id));
                for lock in accounts {
                    let mut account = lock.lock();
                    account.rows_done(id, done == Done::Committed);
                    for waiting in account.waiting.iter_mut().filter(|w| w.batch == Some(id)) {
                        waiting.outcome = Some(done);
                    }
                    if let (Done::Failed(failure), false) = (done, alone) {
                        // What was pending of it is dropped, so that memory is again what is stored.
                        self.journal.reloaded(account.owner);
                        self.doom(&mut Locked::new(&lock, &mut account), failure);
                    } else if account.doomed.is_some_and(|(last, _)| last <= id) {
                        account.doomed = None;
                    }
                    turn.flush(&mut Locked::new(&lock, &mut account));
                    if account.troubled && account.last_in_flight().is_none() {
                        // Whoever resumes after a failure waits for this.
                        account.troubled = false;
                        account.sessions.iter().for_each(|session| session.stream().wake());
                    }
                    drop(account);
                    turn.run_if_full();
                }
            }
            match failed {
                Some((error, batches)) => {
                    if let Some(batches) = self.conditions.commits.met(now, batches) {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(
                            error,
                            batches,
                            place = self.place(),
                            "commits are not written: whatever has to be stored is refused until they are"
                        );
                    }
                }
                None if committed => {
                    if let Some(batches) = self.conditions.commits.over() {
                        tracing::info!(batches, place = self.place(), "commits are written again; batches had failed");
                    }
                }
                None => {}
            }
        })
    }
}

impl Turn<'_> {
    /// Ends a stretch: hands the writes over, if there are any, and says what may be said now. The accounts' staged
    /// changes are part of it.
    pub(crate) fn finish(&mut self, parts: &mut [Part<'_>], draft: Option<Draft>, extra: Vec<Write>) {
        let mut writes = extra;
        let unwritten = |p: &Part<'_>| p.account.states.is_staged() || !p.words.debts.is_empty();
        let writing = draft.is_some() || !writes.is_empty() || parts.iter().any(unwritten);
        let doomed = parts.iter().filter(|p| p.words.settles.is_some()).find_map(|p| p.account.doomed);
        let (batch, outcome) = match doomed {
            _ if !writing => (None, Some(Done::Committed)),
            // What an earlier batch of the session takes with it must not be passed by this one.
            Some((_, failure)) => {
                parts.iter_mut().for_each(|part| part.account.states.discard());
                (None, Some(Done::Failed(failure)))
            }
            None => (Some(self.submit(parts, draft, &mut writes)), None),
        };
        if let (Some(given), true) = (batch, self.core.is_traced()) {
            for part in parts.iter() {
                self.core.step_submitted(self.now, part.account, given, part.words.settles.as_ref().map(|n| n.0));
            }
        }
        for part in parts {
            let (batch, entry) = batch.map_or((None, None), |(id, entry)| (Some(id), entry));
            match outcome {
                Some(done) if part.account.waiting.is_empty() => {
                    self.say(&mut Locked::new(part.lock, part.account), (batch, entry), &mut part.words, done);
                }
                _ => {
                    let words = std::mem::take(&mut part.words);
                    push_one(&mut part.account.waiting, Waiting { batch, entry, outcome, words });
                }
            }
        }
    }

    fn submit(
        &self,
        parts: &mut [Part<'_>],
        mut draft: Option<Draft>,
        writes: &mut Vec<Write>,
    ) -> (BatchId, Option<EntryId>) {
        // A batch that comes from a session says how far the session is handled once it is committed: all that the
        // session sent before is settled, or stands in the queue before this batch, or is owed and rides on it.
        for part in parts.iter_mut() {
            let Some(session) = part.words.of.clone() else { continue };
            part.take_debts(self.core, &session);
            let Some(Pending(n)) = part.words.settles else { continue };
            let mut stream = session.stream();
            if stream.is_resumable() {
                stream.progress_rows(self.core.progress, session.id, n, writes);
            }
        }
        let load = |owner| {
            let draft = draft.as_ref()?;
            let side = draft.sides.iter().flatten().find(|side| side.owner == owner)?;
            Some(Load::of(side, draft.body.len()))
        };
        let loads: SmallVec<[Option<Load>; 2]> = parts.iter().map(|p| load(p.account.owner)).collect();
        let mut owners: SmallVec<[_; 2]> = parts.iter().map(|p| p.account.owner).collect();
        let mut accounts: SmallVec<[AccountRef; 2]> = parts.iter().map(|p| p.lock.clone()).collect();
        let updates = parts.iter().any(|p| p.account.states.is_staged());
        for side in draft.iter().flat_map(|draft| draft.sides.iter().flatten()) {
            if let Some(part) = parts.iter_mut().find(|part| part.account.owner == side.owner) {
                part.account.log.loose |= side.flags & flags::ARCHIVED == 0;
            }
        }
        let mut given = (BatchId(0), None);
        let open = self.core.journal.submit(self.now.as_millis() * 1000, &mut |ids| {
            let id = ids.batch();
            parts.iter_mut().for_each(|part| put_rows(part.account, id, writes));
            for part in parts.iter_mut() {
                part.log_debts(self.now, ids, writes);
            }
            let entry = draft.take().map(|draft| {
                let entry_id = ids.entry();
                writes.push(Write::Log(Box::new(NewEntry {
                    id: entry_id,
                    time: self.now.as_millis(),
                    sides: draft.sides,
                    body: draft.body,
                })));
                entry_id
            });
            given = (id, entry);
            self.core.flights.lock().insert(id, Flight::Accounts(std::mem::take(&mut accounts)));
            let (owners, writes) = (std::mem::take(&mut owners), std::mem::take(writes));
            Batch { id, now: self.now.as_millis(), owners, updates, writes }
        });
        if !open {
            // The server is stopping: nothing is promised any more, and nothing is said of it.
            parts.iter_mut().for_each(|part| part.account.states.discard());
        }
        for (part, load) in parts.iter_mut().zip(loads) {
            for (entry, load) in part.words.debts.iter().filter_map(|debt| Some((debt.entry?, debt.load))) {
                part.account.log.submitted(entry, load);
            }
            if let Some(entry) = given.1 {
                let load = load.unwrap_or_default();
                part.words.charged = load.archived();
                part.account.log.submitted(entry, load);
            }
        }
        given
    }

    fn flush(&mut self, at: &mut Locked<'_>) {
        while let Some(done) = at.account.waiting.front().and_then(|w| w.outcome) {
            let Some(mut next) = at.account.waiting.pop_front() else { return };
            self.say(at, (next.batch, next.entry), &mut next.words, done);
        }
        give_back(&mut at.account.waiting);
    }

    /// Says what has nothing before it any more. `batch` and `entry` are what it was written with.
    pub(crate) fn say(
        &mut self,
        at: &mut Locked<'_>,
        (batch, entry): (Option<BatchId>, Option<EntryId>),
        words: &mut Words,
        done: Done,
    ) {
        if batch.is_some() || done != Done::Committed {
            self.step(&at.account.jid, || {
                let step = Step { batch: batch.map(|BatchId(id)| id), entry, ..Step::named("committed") };
                match done {
                    Done::Committed => step,
                    Done::Failed(failure) => Step { step: "failed", ..step }.because(format!("{failure:?}")),
                }
            });
        }
        if let Done::Failed(failure) = done {
            self.say_failed(at, std::mem::take(words), entry, failure);
            return;
        }
        let written = words.debts.iter().filter_map(|debt| debt.entry).chain(entry).max();
        at.account.log.written = at.account.log.written.max(written.unwrap_or(0));
        let stamp = entry.filter(|_| words.archived);
        let mut copied = Targets::new();
        for say in words.says.drain(..) {
            match say {
                Say::Copies { mut stanza, name, to } => {
                    if let Some(entry) = stamp {
                        at.account.stamp(&mut stanza, entry);
                    }
                    self.give_copies(at, (&stanza, name), &to, entry);
                    if copied.is_empty() {
                        copied = to;
                    } else {
                        copied.extend(to);
                    }
                }
                Say::Deliver { mut stanza, to } => {
                    if let Some(entry) = stamp {
                        at.account.stamp(&mut stanza, entry);
                    }
                    self.deliver(at, stanza, (&to, &copied), entry);
                }
                say => self.say_one(at, say, entry),
            }
        }
        let Some(session) = &words.of else { return };
        if !words.debts.is_empty() {
            at.account.debts_paid(session, std::mem::take(&mut words.debts));
            self.answer_ack(at, session);
        }
        if let Some(Pending(n)) = words.settles {
            self.settle(at, session, n, batch.is_some());
        }
    }

    /// The stanza of this number is safe: with its row, if it has one.
    pub(crate) fn settle(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, n: u64, stored: bool) {
        self.step(&at.account.jid, || Step { n: Some(n), ..Step::named("settled").in_session(session) });
        let mut stream = session.stream();
        stream.ledger.settle(Settled(n));
        if stored && stream.is_resumable() {
            stream.ledger.stored(n);
        }
        self.todo.deal_with(session, &mut stream, n);
        if stream.owes_ack.is_some() {
            drop(stream);
            self.answer_ack(at, session);
        }
    }

    pub(crate) fn say_one(&mut self, at: &mut Locked<'_>, say: Say, entry: Option<EntryId>) {
        match say {
            Say::Deliver { stanza, to } => self.deliver(at, stanza, (&to, &[]), entry),
            Say::Copies { stanza, name, to } => {
                self.give_copies(at, (&stanza, name), &to, entry);
            }
            Say::Send { to, stanza } => {
                let Some(session) = at.account.session(to).cloned() else { return };
                self.give(at, &session, Out::new(stanza, None, Role::Extra));
            }
            Say::Answer { to, stanza, mark } => {
                let Some(session) = at.account.session(to).cloned() else { return };
                let out = Out::new(stanza, None, Role::Extra).answering(mark);
                self.give(at, &session, out);
            }
            Say::Forward { to, stanza } => self.forward(at, to, stanza),
            Say::Found { to, mut stanzas, mark } => {
                let Some(session) = at.account.session(to) else { return };
                let mut stream = session.stream();
                let answer = stanzas.pop().map(|answer| Out::new(answer, None, Role::Extra).answering(mark));
                stanzas.into_iter().for_each(|stanza| stream.push_read(Out::new(stanza, None, Role::Extra)));
                answer.into_iter().for_each(|answer| stream.push_read(answer));
                stream.wake();
            }
            Say::Inquire { session, asked } => {
                let mut stream = session.stream();
                if let Some(inquiries) = &mut stream.inquiries {
                    inquiries.push(*asked);
                    stream.wake();
                }
            }
            Say::Route(work) => self.todo.work.push_back(work),
            Say::Broadcast { session, stanza, everybody, directed } => {
                let fan = Fan { lock: at.lock.clone(), session, everybody, directed };
                self.broadcast_said(at.account, fan, stanza);
            }
            Say::Withdraw(whom) => self.withdraw(at, &whom),
            Say::Probes { session } => self.todo.arrivals.push(Arrival { lock: at.lock.clone(), session, back: false }),
            Say::Join { session } => self.core.join(at.account, &session),
            Say::Stored { session, handled } => {
                let mut stream = session.stream();
                stream.ledger.stored(handled);
                stream.storing = false;
                stream.refused = false;
                if let Some(wake) = &stream.wake {
                    wake.wake();
                }
                if stream.owes_ack.is_some() {
                    drop(stream);
                    self.answer_ack(at, &session);
                }
            }
            Say::Notice(notice) => notice(true),
            Say::Disabled { disabled, done } => {
                at.account.stored_disabled = disabled;
                at.account.disabled = disabled || at.account.is_being_disabled();
                done(true);
            }
            Say::Revoked { done } => {
                at.account.revocations += 1;
                self.end_all(at, PASSWORD_CHANGED);
                done(true);
            }
            Say::Deleted { done } => {
                self.core.forget(&at.account.jid);
                done(true);
            }
            Say::Noted { session, handled } => session.stream().ledger.stored(handled),
            Say::Forgotten { .. } | Say::Trimmed { .. } => {}
            Say::Enabled { session, bytes, management } => session.stream().push_enabled(bytes, *management),
        }
    }

    /// A copy to each of these sessions.
    fn give_copies(
        &mut self,
        at: &mut Locked<'_>,
        (stanza, name): (&Stanza, &'static str),
        to: &[SessionId],
        entry: Option<EntryId>,
    ) {
        let stanza = copy_of(stanza, name, at.account.jid.as_jid());
        for id in to {
            let Some(session) = at.account.session(*id).cloned() else { continue };
            let stanza = stanza.clone().to(session.jid.clone());
            if self.give(at, &session, Out::new(stanza, entry, Role::Extra)) {
                self.core.counts.one(Count::Copied);
            }
        }
    }

    /// To the planned sessions; if none of them is left, to whom a new plan says; else it stays in the log, or goes there. A session
    /// that was `copied` has it.
    pub(crate) fn deliver(
        &mut self,
        at: &mut Locked<'_>,
        stanza: Stanza,
        (to, copied): (&[SessionId], &[SessionId]),
        entry: Option<EntryId>,
    ) {
        // What is not in the log goes only to sessions that are there and take it: else it is planned once more, and logged. So
        // nobody ends a session by sending it much.
        let unlogged = entry.is_none() && never_promised(&stanza).is_none();
        let weight = stanza.weight();
        let takes = |id: &SessionId| at.account.session(*id).is_some_and(|s| s.stream().takes(weight));
        if unlogged && !to.iter().all(takes) {
            self.todo.work.push_back(Work { stanza, hops: 1, mode: Mode::Again(None) });
            return;
        }
        let (mut given, mut full) = (false, false);
        let shared = (entry.is_none() && to.len() > 1).then(|| Arc::new(Shared::default()));
        for id in to {
            let Some(session) = at.account.session(*id).cloned() else { continue };
            let mut out = Out::new(stanza.clone(), entry, Role::Planned);
            out.weighs(weight);
            out.since = entry.is_none().then_some(self.now);
            out.shared = shared.clone();
            let taken = self.deliver_to(at, &session, out);
            if unlogged && !taken {
                // Something came in between.
                self.todo.lagging.push((at.lock.clone(), session.id));
            }
            given |= taken;
            full |= !taken;
        }
        if given || stanza.kind() != Kind::Message {
            return;
        }
        let others = at.account.most_available(&[]);
        let shared = (entry.is_none() && others.len() > 1).then(|| Arc::new(Shared::default()));
        for id in others {
            let Some(session) = at.account.session(id).cloned() else { continue };
            // A copy is as good as the message. What is left to the log the session reads as what it is then.
            if copied.contains(&id) {
                let mut stream = session.stream();
                match entry {
                    Some(entry) if stream.will_read(entry) => {}
                    Some(entry) if stream.owes_its_copy(entry) => at.account.log.hold(entry),
                    Some(entry) => at.account.log.take(entry),
                    None => {}
                }
                given = true;
                continue;
            }
            let out = Out::new(stanza.clone(), entry, Role::Missed).since(self.now).shared(shared.as_ref());
            given |= self.deliver_to(at, &session, out);
        }
        if !given {
            match entry {
                Some(_) => {
                    at.account.log.missed = true;
                    at.account.advance();
                }
                // It is not kept, and whoever waits for an answer to it would wait in vain.
                None if !unlogged && full && expects_answer(&stanza) => {
                    let error = StanzaError::resource_constraint().with_text("the recipient does not read fast enough");
                    self.todo.route(stanza.error(&error), 1);
                }
                None if !unlogged => {}
                None => self.todo.work.push_back(Work { stanza, hops: 1, mode: Mode::Again(None) }),
            }
        }
    }

    /// An IQ to one session.
    fn forward(&mut self, at: &mut Locked<'_>, to: SessionId, stanza: Stanza) {
        let error = match at.account.session(to).cloned() {
            None => StanzaError::service_unavailable(),
            Some(session) => match session.push(Out::new(stanza.clone(), None, Role::Extra)) {
                Pushed::Queued | Pushed::Left => {
                    if session.is_counted() {
                        self.core.mark_dirty(at);
                    }
                    return;
                }
                Pushed::Full => StanzaError::resource_constraint(),
            },
        };
        if stanza.is_answerable() {
            self.todo.route(stanza.error(&error), 1);
        }
    }

    /// As [`Core::give`], and counts a message.
    fn deliver_to(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, out: Out) -> bool {
        let message = out.stanza.kind() == Kind::Message;
        let given = self.give(at, session, out);
        if given && message {
            self.core.counts.one(Count::Delivered);
        }
        given
    }

    /// Gives a stanza to a session, and notes that it holds the entry. False if the session could not take it.
    pub(crate) fn give(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, out: Out) -> bool {
        let (entry, role) = (out.entry, out.role);
        let out =
            if entry.is_none() && !session.is_attached() { out.kept_since(self.now, &at.account.jid) } else { out };
        // What has become of a message or a question its sender hears, or loses the stream over it.
        let must_hear = match out.stanza.kind() {
            Kind::Iq => true,
            Kind::Message => out.stanza.type_() == Type::Error && !out.stanza.has_any(ns::CARBONS),
            Kind::Presence => false,
        };
        let step = self.core.is_traced().then(|| Step { entry, ..Step::of("given", &out.stanza).in_session(session) });
        let pushed = session.push(out);
        if let Some(step) = step {
            self.step(&at.account.jid, || match pushed {
                Pushed::Queued => step.decided("queued"),
                Pushed::Left => step.decided("left").because("the session reads the log, or needs only the newest"),
                Pushed::Full => step.decided("refused").because("the client does not read: its queue is full"),
            });
        }
        match pushed {
            Pushed::Queued => {
                if session.is_counted() {
                    // The client is asked for its acknowledgement with the next tick, at the latest.
                    self.core.mark_dirty(at);
                }
                if let (Some(entry), true) = (entry, role.is_owed()) {
                    at.account.log.hold(entry);
                }
                true
            }
            Pushed::Left => true,
            Pushed::Full => {
                // At the bound: a copy is left out, and so is what nobody promised; what must not be lost ends the connection.
                if must_hear {
                    self.todo.lagging.push((at.lock.clone(), session.id));
                }
                false
            }
        }
    }
}

impl Account {
    /// Whether what was submitted behind this batch counts on it: on values that it changes, or on a number that it settles.
    fn is_built_on(&self, id: BatchId) -> bool {
        let settles = self.waiting.iter().any(|waiting| waiting.batch == Some(id) && waiting.settles());
        settles || self.states.is_changed_by(id)
    }
}

/// What is staged in an account becomes writes of a batch.
pub(crate) fn put_rows(account: &mut Account, batch: BatchId, writes: &mut Vec<Write>) {
    let (owner, mut rows) = (account.owner, Vec::new());
    account.states.submit(batch, &mut rows);
    writes.extend(rows.into_iter().map(|row| Write::Put {
        map: row.map,
        owner,
        key: row.key.into(),
        row: row.value.map(|value| Row {
            value: value.into(),
            reverse: row.reverse.map(|key| Bytes::from_static(key.as_bytes())),
            expires: None,
        }),
    }));
}

/// Whether a message says something that is not merely passing by.
fn expects_answer(stanza: &Stanza) -> bool {
    matches!(stanza.type_(), Type::Chat | Type::Normal | Type::None) && stanza.has(ns::CLIENT, "body")
}

#[cfg(test)]
mod tests;
