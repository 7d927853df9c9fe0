//! The home of a message: the log entry that keeps its promise, and what refuses it.

use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::core::Core;
use crate::owner::log::LogMeta;
use crate::owner::plan::Plan;
use crate::owner::words::Draft;
use crate::route::stretch::{End, Goes, Sender, SideState};
use crate::rules::promise::never_promised;
use crate::watch::counts::Count;
use crate::watch::reserve::no_room;

impl Core {
    /// What the log gets: a promised message has its home there (see `ledger.rs` for what is never promised).
    pub(crate) fn draft(
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
        let managed = sender.origin.is_some_and(|(session, _)| session.stream().is_managed());
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
    pub(crate) fn keep_within_reserve(&self, end: &mut End, sender: &Sender<'_>, stanza: &Stanza) {
        let promises = matches!(end, End::Goes(goes) if goes.draft.is_some());
        if promises && !sender.again && stanza.is_answerable() && self.refuses_more() {
            *end = End::Error(no_room());
        }
    }

    pub(crate) fn count_end(&self, end: &End, sender: &Sender<'_>) {
        match end {
            End::Goes(goes) if goes.draft.is_some() => self.counts.one(Count::Entries),
            End::Goes(_) => {}
            _ if sender.origin.is_none() => {}
            End::Error(error) => self.counts.one(Count::of_bounce(&error.condition)),
            End::Silence => self.counts.one(Count::Dropped),
        }
    }
}
