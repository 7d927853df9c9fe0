//! What becomes of a message: the phases of both sides, in their order, and the plan between them.

use std::sync::Arc;

use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::turn::Turn;
use crate::module::Phase;
use crate::module::hook::{Dir, Flow, MessageCx};
use crate::owner::account::Account;
use crate::owner::plan::{Plan, Targets};
use crate::owner::words::Mode;
use crate::route::plan;
use crate::route::stretch::{End, Goes, Sender, SideState};
use crate::rules::delay::strip_delay;
use crate::session::Session;
use crate::session::guard::OpenSession;
use crate::watch::counts::Count;

impl Turn<'_> {
    pub(crate) fn decide(
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
            if let Some(further) = side.fx.further.take() {
                goes.routes.extend(further.routes);
            }
        }
        goes.draft = self.core.draft(sender, out.as_ref(), inn.as_ref(), &plan, to, &goes);
        End::Goes(goes)
    }

    /// Runs one phase on one side. Something, if the stanza ends there. Most phases have no handler.
    #[inline]
    pub(crate) fn phase(
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
pub(crate) fn copies(side: &SideState<'_>, fits: impl Fn(&Session) -> bool, origin: Option<&Session>) -> Targets {
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
