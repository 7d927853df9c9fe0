//! Saying: what an owner says when nothing before it in its queue waits any more.

use crate::core::turn::{Locked, Turn};
use crate::owner::plan::Targets;
use crate::owner::words::{Arrival, Done, Fan, PASSWORD_CHANGED, Say, Words};
use crate::session::ledger::Pending;
use crate::session::{Out, Role};
use crate::store::{BatchId, EntryId};
use crate::watch::trace::Step;

impl Turn<'_> {
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
        words.decided();
        let Some(session) = &words.of else { return };
        if !words.debts.is_empty() {
            at.account.debts_paid(session, std::mem::take(&mut words.debts));
            self.answer_ack(at, session);
        }
        if let Some(Pending(n)) = words.settles {
            self.settle(at, session, n, batch.is_some());
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
                session.stream().push_inquiry(*asked);
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
                stream.row_stored(handled);
                if stream.owes_ack() {
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
            Say::Noted { session, handled } => session.stream().row_noted(handled),
            Say::Forgotten { .. } | Say::Trimmed { .. } => {}
            Say::Enabled { session, bytes, management } => session.stream().push_enabled(bytes, *management),
        }
    }
}
