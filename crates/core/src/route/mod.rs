//! Where a stanza goes: by its `to`, before anything else (RFC 6120 §10, RFC 6121 §8).

pub mod cold;
pub(crate) mod company;
pub(crate) mod decide;
pub(crate) mod destination;
pub(crate) mod home;
pub(crate) mod iq;
pub(crate) mod onward;
pub mod plan;
pub mod presence;
pub(crate) mod probe;
pub mod quota;
pub mod reading;
pub mod roster;
pub(crate) mod stretch;
pub(crate) mod subscribe;
mod told;
pub(crate) mod untold;
pub(crate) mod withhold;

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StanzaError, StreamCondition};
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::core::accounts::Lookup;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::words::{Done, Words};
use crate::route::destination::Destination;
use crate::route::plan::subscription_kind;
use crate::route::stretch::{Origin, Sender};
use crate::route::subscribe::takes_back;
use crate::session::Session;
use crate::session::ledger::Pending;
use crate::watch::counts::Count;
use crate::watch::trace::Step;

/// A stanza of a session that waits for an account: load it, then give it to [`Core::go_on`].
#[derive(Debug)]
pub struct Later {
    /// whom to load
    pub account: vorpal_proto::jid::BareJid,
    pending: Pending,
    stanza: Stanza,
}

impl Core {
    /// A stanza that was read from a session's connection. The next one may be given when this returns; an account that
    /// has to be loaded first is handed back.
    ///
    /// # Errors
    /// The stream ends where the sender claims to be somebody else (RFC 6120 §8.1.2.1).
    pub fn receive(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        session: &Arc<Session>,
        epoch: u32,
        mut stanza: Stanza,
    ) -> Result<Option<Later>, StreamCondition> {
        if let Some(from) = &stanza.head.from
            && *from != session.jid
            && from.as_str() != session.jid.bare_str()
        {
            return Err(StreamCondition::InvalidFrom);
        }
        stanza.head.from = Some(session.jid.clone());
        let Some(pending) = enter(session, epoch, stanza.weight()) else { return Ok(None) };
        self.counts.one(Count::of_kind(stanza.kind()));
        let told = || Step { n: Some(pending.0), ..Step::of("received", &stanza).in_session(session) };
        self.step(now, &lock.jid, told);
        Ok(self.go_on(now, lock, session, Later { account: lock.jid.clone(), pending, stanza }))
    }

    /// Goes on with a stanza after its account was looked for.
    pub fn go_on(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, later: Later) -> Option<Later> {
        let Later { pending, stanza, .. } = later;
        let _span = tracing::debug_span!(
            "stanza",
            session = %session.jid,
            n = pending.0,
            kind = stanza.kind().name(),
            id = stanza.head.id.as_deref()
        )
        .entered();
        self.turn(now, |turn| turn.dispatch(Origin { lock, session, pending }, stanza))
    }

    /// The account that a stanza waits for cannot be read: its sender is told.
    pub fn give_up(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, later: Later) {
        let Later { pending, stanza, .. } = later;
        let error = StanzaError::internal_server_error();
        self.turn(now, |turn| {
            match (stanza.kind(), stanza.head.to.clone()) {
                // Its error is promised as it was.
                (Kind::Message, Some(to)) => {
                    let sender = Sender::session(lock, session, pending);
                    turn.stretch(&sender, Err(error), &to, stanza);
                }
                _ => {
                    let answer = stanza.is_answerable().then(|| stanza.error(&error));
                    turn.answer(Origin { lock, session, pending }, answer);
                }
            }
        })
    }

    /// The connection is gone while a stanza waits for an account: it was never read, and its client sends it again.
    pub fn take_back(&self, session: &Session, later: Later) {
        session.stream().take_back(later.pending);
    }

    /// Answers a stanza whose header is at fault: it has a number, like any other (XEP-0198 §4), and like any other none
    /// if another connection has the session by now.
    pub fn refuse(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        session: &Arc<Session>,
        epoch: u32,
        answer: Option<Stanza>,
    ) {
        let weight = answer.as_ref().map_or(0, Stanza::weight);
        let Some(pending) = enter(session, epoch, weight) else { return };
        self.turn(now, |turn| {
            let answer = answer.map(|answer| answer.to(session.jid.clone()));
            turn.answer(Origin { lock, session, pending }, answer);
        })
    }
}

impl Turn<'_> {
    fn dispatch(&mut self, origin: Origin<'_>, stanza: Stanza) -> Option<Later> {
        let Origin { lock, session, pending } = origin;
        let own = lock.jid.as_jid();
        let to = match (&stanza.head.to, stanza.kind()) {
            (Some(to), _) => to.clone(),
            (None, Kind::Presence) => {
                self.broadcast(origin, stanza);
                return None;
            }
            // RFC 6120 §10.3.1, §10.3.3: without `to` it is for one's own account.
            (None, _) => own.clone(),
        };
        let destination = self.core.destination(&to);
        let subscribes = stanza.kind() == Kind::Presence && subscription_kind(stanza.type_()).is_some();
        if stanza.kind() == Kind::Presence && !subscribes {
            // Only the roster says what a probe is answered.
            let probes = stanza.type_() == Type::Probe && destination == Destination::Account;
            if probes && matches!(self.core.lookup(&to), Lookup::Cold) {
                return Some(Later { account: to.bare(), pending, stanza });
            }
            self.directed(origin, to, destination.refusal(), stanza);
            return None;
        }
        let (peer, refusal) = match destination {
            Destination::Account if to.bare_str() == own.as_str() => (Some(lock.clone()), None),
            Destination::Account => match self.core.lookup(&to) {
                Lookup::Here(peer) => (Some(peer), None),
                Lookup::Cold => return Some(Later { account: to.bare(), pending, stanza }),
                Lookup::Absent => (None, None),
            },
            _ => (None, destination.refusal()),
        };
        let at_host = destination == Destination::Host;
        match stanza.kind() {
            Kind::Message => {
                let sender = Sender::session(lock, session, pending);
                let receiver = peer.as_ref().ok_or_else(|| refusal.unwrap_or_else(StanzaError::service_unavailable));
                self.stretch(&sender, receiver, &to, stanza);
            }
            Kind::Presence if at_host => self.answer(origin, None),
            Kind::Presence => {
                // An account that is being removed may stay after all, and holds nothing then that its contact took back.
                let takes_back = refusal.is_none() && takes_back(stanza.type_());
                let peer = peer.or_else(|| takes_back.then(|| self.core.in_memory(&to.bare())).flatten());
                let stanza = stanza.to(to);
                self.subscription_sent(origin, peer.as_ref(), refusal, stanza);
            }
            Kind::Iq => {
                let contact = crate::owner::roster::removed(&stanza).filter(|_| to.bare_str() == own.as_str());
                let contact = contact.filter(|contact| self.core.destination(contact.as_jid()) == Destination::Account);
                let party = match contact.map(|contact| (self.core.lookup(contact.as_jid()), contact)) {
                    Some((Lookup::Cold, account)) => return Some(Later { account, pending, stanza }),
                    Some((Lookup::Here(party), _)) => Some(party),
                    Some((Lookup::Absent, account)) => self.core.in_memory(&account),
                    None => None,
                };
                let to_iq = crate::route::iq::Addressed { to, peer, refusal, at_host, party };
                self.iq_sent(origin, to_iq, stanza);
            }
        }
        None
    }

    /// Settles a stanza of a session with an answer, or none.
    pub(crate) fn answer(&mut self, origin: Origin<'_>, answer: Option<Stanza>) {
        let Origin { lock, session, pending } = origin;
        let mut words = Words::settling(session, pending);
        words.says.extend(answer.map(|stanza| session.answer(pending, stanza, None)));
        self.say_alone(&mut Locked::new(lock, &mut lock.lock()), words);
    }

    /// Ends a stretch of one account that writes nothing but what is staged.
    pub(crate) fn say_alone(&mut self, at: &mut Locked<'_>, mut words: Words) {
        if at.account.states.is_staged() || !words.debts.is_empty() || !at.account.waiting.is_empty() {
            self.finish_one(at, words, None, Vec::new());
            return;
        }
        // Nothing is to be written, and nothing waits before it.
        self.say(at, (None, None), &mut words, Done::Committed);
    }
}

/// The number of a stanza that a connection has read. None if another connection has the session by now: that one has
/// maybe said `h` already, and its client sends the stanza again. Nor if the session is over: contacts saw it go.
fn enter(session: &Session, epoch: u32, bytes: usize) -> Option<Pending> {
    let mut stream = session.stream();
    (stream.epoch() == epoch && !stream.is_over()).then(|| stream.enter(bytes))
}
