//! Giving: a stanza gets into the queues of the sessions that are to have it.

use crate::core::turn::{Locked, Turn};
use crate::owner::log::copy_of;
use crate::owner::words::{Mode, Work};
use crate::rules::promise::never_promised;
use crate::session::{Out, Pushed, Role, Session, SessionId, Shared};
use crate::store::EntryId;
use crate::watch::counts::Count;
use crate::watch::trace::Step;
use std::sync::Arc;
use vorpal_proto::error::StanzaError;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

impl Turn<'_> {
    /// A copy to each of these sessions.
    pub(crate) fn give_copies(
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
    pub(crate) fn forward(&mut self, at: &mut Locked<'_>, to: SessionId, stanza: Stanza) {
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

    /// As [`Turn::give`](crate::core::turn::Turn::give), and counts a message.
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

/// Whether a message says something that is not merely passing by.
fn expects_answer(stanza: &Stanza) -> bool {
    matches!(stanza.type_(), Type::Chat | Type::Normal | Type::None) && stanza.has(ns::CLIENT, "body")
}
