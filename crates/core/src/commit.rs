//! Writes first, then words: how the effects of a stretch become a batch, and what happens when it is committed.
//!
//! What an account has to say waits in its queue behind everything that was submitted before; an empty queue means
//! direct. A completion marks what is committed and says everything up to the first that is not. [`Settled`] is minted
//! here and nowhere else.
//!
//! Invariant: nothing is said before the writes it speaks of are committed, and each owner speaks in the order of its
//! submissions.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::{Kind, Stanza};

use crate::account::{Account, AccountRef};
use crate::ledger::{Pending, Settled, never_promised};
use crate::plan::Targets;
use crate::server::{Core, Mode, Todo, Work};
use crate::session::{Management, Out, Pushed, Role, Session, SessionId, Shared};
use crate::store::{Batch, BatchId, EntryId, NewEntry, Outcome, Row, Side, StoreError, Write};

/// What waits for an account: unwritten, or behind something unwritten.
pub(crate) struct Waiting {
    batch: Option<BatchId>,
    pub(crate) entry: Option<EntryId>,
    outcome: Option<Done>,
    words: Words,
}

impl Waiting {
    /// Takes out what was planned for this session, is not in the log, and should be.
    pub(crate) fn take_unlogged(&mut self, id: SessionId) -> Vec<(Stanza, Targets)> {
        let mut taken = Vec::new();
        if self.entry.is_some() {
            return taken;
        }
        for say in std::mem::take(&mut self.words.says) {
            match say {
                Say::Deliver { stanza, to } if to.contains(&id) && never_promised(&stanza).is_none() => {
                    taken.push((stanza, to));
                }
                say => self.words.says.push(say),
            }
        }
        taken
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Committed,
    Failed(Failure),
}

/// Why a batch came to nothing, as far as its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// no room: it may be tried again later
    Full,
    Broken,
}

/// What one account says when its writes are committed.
#[derive(Default)]
pub(crate) struct Words {
    pub says: SmallVec<[Say; 2]>,
    /// the stanza that this settles
    pub settles: Option<(Arc<Session>, Pending)>,
    /// what is answered with an error if the batch fails
    pub question: Option<Box<Stanza>>,
}

/// One thing to be said.
pub(crate) enum Say {
    /// A message to the sessions that were planned for it. If none of them is left it is planned once more.
    Deliver { stanza: Stanza, to: Targets },
    /// A wrapped copy to each of these sessions (XEP-0280).
    Copies { stanza: Stanza, to: Targets },
    /// To one session.
    Send { to: SessionId, stanza: Stanza },
    /// On its way through the server, from here.
    Route(Work),
    /// What contacts and strangers have to say to a session that became available.
    Probes { session: Arc<Session> },
    /// The session takes what was missed, and from here on what comes.
    Join { session: Arc<Session> },
    /// Somebody outside waits for the commit.
    Notice(Notice),
    /// The session can be resumed from here on.
    Enabled { session: Arc<Session>, bytes: Vec<u8>, management: Box<Management> },
    /// The row of how much of a session is handled is committed.
    Stored { session: Arc<Session>, handled: u64 },
}

/// Who hears what became of a batch.
pub(crate) enum Flight {
    Accounts(SmallVec<[AccountRef; 2]>),
    Notice(Notice),
}

/// Called once with whether a write is stored.
pub type Notice = Box<dyn FnOnce(bool) + Send>;

/// One account's part of a stretch.
pub(crate) struct Part<'a> {
    pub lock: &'a AccountRef,
    pub account: &'a mut Account,
    pub words: Words,
}

/// A log entry that a stretch wants written.
pub(crate) struct Draft {
    pub sides: [Option<Side>; 2],
    pub body: Bytes,
}

impl Core {
    /// Ends a stretch: hands the writes over, if there are any, and says what may be said now. The accounts' staged
    /// changes are part of it.
    pub(crate) fn finish(
        &self,
        now: Timestamp,
        parts: &mut [Part<'_>],
        draft: Option<Draft>,
        extra: Vec<Write>,
        todo: &mut Todo,
    ) {
        let mut writes = extra;
        let batch = (draft.is_some() || !writes.is_empty() || parts.iter().any(|p| p.account.states.is_staged()))
            .then(|| self.submit(now, parts, draft, &mut writes));
        for part in parts {
            let (id, entry) = batch.map_or((None, None), |(id, entry)| (Some(id), entry));
            let words = std::mem::take(&mut part.words);
            if id.is_none() && part.account.waiting.is_empty() {
                self.say(now, part.lock, part.account, words, None, Done::Committed, false, todo);
                continue;
            }
            if let Some(entry) = entry {
                part.account.log.last = part.account.log.last.max(entry);
            }
            let outcome = id.is_none().then_some(Done::Committed);
            part.account.waiting.push_back(Waiting { batch: id, entry, outcome, words });
        }
    }

    fn submit(
        &self,
        now: Timestamp,
        parts: &mut [Part<'_>],
        mut draft: Option<Draft>,
        writes: &mut Vec<Write>,
    ) -> (BatchId, Option<EntryId>) {
        // A batch that comes from a session says how far the session is handled once it is committed: all that the
        // session sent before is settled, or stands in the queue before this batch.
        for part in parts.iter() {
            if let Some((session, Pending(n))) = &part.words.settles {
                let mut stream = session.stream();
                if stream.is_resumable() {
                    writes.push(stream.progress_row(self.progress, part.account.owner, session.id, *n));
                }
            }
        }
        let owners: SmallVec<[_; 2]> = parts.iter().map(|p| p.account.owner).collect();
        let accounts: SmallVec<[AccountRef; 2]> = parts.iter().map(|p| p.lock.clone()).collect();
        let updates = parts.iter().any(|p| p.account.states.is_staged());
        let mut given = (BatchId(0), None);
        let open = self.journal.submit(now.as_millis() * 1000, &mut |ids| {
            let id = ids.batch();
            let mut rows = Vec::new();
            for part in parts.iter_mut() {
                part.account.states.submit(id, &mut rows);
                let owner = part.account.owner;
                writes.extend(rows.drain(..).map(|row| Write::Put {
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
            let entry = draft.take().map(|draft| {
                let entry_id = ids.entry();
                writes.push(Write::Log(Box::new(NewEntry {
                    id: entry_id,
                    time: now.as_millis(),
                    sides: draft.sides,
                    body: draft.body,
                })));
                entry_id
            });
            given = (id, entry);
            self.flights.lock().insert(id, Flight::Accounts(accounts.clone()));
            Batch { id, now: now.as_millis(), owners: owners.clone(), updates, writes: std::mem::take(writes) }
        });
        if !open {
            // The server is stopping: nothing is promised any more, and nothing is said of it.
            parts.iter_mut().for_each(|part| part.account.states.discard());
        }
        given
    }

    /// The results of a group of batches, in order. Called once per commit.
    pub fn complete(&self, now: Timestamp, results: impl IntoIterator<Item = (BatchId, Outcome)>) {
        let mut todo = Todo::default();
        for (id, outcome) in results {
            let done = match outcome {
                Outcome::Committed => Done::Committed,
                Outcome::Failed(StoreError::Full) => Done::Failed(Failure::Full),
                Outcome::Refused { .. } | Outcome::Failed(_) => Done::Failed(Failure::Broken),
            };
            if let Outcome::Failed(error) = &outcome {
                tracing::error!(%error, "a batch was not written");
            }
            let Some(flight) = self.flights.lock().remove(&id) else { continue };
            let accounts = match flight {
                Flight::Accounts(accounts) => accounts,
                Flight::Notice(notice) => {
                    notice(done == Done::Committed);
                    continue;
                }
            };
            for lock in accounts {
                let mut account = lock.lock();
                account.states.complete(id, done == Done::Committed);
                for waiting in account.waiting.iter_mut().filter(|w| w.batch == Some(id)) {
                    waiting.outcome = Some(done);
                }
                if done != Done::Committed {
                    // What was pending of it is dropped, so that memory is again what is stored.
                    self.journal.reloaded(account.owner);
                }
                self.flush(now, &lock, &mut account, &mut todo);
            }
        }
        self.run_todo(now, todo);
    }

    fn flush(&self, now: Timestamp, lock: &AccountRef, account: &mut Account, todo: &mut Todo) {
        while let Some(done) = account.waiting.front().and_then(|w| w.outcome) {
            let Some(next) = account.waiting.pop_front() else { return };
            let stored = next.batch.is_some() && done == Done::Committed;
            self.say(now, lock, account, next.words, next.entry, done, stored, todo);
        }
        if account.waiting.is_empty() && account.waiting.capacity() > 16 {
            account.waiting.shrink_to(0);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn say(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        words: Words,
        entry: Option<EntryId>,
        done: Done,
        stored: bool,
        todo: &mut Todo,
    ) {
        if let Done::Failed(failure) = done {
            self.say_failed(account, &words, failure, todo);
            for say in words.says {
                match say {
                    Say::Notice(notice) => notice(false),
                    Say::Stored { session, .. } => {
                        // It is asked for again with the next tick, or the next stanza.
                        session.stream().storing = false;
                        self.mark_dirty(lock, account);
                    }
                    Say::Enabled { session, .. } => session.stream().not_enabled(),
                    _ => {}
                }
            }
        } else {
            for say in words.says {
                self.say_one(now, lock, account, say, entry, todo);
            }
        }
        if let Some((session, Pending(n))) = words.settles {
            let mut stream = session.stream();
            stream.ledger.settle(Settled(n));
            if stored && stream.is_resumable() {
                stream.ledger.stored(n);
            }
            if stream.barrier == Some(n) {
                stream.barrier = None;
            }
            if let Some(wake) = stream.waits_for_room() {
                wake.wake();
            }
            if stream.owes_ack.is_some() {
                drop(stream);
                self.answer_ack(now, lock, account, &session, todo);
            }
        }
    }

    fn say_one(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        account: &mut Account,
        say: Say,
        entry: Option<EntryId>,
        todo: &mut Todo,
    ) {
        match say {
            Say::Deliver { stanza, to } => self.deliver(lock, account, stanza, &to, entry, todo),
            Say::Copies { stanza, to } => {
                for id in to {
                    let Some(session) = account.session(id).cloned() else { continue };
                    let stanza = stanza.clone().to(session.jid.clone());
                    give(lock, account, &session, Out::new(stanza, entry, Role::Extra), todo);
                }
            }
            Say::Send { to, stanza } => {
                let Some(session) = account.session(to).cloned() else { return };
                give(lock, account, &session, Out::new(stanza, None, Role::Extra), todo);
            }
            Say::Route(work) => todo.work.push_back(work),
            Say::Probes { session } => todo.arrivals.push((lock.clone(), session)),
            Say::Join { session } => self.join(account, &session),
            Say::Stored { session, handled } => {
                let mut stream = session.stream();
                stream.ledger.stored(handled);
                stream.storing = false;
                if let Some(wake) = &stream.wake {
                    wake.wake();
                }
                if stream.owes_ack.is_some() {
                    drop(stream);
                    self.answer_ack(now, lock, account, &session, todo);
                }
            }
            Say::Notice(notice) => notice(true),
            Say::Enabled { session, bytes, management } => session.stream().push_enabled(bytes, *management),
        }
    }

    /// To the planned sessions; if none of them is left, to whom a new plan says; else it stays in the log, or goes there.
    pub(crate) fn deliver(
        &self,
        lock: &AccountRef,
        account: &mut Account,
        stanza: Stanza,
        to: &[SessionId],
        entry: Option<EntryId>,
        todo: &mut Todo,
    ) {
        // What is not in the log goes only to sessions that are there: else it is planned once more, and logged.
        let unlogged = entry.is_none() && never_promised(&stanza).is_none();
        let live = |id: &SessionId| account.session(*id).is_some_and(|s| s.stream().is_live());
        if unlogged && !to.iter().all(live) {
            todo.work.push_back(Work { stanza, hops: 1, mode: Mode::Again });
            return;
        }
        let mut given = false;
        let shared = (entry.is_none() && to.len() > 1).then(|| Arc::new(Shared::default()));
        for id in to {
            let Some(session) = account.session(*id).cloned() else { continue };
            let out = Out::new(stanza.clone(), entry, Role::Planned).shared(shared.as_ref());
            given |= give(lock, account, &session, out, todo);
        }
        if given || stanza.kind() != Kind::Message {
            return;
        }
        for id in account.most_available(&[]) {
            let Some(session) = account.session(id).cloned() else { continue };
            let out = Out::new(stanza.clone(), entry, Role::Planned);
            given |= give(lock, account, &session, out, todo);
        }
        if !given {
            match entry {
                Some(_) => {
                    account.log.missed = true;
                    account.advance();
                }
                None if never_promised(&stanza).is_some() => {}
                None => todo.work.push_back(Work { stanza, hops: 1, mode: Mode::Again }),
            }
        }
    }

    /// The sender hears of it; what was only to be said is not said.
    fn say_failed(&self, account: &Account, words: &Words, failure: Failure, todo: &mut Todo) {
        let Some(question) = words.question.as_deref().filter(|q| q.is_answerable()) else { return };
        let error = match failure {
            Failure::Full => StanzaError::resource_constraint().with_text("the server cannot store it now"),
            Failure::Broken => StanzaError::internal_server_error(),
        };
        tracing::warn!(account = %account.jid, ?failure, "an answer is an error because the store failed");
        todo.route(question.error(&error), 1);
    }
}

/// Gives a stanza to a session, and notes that it holds the entry. False if the session could not take it.
fn give(lock: &AccountRef, account: &mut Account, session: &Arc<Session>, out: Out, todo: &mut Todo) -> bool {
    let (entry, role, kind) = (out.entry, out.role, out.stanza.kind());
    match session.push(out) {
        Pushed::Queued => {
            if let (Some(entry), Role::Planned) = (entry, role) {
                account.log.hold(entry);
            }
            true
        }
        Pushed::Left => true,
        Pushed::Full => {
            // At the bound: a copy is left out, and what must not be lost ends the connection.
            if role == Role::Planned || kind == Kind::Iq {
                todo.lagging.push((lock.clone(), session.id));
            }
            false
        }
    }
}
