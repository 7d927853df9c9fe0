//! What was missed: a session that becomes available reads the log, and from there on is given what comes.
//!
//! Live stanzas never overtake the backlog: while a session reads, entries are left to the log, and what is not in the
//! log waits behind it. The log is read only up to the account's horizon, below which nothing waits for its commit.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::core::turn::Locked;
use crate::owner::account::{Account, AccountRef};
use crate::owner::log::{Form, form, stanza_of, was_given};
use crate::session::{Out, Session};
use crate::store::load::Load;
use crate::store::{Direction, Entry, EntryId, Owner};
use crate::watch::trace::Step;

/// A part of a log that a session wants to be given next.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// whose log
    pub owner: Owner,
    /// only entries from this id on
    pub from: EntryId,
    /// at most so many
    pub limit: usize,
    end: EntryId,
    /// for which connection of the session
    epoch: u32,
}

impl Core {
    /// The session becomes available with a priority that is not negative.
    pub(crate) fn join(&self, account: &mut Account, session: &Arc<Session>) {
        // It may have gone again while its presence was written.
        if session.priority().is_none_or(|p| p < 0) {
            return;
        }
        let horizon = account.horizon();
        let mut stream = session.stream();
        stream.joins_at(account.log.last + 1);
        if account.log.missed {
            stream.read_from(account.log.cursor() + 1, horizon);
            account.log.missed = false;
        }
    }

    /// What the session wants to read now, if it wants anything. Give the entries to [`Core::fed`].
    pub fn hungry(&self, lock: &AccountRef, session: &Session) -> Option<Fetch> {
        if !session.stream().is_hungry() {
            return None;
        }
        let account = lock.lock();
        let mut stream = session.stream();
        let (from, epoch) = stream.begin_page()?;
        let (owner, limit, end) = (account.owner, self.bounds().page, account.horizon());
        Some(Fetch { owner, from, limit, end, epoch })
    }

    /// Entries that were read for a session, ascending. An empty list with an error of the store is the same as no answer:
    /// the session asks again when it is woken.
    pub fn fed(&self, lock: &AccountRef, session: &Arc<Session>, fetch: Fetch, entries: &[Entry]) {
        let mut account = lock.lock();
        let account = &mut *account;
        let mut stream = session.stream();
        let Some(reading) = stream.page(fetch.from, fetch.epoch) else { return };
        let mut pos = reading.pos;
        let cursor = account.log.cursor();
        let end = match entries.last() {
            Some(last) if entries.len() >= fetch.limit => fetch.end.min(last.id + 1),
            _ => fetch.end,
        };
        let received = entries.iter().filter(|entry| entry.dir != Direction::Sent);
        let received = received.map(|entry| (entry.id, Load::of_entry(entry)));
        account.log.read(fetch.from, end, received);
        for entry in entries.iter().filter(|entry| entry.id >= pos && entry.id < fetch.end) {
            if stream.has_had(entry.id) {
                // Its client has it, if only as a copy: that is as good as the message for a session that would take it.
                let nobodys = account.log.is_open(entry.id) && !account.log.is_held(entry.id) && !stream.has(entry.id);
                if nobodys && session.priority().is_some_and(|p| p >= 0) {
                    account.log.take(entry.id);
                }
                continue;
            }
            let Some(stanza) = stanza_of(entry) else {
                // There is nothing to be given to anybody.
                account.log.take(entry.id);
                continue;
            };
            let log = &account.log;
            let nobodys = log.is_open(entry.id) && !log.is_held(entry.id);
            let missed = nobodys && session.priority().is_some_and(|p| p >= 0);
            let form = form(account, session, entry, stanza, missed, reading.had_to);
            self.step_read(account, session, entry, nobodys, &form);
            match form {
                Form::Given(stanza, role) => {
                    if role.is_owed() {
                        account.log.hold(entry.id);
                    }
                    stream.push_read(Out::new(stanza, Some(entry.id), role));
                }
                // If it has not arrived yet, it must.
                Form::HasCopy if stream.owes_its_copy(entry.id) => account.log.hold(entry.id),
                Form::HasCopy => account.log.take(entry.id),
                Form::Left => {
                    if log.is_open(entry.id) && was_given(session, entry, reading.had_to) && !stream.has(entry.id) {
                        // Before a restart it was taken, and the account's cursor had not come so far; whoever holds it now is
                        // late.
                        account.log.take(entry.id);
                    }
                }
            }
        }
        pos = pos.max(end);
        stream.page_read(reading, pos, account.horizon());
        drop(stream);
        account.advance();
        if account.log.cursor() != cursor {
            self.mark_dirty(&mut Locked::new(lock, account));
        }
    }

    /// Tells those who follow the account what became of an entry that was read for a session.
    fn step_read(&self, account: &Account, session: &Session, entry: &Entry, nobodys: bool, form: &Form) {
        self.step(Timestamp::from_millis(0), &account.jid, || {
            let step = Step { entry: Some(entry.id), ..Step::named("read") }.in_session(session);
            match form {
                Form::Given(_, role) => step.decided("given").because(format!("{role:?}").to_lowercase()),
                Form::HasCopy => step.decided("left").because("the session has a copy of it"),
                Form::Left if nobodys => step.decided("left").because("it is open, and for another"),
                Form::Left => step.decided("left").because("it is taken or held, or for another"),
            }
        });
    }

    /// A fetch came to nothing: the store could not be read.
    pub fn unfed(&self, session: &Session, fetch: Fetch) {
        session.stream().page_failed(fetch.epoch);
    }
}

impl Account {
    /// A session takes no longer what was missed: what it had not read yet is for another.
    pub(crate) fn leaves_unread(&mut self, session: &Session) {
        if session.stream().is_reading() && self.log.has_open() {
            self.log.missed = true;
            self.advance();
        }
    }

    /// Lets somebody read what nobody holds.
    pub(crate) fn advance(&mut self) {
        if self.log.missed
            && let Some(id) = self.most_available(&[]).first()
            && let Some(session) = self.session(*id)
        {
            session.stream().read_from(self.log.cursor() + 1, self.horizon());
            self.log.missed = false;
        }
    }
}
