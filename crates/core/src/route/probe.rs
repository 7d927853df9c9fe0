//! Presence probes (RFC 6121 §4.3, §4.6.6): a client asks whether somebody is there.
//!
//! A server asks at each login by itself (`untold.rs`); this answers what a client sends. The probe is judged by the block
//! lists of both sides, as any presence, and so is each answer. The answer goes to the session that asked.
//!
//! An account that does not exist and one that has nothing to do with the prober answer alike: `unsubscribed`. One that
//! blocks the prober does not answer (XEP-0191 §3.3 allows nothing else).

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::stanza::{Stanza, Type};

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::module::hook::Dir;
use crate::owner::account::{Account, AccountRef};
use crate::owner::contacts;
use crate::owner::words::{Mode, Say, Words, Work};
use crate::rules::delay::delay;
use crate::rules::subscription::{Kind, ToHalf};
use crate::session::{Session, UNCHARGED};

impl Core {
    /// One probe may ask for the presence of 50 sessions, each of 16 KiB: the rest counts for the traffic of who asked.
    fn charge(&self, asker: &Jid, size: usize) {
        if size <= UNCHARGED {
            return;
        }
        let Some(lock) = self.loaded(asker.bare_str()) else { return };
        let account = lock.lock();
        if let Some(session) = asker.resource().and_then(|resource| account.by_resource(resource)) {
            session.stream().charge_answer(size);
        }
    }
}

impl Turn<'_> {
    /// A probe arrives at an account of ours (§4.3.2). Each answer waits behind what the account has to say already.
    pub(crate) fn probed(&mut self, lock: &AccountRef, mut probe: Stanza) {
        let (Some(asker), Some(to)) = (probe.head.from.clone(), probe.head.to.clone()) else { return };
        let mut account = lock.lock();
        if account.leaving {
            drop(account);
            self.todo.work.push_back(refusal(&probe, &to.bare(), &asker));
            return;
        }
        if self.gate(Dir::Received, &account, &asker, None, &mut probe).is_err() {
            return;
        }
        let answers = self.answers(&account, &asker, &to, &probe);
        let size: usize = answers.iter().map(|work| work.stanza.weight()).sum();
        self.say_alone(&mut Locked::new(lock, &mut account), Words::of_says(answers.into_iter().map(Say::Route)));
        drop(account);
        self.core.charge(&asker, size);
    }

    /// A probe of an account that does not exist.
    pub(crate) fn probed_nobody(&mut self, probe: &Stanza) {
        if let (Some(asker), Some(to)) = (&probe.head.from, &probe.head.to) {
            self.todo.work.push_back(refusal(probe, &to.bare(), asker));
        }
    }

    fn answers(&self, account: &Account, asker: &Jid, to: &Jid, probe: &Stanza) -> Vec<Work> {
        let own = account.jid.as_str() == asker.bare_str();
        let subscribed = own || contacts::shows_presence(&self.core.tables, account, asker.bare_str());
        let pass = |session: &Arc<Session>, mut stanza: Stanza| {
            self.gate(Dir::Sent, account, asker, Some(session), &mut stanza).ok()?;
            Some(Work { stanza, hops: 1, mode: Mode::Onward })
        };
        // §4.6.6: of a session that has shown itself to the prober alone, and only that it is there.
        let shown = |session: &Arc<Session>| session.has_shown_itself_to(asker);
        let there = |session: &Arc<Session>| Stanza::presence(Type::None).from(session.jid.clone()).to(asker.clone());
        let gone = |from: &Jid| {
            let stanza = Stanza::presence(Type::Unavailable).from(from.clone()).to(asker.clone());
            mirrored(stanza, probe)
        };
        let answers: Vec<Work> = match to.resource() {
            Some(resource) => {
                let session = account.by_resource(resource);
                match session.filter(|session| subscribed && session.is_available() || shown(session)) {
                    // §4.3.2: not what it says of itself.
                    Some(session) => pass(session, there(session)).into_iter().collect(),
                    None if subscribed => return vec![onward(gone(to))],
                    None => return vec![refusal(probe, &account.jid, asker)],
                }
            }
            None if subscribed && account.available().next().is_none() => {
                let gone = gone(account.jid.as_jid());
                let last = account.states.get(self.core.tables.last_activity).map(|last| last.time);
                let since = last.map(|time| delay(account.jid.as_str(), Timestamp::from_millis(time)));
                return vec![onward(gone.with_children(since))];
            }
            None if subscribed => {
                // What it said last, and its id with it (§4.3.2.1).
                let last = |session: &Arc<Session>| Some(session.stream().presence().cloned()?.to(asker.clone()));
                account.available().filter_map(|session| pass(session, last(session)?)).collect()
            }
            None if account.sessions.iter().any(shown) => {
                account.sessions.iter().filter(|s| shown(s)).filter_map(|s| pass(s, there(s))).collect()
            }
            None => return vec![refusal(probe, &account.jid, asker)],
        };
        answers
    }

    /// The prober has no subscription. Its own server is to end what it believes it has (§4.3.2 rule 1, §3.2.3); a request
    /// that nobody has answered yet is no subscription, and stays.
    pub(crate) fn probe_refused(&mut self, lock: &AccountRef, refusal: Stanza) {
        let (Some(from), Some(to)) = (refusal.head.from.clone(), refusal.head.to.clone()) else { return };
        let believes = {
            let account = lock.lock();
            contacts::newest(&self.core.tables, &account, &from.bare()).state().to == ToHalf::Yes
        };
        if believes {
            debug_assert_eq!(crate::route::plan::subscription_kind(refusal.type_()), Some(Kind::Unsubscribed));
            self.subscription_received(lock, &refusal.to(to.bare().into_jid()), false);
        } else {
            self.presence_received(lock, refusal, &Mode::Onward);
        }
    }
}

fn onward(stanza: Stanza) -> Work {
    Work { stanza, hops: 1, mode: Mode::Onward }
}

/// §4.3.2 rule 1: from the bare address, whatever was probed.
fn refusal(probe: &Stanza, account: &BareJid, asker: &Jid) -> Work {
    let stanza = Stanza::presence(Type::Unsubscribed).from(account.as_jid().clone()).to(asker.clone());
    Work { stanza: mirrored(stanza, probe), hops: 1, mode: Mode::ProbeRefused }
}

/// §4.3.2.1: the id of the probe, where the answer has none of its own.
fn mirrored(mut answer: Stanza, probe: &Stanza) -> Stanza {
    answer.head.id.clone_from(&probe.head.id);
    answer
}
