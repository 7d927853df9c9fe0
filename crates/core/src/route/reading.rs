//! Questions whose answer is in the store: asked under the account's lock, read without it, answered in order.
//!
//! A handler judges the question and returns a `Job`. The job waits in the session that asked, behind what the asked
//! account had to say at that moment, so that a client finds whatever was acknowledged to it before; then whoever drives
//! the kernel takes it by [`Core::inquiry`], runs it where waiting for the disk is allowed, and gives what was found to
//! [`Core::answered`]. Of one session one job runs at a time, and only while little waits to be written to it: answers
//! come in the order of the questions, and a client that does not read is not read for. A session that has ended is not read
//! for either.
//!
//! A question that is only read carries no promise: it is settled when it is answered. If an `h` that covers it is stored before,
//! an error is stored with that (`session/answers.rs`). A session that has lost its
//! connection is answered all the same, to be told when it is resumed: by what was found, if the job was running, else by
//! `resource-constraint`. So is one that has closed its stream, if the job would have to wait for an acknowledgement. One that has
//! ended is not answered.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{ErrorType, StanzaError};
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::Stanza;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::words::{OrElse, Say, Words};
use crate::session::Session;
use crate::session::inquiries::{Asked, Committed, Found, ReadError};
use crate::session::ledger::Pending;
use crate::store::{EntryId, Reader};

/// Why a question is not read: nobody is there to be answered.
pub(crate) const LOST: &str = "the connection was lost before it was read";

/// A job that knows how far it may read.
pub type DueJob = Box<dyn FnOnce(&mut dyn Reader) -> Result<Found, ReadError> + Send>;

/// A job that is due.
pub struct Inquiry {
    /// who is to be answered
    pub asker: Asker,
    /// what is to be run
    pub job: DueJob,
}

/// Who asked, and what: for [`Core::answered`].
pub struct Asker {
    lock: AccountRef,
    session: Arc<Session>,
    pending: Pending,
    iq: Stanza,
}

impl Asker {
    /// The account that asks.
    pub fn account(&self) -> &BareJid {
        &self.lock.jid
    }
}

impl Core {
    /// The next job of a session, if one is due: ask whenever its connection has something to do.
    pub fn inquiry(&self, lock: &AccountRef, session: &Arc<Session>) -> Option<Inquiry> {
        let Asked { of, pending, iq, job } = session.stream().next_inquiry()?;
        // An account that is not in memory waits for no commit.
        let of = of.and_then(|of| self.in_memory(&of));
        let horizon = of.map_or(EntryId::MAX, |of| of.lock().horizon());
        let (of, id) = (lock.clone(), session.id);
        let due = move |reader: &mut dyn Reader| {
            // It may have waited for long.
            if of.lock().session(id).is_none() {
                return Err(busy("the session has ended").into());
            }
            job(&mut Committed { reader, horizon })
        };
        let asker = Asker { lock: lock.clone(), session: session.clone(), pending, iq };
        Some(Inquiry { asker, job: Box::new(due) })
    }

    /// What a job found: said behind what its asker's account has to say now.
    pub fn answered(&self, now: Timestamp, asker: Asker, found: Result<Found, ReadError>) {
        let Asker { lock, session, pending, iq } = asker;
        let stanzas = match found {
            Ok(Found { messages, reply }) => {
                let mut stanzas = messages;
                stanzas.push(match reply.0 {
                    Some(payload) => iq.result().child(payload),
                    None => iq.result(),
                });
                stanzas
            }
            Err(ReadError::Told(error)) => vec![iq.error(&error)],
            Err(ReadError::Store(error)) => {
                if let Some(questions) = self.conditions.questions.met(now, 1) {
                    tracing::error!(%error, questions, session = %session.jid, "queries could not be answered: the store cannot be read");
                }
                vec![iq.error(&StanzaError::internal_server_error())]
            }
        };
        self.turn(now, |turn| {
            let mut account = lock.lock();
            session.stream().inquiry_read();
            let weight: usize = stanzas.iter().map(Stanza::weight).sum();
            session.stream().charge_answer(weight);
            turn.say_found(&mut Locked::new(&lock, &mut account), &session, pending, stanzas);
        })
    }

    /// The client has closed its stream, and acknowledges nothing any more: what waits for that would wait for ever, and the end
    /// of the stream with it.
    pub fn refuse_stuck(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>) {
        let stuck = {
            let stream = session.stream();
            stream.is_managed() && !stream.has_room() && stream.has_due_inquiry()
        };
        if stuck {
            self.turn(now, |turn| {
                turn.refuse_inquiries(
                    &mut Locked::new(lock, &mut lock.lock()),
                    session,
                    "the stream was closed before it was read",
                );
            });
        }
    }
}

impl Turn<'_> {
    /// What has not begun will not.
    pub(crate) fn refuse_inquiries(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, why: &'static str) {
        let waiting = session.stream().take_inquiries();
        for asked in waiting {
            let answer = asked.iq.error(&busy(why));
            self.say_found(at, session, asked.pending, vec![answer]);
        }
    }

    fn say_found(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, pending: Pending, stanzas: Vec<Stanza>) {
        session.stream().close_inquiry();
        let mark = session.stream().kept_answer(pending.0);
        let says = [Say::Found { to: session.id, stanzas, mark }].into_iter().collect();
        let words = Words { says, or_else: OrElse::Same, ..Words::settling(session, pending) };
        self.finish_one(at, words, None, Vec::new());
    }
}

/// `resource-constraint` that passes.
pub fn busy(text: &'static str) -> StanzaError {
    StanzaError::resource_constraint().with_kind(ErrorType::Wait).with_text(text)
}
