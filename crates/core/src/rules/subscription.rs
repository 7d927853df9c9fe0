//! RFC 6121 §3 and Appendix A: presence subscriptions.
//!
//! One pure table: what a `subscribe`, `subscribed`, `unsubscribe` or `unsubscribed` does to one side's roster and
//! which stanzas follow. It is run for the sender (outbound), then for the recipient (inbound).
//!
//! The nine states of Appendix A.1 are two independent halves of three values each: what the user has of the contact
//! ("To") and what the contact has of the user ("From"). The pre-approval of §3.4 is a fourth value of the second
//! half. Every stanza type touches one half only, so that no combination can be wrong.
//!
//! Where the narration of §3 says less than Appendix A the appendix holds, as §3 itself says ("does not cover every
//! possible case", "complete details ... under Appendix A"); the rows concerned name both.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value of `subscription` in a roster item (§2.1.2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Neither sees the other.
    #[default]
    None,
    /// The user sees the contact.
    To,
    /// The contact sees the user.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// The value as it stands in the attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Subscription::None => "none",
            Subscription::To => "to",
            Subscription::From => "from",
            Subscription::Both => "both",
        }
    }

    /// The value called `name`, if there is one. `remove` is no state.
    pub fn from_name(name: &str) -> Option<Subscription> {
        match name {
            "none" => Some(Subscription::None),
            "to" => Some(Subscription::To),
            "from" => Some(Subscription::From),
            "both" => Some(Subscription::Both),
            _ => None,
        }
    }
}

/// As it stands in the attribute.
impl Serialize for Subscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is none of the four was never asked for: so it is for the items of strangers that older versions wrote.
impl<'de> Deserialize<'de> for Subscription {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Subscription, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Subscription::from_name(&name).unwrap_or_default())
    }
}

/// The half that the user owns: the user's subscription to the contact's presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToHalf {
    /// None.
    #[default]
    No,
    /// Asked for, not answered: `ask='subscribe'`, "Pending Out".
    Pending,
    /// The contact has approved.
    Yes,
}

/// The half that the contact owns: the contact's subscription to the user's presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FromHalf {
    /// None.
    #[default]
    No,
    /// Not asked for yet, but the user has approved in advance: `approved='true'` (§3.4).
    PreApproved,
    /// Asked for, not answered by the user: "Pending In". Never visible in a roster item.
    Pending,
    /// The user has approved.
    Yes,
}

/// How a user and a contact stand to each other, seen from the user; by default "None", which includes a contact who
/// is not in the roster at all (A.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Whether the user sees the contact.
    pub to: ToHalf,
    /// Whether the contact sees the user.
    pub from: FromHalf,
}

impl State {
    /// The state that a stored roster item and the note of a pending request describe.
    ///
    /// What contradicts the subscription is dropped (data of other servers holds such things): `ask` if the user
    /// already sees the contact, `pending_in` and `approved` if the contact already sees the user, `approved` if a
    /// request is waiting for the user.
    pub const fn new(subscription: Subscription, ask: bool, pending_in: bool, approved: bool) -> State {
        let (to, from) = match subscription {
            Subscription::None => (false, false),
            Subscription::To => (true, false),
            Subscription::From => (false, true),
            Subscription::Both => (true, true),
        };
        State {
            to: match (to, ask) {
                (true, _) => ToHalf::Yes,
                (false, true) => ToHalf::Pending,
                (false, false) => ToHalf::No,
            },
            from: match (from, pending_in, approved) {
                (true, ..) => FromHalf::Yes,
                (false, true, _) => FromHalf::Pending,
                (false, false, true) => FromHalf::PreApproved,
                (false, false, false) => FromHalf::No,
            },
        }
    }

    /// The roster item's `subscription`.
    pub const fn subscription(self) -> Subscription {
        match (self.to, self.from) {
            (ToHalf::Yes, FromHalf::Yes) => Subscription::Both,
            (ToHalf::Yes, _) => Subscription::To,
            (_, FromHalf::Yes) => Subscription::From,
            _ => Subscription::None,
        }
    }

    /// Whether the roster item has `ask='subscribe'` ("Pending Out").
    pub const fn ask(self) -> bool {
        matches!(self.to, ToHalf::Pending)
    }

    /// Whether a request of the contact waits for the user ("Pending In").
    pub const fn pending_in(self) -> bool {
        matches!(self.from, FromHalf::Pending)
    }

    /// Whether the roster item has `approved='true'`.
    pub const fn approved(self) -> bool {
        matches!(self.from, FromHalf::PreApproved)
    }

    /// Whether the contact may know the user's presence ("From" or "Both"): gets it broadcast, has probes answered.
    pub const fn shows_presence(self) -> bool {
        matches!(self.from, FromHalf::Yes)
    }

    /// Whether the user may know the contact's presence ("To" or "Both").
    pub const fn sees_presence(self) -> bool {
        matches!(self.to, ToHalf::Yes)
    }

    /// Whether the state needs a roster item to be kept. "None" and "None + Pending In" do without; for the latter
    /// an item MUST NOT even be made (A.1, §3.1.3).
    pub const fn needs_item(self) -> bool {
        !matches!((self.to, self.from), (ToHalf::No, FromHalf::No | FromHalf::Pending))
    }
}

/// Which way the stanza goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The user sends it to the contact.
    Outbound,
    /// The contact sends it to the user.
    Inbound,
}

/// The four presence types that manage subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Asks for a subscription.
    Subscribe,
    /// Grants one.
    Subscribed,
    /// Gives one back.
    Unsubscribe,
    /// Refuses or ends one.
    Unsubscribed,
}

impl Kind {
    /// The value of the attribute `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Subscribe => "subscribe",
            Kind::Subscribed => "subscribed",
            Kind::Unsubscribe => "unsubscribe",
            Kind::Unsubscribed => "unsubscribed",
        }
    }
}

/// Where the stanza itself goes. It carries the sender's bare JID, whoever of the sender's sessions sent it (§3), and
/// the recipient's, whatever the sender wrote (§3.1.2, §3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Nowhere; that is no error.
    No,
    /// Outbound: to the contact, locally or to the contact's server.
    Contact,
    /// Inbound `subscribe`: to the user's available sessions; kept for later ones too (§3.1.3 rules 3 and 4).
    Available,
    /// Inbound, all others: to the user's interested sessions, those that asked for the roster (§3.1.6, §3.2.3,
    /// §3.3.3).
    Interested,
}

/// Whether the user's interested sessions get a roster push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Push {
    /// No.
    No,
    /// Only if the roster has an item for the contact; none is made.
    IfListed,
    /// Yes, of an item that is made if it is missing.
    Yes,
}

/// What the contact gets to know of the user's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Nothing.
    Nothing,
    /// The current presence of each available session.
    Current,
    /// `unavailable` from each available session.
    Unavailable,
}

/// What happens to the request that is kept for the user (the complete stanza, §3.1.3 rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Nothing.
    Leave,
    /// This stanza is it: keep it, and deliver it whenever a session becomes available, until it is answered.
    Keep,
    /// It is answered or withdrawn: forget it.
    Forget,
}

/// What one stanza does at one side. The effects are carried out in this order: the new state is stored, presence of
/// kind `Unavailable`, `forward`, `reply`, `push`, presence of kind `Current` (§3.1.5, §3.1.6, §3.2.2, §3.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The state afterwards.
    pub state: State,
    /// Where the stanza goes.
    pub forward: Forward,
    /// The stanza that the server sends back on behalf of the user, from bare JID to bare JID. It is not run through
    /// the table for the user as outbound: `state` has it included.
    pub reply: Option<Kind>,
    /// Whether a roster push follows.
    pub push: Push,
    /// Presence sent to the contact. No probe is ever needed: who grants a subscription sends presence at once.
    pub presence: Presence,
    /// What becomes of the stored request.
    pub request: Request,
}

impl Outcome {
    /// The stanza is swallowed.
    const fn nothing(state: State) -> Outcome {
        Outcome {
            state,
            forward: Forward::No,
            reply: None,
            push: Push::No,
            presence: Presence::Nothing,
            request: Request::Leave,
        }
    }
}

/// What a subscription stanza does to the side that is in `state` (RFC 6121 Appendix A.2 and A.3).
///
/// For an account that does not exist there is no state and nothing to do (§8.5.1). An `unsubscribed` with which the
/// server answers a probe is not an outbound one in this sense: it must not end a pre-approval (§4.3.2).
pub fn on_subscription(direction: Direction, state: State, kind: Kind) -> Outcome {
    use {Direction::*, Kind::*};
    match (direction, kind) {
        (Outbound, Subscribe) => user_asks(state),
        (Outbound, Unsubscribe) => user_leaves(state),
        (Outbound, Subscribed) => user_approves(state),
        (Outbound, Unsubscribed) => user_refuses(state),
        (Inbound, Subscribe) => contact_asks(state),
        (Inbound, Unsubscribe) => contact_leaves(state),
        (Inbound, Subscribed) => contact_approves(state),
        (Inbound, Unsubscribed) => contact_refuses(state),
    }
}

/// A.2.1, §3.1.2: always routed, which repairs states that two servers hold differently.
fn user_asks(state: State) -> Outcome {
    let base = Outcome { forward: Forward::Contact, ..Outcome::nothing(state) };
    match state.to {
        ToHalf::No => Outcome { state: State { to: ToHalf::Pending, ..state }, push: Push::Yes, ..base },
        // §3.1.2 asks for a push with `ask` after every request, a repeated one as well.
        ToHalf::Pending => Outcome { push: Push::Yes, ..base },
        ToHalf::Yes => base,
    }
}

/// A.2.2, §3.3.2: always routed.
fn user_leaves(state: State) -> Outcome {
    let base = Outcome { forward: Forward::Contact, ..Outcome::nothing(state) };
    match state.to {
        ToHalf::No => base,
        ToHalf::Pending | ToHalf::Yes => Outcome { state: State { to: ToHalf::No, ..state }, push: Push::Yes, ..base },
    }
}

/// A.2.3, §3.1.5 and §3.4.2.
fn user_approves(state: State) -> Outcome {
    let base = Outcome::nothing(state);
    match state.from {
        // §3.4.2 rules 3 and 4: noted, the item made if missing, and MUST NOT be routed.
        FromHalf::No => Outcome { state: State { from: FromHalf::PreApproved, ..state }, push: Push::Yes, ..base },
        FromHalf::PreApproved => base,
        FromHalf::Pending => Outcome {
            state: State { from: FromHalf::Yes, ..state },
            forward: Forward::Contact,
            push: Push::Yes,
            presence: Presence::Current,
            request: Request::Forget,
            ..base
        },
        // §3.4.2 rule 1: silently ignored.
        FromHalf::Yes => base,
    }
}

/// A.2.4, §3.2.2.
fn user_refuses(state: State) -> Outcome {
    let base = Outcome { state: State { from: FromHalf::No, ..state }, ..Outcome::nothing(state) };
    match state.from {
        // Rule 1.
        FromHalf::No => base,
        // Rule 2, and the note in §3.4.2 that asks for the push.
        FromHalf::PreApproved => Outcome { push: Push::Yes, ..base },
        // Rule 3 speaks of `unavailable` for a refused request too, but goes on "while the user is still
        // subscribed": somebody who never was must not learn which sessions there are (§11).
        FromHalf::Pending => {
            Outcome { forward: Forward::Contact, push: Push::IfListed, request: Request::Forget, ..base }
        }
        FromHalf::Yes => {
            Outcome { forward: Forward::Contact, push: Push::Yes, presence: Presence::Unavailable, ..base }
        }
    }
}

/// A.3.1, §3.1.3.
fn contact_asks(state: State) -> Outcome {
    let base = Outcome::nothing(state);
    match state.from {
        // No push and no item until the user has approved (§3.1.3, security warning). The `unavailable` that rule 3
        // allows as an acknowledgement would tell strangers that the account exists.
        FromHalf::No => Outcome {
            state: State { from: FromHalf::Pending, ..state },
            forward: Forward::Available,
            request: Request::Keep,
            ..base
        },
        // §3.4.2: MUST NOT be delivered but answered. The approval is used up by that, which the note there leaves
        // to us: a contact who leaves later has to ask again. Then all is as if the user had approved (§3.1.5).
        FromHalf::PreApproved => Outcome {
            state: State { from: FromHalf::Yes, ..state },
            reply: Some(Kind::Subscribed),
            push: Push::Yes,
            presence: Presence::Current,
            ..base
        },
        // The request that is kept is delivered again when a session becomes available, not now.
        FromHalf::Pending => base,
        // Rule 2. Presence is not asked for there, but the contact's server has just shown that it knows nothing.
        FromHalf::Yes => Outcome { reply: Some(Kind::Subscribed), presence: Presence::Current, ..base },
    }
}

/// A.3.2, §3.3.3.
fn contact_leaves(state: State) -> Outcome {
    let base = Outcome::nothing(state);
    match state.from {
        FromHalf::No | FromHalf::PreApproved => base,
        // §3.3.3 would not deliver it, A.3.2 does: the sessions that show the request learn that it is withdrawn.
        // The item, if there is one, looks as before, so nothing is pushed.
        FromHalf::Pending => Outcome {
            state: State { from: FromHalf::No, ..state },
            forward: Forward::Interested,
            reply: Some(Kind::Unsubscribed),
            request: Request::Forget,
            ..base
        },
        FromHalf::Yes => Outcome {
            state: State { from: FromHalf::No, ..state },
            forward: Forward::Interested,
            reply: Some(Kind::Unsubscribed),
            push: Push::Yes,
            presence: Presence::Unavailable,
            ..base
        },
    }
}

/// A.3.3, §3.1.6: counts only if the user has asked.
fn contact_approves(state: State) -> Outcome {
    let base = Outcome::nothing(state);
    match state.to {
        ToHalf::Pending => {
            Outcome { state: State { to: ToHalf::Yes, ..state }, forward: Forward::Interested, push: Push::Yes, ..base }
        }
        ToHalf::No | ToHalf::Yes => base,
    }
}

/// A.3.4, §3.2.3. The latter speaks of "To" and "Both" alone; by A.3.4 a refused request ends as well, and without
/// that `ask` would stand in the roster forever.
fn contact_refuses(state: State) -> Outcome {
    let base = Outcome::nothing(state);
    match state.to {
        ToHalf::No => base,
        ToHalf::Pending | ToHalf::Yes => {
            Outcome { state: State { to: ToHalf::No, ..state }, forward: Forward::Interested, push: Push::Yes, ..base }
        }
    }
}

/// What follows when the user deletes the contact from the roster (§2.5.2). The push with `subscription='remove'`
/// comes in any case; afterwards the state is "None".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Removal {
    /// `Unavailable` goes out before the stanzas (§3.2.2).
    pub presence: Presence,
    /// Stanzas to the contact from the user's bare JID, in this order.
    pub send: &'static [Kind],
    /// What becomes of the stored request.
    pub request: Request,
}

/// Which stanzas end whatever there is between the user and a contact who is deleted from the roster (§2.5.2).
///
/// §2.5.2 speaks of subscriptions only. Open requests are ended with them: else an answer to a forgotten request
/// would leave the two rosters different, and the request of a contact just deleted would come up at every login.
pub fn on_remove(state: State) -> Removal {
    let send: &[Kind] = match (state.to, state.from) {
        (ToHalf::No, FromHalf::No | FromHalf::PreApproved) => &[],
        (ToHalf::Pending | ToHalf::Yes, FromHalf::No | FromHalf::PreApproved) => &[Kind::Unsubscribe],
        (ToHalf::No, FromHalf::Pending | FromHalf::Yes) => &[Kind::Unsubscribed],
        (ToHalf::Pending | ToHalf::Yes, FromHalf::Pending | FromHalf::Yes) => &[Kind::Unsubscribe, Kind::Unsubscribed],
    };
    Removal {
        presence: if state.shows_presence() { Presence::Unavailable } else { Presence::Nothing },
        send,
        request: if state.pending_in() { Request::Forget } else { Request::Leave },
    }
}

#[cfg(test)]
mod tests;
