//! RFC 6121 §8.5: which sessions of a local account get a stanza, or what is done instead.
//!
//! One pure function, with one row for each rule. Where the RFC leaves a choice, this server decides as follows:
//!
//! - A chat or normal message to the bare address goes to all sessions that share the highest non-negative priority;
//!   the others have carbons (XEP-0280).
//! - A chat message to a session that is gone is delivered as if sent to the bare address, unless it comes from a room:
//!   it is for that occupant and no other session, and the room has to learn that the occupant is gone. (XEP-0045
//!   §18.1.2 does not count `service-unavailable` as a sign of that; §8.5.3.2.1 requires no other condition.)
//! - If a message reaches no session and is not stored, its sender gets an error; dropping it silently would
//!   break the promise of an acknowledgement. For a missing account the error reveals that it does not exist, which §8.5.1
//!   allows; presence and IQs do not reveal it. Headlines carry no promise.
//! - Sessions of negative priority get only stanzas addressed to them: an account without other sessions has no session
//!   for messages to its bare address.
//!
//! Blocking, privacy lists and the archive are handled before and after; §8.5 is about routing only.

use crate::rules::subscription::Kind;
use vorpal_proto::error::Condition;

/// The value of a message's `type`; one that is missing or unknown is `Normal` (§5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A single message.
    Normal,
    /// Part of a one-to-one conversation.
    Chat,
    /// From a room.
    Groupchat,
    /// News for users who are online.
    Headline,
    /// An error about another message.
    Error,
}

/// The value of a presence's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceType {
    /// No `type`.
    Available,
    /// `unavailable`.
    Unavailable,
    /// One of the four that manage subscriptions.
    Subscription(Kind),
    /// `probe`.
    Probe,
    /// `error`.
    Error,
}

/// The value of an IQ's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IqType {
    /// A question.
    Get,
    /// A command.
    Set,
    /// An answer.
    Result,
    /// A refusal.
    Error,
}

/// What is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stanza {
    /// A message.
    Message(MessageType),
    /// A presence.
    Presence(PresenceType),
    /// An IQ.
    Iq(IqType),
}

/// The form of the `to` address, which has a localpart and a local domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// `localpart@domain`.
    Bare,
    /// `localpart@domain/resource`.
    Full {
        /// Whether a session has exactly this resource. It need not have sent presence; one whose connection is lost
        /// but can be resumed counts.
        matched: bool,
    },
}

/// The state of the account at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// The account does not exist, or may not be used.
    Missing,
    /// No session has sent available presence.
    NoneAvailable,
    /// Sessions are available, all of them with negative priority.
    OnlyNegative,
    /// At least one session is available with a priority of 0 or more.
    NonNegative,
}

/// Further conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// A message has a child `<x xmlns='http://jabber.org/protocol/muc#user'/>`, which rooms put into private
    /// messages.
    pub from_room: bool,
    /// The sender may know that the session of a matched full address exists: it is of the same account, or has a
    /// subscription to its presence ("from" or "both"), or directed presence from that session.
    pub shares_presence: bool,
}

/// Which sessions get the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The one with the full address.
    ThatSession,
    /// All that are available with the highest priority of the account, which is not negative.
    HighestPriority,
    /// All that are available with a priority of 0 or more.
    AllNonNegative,
    /// All that are available.
    AllAvailable,
}

/// What the server does itself, on behalf of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handler {
    /// The table of subscriptions, as if sent to the bare address: [`crate::rules::subscription::on_subscription`].
    Subscription(Kind),
    /// Answer a probe by §4.3.2, for the bare address or for one session.
    Probe,
    /// Answer a probe for an account that does not exist like one that the prober may not see: `unsubscribed` (§4.3.2).
    RefuseProbe,
    /// Answer an IQ for the account; `service-unavailable` if nothing is registered for it.
    Iq,
}

/// The decision about a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These sessions get it, `to` unchanged (§8.5.2.1.1).
    Deliver(Selector),
    /// It is kept until a session becomes available with non-negative priority. If it cannot be kept, it bounces with
    /// `service-unavailable` (XEP-0160 §2).
    Store,
    /// It is answered with an error with this condition.
    Bounce(Condition),
    /// It is dropped, for this reason.
    Ignore(&'static str),
    /// The server handles it itself.
    Handle(Handler),
}

/// Decides about a stanza for a local account (RFC 6121 §8.5). Never bounces an error, an IQ result or presence.
pub fn decide(stanza: Stanza, to: To, account: Account, flags: Flags) -> Decision {
    match stanza {
        Stanza::Message(kind) => message(kind, to, account, flags.from_room),
        Stanza::Presence(kind) => presence(kind, to, account),
        Stanza::Iq(kind) => iq(kind, to, account, flags.shares_presence),
    }
}

fn message(kind: MessageType, to: To, account: Account, from_room: bool) -> Decision {
    use {Account::*, Decision::*, MessageType::*, Selector::*, To::*};
    match (account, to, kind) {
        // §8.5.2.1.1, §8.5.2.2.1 and §8.5.3.2.1 say it of each case; RFC 6120 §8.3.1 of all.
        (Missing, _, Error) | (_, Bare | Full { matched: false }, Error) => Ignore("an error that is for no session"),

        // §8.5.1: optional, this server sends the error. A headline is dropped, as if no session were available.
        (Missing, _, Normal | Chat | Groupchat) => unavailable(),
        (Missing, _, Headline) => Ignore("a headline for an account that does not exist"),

        // §8.5.3.1: whatever the type and the priority.
        (_, Full { matched: true }, _) => Deliver(ThatSession),

        // §8.5.2.1.1 and §8.5.2.2.1: rooms know full addresses only.
        (_, Bare, Groupchat) => unavailable(),
        (NonNegative, Bare, Normal | Chat) => Deliver(HighestPriority),
        (NonNegative, Bare, Headline) => Deliver(AllNonNegative),
        // §8.5.2.2.1, and by the last rule but one of §8.5.2.1.1 sessions of negative priority do not count.
        (NoneAvailable | OnlyNegative, Bare, Normal | Chat) => Store,
        (NoneAvailable | OnlyNegative, Bare, Headline) => Ignore("a headline that nobody is there to read"),

        // §8.5.3.2.1.
        (_, Full { matched: false }, Normal | Groupchat) => unavailable(),
        (_, Full { matched: false }, Headline) => Ignore("a headline for a session that is gone"),
        (_, Full { matched: false }, Chat) if from_room => unavailable(),
        (NonNegative, Full { matched: false }, Chat) => Deliver(HighestPriority),
        (NoneAvailable | OnlyNegative, Full { matched: false }, Chat) => Store,
    }
}

fn presence(kind: PresenceType, to: To, account: Account) -> Decision {
    use {Account::*, Decision::*, PresenceType::*, Selector::*, To::*};
    match (account, to, kind) {
        // §8.5.1. A probe is answered as it is for an account that the prober may not see (§4.3.2 rule 1).
        (Missing, _, Probe) => Handle(Handler::RefuseProbe),
        (Missing, _, _) => Ignore("presence for an account that does not exist"),

        // §8.5.2.1.2, §8.5.2.2.2, §8.5.3.1 and §8.5.3.2.2 alike.
        (_, _, Probe) => Handle(Handler::Probe),

        // §8.5.2.1.2, §8.5.2.2.2, §8.5.3.1; after §8.5.3.2.2 only a request may name a session that is not there.
        (_, Bare | Full { matched: true }, Subscription(kind)) => Handle(Handler::Subscription(kind)),
        (_, Full { matched: false }, Subscription(Kind::Subscribe)) => Handle(Handler::Subscription(Kind::Subscribe)),
        (_, Full { matched: false }, Subscription(_)) => Ignore("a subscription answered to a session that is gone"),

        // §8.5.3.1 and §8.5.3.2.2. Errors are not mentioned there; they belong to whoever sent what they answer.
        (_, Full { matched: true }, Available | Unavailable | Error) => Deliver(ThatSession),
        (_, Full { matched: false }, Available | Unavailable | Error) => Ignore("presence for a session that is gone"),

        // §8.5.2.1.2 and §8.5.2.2.2: negative priorities count, they are about messages. An error to the bare address
        // answers a subscription request (§3.1.2), which was stamped with it.
        (OnlyNegative | NonNegative, Bare, Available | Unavailable | Error) => Deliver(AllAvailable),
        (NoneAvailable, Bare, Available | Unavailable | Error) => Ignore("presence that nobody is there to see"),
    }
}

fn iq(kind: IqType, to: To, account: Account, shares_presence: bool) -> Decision {
    use {Account::*, Decision::*, IqType::*, Selector::*, To::*};
    match (account, to, kind) {
        // Answers to questions of the server itself have been matched before; these match nothing.
        (Missing, _, Result | Error) | (_, Bare | Full { matched: false }, Result | Error) => {
            Ignore("an answer that is for no session")
        }

        // §8.5.1.
        (Missing, _, Get | Set) => unavailable(),

        // §8.5.2.1.3 and §8.5.2.2.3: never delivered.
        (_, Bare, Get | Set) => Handle(Handler::Iq),

        // §8.5.3.1: a stranger must not learn which sessions there are, so the answer is that of §8.5.3.2.3.
        (_, Full { matched: true }, Get | Set) if !shares_presence => unavailable(),
        (_, Full { matched: true }, _) => Deliver(ThatSession),

        // §8.5.3.2.3.
        (_, Full { matched: false }, Get | Set) => unavailable(),
    }
}

/// The only condition that §8.5 names.
fn unavailable() -> Decision {
    Decision::Bounce(Condition::ServiceUnavailable)
}

#[cfg(test)]
mod tests;
