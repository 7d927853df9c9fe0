//! Where a stanza goes: by its `to`, before anything else (RFC 6120 §10, RFC 6121 §8).

pub mod cold;
pub(crate) mod company;
pub(crate) mod iq;
pub(crate) mod message;
pub mod plan;
pub mod presence;
pub(crate) mod probe;
pub mod quota;
pub mod reading;
pub mod roster;
pub(crate) mod subscribe;
pub(crate) mod untold;
pub(crate) mod withhold;

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StanzaError, StreamCondition};
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::accounts::Lookup;
use crate::core::turn::{Locked, Turn};
use crate::core::{Core, MAX_GATHERED, MAX_HOPS};
use crate::module::host::Serves;
use crate::owner::account::AccountRef;
use crate::owner::words::{Done, Mode, Say, Words, Work};
use crate::route::message::{Origin, Sender};
use crate::route::plan::{plan_presence, subscription_kind};
use crate::route::subscribe::takes_back;
use crate::rules::delay::delayed;
use crate::rules::delivery::{Decision, Handler};
use crate::session::Session;
use crate::session::ledger::Pending;
use crate::watch::counts::Count;
use crate::watch::trace::Step;

/// What an address stands for. What is not built yet answers the error of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// one of our hosts
    Host,
    /// an account of one of our hosts
    Account,
    /// a room of one of our hosts, or somebody in it
    Room,
    /// anything in a domain that another program serves
    Component,
    /// anything in a domain of somebody else
    Remote,
}

impl Destination {
    /// By the domain first: `served` is what it is for if it is ours (RFC 6120 §10.4, §10.5). Decided here and nowhere else.
    fn of(served: Option<Serves>, to: &Jid) -> Destination {
        match (served, to.local()) {
            (None, _) => Destination::Remote,
            // XEP-0114 §1: the component answers for its domain, and for all that is in it.
            (Some(Serves::Component), _) => Destination::Component,
            (Some(_), None) => Destination::Host,
            (Some(Serves::Accounts), Some(_)) => Destination::Account,
            (Some(Serves::Rooms), Some(_)) => Destination::Room,
        }
    }

    /// What is answered where nobody is there to take a stanza; nothing for what is looked for in other ways.
    fn refusal(self) -> Option<StanzaError> {
        match self {
            Destination::Host | Destination::Account => None,
            // XEP-0045 §17.2: a room that does not exist, as no room does.
            Destination::Room => Some(StanzaError::not_found()),
            // RFC 6120 §8.3.3.19; XEP-0114 has no word on a component that is not connected, as none is.
            Destination::Component => Some(StanzaError::service_unavailable()),
            // RFC 6120 §10.4.3, as no server is reached.
            Destination::Remote => Some(StanzaError::remote_server_not_found()),
        }
    }
}

/// A stanza of a session that waits for an account: load it, then give it to [`Core::go_on`].
#[derive(Debug)]
pub struct Later {
    /// whom to load
    pub account: vorpal_proto::jid::BareJid,
    pending: Pending,
    stanza: Stanza,
}

impl Core {
    pub(crate) fn destination(&self, to: &Jid) -> Destination {
        Destination::of(self.serves(to.domain()), to)
    }

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
        let mut stream = session.stream();
        let n = later.pending.0;
        stream.ledger.take_back(later.pending);
        stream.dealt_with(n);
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

    /// What was left to do when no lock is held any more.
    pub(crate) fn run_todo(&mut self) {
        loop {
            for arrival in std::mem::take(&mut self.todo.arrivals) {
                self.arrives(&arrival);
            }
            for (lock, session) in std::mem::take(&mut self.todo.lagging) {
                self.lagging(&lock, session);
            }
            match self.todo.work.pop_front() {
                Some(Work { stanza, mode: Mode::Fan(fan), .. }) => self.fan(&fan, &stanza),
                Some(work) => self.onward(work),
                None if self.todo.arrivals.is_empty() && self.todo.lagging.is_empty() => break,
                None => {}
            }
        }
        for (session, n) in std::mem::take(&mut self.todo.said) {
            session.stream().dealt_with(n);
        }
        self.todo.fans = false;
    }

    /// As [`Core::run_todo`], if much is left to do: so that it does not grow with what else is looked at.
    pub(crate) fn run_if_full(&mut self) {
        if self.todo.fans || self.todo.work.len() >= MAX_GATHERED {
            self.run_todo();
        }
    }

    pub(crate) fn onward(&mut self, work: Work) {
        // What waits for its account to be read goes first.
        let waits = |to: &&Jid| waits_for_reading(&work.stanza) && self.core.spilled.waits_for(to);
        if let Some(account) = work.stanza.head.to.as_ref().filter(waits).map(Jid::bare) {
            self.spill(&account, work);
            return;
        }
        self.onward_in_turn(work);
    }

    /// As [`Core::onward`], whatever else waits for the account.
    pub(crate) fn onward_in_turn(&mut self, work: Work) {
        let Some(to) = work.stanza.head.to.clone() else { return };
        if work.hops > MAX_HOPS {
            if let Some(stanzas) = self.core.conditions.circles.met(self.now, 1) {
                tracing::warn!(stanzas, %to, "routing loop: stanzas dropped");
            }
            return;
        }
        if self.core.destination(&to) != Destination::Account {
            return;
        }
        let peer = match self.core.lookup(&to) {
            Lookup::Here(peer) => peer,
            Lookup::Absent => {
                // It was on its way to an account that is no more: its sender had been told that it is safe.
                if work.stanza.kind() == Kind::Message && work.stanza.is_answerable() {
                    self.todo.route(work.stanza.error(&StanzaError::service_unavailable()), work.hops + 1);
                }
                if work.stanza.kind() == Kind::Presence
                    && plan_presence(&work.stanza, &to, None) == Decision::Handle(Handler::RefuseProbe)
                {
                    self.probed_nobody(&work.stanza);
                }
                return;
            }
            Lookup::Cold if !waits_for_reading(&work.stanza) || matches!(work.mode, Mode::ProbeRefused) => return,
            Lookup::Cold => {
                self.spill(&to.bare(), work);
                return;
            }
        };
        match work.stanza.kind() {
            Kind::Message => {
                let (again, since) = match work.mode {
                    Mode::Again(since) => (true, since),
                    _ => (false, None),
                };
                let stanza = match since {
                    Some(since) => delayed(work.stanza, &peer.jid, since.as_millis()),
                    None => work.stanza,
                };
                let sender = Sender { account: None, origin: None, hops: work.hops, again, since };
                self.stretch(&sender, Ok(&peer), &to, stanza);
            }
            Kind::Presence if matches!(work.mode, Mode::ProbeRefused) => self.probe_refused(&peer, work.stanza),
            Kind::Presence => {
                let decision = {
                    let account = peer.lock();
                    plan_presence(&work.stanza, &to, Some(&account))
                };
                match decision {
                    Decision::Handle(Handler::Probe) => self.probed(&peer, work.stanza),
                    Decision::Handle(Handler::Subscription(_)) => {
                        let silent = matches!(work.mode, Mode::Silent);
                        self.subscription_received(&peer, &work.stanza, silent);
                    }
                    Decision::Deliver(_) => self.presence_received(&peer, work.stanza, &work.mode),
                    Decision::Handle(_) | Decision::Ignore(_) | Decision::Bounce(_) | Decision::Store => {}
                }
            }
            Kind::Iq => {
                let mut account = peer.lock();
                let session = to.resource().and_then(|resource| account.by_resource(resource));
                let Some(to) = session.map(|session| session.id) else { return };
                let words = Words::of_says([Say::Forward { to, stanza: work.stanza }]);
                self.say_alone(&mut Locked::new(&peer, &mut account), words);
            }
        }
    }
}

/// Whether an account is read for a stanza that goes on by itself. Presence and IQs find nobody in an account that is not
/// loaded: it has no session.
fn waits_for_reading(stanza: &Stanza) -> bool {
    match stanza.kind() {
        Kind::Message => true,
        Kind::Presence => subscription_kind(stanza.type_()).is_some(),
        Kind::Iq => false,
    }
}

/// The number of a stanza that a connection has read. None if another connection has the session by now: that one has
/// maybe said `h` already, and its client sends the stanza again. Nor if the session is over: contacts saw it go.
fn enter(session: &Session, epoch: u32, bytes: usize) -> Option<Pending> {
    let mut stream = session.stream();
    (stream.epoch == epoch && stream.closing.is_none()).then(|| stream.enter(bytes))
}

#[cfg(test)]
mod tests {
    use vorpal_proto::error::Condition;

    use super::*;

    #[test]
    fn an_address_is_judged_by_its_domain_then_by_its_localpart() {
        use Destination::*;
        let (bare, full, domain) = ("a@x", "a@x/b", ["x", "x/b"]);
        let served = [
            (Some(Serves::Accounts), Host, Account),
            (Some(Serves::Rooms), Host, Room),
            (Some(Serves::Component), Component, Component),
            (None, Remote, Remote),
        ];
        for (served, of_domain, of_local) in served {
            let of = |to: &str| Destination::of(served, &Jid::parse(to).expect("an address"));
            assert_eq!(domain.map(of), [of_domain; 2], "{served:?}");
            assert_eq!([bare, full].map(of), [of_local; 2], "{served:?}");
        }
    }

    #[test]
    fn what_is_not_built_answers_the_error_of_its_kind() {
        use Destination::*;
        let condition = |destination: Destination| destination.refusal().map(|error| error.condition);
        assert_eq!([Host, Account].map(condition), [None, None]);
        assert_eq!(condition(Room), Some(Condition::ItemNotFound));
        assert_eq!(condition(Component), Some(Condition::ServiceUnavailable));
        assert_eq!(condition(Remote), Some(Condition::RemoteServerNotFound));
    }
}
