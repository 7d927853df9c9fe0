//! A message's way from one account to another: the stretch.
//!
//! Synchronous, under the locks of the one or two local owners: Gate and Clean on the sender's side, then on the
//! receiver's, the plan, then Record, Copy and Seal on both, and the batch. No await, no I/O, no third lock.

use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::core::turn::Turn;
use crate::module::Phase;
use crate::module::effects::Effects;
use crate::module::hook::Dir;
use crate::module::host::Modules;
use crate::owner::account::{Account, AccountRef, lock_pair};
use crate::owner::log::{LogMeta, copy_of};
use crate::owner::plan::{Plan, Targets};
use crate::owner::words::{Draft, Mode, OrElse, Part, Say, Words, Work};
use crate::route::decide::copies;
use crate::rules::promise::never_promised;
use crate::session::Session;
use crate::session::ledger::Pending;

/// A stanza that a session of ours has sent, before it is settled: by whom, and its number.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub lock: &'a AccountRef,
    pub session: &'a Arc<Session>,
    pub pending: Pending,
}

/// Who sends a message: a session of ours, or somebody whose stanza goes on by itself.
pub(crate) struct Sender<'a> {
    pub account: Option<&'a AccountRef>,
    pub origin: Option<(&'a Arc<Session>, Pending)>,
    pub hops: u8,
    /// it was planned for a session before, and that session is gone: no phase runs twice
    pub again: bool,
    /// when that session was given it
    pub since: Option<Timestamp>,
}

impl<'a> Sender<'a> {
    /// A session, of a stanza that it has just sent.
    pub fn session(lock: &'a AccountRef, session: &'a Arc<Session>, pending: Pending) -> Sender<'a> {
        Sender { account: Some(lock), origin: Some((session, pending)), hops: 0, again: false, since: None }
    }
}

/// One side of the stretch: whose account, and what its handlers asked for.
pub(crate) struct SideState<'a> {
    pub dir: Dir,
    pub account: &'a Account,
    /// what is set up on the account's host: the same to the end of the stretch
    pub registry: Modules,
    pub peer: &'a Jid,
    pub fx: Effects,
}

impl<'a> SideState<'a> {
    pub fn new(dir: Dir, account: &'a Account, peer: &'a Jid) -> SideState<'a> {
        SideState { dir, account, registry: account.host.registry(), peer, fx: Effects::default() }
    }
}

/// How a stretch ends.
#[expect(clippy::large_enum_variant, reason = "nearly every message goes: a box would be an allocation for each")]
pub(crate) enum End {
    /// nobody hears of it
    Silence,
    /// the sender gets an error
    Error(StanzaError),
    /// it is delivered or kept
    Goes(Goes),
}

pub(crate) struct Goes {
    pub to: Targets,
    pub received: Option<Stanza>,
    pub receiver_copies: Targets,
    pub sender_copies: Targets,
    pub(crate) draft: Option<Draft>,
    pub routes: Vec<Stanza>,
}

/// What a stretch comes to: what each side says after the commit, and the entry that is written.
struct Said {
    sender: Words,
    receiver: Words,
    draft: Option<Draft>,
}

impl Said {
    /// The message is delivered or kept. `own`: sender and receiver are one account, which says everything as the sender.
    fn goes(&mut self, mut goes: Goes, sender: &Sender<'_>, own: bool, to: &Jid, stanza: Stanza) {
        self.draft = goes.draft.take();
        let is_archived = |side| self.draft.as_ref().is_some_and(|draft| draft.is_archived(side));
        let (received_id, sent_id) = (is_archived(0), is_archived(1));
        if self.draft.is_some() {
            self.sender.or_else = OrElse::Bounce(Box::new(stanza.to(to.clone())));
        }
        // As the log has it: what is given live and what is read later must not differ.
        let mut sent = if goes.sender_copies.is_empty() { None } else { goes.received.clone() };
        if let Some(received) = goes.received {
            let words = if own { &mut self.sender } else { &mut self.receiver };
            words.archived = received_id;
            if !goes.receiver_copies.is_empty() {
                let stanza = received.clone();
                words.says.push(Say::Copies { stanza, name: "received", to: goes.receiver_copies });
            }
            if let Some(stanza) = sent.take_if(|_| own) {
                // Before the message: who has a copy is not given it as well.
                let to = std::mem::take(&mut goes.sender_copies);
                words.says.push(Say::Copies { stanza, name: "sent", to });
            }
            words.says.push(Say::Deliver { stanza: received, to: goes.to });
        }
        self.sender.archived |= sent_id;
        if let Some(stanza) = sent {
            self.sender.says.push(Say::Copies { stanza, name: "sent", to: goes.sender_copies });
        }
        let hops = sender.hops + 1;
        let onward = |stanza| Say::Route(Work { stanza, hops, mode: Mode::Onward });
        self.sender.says.extend(goes.routes.into_iter().map(onward));
    }
}

impl Turn<'_> {
    /// Runs the stretch of one message. `receiver` is the local account of `to`; without one the message goes nowhere
    /// that is known, and `refusal` says why.
    pub(crate) fn stretch(
        &mut self,
        sender: &Sender<'_>,
        receiver: Result<&AccountRef, StanzaError>,
        to: &Jid,
        stanza: Stanza,
    ) {
        let (mut receiver, mut refusal) = match receiver {
            Ok(account) => (Some(account), None),
            Err(error) => (None, Some(error)),
        };
        let (mut a, mut b) = lock_pair(sender.account, receiver);
        if a.as_ref().is_some_and(|account| account.leaving) {
            // Its sessions are over: this is no longer said by anybody.
            return;
        }
        let own = sender.account.zip(receiver).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        if receiver.is_some() && !own && b.is_none() {
            // It is being removed since it was looked up.
            (receiver, refusal) = (None, Some(StanzaError::service_unavailable()));
        }
        let end = {
            let sent = a.as_deref().filter(|_| sender.origin.is_some());
            let received = receiver.and_then(|_| b.as_deref().or(a.as_deref()));
            let mut end = self.decide(sender, sent, received, refusal, to, &stanza);
            self.core.keep_within_reserve(&mut end, sender, &stanza);
            self.core.keep_within_quota(&mut end, received, &stanza);
            self.core.count_end(&end, sender);
            if self.core.is_traced() {
                self.step_end(&end, sent, received, &stanza);
            }
            end
        };
        let words = sender.origin.map_or_else(Words::default, |(session, n)| Words::settling(session, n));
        let mut said = Said { sender: words, receiver: Words::default(), draft: None };
        match end {
            End::Goes(goes) => said.goes(goes, sender, own, to, stanza),
            End::Error(error) => self.goes_nowhere(&mut said, sender, a.as_deref(), Some(&error), to, &stanza),
            End::Silence => self.goes_nowhere(&mut said, sender, a.as_deref(), None, to, &stanza),
        }
        let Said { sender: sender_words, receiver: receiver_words, draft } = said;
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        if let (Some(lock), Some(account)) = (sender.account, a.as_deref_mut()) {
            parts.push(Part { lock, account, words: sender_words });
        }
        if let (Some(lock), Some(account)) = (receiver, b.as_deref_mut()) {
            parts.push(Part { lock, account, words: receiver_words });
        }
        self.finish(&mut parts, draft, Vec::new());
    }

    /// The message reaches nobody: with an error its sender is told so. Sessions of the sender that want copies get one of the message, and
    /// one of the error (XEP-0280 §6.1, §8).
    fn goes_nowhere(
        &mut self,
        said: &mut Said,
        sender: &Sender<'_>,
        account: Option<&Account>,
        error: Option<&StanzaError>,
        to: &Jid,
        stanza: &Stanza,
    ) {
        if !stanza.is_answerable() {
            return;
        }
        let Some(((session, _), account)) = sender.origin.zip(account) else {
            if let Some(error) = error {
                self.todo.route(stanza.clone().to(to.clone()).error(error), sender.hops + 1);
            }
            return;
        };
        let copies = self.failed_copies(account, session, to, stanza);
        if !copies.is_empty() {
            // Without the log: it has one entry for a stretch, and that is the error's.
            let copy = copy_of(stanza, "sent", &session.jid);
            let each = copies.iter().filter_map(|id| account.session(*id));
            let send = |to: &Arc<Session>| Say::Send { to: to.id, stanza: copy.clone().to(to.jid.clone()) };
            said.sender.says.extend(each.map(send));
        }
        let Some(error) = error else { return };
        let answer = stanza.clone().to(to.clone()).error(error).to(session.jid.clone());
        if !copies.is_empty() {
            let (stanza, to) = (answer.clone(), copies.clone());
            said.sender.says.push(Say::Copies { stanza, name: "received", to });
        }
        // An error that discharges a promise is a promise itself.
        if session.stream().is_managed() && never_promised(stanza).is_none() {
            let targets: Targets = [session.id].into_iter().collect();
            let meta = LogMeta { targets: targets.clone(), copies, ..LogMeta::default() };
            said.draft = Some(Draft::new(&answer, [Some(meta.received(account, to)), None]));
            said.sender.or_else = OrElse::Answer(Box::new(answer.clone()));
            said.sender.says.push(Say::Deliver { stanza: answer, to: targets });
        } else {
            said.sender.says.push(Say::Send { to: session.id, stanza: answer });
        }
    }

    /// XEP-0280 §6.1, §8: the sessions that get a copy of a message that goes nowhere, and of the error it comes to.
    fn failed_copies(&self, account: &Account, origin: &Session, to: &Jid, stanza: &Stanza) -> Targets {
        let mut side = SideState::new(Dir::Sent, account, to);
        let _ = self.phase(Phase::Copy, &mut side, Some(origin), &Plan::Ignore, &mut stanza.clone());
        copies(&side, |_| true, Some(origin))
    }
}
