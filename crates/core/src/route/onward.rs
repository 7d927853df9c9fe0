//! What goes on when no lock is held any more: stanzas that others have caused, one after the other.

use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::{Kind, Stanza};

use crate::core::accounts::Lookup;
use crate::core::turn::{Locked, Turn};
use crate::core::{MAX_GATHERED, MAX_HOPS};
use crate::owner::words::{Mode, Say, Words, Work};
use crate::route::destination::Destination;
use crate::route::plan::{plan_presence, subscription_kind};
use crate::route::stretch::Sender;
use crate::rules::delay::delayed;
use crate::rules::delivery::{Decision, Handler};

impl Turn<'_> {
    /// What was left to do when no lock is held any more.
    pub(crate) fn run_todo(&mut self) {
        if self.todo.is_empty() {
            return;
        }
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

    /// As [`Turn::run_todo`](crate::core::turn::Turn::run_todo), if much is left to do: so that it does not grow with what else is looked at.
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

    /// As [`Turn::onward`](crate::core::turn::Turn::onward), whatever else waits for the account.
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
