//! A message's way from one account to another: the stretch.
//!
//! Synchronous, under the locks of the one or two local owners: Gate and Clean on the sender's side, then on the
//! receiver's, the plan, then Record, Copy and Seal on both, and the batch. No await, no I/O, no third lock.

use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::core::turn::Turn;
use crate::module::Phase;
use crate::module::effects::Effects;
use crate::module::hook::{Dir, Flow, MessageCx};
use crate::module::host::Modules;
use crate::owner::account::{Account, AccountRef, lock_pair};
use crate::owner::log::{LogMeta, copy_of};
use crate::owner::plan::{Plan, Targets};
use crate::owner::words::{Draft, Mode, OrElse, Part, Say, Words, Work};
use crate::route::plan;
use crate::rules::delay::strip_delay;
use crate::rules::promise::never_promised;
use crate::session::Session;
use crate::session::guard::OpenSession;
use crate::session::ledger::Pending;
use crate::watch::counts::Count;
use crate::watch::reserve::no_room;
use crate::watch::trace::{Step, names};

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
struct SideState<'a> {
    dir: Dir,
    account: &'a Account,
    /// what is set up on the account's host: the same to the end of the stretch
    registry: Modules,
    peer: &'a Jid,
    fx: Effects,
}

impl<'a> SideState<'a> {
    fn new(dir: Dir, account: &'a Account, peer: &'a Jid) -> SideState<'a> {
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
    to: Targets,
    received: Option<Stanza>,
    receiver_copies: Targets,
    sender_copies: Targets,
    pub(crate) draft: Option<Draft>,
    routes: Vec<Stanza>,
}

impl Core {
    /// What the log gets: a promised message has its home there (see `ledger.rs` for what is never promised).
    fn draft(
        &self,
        sender: &Sender<'_>,
        out: Option<&SideState<'_>>,
        inn: Option<&SideState<'_>>,
        plan: &Plan,
        to: &Jid,
        goes: &Goes,
    ) -> Option<Draft> {
        let stanza = goes.received.as_ref()?;
        let inn = inn?;
        let archived = inn.fx.archive || out.is_some_and(|side| side.fx.archive);
        let managed = sender.origin.is_some_and(|(session, _)| session.stream().managed);
        let kept = matches!(plan, Plan::Keep);
        // A session without a connection, or one that reads the log, is given nothing that is not there.
        let absent = |side: &SideState<'_>, ids: &[crate::session::SessionId]| {
            ids.iter().any(|id| side.account.session(*id).is_some_and(|s| !s.stream().is_live()))
        };
        let away = absent(inn, &goes.to)
            || absent(inn, &goes.receiver_copies)
            || out.is_some_and(|out| absent(out, &goes.sender_copies));
        if !(archived || managed || kept || away || sender.again) {
            return None;
        }
        if let (Some(reason), false) = (never_promised(stanza), archived) {
            tracing::trace!(reason, "carries no promise");
            return None;
        }
        let origin = sender.origin.map(|(session, _)| session.id);
        let both = out.is_some_and(|out| std::ptr::eq(out.account, inn.account));
        let mut received =
            LogMeta { targets: goes.to.clone(), copies: goes.receiver_copies.clone(), ..LogMeta::default() };
        received.since = sender.since;
        if both {
            received.origin = origin;
            received.sent_copies = goes.sender_copies.clone();
            return Some(Draft::new(stanza, [Some(received.both(inn.account, to, inn.fx.archive)), None]));
        }
        let peer = stanza.head.from.clone().unwrap_or_else(|| to.clone());
        let mut side = received.received(inn.account, &peer);
        if inn.fx.archive {
            side.flags |= crate::store::flags::ARCHIVED;
        }
        let sent = out.filter(|out| out.fx.archive || !goes.sender_copies.is_empty()).map(|out| {
            let meta = LogMeta { origin, sent_copies: goes.sender_copies.clone(), ..LogMeta::default() };
            meta.sent(out.account, to, out.fx.archive)
        });
        Some(Draft::new(stanza, [Some(side), sent]))
    }

    /// A new promise that would need room is refused where there is too little. What was promised before goes on, and so
    /// does what cannot be answered: nobody would learn of it.
    fn keep_within_reserve(&self, end: &mut End, sender: &Sender<'_>, stanza: &Stanza) {
        let promises = matches!(end, End::Goes(goes) if goes.draft.is_some());
        if promises && !sender.again && stanza.is_answerable() && self.refuses_more() {
            *end = End::Error(no_room());
        }
    }

    fn count_end(&self, end: &End, sender: &Sender<'_>) {
        match end {
            End::Goes(goes) if goes.draft.is_some() => self.counts.one(Count::Entries),
            End::Goes(_) => {}
            _ if sender.origin.is_none() => {}
            End::Error(error) => self.counts.one(Count::of_bounce(&error.condition)),
            End::Silence => self.counts.one(Count::Dropped),
        }
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
        let mut sender_words = sender.origin.map_or_else(Words::default, |(session, n)| Words::settling(session, n));
        let mut receiver_words = Words::default();
        let mut draft = None;
        let failed = match (&end, sender.origin, a.as_deref()) {
            (End::Silence | End::Error(_), Some((session, _)), Some(account)) if stanza.is_answerable() => {
                self.failed_copies(account, session, to, &stanza)
            }
            _ => Targets::new(),
        };
        if let (false, Some((session, _)), Some(account)) = (failed.is_empty(), sender.origin, a.as_deref()) {
            // Without the log: it has one entry for a stretch, and that is the error's.
            let copy = copy_of(&stanza, "sent", &session.jid);
            let each = failed.iter().filter_map(|id| account.session(*id));
            let send = |to: &Arc<Session>| Say::Send { to: to.id, stanza: copy.clone().to(to.jid.clone()) };
            sender_words.says.extend(each.map(send));
        }
        match end {
            End::Silence => {}
            End::Error(error) if stanza.is_answerable() => {
                let answer = stanza.clone().to(to.clone()).error(&error);
                match sender.origin {
                    Some((session, _)) => {
                        let answer = answer.to(session.jid.clone());
                        if !failed.is_empty() {
                            let (stanza, to) = (answer.clone(), failed.clone());
                            sender_words.says.push(Say::Copies { stanza, name: "received", to });
                        }
                        // An error that discharges a promise is a promise itself.
                        if session.stream().managed && never_promised(&stanza).is_none() {
                            let targets = [session.id].into_iter().collect();
                            let meta = LogMeta { targets, copies: failed, ..LogMeta::default() };
                            let account = sender.account.zip(a.as_deref()).map(|(_, account)| account);
                            draft =
                                account.map(|account| Draft::new(&answer, [Some(meta.received(account, to)), None]));
                            sender_words.or_else = OrElse::Answer(Box::new(answer.clone()));
                            let to = [session.id].into_iter().collect();
                            sender_words.says.push(Say::Deliver { stanza: answer, to });
                        } else {
                            sender_words.says.push(Say::Send { to: session.id, stanza: answer });
                        }
                    }
                    None => self.todo.route(answer, sender.hops + 1),
                }
            }
            End::Error(_) => {}
            End::Goes(mut goes) => {
                draft = goes.draft.take();
                if draft.is_some() {
                    sender_words.or_else = OrElse::Bounce(Box::new(stanza.to(to.clone())));
                }
                // As the log has it: what is given live and what is read later must not differ.
                let mut sent = if goes.sender_copies.is_empty() { None } else { goes.received.clone() };
                let words = if own { &mut sender_words } else { &mut receiver_words };
                if let Some(received) = goes.received {
                    words.archived = draft.as_ref().is_some_and(|draft| draft.is_archived(0));
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
                sender_words.archived |= draft.as_ref().is_some_and(|draft| draft.is_archived(1));
                if let Some(stanza) = sent {
                    sender_words.says.push(Say::Copies { stanza, name: "sent", to: goes.sender_copies });
                }
                let hops = sender.hops + 1;
                let onward = |stanza| Say::Route(Work { stanza, hops, mode: Mode::Onward });
                sender_words.says.extend(goes.routes.into_iter().map(onward));
            }
        }
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        if let (Some(lock), Some(account)) = (sender.account, a.as_deref_mut()) {
            parts.push(Part { lock, account, words: sender_words });
        }
        if let (Some(lock), Some(account)) = (receiver, b.as_deref_mut()) {
            parts.push(Part { lock, account, words: receiver_words });
        }
        self.finish(&mut parts, draft, Vec::new());
    }

    /// XEP-0280 §6.1, §8: the sessions that get a copy of a message that goes nowhere, and of the error it comes to.
    fn failed_copies(&self, account: &Account, origin: &Session, to: &Jid, stanza: &Stanza) -> Targets {
        let mut side = SideState::new(Dir::Sent, account, to);
        let _ = self.phase(Phase::Copy, &mut side, Some(origin), &Plan::Ignore, &mut stanza.clone());
        copies(&side, |_| true, Some(origin))
    }

    fn decide(
        &self,
        sender: &Sender<'_>,
        sent: Option<&Account>,
        received: Option<&Account>,
        refusal: Option<StanzaError>,
        to: &Jid,
        original: &Stanza,
    ) -> End {
        let mut stanza = original.clone();
        let from = original.head.from.as_ref().unwrap_or(to);
        let mut out = sent.map(|account| SideState::new(Dir::Sent, account, to));
        let mut inn = received.map(|account| SideState::new(Dir::Received, account, from));
        let origin = sender.origin.map(|(session, _)| &**session);
        let mut plan = Plan::Open;
        for side in [&mut out, &mut inn].into_iter().flatten().filter(|_| !sender.again) {
            for phase in [Phase::Gate, Phase::Clean] {
                if let Some(end) = self.phase(phase, side, origin, &plan, &mut stanza) {
                    return end;
                }
            }
            strip_forged(&mut stanza, side.dir, side.account, side.peer);
        }
        plan = match (refusal, &inn) {
            (Some(error), _) => Plan::Bounce(error),
            (None, Some(side)) => plan::plan(&stanza, to, Some(side.account), &side.fx.excluded),
            (None, None) => Plan::Ignore,
        };
        for side in [&mut out, &mut inn].into_iter().flatten() {
            let end = self.phase(Phase::Record, side, origin, &plan, &mut stanza);
            if side.fx.look_after {
                self.core.look_after(side.account.jid.clone());
            }
            if side.fx.over_quota {
                self.core.counts.one(Count::OverQuota);
            }
            if let Some(end) = end {
                return end;
            }
        }
        let keeps = sender.again || inn.as_ref().is_some_and(|side| side.fx.keep);
        match plan {
            Plan::Keep if !keeps => plan = Plan::Bounce(StanzaError::service_unavailable()),
            _ => {}
        }
        if self.core.is_traced() {
            let (out, inn) = (out.as_ref().map(|side| side.account), inn.as_ref().map(|side| side.account));
            self.step_planned(&plan, out, inn, &stanza);
        }
        let to_sessions = match plan {
            Plan::Bounce(error) => return End::Error(error),
            Plan::Ignore | Plan::Open => return End::Silence,
            Plan::Deliver(ref targets) => targets.clone(),
            Plan::Keep => Targets::new(),
        };
        for side in [&mut out, &mut inn].into_iter().flatten().filter(|_| !sender.again) {
            let _ = self.phase(Phase::Copy, side, origin, &plan, &mut stanza);
        }
        let sender_copies = out.as_ref().map_or_else(Targets::new, |side| {
            let own = inn.as_ref().is_some_and(|inn| std::ptr::eq(inn.account, side.account));
            copies(side, |session| !(own && to_sessions.contains(&session.id)), origin)
        });
        let receiver_copies = inn.as_ref().map_or_else(Targets::new, |side| {
            let excluded = &side.fx.excluded;
            copies(
                side,
                |s| !to_sessions.contains(&s.id) && !excluded.contains(&s.id) && !sender_copies.contains(&s.id),
                origin,
            )
        });
        if let Some(side) = &mut inn
            && !sender.again
            && let Some(end) = self.phase(Phase::Seal, side, origin, &plan, &mut stanza)
        {
            return end;
        }
        let mut goes = Goes {
            to: to_sessions,
            received: Some(stanza),
            receiver_copies,
            sender_copies,
            draft: None,
            routes: Vec::new(),
        };
        for side in [&mut out, &mut inn].into_iter().flatten() {
            goes.routes.extend(side.fx.further.take().into_iter().flat_map(|further| further.routes));
        }
        goes.draft = self.core.draft(sender, out.as_ref(), inn.as_ref(), &plan, to, &goes);
        End::Goes(goes)
    }

    /// Runs one phase on one side. Something, if the stanza ends there. Most phases have no handler.
    #[inline]
    fn phase(
        &self,
        phase: Phase,
        side: &mut SideState<'_>,
        origin: Option<&Session>,
        plan: &Plan,
        stanza: &mut Stanza,
    ) -> Option<End> {
        if !side.registry.handles(phase, stanza.kind(), side.dir) {
            return None;
        }
        self.run_phase(phase, side, origin, plan, stanza)
    }

    #[inline(never)]
    fn run_phase(
        &self,
        phase: Phase,
        side: &mut SideState<'_>,
        origin: Option<&Session>,
        plan: &Plan,
        stanza: &mut Stanza,
    ) -> Option<End> {
        let mut cx = MessageCx {
            dir: side.dir,
            account: side.account,
            peer: side.peer,
            origin: origin.map(OpenSession),
            plan,
            fx: &mut side.fx,
            host: &side.account.host,
            now: self.now,
        };
        let list = side.registry.handlers(phase, stanza.kind());
        let (flow, module) = side.registry.run(list, phase, &mut cx, stanza)?;
        self.step_stopped(side, phase, module, &flow, stanza);
        match flow {
            Flow::Next => None,
            Flow::Drop(_) => Some(End::Silence),
            // A bounce could make a room remove our user (XEP-0045 §18.1.2; some rooms do so for any error). A session of ours is no
            // room: it hears the error that everybody hears for whom nobody is there (RFC 6121 §8.5.2.1.1, §8.5.3.2.1).
            Flow::Bounce(..) if stanza.type_() == Type::Groupchat && side.dir == Dir::Received && origin.is_none() => {
                Some(End::Silence)
            }
            Flow::Bounce(_, error) => Some(End::Error(error)),
        }
    }

    /// Tells those who follow one of the accounts how the stretch ended.
    #[cold]
    fn step_end(&self, end: &End, sent: Option<&Account>, received: Option<&Account>, stanza: &Stanza) {
        let own = sent.zip(received).is_some_and(|(a, b)| std::ptr::eq(a, b));
        for account in [sent, received.filter(|_| !own)].into_iter().flatten() {
            self.step(&account.jid, || match end {
                End::Silence => Step::of("dropped", stanza),
                End::Error(error) => {
                    let step = Step::of("answered", stanza).decided(error.condition.as_str());
                    Step { reason: error.text().map(str::to_owned), ..step }
                }
                End::Goes(goes) => {
                    let mut copies = names(received, &goes.receiver_copies);
                    copies.extend(names(sent, &goes.sender_copies));
                    let step = Step { sessions: names(received, &goes.to), copies, ..Step::of("home", stanza) };
                    match (&goes.draft, never_promised(stanza)) {
                        (Some(_), _) => step.decided("log"),
                        (None, Some(reason)) => step.decided("none").because(reason),
                        (None, None) => {
                            step.decided("none").because("all are there, and the sender's stream is not managed")
                        }
                    }
                }
            });
        }
    }

    #[cold]
    fn step_stopped(&self, side: &SideState<'_>, phase: Phase, module: &'static str, flow: &Flow, stanza: &Stanza) {
        self.step(&side.account.jid, || {
            let (decision, reason) = match flow {
                Flow::Next => ("next", ""),
                Flow::Drop(reason) => ("drop", *reason),
                Flow::Bounce(reason, _) => ("bounce", *reason),
            };
            Step {
                phase: Some(phase.name().to_owned()),
                side: Some(side.dir.name().to_owned()),
                module: Some(module),
                ..Step::of("stopped", stanza).decided(decision).because(reason)
            }
        });
    }

    /// Tells those who follow one of the accounts what the router has decided.
    #[cold]
    fn step_planned(&self, plan: &Plan, out: Option<&Account>, inn: Option<&Account>, stanza: &Stanza) {
        let own = out.zip(inn).is_some_and(|(a, b)| std::ptr::eq(a, b));
        for account in [out, inn.filter(|_| !own)].into_iter().flatten() {
            self.step(&account.jid, || {
                let step = Step::of("planned", stanza);
                match plan {
                    Plan::Deliver(to) => Step { sessions: names(inn, to), ..step }.decided("deliver"),
                    Plan::Keep => step.decided("keep").because("no session can take it self.now"),
                    Plan::Bounce(error) => step.decided("bounce").because(error.condition.as_str()),
                    Plan::Open | Plan::Ignore => step.decided("ignore"),
                }
            });
        }
    }

    /// Whether a stanza may pass between an account and a peer: the gate alone, for IQs and for presence to one peer.
    pub(crate) fn gate(
        &self,
        dir: Dir,
        account: &Account,
        peer: &Jid,
        origin: Option<&Session>,
        stanza: &mut Stanza,
    ) -> Result<(), Option<StanzaError>> {
        self.gated(dir, account, peer, origin, stanza).map(|_| ())
    }

    /// The same, and how presence that passes goes on.
    pub(crate) fn gated(
        &self,
        dir: Dir,
        account: &Account,
        peer: &Jid,
        origin: Option<&Session>,
        stanza: &mut Stanza,
    ) -> Result<Mode, Option<StanzaError>> {
        let mut side = SideState::new(dir, account, peer);
        let phases: &[Phase] =
            if stanza.kind() == Kind::Presence { &[Phase::Gate, Phase::Clean, Phase::Seal] } else { &[Phase::Gate] };
        for phase in phases {
            match self.phase(*phase, &mut side, origin, &Plan::Open, stanza) {
                None | Some(End::Goes(_)) => {}
                Some(End::Silence) => return Err(None),
                Some(End::Error(error)) => return Err(Some(error)),
            }
        }
        if stanza.kind() == Kind::Presence {
            strip_forged(stanza, dir, account, peer);
        }
        Ok(if side.fx.each_session { Mode::EachSession } else { Mode::Onward })
    }
}

/// A client that sends late what it could not send before says so in its own name (XEP-0198 §4), and in no other.
fn strip_forged(stanza: &mut Stanza, dir: Dir, account: &Account, peer: &Jid) {
    if !stanza.has(ns::DELAY, "delay") {
        return;
    }
    let of_another = dir == Dir::Received && peer.bare_str() != account.jid.as_str();
    strip_delay(stanza, &account.jid, of_another);
}

/// The sessions that get a wrapped copy: those with a flag that was asked for, but for the one that sent it.
fn copies(side: &SideState<'_>, fits: impl Fn(&Session) -> bool, origin: Option<&Session>) -> Targets {
    if side.fx.copies.is_empty() {
        return Targets::new();
    }
    let wants = |s: &&Arc<Session>| side.fx.copies.iter().any(|flag| s.has(*flag));
    let sent_it = |s: &&Arc<Session>| origin.is_some_and(|origin| origin.id == s.id);
    side.account.sessions.iter().filter(|s| wants(s) && !sent_it(s) && fits(s)).map(|s| s.id).collect()
}

/// XEP-0045 §7.5: a private message in a room is marked by the room's namespace.
pub(crate) fn is_room_private(stanza: &Stanza) -> bool {
    stanza.has(ns::MUC_USER, "x")
}
