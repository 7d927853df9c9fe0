//! The plan: what happens to a message on its receiver's side, by RFC 6121 §8.5 and the account's current sessions.

use std::sync::Arc;

use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::owner::account::Account;
use crate::owner::plan::Plan;
use crate::route::decide::is_room_private;
use crate::rules::delivery::{self, Decision, Flags, IqType, MessageType, PresenceType, Selector, To};
use crate::rules::subscription;
use crate::session::{Session, SessionId};

/// The decision for an account, or for a name without one. Sessions in `excluded` do not count.
pub(crate) fn plan(stanza: &Stanza, to: &Jid, account: Option<&Account>, excluded: &[SessionId]) -> Plan {
    let session = to.resource().and_then(|resource| account?.by_resource(resource));
    let matched = session.is_some_and(|s| !excluded.contains(&s.id));
    let state = match account {
        None => delivery::Account::Missing,
        Some(account) if !account.non_negative(excluded).is_empty() => delivery::Account::NonNegative,
        Some(account) if account.available().next().is_some() => delivery::Account::OnlyNegative,
        Some(_) => delivery::Account::NoneAvailable,
    };
    let flags = Flags { from_room: is_room_private(stanza), shares_presence: true };
    match delivery::decide(kind(stanza), addressed(to, matched), state, flags) {
        Decision::Deliver(selector) => {
            let Some(account) = account else { return Plan::Ignore };
            Plan::Deliver(match selector {
                Selector::ThatSession => session.map(|s| s.id).into_iter().collect(),
                Selector::HighestPriority => account.most_available(excluded),
                Selector::AllNonNegative => account.non_negative(excluded),
                Selector::AllAvailable => {
                    account.available().map(|s| s.id).filter(|id| !excluded.contains(id)).collect()
                }
            })
        }
        Decision::Store => Plan::Keep,
        Decision::Bounce(condition) => Plan::Bounce(condition.into()),
        Decision::Ignore(_) | Decision::Handle(_) => Plan::Ignore,
    }
}

/// The decision for an IQ to an account, which may not exist, or to the session at its full address. Whether sessions are available
/// does not matter to an IQ.
pub(crate) fn plan_iq(
    iq: &Stanza,
    to: &Jid,
    exists: bool,
    session: Option<&Arc<Session>>,
    shares_presence: bool,
) -> Decision {
    let state = if exists { delivery::Account::NoneAvailable } else { delivery::Account::Missing };
    let flags = Flags { from_room: false, shares_presence };
    delivery::decide(kind(iq), addressed(to, session.is_some()), state, flags)
}

/// The decision for a presence to an account, or to a name that is none's.
pub(crate) fn plan_presence(presence: &Stanza, to: &Jid, account: Option<&Account>) -> Decision {
    let matched = to.resource().is_some_and(|resource| account.is_some_and(|a| a.by_resource(resource).is_some()));
    let priority = |session: &Arc<Session>| session.priority().filter(|_| session.is_available());
    let state = match account {
        None => delivery::Account::Missing,
        Some(account) => match account.sessions.iter().filter_map(priority).max() {
            None => delivery::Account::NoneAvailable,
            Some(highest) if highest < 0 => delivery::Account::OnlyNegative,
            Some(_) => delivery::Account::NonNegative,
        },
    };
    delivery::decide(kind(presence), addressed(to, matched), state, Flags::default())
}

fn addressed(to: &Jid, matched: bool) -> To {
    if to.is_full() { To::Full { matched } } else { To::Bare }
}

/// The stanza in the terms of the table.
pub(crate) fn kind(stanza: &Stanza) -> delivery::Stanza {
    match stanza.kind() {
        Kind::Message => delivery::Stanza::Message(match stanza.type_() {
            Type::Chat => MessageType::Chat,
            Type::Groupchat => MessageType::Groupchat,
            Type::Headline => MessageType::Headline,
            Type::Error => MessageType::Error,
            _ => MessageType::Normal,
        }),
        Kind::Presence => delivery::Stanza::Presence(match subscription_kind(stanza.type_()) {
            Some(kind) => PresenceType::Subscription(kind),
            None => match stanza.type_() {
                Type::Unavailable => PresenceType::Unavailable,
                Type::Probe => PresenceType::Probe,
                Type::Error => PresenceType::Error,
                _ => PresenceType::Available,
            },
        }),
        Kind::Iq => delivery::Stanza::Iq(match stanza.type_() {
            Type::Get => IqType::Get,
            Type::Set => IqType::Set,
            Type::Result => IqType::Result,
            _ => IqType::Error,
        }),
    }
}

/// The type of a presence that changes a subscription.
pub(crate) fn subscription_kind(type_: Type) -> Option<subscription::Kind> {
    Some(match type_ {
        Type::Subscribe => subscription::Kind::Subscribe,
        Type::Subscribed => subscription::Kind::Subscribed,
        Type::Unsubscribe => subscription::Kind::Unsubscribe,
        Type::Unsubscribed => subscription::Kind::Unsubscribed,
        _ => return None,
    })
}
