//! What is said when a batch fails or is refused, and debts: errors that the server owes a session after a failed commit.
//!
//! A stanza whose batch failed is answered with an error at once, but it is not settled: no acknowledgement covers it until the
//! error is stored, too. Debts are written with the session's next batch, or on their own with the next tick, so a later stanza of
//! the session never reaches the disk before them.
//!
//! When a batch fails, everything that its accounts submitted after it fails as well ([`crate::store::Stale`]). Until the last of
//! these batches is back, stanzas of their sessions are not submitted at all.
//!
//! Invariant: a row that says a stanza is handled is committed with, or after, the outcome of that stanza.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::{Kind, Stanza};

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::Account;
use crate::owner::log::LogMeta;
use crate::owner::words::{Draft, Failure, OrElse, Part, Say, Words};
use crate::session::debt::Debt;
use crate::session::ledger::{Pending, Settled};
use crate::session::{Out, Role, Session, Shared};
use crate::store::load::Load;
use crate::store::{EntryId, Ids, NewEntry, Write};
use crate::watch::counts::Count;

impl Part<'_> {
    /// Adds the session's debts to this batch.
    pub(crate) fn take_debts(&mut self, core: &Core, session: &Session) {
        if self.words.debts.is_empty() {
            self.words.debts = session.stream().take_debts();
        }
        if !self.words.debts.is_empty() {
            self.account.save_session(core, session);
        }
    }

    /// Writes the errors among the debts to the log.
    pub(crate) fn log_debts(&mut self, now: Timestamp, ids: &mut dyn Ids, writes: &mut Vec<Write>) {
        let Some(session) = &self.words.of else { return };
        for debt in &mut self.words.debts {
            let Some((error, _)) = &debt.error else { continue };
            let from = error.head.from.clone().unwrap_or_else(|| self.account.jid.as_jid().clone());
            let meta = LogMeta { targets: [session.id].into_iter().collect(), ..LogMeta::default() };
            let Draft { sides, body } = Draft::new(error, [Some(meta.received(self.account, &from)), None]);
            let id = ids.entry();
            debt.entry = Some(id);
            debt.load = sides.iter().flatten().next().map_or_else(Load::default, |side| Load::of(side, body.len()));
            self.account.log.loose = true;
            writes.push(Write::Log(Box::new(NewEntry { id, time: now.as_millis(), sides, body })));
        }
    }
}

impl Account {
    /// The debts are stored.
    pub(crate) fn debts_paid(&mut self, session: &Arc<Session>, debts: Vec<Debt>) {
        let here = self.session(session.id).is_some();
        for debt in debts {
            let mut stream = session.stream();
            stream.settle(Settled(debt.n), true);
            stream.dealt_with(debt.n);
            let (Some((_, shared)), Some(entry)) = (&debt.error, debt.entry) else { continue };
            if !here {
                self.log.missed = true;
            } else if stream.logged(shared, entry) {
                self.log.hold(entry);
            } else if !stream.will_read(entry) {
                self.log.take(entry);
            }
        }
        self.advance();
    }
}

impl Core {
    /// A batch of the account failed.
    pub(crate) fn doom(&self, at: &mut Locked<'_>, failure: Failure) {
        at.account.doomed = at.account.last_in_flight().map(|last| (last, failure));
        at.account.unsaved = true;
        at.account.troubled = true;
        at.account.log.stored = 0;
        at.account.waiting.iter_mut().for_each(|waiting| waiting.falls(failure));
        for session in &at.account.sessions {
            session.stream().rows_failed();
        }
        self.mark_dirty(at);
    }
}

impl Turn<'_> {
    /// Sends what has to be sent when a batch has failed.
    pub(crate) fn say_failed(
        &mut self,
        at: &mut Locked<'_>,
        mut words: Words,
        entry: Option<EntryId>,
        failure: Failure,
    ) {
        if let Some(entry) = entry {
            at.account.never_was(entry);
            at.account.log.uncharge(words.charged);
        }
        let same = matches!(words.or_else, OrElse::Same);
        let told = words.told(failure);
        words.decided();
        for say in words.says {
            match say {
                Say::Notice(notice) | Say::Revoked { done: notice } => notice(false),
                Say::Disabled { done, .. } => {
                    at.account.disabled = at.account.stored_disabled || at.account.is_being_disabled();
                    at.lock.set_leaving(at.account, false);
                    done(false);
                }
                Say::Deleted { done } => {
                    at.account.deleted = false;
                    at.lock.set_leaving(at.account, false);
                    done(false);
                }
                // It is asked for again with the next tick, or the next stanza.
                Say::Stored { session, .. } => session.stream().not_stored(),
                Say::Enabled { session, .. } => session.stream().not_enabled(),
                Say::Forgotten { id } => at.account.gone.push(id),
                Say::Trimmed { from } => {
                    at.account.log.trimmed = at.account.log.trimmed.min(from);
                    at.account.log.loose = true;
                }
                say if same => self.say_one(at, say, None),
                _ => {}
            }
        }
        let error = match words.or_else {
            OrElse::Bounce(stanza) if stanza.is_answerable() => {
                if stanza.kind() == Kind::Message {
                    self.core.counts.one(Count::of_bounce(&told.condition));
                }
                Some(stanza.error(&told))
            }
            OrElse::Answer(error) => Some(*error),
            _ => None,
        };
        let Some(session) = words.of else { return };
        let mut debts = words.debts;
        for entry in debts.iter_mut().filter_map(|debt| debt.entry.take()) {
            at.account.log.take(entry);
        }
        if at.account.session(session.id).is_none() {
            // Nobody was told that these were handled, and nobody waits for an answer.
            return;
        }
        session.stream().owe(debts);
        let Some(Pending(n)) = words.settles else { return };
        let managed = session.stream().is_managed();
        // The answer to an IQ is kept in another way: see `session/answers.rs`.
        let promised = |error: &Stanza| managed && error.kind() != Kind::Iq;
        let mut owed = None;
        if let Some(error) = error {
            tracing::debug!(session = %session.jid, reason = failure.name(), "answered with an error: nothing was stored");
            let mark = if error.kind() == Kind::Iq { session.stream().keep_answer(n, error.clone()) } else { 0 };
            let mut out = Out::new(error.clone(), None, Role::Extra).answering(mark);
            if promised(&error) {
                let shared = Arc::new(Shared::owed());
                out = Out::new(error.clone(), None, Role::Planned).shared(Some(&shared));
                owed = Some((error, shared));
            }
            self.give(at, &session, out);
        }
        let alone = matches!(failure, Failure::Refused { alone: true, .. });
        if alone {
            session.stream().row_was_refused();
        }
        if !managed || alone {
            self.settle(at, &session, n, false);
            return;
        }
        let mut stream = session.stream();
        stream.owe([Debt { n, error: owed, entry: None, load: Load::default() }]);
        self.todo.deal_with(&session, &mut stream, n);
        drop(stream);
        self.core.mark_dirty(at);
    }

    /// Pays what is still owed, and writes anew what may be stored differently.
    pub(crate) fn pay(&mut self, at: &mut Locked<'_>) {
        if at.account.doomed.is_some() {
            self.core.mark_dirty(at);
            return;
        }
        for session in at.account.sessions.clone() {
            let debts = session.stream().take_debts();
            let Some(handled) = debts.last().map(|debt| debt.n) else { continue };
            let mut rows = Vec::new();
            {
                let mut stream = session.stream();
                if stream.is_resumable() {
                    stream.progress_rows(self.core.progress, session.id, handled, &mut rows);
                }
            }
            let says = Say::Stored { session: session.clone(), handled };
            let words = Words { of: Some(session), debts, ..Words::of_says([says]) };
            self.finish_one(at, words, None, rows);
        }
    }
}

impl Failure {
    /// What the sender is told, unless the batch's conditions have errors of their own.
    pub(super) fn told(self) -> StanzaError {
        match self {
            Failure::Full => StanzaError::resource_constraint().with_text("the server cannot store it now"),
            Failure::Broken | Failure::Refused { .. } => StanzaError::internal_server_error(),
        }
    }
}
