//! The tables of RFC 6121 Appendix A as they stand there, row by row, and what §3 adds to them.

use super::*;
use Direction::{Inbound, Outbound};
use Kind::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};

/// Tables 2 to 9: existing state, routed or delivered, new state.
const TABLES: [(Direction, Kind, [&str; 9]); 8] = [
    // Table 2
    (
        Outbound,
        Subscribe,
        [
            r#"|  "None"                  |  MUST [1] |  "None + Pending Out"     |"#,
            r#"|  "None + Pending Out"    |  MUST     |  no state change          |"#,
            r#"|  "None + Pending In"     |  MUST [1] |  "None + Pending Out+In"  |"#,
            r#"|  "None + Pending Out+In" |  MUST     |  no state change          |"#,
            r#"|  "To"                    |  MUST     |  no state change          |"#,
            r#"|  "To + Pending In"       |  MUST     |  no state change          |"#,
            r#"|  "From"                  |  MUST [1] |  "From + Pending Out"     |"#,
            r#"|  "From + Pending Out"    |  MUST     |  no state change          |"#,
            r#"|  "Both"                  |  MUST     |  no state change          |"#,
        ],
    ),
    // Table 3
    (
        Outbound,
        Unsubscribe,
        [
            r#"|  "None"                  |  MUST    |  no state change          |"#,
            r#"|  "None + Pending Out"    |  MUST    |  "None"                   |"#,
            r#"|  "None + Pending In"     |  MUST    |  no state change          |"#,
            r#"|  "None + Pending Out+In" |  MUST    |  "None + Pending In"      |"#,
            r#"|  "To"                    |  MUST    |  "None"                   |"#,
            r#"|  "To + Pending In"       |  MUST    |  "None + Pending In"      |"#,
            r#"|  "From"                  |  MUST    |  no state change          |"#,
            r#"|  "From + Pending Out"    |  MUST    |  "From"                   |"#,
            r#"|  "Both"                  |  MUST    |  "From"                   |"#,
        ],
    ),
    // Table 4
    (
        Outbound,
        Subscribed,
        [
            r#"|  "None"                  |  M.N.    |  pre-approval [1]         |"#,
            r#"|  "None + Pending Out"    |  M.N.    |  pre-approval [1]         |"#,
            r#"|  "None + Pending In"     |  MUST    |  "From"                   |"#,
            r#"|  "None + Pending Out+In" |  MUST    |  "From + Pending Out"     |"#,
            r#"|  "To"                    |  M.N.    |  pre-approval [1]         |"#,
            r#"|  "To + Pending In"       |  MUST    |  "Both"                   |"#,
            r#"|  "From"                  |  M.N.    |  no state change          |"#,
            r#"|  "From + Pending Out"    |  M.N.    |  no state change          |"#,
            r#"|  "Both"                  |  M.N.    |  no state change          |"#,
        ],
    ),
    // Table 5
    (
        Outbound,
        Unsubscribed,
        [
            r#"|  "None"                  |  S.N.    |  no state change [1]      |"#,
            r#"|  "None + Pending Out"    |  S.N.    |  no state change [1]      |"#,
            r#"|  "None + Pending In"     |  MUST    |  "None"                   |"#,
            r#"|  "None + Pending Out+In" |  MUST    |  "None + Pending Out"     |"#,
            r#"|  "To"                    |  S.N.    |  no state change [1]      |"#,
            r#"|  "To + Pending In"       |  MUST    |  "To"                     |"#,
            r#"|  "From"                  |  MUST    |  "None"                   |"#,
            r#"|  "From + Pending Out"    |  MUST    |  "None + Pending Out"     |"#,
            r#"|  "Both"                  |  MUST    |  "To"                     |"#,
        ],
    ),
    // Table 6
    (
        Inbound,
        Subscribe,
        [
            r#"|  "None"                  |  MUST [1]  |  "None + Pending In"     |"#,
            r#"|  "None + Pending Out"    |  MUST      |  "None + Pending Out+In" |"#,
            r#"|  "None + Pending In"     |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out+In" |  S.N.      |  no state change         |"#,
            r#"|  "To"                    |  MUST      |  "To + Pending In"       |"#,
            r#"|  "To + Pending In"       |  S.N.      |  no state change         |"#,
            r#"|  "From"                  |  S.N. [2]  |  no state change         |"#,
            r#"|  "From + Pending Out"    |  S.N. [2]  |  no state change         |"#,
            r#"|  "Both"                  |  S.N. [2]  |  no state change         |"#,
        ],
    ),
    // Table 7
    (
        Inbound,
        Unsubscribe,
        [
            r#"|  "None"                  |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out"    |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending In"     |  MUST [1]  |  "None"                  |"#,
            r#"|  "None + Pending Out+In" |  MUST [1]  |  "None + Pending Out"    |"#,
            r#"|  "To"                    |  S.N.      |  no state change         |"#,
            r#"|  "To + Pending In"       |  MUST [1]  |  "To"                    |"#,
            r#"|  "From"                  |  MUST [1]  |  "None"                  |"#,
            r#"|  "From + Pending Out"    |  MUST [1]  |  "None + Pending Out"    |"#,
            r#"|  "Both"                  |  MUST [1]  |  "To"                    |"#,
        ],
    ),
    // Table 8
    (
        Inbound,
        Subscribed,
        [
            r#"|  "None"                  |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out"    |  MUST      |  "To"                    |"#,
            r#"|  "None + Pending In"     |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out+In" |  MUST      |  "To + Pending In"       |"#,
            r#"|  "To"                    |  S.N.      |  no state change         |"#,
            r#"|  "To + Pending In"       |  S.N.      |  no state change         |"#,
            r#"|  "From"                  |  S.N.      |  no state change         |"#,
            r#"|  "From + Pending Out"    |  MUST      |  "Both"                  |"#,
            r#"|  "Both"                  |  S.N.      |  no state change         |"#,
        ],
    ),
    // Table 9
    (
        Inbound,
        Unsubscribed,
        [
            r#"|  "None"                  |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out"    |  MUST      |  "None"                  |"#,
            r#"|  "None + Pending In"     |  S.N.      |  no state change         |"#,
            r#"|  "None + Pending Out+In" |  MUST      |  "None + Pending In"     |"#,
            r#"|  "To"                    |  MUST      |  "None"                  |"#,
            r#"|  "To + Pending In"       |  MUST      |  "None + Pending In"     |"#,
            r#"|  "From"                  |  S.N.      |  no state change         |"#,
            r#"|  "From + Pending Out"    |  MUST      |  "From"                  |"#,
            r#"|  "Both"                  |  MUST      |  "From"                  |"#,
        ],
    ),
];

/// The nine states by their names in A.1.
const NINE: [(&str, State); 9] = [
    ("None", State { to: ToHalf::No, from: FromHalf::No }),
    ("None + Pending Out", State { to: ToHalf::Pending, from: FromHalf::No }),
    ("None + Pending In", State { to: ToHalf::No, from: FromHalf::Pending }),
    ("None + Pending Out+In", State { to: ToHalf::Pending, from: FromHalf::Pending }),
    ("To", State { to: ToHalf::Yes, from: FromHalf::No }),
    ("To + Pending In", State { to: ToHalf::Yes, from: FromHalf::Pending }),
    ("From", State { to: ToHalf::No, from: FromHalf::Yes }),
    ("From + Pending Out", State { to: ToHalf::Pending, from: FromHalf::Yes }),
    ("Both", State { to: ToHalf::Yes, from: FromHalf::Yes }),
];

const KINDS: [Kind; 4] = [Subscribe, Subscribed, Unsubscribe, Unsubscribed];

fn named(name: &str) -> State {
    NINE.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no state {name}")).1
}

fn approved(name: &str) -> State {
    let state = named(name);
    assert_eq!(state.from, FromHalf::No, "{name} cannot be pre-approved");
    State { from: FromHalf::PreApproved, ..state }
}

/// All twelve states: the nine and those three with a pre-approval.
fn all() -> impl Iterator<Item = State> {
    let halves = [ToHalf::No, ToHalf::Pending, ToHalf::Yes];
    let others = [FromHalf::No, FromHalf::PreApproved, FromHalf::Pending, FromHalf::Yes];
    halves.into_iter().flat_map(move |to| others.map(|from| State { to, from }))
}

#[test]
fn every_row_of_every_table_of_appendix_a_holds() {
    let mut rows = 0;
    for (direction, kind, table) in TABLES {
        for row in table {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [existing, verdict, new] = cells[..] else { panic!("{row}") };
            let existing = named(existing.trim_matches('"'));
            let outcome = on_subscription(direction, existing, kind);
            let goes = outcome.forward != Forward::No;
            match verdict.split(' ').next() {
                Some("MUST") => assert!(goes, "{direction:?} {kind:?} {row}"),
                Some("S.N." | "M.N.") => assert!(!goes, "{direction:?} {kind:?} {row}"),
                _ => panic!("{row}"),
            }
            let expected = match new.trim_end_matches(" [1]") {
                "no state change" => existing,
                "pre-approval" => State { from: FromHalf::PreApproved, ..existing },
                name => named(name.trim_matches('"')),
            };
            assert_eq!(outcome.state, expected, "{direction:?} {kind:?} {row}");
            rows += 1;
        }
    }
    assert_eq!(rows, 72);
}

#[test]
fn the_notes_under_the_tables_hold() {
    for name in ["From", "From + Pending Out", "Both"] {
        // Table 6 note 2.
        assert_eq!(on_subscription(Inbound, named(name), Subscribe).reply, Some(Subscribed), "{name}");
    }
    for (name, state) in NINE {
        // Table 7 note 1: where the state changes.
        let outcome = on_subscription(Inbound, state, Unsubscribe);
        let expected = (outcome.state != state).then_some(Unsubscribed);
        assert_eq!(outcome.reply, expected, "{name}");
        // Table 2 note 1.
        let asked = on_subscription(Outbound, state, Subscribe).state;
        assert_eq!(asked.ask(), asked.to != ToHalf::Yes, "{name}");
    }
}

#[test]
fn nothing_else_is_ever_answered_by_the_server() {
    for state in all() {
        for kind in KINDS {
            assert_eq!(on_subscription(Outbound, state, kind).reply, None, "{state:?} {kind:?}");
        }
        for kind in [Subscribed, Unsubscribed] {
            assert_eq!(on_subscription(Inbound, state, kind).reply, None, "{state:?} {kind:?}");
        }
    }
}

#[test]
fn a_subscription_is_pre_approved_where_nothing_was_asked_and_stays_at_home() {
    // §3.4.2 rules 3 and 4.
    for name in ["None", "None + Pending Out", "To"] {
        let outcome = on_subscription(Outbound, named(name), Subscribed);
        assert_eq!(outcome.state, approved(name), "{name}");
        assert_eq!((outcome.forward, outcome.push, outcome.presence), (Forward::No, Push::Yes, Presence::Nothing));
    }
    // §3.4.2 rule 1.
    for name in ["From", "From + Pending Out", "Both"] {
        assert_eq!(on_subscription(Outbound, named(name), Subscribed), Outcome::nothing(named(name)), "{name}");
    }
    // Approving twice changes nothing.
    assert_eq!(on_subscription(Outbound, approved("To"), Subscribed), Outcome::nothing(approved("To")));
}

#[test]
fn a_pre_approved_request_is_answered_and_not_delivered() {
    // §3.4.2 and Table 6 note 1.
    for (before, after) in [("None", "From"), ("None + Pending Out", "From + Pending Out"), ("To", "Both")] {
        let outcome = on_subscription(Inbound, approved(before), Subscribe);
        assert_eq!(outcome.state, named(after), "{before}");
        assert_eq!((outcome.forward, outcome.reply), (Forward::No, Some(Subscribed)));
        assert_eq!((outcome.push, outcome.presence), (Push::Yes, Presence::Current));
        assert_eq!(outcome.request, Request::Leave, "nothing is kept for the user to answer");
    }
}

#[test]
fn a_pre_approval_is_used_up_by_the_request_it_answers() {
    let used = on_subscription(Inbound, approved("None"), Subscribe).state;
    let left = on_subscription(Inbound, used, Unsubscribe).state;
    let again = on_subscription(Inbound, left, Subscribe);
    assert_eq!((again.state, again.forward), (named("None + Pending In"), Forward::Available));
}

#[test]
fn a_pre_approval_is_cancelled_by_the_user_without_a_word_to_the_contact() {
    // §3.2.2 rule 2 and the last note of §3.4.2.
    for name in ["None", "None + Pending Out", "To"] {
        let outcome = on_subscription(Outbound, approved(name), Unsubscribed);
        assert_eq!(outcome, Outcome { push: Push::Yes, ..Outcome::nothing(named(name)) }, "{name}");
    }
}

#[test]
fn a_pre_approval_outlives_everything_that_is_about_the_other_half() {
    // §4.3.2 rule 1 for `unsubscribed`; the rest because the state is one of "None", "None + Pending Out", "To".
    for name in ["None", "None + Pending Out", "To"] {
        for (direction, kind) in [
            (Outbound, Subscribe),
            (Outbound, Unsubscribe),
            (Inbound, Subscribed),
            (Inbound, Unsubscribed),
            (Inbound, Unsubscribe),
        ] {
            let outcome = on_subscription(direction, approved(name), kind);
            assert!(outcome.state.approved(), "{name} {kind:?}");
            let plain = on_subscription(direction, named(name), kind);
            assert_eq!(Outcome { state: outcome.state, ..plain }, outcome, "{name} {kind:?}");
            assert_eq!(outcome.state.to, plain.state.to, "{name} {kind:?}");
        }
    }
}

#[test]
fn requests_go_to_available_sessions_and_the_rest_to_interested_ones() {
    for state in all() {
        for kind in KINDS {
            let out = on_subscription(Outbound, state, kind).forward;
            assert!(matches!(out, Forward::No | Forward::Contact), "{state:?} {kind:?}");
            let to = if kind == Subscribe { Forward::Available } else { Forward::Interested };
            let inbound = on_subscription(Inbound, state, kind).forward;
            assert!(inbound == Forward::No || inbound == to, "{state:?} {kind:?}");
        }
    }
}

/// What a roster item shows.
fn item(state: State) -> (Subscription, bool, bool) {
    (state.subscription(), state.ask(), state.approved())
}

#[test]
fn whatever_changes_a_roster_item_is_pushed() {
    for state in all() {
        for direction in [Outbound, Inbound] {
            for kind in KINDS {
                let outcome = on_subscription(direction, state, kind);
                let repeated = (direction, kind, state.to) == (Outbound, Subscribe, ToHalf::Pending); // §3.1.2
                let refused = (direction, kind, state.from) == (Outbound, Unsubscribed, FromHalf::Pending); // §3.2.2
                let expected = if item(outcome.state) != item(state) || repeated {
                    Push::Yes
                } else if refused {
                    Push::IfListed
                } else {
                    Push::No
                };
                assert_eq!(outcome.push, expected, "{direction:?} {state:?} {kind:?}");
            }
        }
    }
}

#[test]
fn the_request_of_a_stranger_never_makes_a_roster_item() {
    // §3.1.3, security warning; A.1 on "None + Pending In".
    let asked = on_subscription(Inbound, named("None"), Subscribe);
    assert_eq!((asked.push, asked.request, asked.state.needs_item()), (Push::No, Request::Keep, false));
    let refused = on_subscription(Outbound, asked.state, Unsubscribed);
    assert_eq!((refused.push, refused.request, refused.state), (Push::IfListed, Request::Forget, named("None")));
    let withdrawn = on_subscription(Inbound, asked.state, Unsubscribe);
    assert_eq!((withdrawn.push, withdrawn.request, withdrawn.state), (Push::No, Request::Forget, named("None")));
    let approved = on_subscription(Outbound, asked.state, Subscribed);
    assert_eq!((approved.push, approved.request, approved.state), (Push::Yes, Request::Forget, named("From")));
}

#[test]
fn a_request_is_kept_exactly_while_it_is_pending() {
    for state in all() {
        for direction in [Outbound, Inbound] {
            for kind in KINDS {
                let outcome = on_subscription(direction, state, kind);
                let expected = match (state.pending_in(), outcome.state.pending_in()) {
                    (false, true) => Request::Keep,
                    (true, false) => Request::Forget,
                    _ => Request::Leave,
                };
                assert_eq!(outcome.request, expected, "{direction:?} {state:?} {kind:?}");
            }
        }
    }
}

#[test]
fn presence_goes_only_to_contacts_who_may_see_it_or_could_until_now() {
    for state in all() {
        for direction in [Outbound, Inbound] {
            for kind in KINDS {
                let outcome = on_subscription(direction, state, kind);
                let expected = match (state.shows_presence(), outcome.state.shows_presence()) {
                    (false, true) => Presence::Current,                           // §3.1.5
                    (true, false) => Presence::Unavailable,                       // §3.2.2, §3.3.3
                    (true, true) if outcome.reply.is_some() => Presence::Current, // §3.1.3 rule 2
                    _ => Presence::Nothing,
                };
                assert_eq!(outcome.presence, expected, "{direction:?} {state:?} {kind:?}");
            }
        }
    }
}

#[test]
fn a_state_survives_being_stored_as_a_roster_item() {
    for state in all() {
        let stored = State::new(state.subscription(), state.ask(), state.pending_in(), state.approved());
        assert_eq!(stored, state);
    }
}

#[test]
fn contradictions_in_stored_items_are_dropped() {
    assert_eq!(State::new(Subscription::Both, true, true, true), named("Both"));
    assert_eq!(State::new(Subscription::To, true, true, true), named("To + Pending In"));
    assert_eq!(State::new(Subscription::From, true, true, true), named("From + Pending Out"));
    assert_eq!(State::new(Subscription::None, true, true, true), named("None + Pending Out+In"));
}

#[test]
fn names_in_rosters_are_read_as_they_are_written() {
    for subscription in [Subscription::None, Subscription::To, Subscription::From, Subscription::Both] {
        assert_eq!(Subscription::from_name(subscription.as_str()), Some(subscription));
    }
    assert_eq!(Subscription::from_name("remove"), None);
    assert_eq!(KINDS.map(Kind::as_str), ["subscribe", "subscribed", "unsubscribe", "unsubscribed"]);
}

#[test]
fn deleting_a_contact_ends_what_there_is_in_both_directions() {
    // §2.5.2 for the subscriptions, our decision for the open requests.
    let both: &[Kind] = &[Unsubscribe, Unsubscribed];
    for (name, send, presence) in [
        ("None", &[][..], Presence::Nothing),
        ("None + Pending Out", &[Unsubscribe], Presence::Nothing),
        ("None + Pending In", &[Unsubscribed], Presence::Nothing),
        ("None + Pending Out+In", both, Presence::Nothing),
        ("To", &[Unsubscribe], Presence::Nothing),
        ("To + Pending In", both, Presence::Nothing),
        ("From", &[Unsubscribed], Presence::Unavailable),
        ("From + Pending Out", both, Presence::Unavailable),
        ("Both", both, Presence::Unavailable),
    ] {
        let state = named(name);
        let removal = on_remove(state);
        assert_eq!((removal.send, removal.presence), (send, presence), "{name}");
        assert_eq!(removal.request == Request::Forget, state.pending_in(), "{name}");
        if state.from == FromHalf::No {
            assert_eq!(on_remove(approved(name)), removal, "a pre-approval goes without a word: {name}");
        }
    }
}

/// Runs a stanza of `a` for both sides, replies included, as a server with both accounts does.
fn exchange(a: &mut State, b: &mut State, kind: Kind) {
    let sent = on_subscription(Outbound, *a, kind);
    *a = sent.state;
    if sent.forward == Forward::Contact {
        let received = on_subscription(Inbound, *b, kind);
        *b = received.state;
        if let Some(reply) = received.reply {
            *a = on_subscription(Inbound, *a, reply).state;
        }
    }
}

fn agree(a: State, b: State) -> bool {
    let fits = |to, from| match to {
        ToHalf::No => matches!(from, FromHalf::No | FromHalf::PreApproved),
        ToHalf::Pending => from == FromHalf::Pending,
        ToHalf::Yes => from == FromHalf::Yes,
    };
    fits(a.to, b.from) && fits(b.to, a.from)
}

#[test]
fn two_rosters_that_agree_go_on_agreeing_whatever_is_sent() {
    let mut pairs = 0;
    for a in all() {
        for b in all().filter(|b| agree(a, *b)) {
            for kind in KINDS {
                let (mut a, mut b) = (a, b);
                exchange(&mut a, &mut b, kind);
                assert!(agree(a, b), "{a:?} {b:?} {kind:?}");
            }
            let removal = on_remove(a);
            let mut other = b;
            for kind in removal.send {
                other = on_subscription(Inbound, other, *kind).state;
            }
            assert!(agree(State::default(), other), "removal of {a:?} leaves {other:?}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 16);
}

#[test]
fn asking_and_approving_repairs_rosters_that_disagree() {
    for user in all() {
        for contact in all() {
            let (mut user, mut contact) = (user, contact);
            exchange(&mut user, &mut contact, Subscribe);
            exchange(&mut contact, &mut user, Subscribed);
            assert_eq!((user.to, contact.from), (ToHalf::Yes, FromHalf::Yes));
        }
    }
}
