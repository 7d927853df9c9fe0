//! Acknowledgements both ways (XEP-0198 §4): what is settled and stored is acknowledged to the client, and what the client
//! acknowledges is taken.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::ns;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::words::{Say, Words};
use crate::session::ledger::Settled;
use crate::session::{Closing, Session, Taken};
use crate::watch::trace::Step;

impl Turn<'_> {
    /// The stanza of this number is safe: with its row, if it has one.
    pub(crate) fn settle(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, n: u64, stored: bool) {
        self.step(&at.account.jid, || Step { n: Some(n), ..Step::named("settled").in_session(session) });
        let mut stream = session.stream();
        stream.settle(Settled(n), stored);
        self.todo.deal_with(session, &mut stream, n);
        if stream.owes_ack() {
            drop(stream);
            self.answer_ack(at, session);
        }
    }
}

impl Core {
    /// What was pulled is written to the socket: what is not counted is taken by that.
    pub fn written(&self, lock: &AccountRef, session: &Arc<Session>) {
        let (entries, due) = {
            let mut stream = session.stream();
            let entries = stream.written();
            // What was written without being counted made room, also where it is no entry that is taken.
            if stream.could_read_on() {
                stream.wake();
            }
            (entries, stream.falls_due())
        };
        if due {
            self.checkpoint_is_due(lock, session);
        }
        if !entries.is_empty() {
            self.took(&mut Locked::new(lock, &mut lock.lock()), session, &entries);
        }
    }

    pub(crate) fn took(&self, at: &mut Locked<'_>, session: &Arc<Session>, entries: &[Taken]) {
        let due = {
            let mut stream = session.stream();
            if stream.should_ask() {
                stream.ask();
            }
            if stream.could_read_on() {
                stream.wake();
            }
            stream.falls_due()
        };
        if due {
            self.checkpoint_is_due(at.lock, session);
        }
        if self.is_traced() {
            for (entry, role) in entries {
                let step = || Step { entry: Some(*entry), ..Step::named("taken").in_session(session) };
                self.step(Timestamp::from_millis(0), &at.account.jid, || {
                    step().because(format!("{role:?}").to_lowercase())
                });
            }
        }
        if !entries.is_empty() {
            // A session of negative priority takes nothing from the others by having a copy.
            let stands_for_all = session.priority().is_some_and(|p| p >= 0);
            let taken = entries.iter().filter(|(_, role)| role.is_owed() || stands_for_all);
            taken.for_each(|(entry, _)| at.account.log.take(*entry));
            self.mark_dirty(at);
        }
    }

    /// Asks for the row that lets all that is handled be said; for a resumption. True if nothing is to be waited for. What
    /// could not be stored is forgotten then: the client, told of less, sends it again.
    pub fn level(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>) -> bool {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            let in_flight = account.has_in_flight(session);
            let mut stream = session.stream();
            let decided = stream.ledger().unsettled() <= stream.debts() as u64;
            let handled = stream.ledger().handled();
            if stream.is_storing() || in_flight || !decided {
                false
            } else if stream.debts() > 0 || stream.is_refused() {
                // A row that is on its way may say more than is said here.
                let quiet = account.last_in_flight().is_none();
                if quiet {
                    stream.forget_debts();
                } else {
                    account.troubled = true;
                }
                quiet
            } else if stream.ledger().ahead_of_disk() {
                drop(stream);
                turn.store_handled(&mut Locked::new(lock, &mut account), session, handled);
                false
            } else {
                true
            }
        })
    }
}

impl Turn<'_> {
    pub(crate) fn acked(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, h: u32) {
        let taken = session.stream().acked(h);
        match taken {
            Ok(entries) => self.core.took(at, session, &entries),
            Err(sent) => {
                // §4: the client has counted what was never sent.
                let error = StreamError::from(StreamCondition::UndefinedCondition)
                    .with_app(
                        vorpal_proto::error::AppCondition::new(ns::SM, "handled-count-too-high")
                            .attr("h", h.to_string())
                            .attr("send-count", (sent as u32).to_string()),
                    )
                    .with_text("you acknowledged more than was sent");
                self.end(at, session, Closing::Error(error));
            }
        }
    }

    /// XEP-0198 §4: says `<a/>` as soon as everything that was sent before the question is handled and stored.
    pub(crate) fn answer_ack(&mut self, at: &mut Locked<'_>, session: &Arc<Session>) {
        let unstored = session.stream().try_ack();
        if let Some(handled) = unstored {
            self.store_handled(at, session, handled);
        }
    }

    /// Writes the row that says so much is handled.
    fn store_handled(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, handled: u64) {
        let mut rows = Vec::with_capacity(1);
        {
            let mut stream = session.stream();
            stream.row_begun();
            stream.progress_rows(self.core.progress, session.id, handled, &mut rows);
        }
        let words = Words::of_says([Say::Stored { session: session.clone(), handled }]);
        self.finish_one(at, words, None, rows);
    }
}
