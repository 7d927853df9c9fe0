//! The table of RFC 6121 §8.5.4 as it stands there, the rules of §8.5 that it leaves out, and what must hold everywhere.

use super::*;
use Account::{Missing, NonNegative, NoneAvailable, OnlyNegative};
use Decision::{Bounce, Deliver, Handle, Ignore, Store};
use Selector::{AllAvailable, AllNonNegative, HighestPriority, ThatSession};

/// Table 1 of §8.5.4: what is allowed for normal, chat, groupchat and headline; then our choice of it.
const TABLE: [(&str, &str); 14] = [
    ("| ACCOUNT DOES NOT EXIST                                   |", ""),
    ("|  bare            |  S/E   |  S/E  |     E     |    S     |", "E E E S"),
    ("|  full            |  S/E   |  S/E  |    S/E    |   S/E    |", "E E E S"),
    ("| ACCOUNT EXISTS, BUT NO ACTIVE RESOURCES                  |", ""),
    ("|  bare            |  O/E   |  O/E  |     E     |    S     |", "O O E S"),
    ("|  full (no match) |  S/E   |  O/E  |    S/E    |   S/E    |", "E O E S"),
    ("| 1+ NEGATIVE RESOURCES BUT ZERO NON-NEGATIVE RESOURCES    |", ""),
    ("|  bare            |  O/E   |  O/E  |     E     |    S     |", "O O E S"),
    ("|  full match      |   D    |   D   |     D     |    D     |", "D D D D"),
    ("|  full no match   |  S/E   |  O/E  |    S/E    |   S/E    |", "E O E S"),
    ("| 1+ NON-NEGATIVE RESOURCES                                |", ""),
    ("|  bare            |  M/A   |  M/A* |     E     |    A     |", "M M E A"),
    ("|  full match      |   D    |  D/A* |     D     |    D     |", "D D D D"),
    ("|  full no match   |  S/E   |  M/A* |    S/E    |   S/E    |", "E M E S"),
];

/// The rows for exactly one session of non-negative priority, where the letter D means that session.
const TABLE_ONE: [&str; 3] = [
    "|  bare            |   D    |   D   |     E     |    D     |",
    "|  full match      |   D    |   D   |     D     |    D     |",
    "|  full no match   |  S/E   |   D   |    S/E    |   S/E    |",
];

const COLUMNS: [MessageType; 4] =
    [MessageType::Normal, MessageType::Chat, MessageType::Groupchat, MessageType::Headline];

/// The cells of a row: the address, then what is allowed for each type.
fn cells(row: &str) -> (Vec<To>, Vec<&str>) {
    let mut cells = row.trim_matches('|').split('|').map(str::trim);
    let to = match cells.next() {
        Some("bare") => vec![To::Bare],
        Some("full") => vec![To::Full { matched: false }, To::Full { matched: true }],
        Some("full match") => vec![To::Full { matched: true }],
        Some("full no match" | "full (no match)") => vec![To::Full { matched: false }],
        _ => panic!("{row}"),
    };
    (to, cells.collect())
}

fn letter(decision: &Decision) -> char {
    match decision {
        Store => 'O',
        Bounce(Condition::ServiceUnavailable) => 'E',
        Ignore(_) => 'S',
        Deliver(ThatSession) => 'D',
        Deliver(HighestPriority) => 'M',
        Deliver(AllNonNegative) => 'A',
        other => panic!("{other:?} is not in the table"),
    }
}

#[test]
fn every_cell_of_the_table_of_8_5_4_is_allowed_and_as_we_chose() {
    let mut account = Missing;
    let mut checked = 0;
    for (row, ours) in TABLE {
        if ours.is_empty() {
            account = match row.trim_matches(['|', ' ']) {
                "ACCOUNT DOES NOT EXIST" => Missing,
                "ACCOUNT EXISTS, BUT NO ACTIVE RESOURCES" => NoneAvailable,
                "1+ NEGATIVE RESOURCES BUT ZERO NON-NEGATIVE RESOURCES" => OnlyNegative,
                "1+ NON-NEGATIVE RESOURCES" => NonNegative,
                _ => panic!("{row}"),
            };
            continue;
        }
        let (addresses, allowed) = cells(row);
        assert_eq!(allowed.len(), 4, "{row}");
        for to in addresses {
            for ((kind, allowed), ours) in COLUMNS.into_iter().zip(&allowed).zip(ours.split(' ')) {
                let got = letter(&decide(Stanza::Message(kind), to, account, Flags::default()));
                assert!(allowed.trim_end_matches('*').split('/').any(|a| a == got.to_string()), "{row} {kind:?} {got}");
                assert_eq!(got.to_string(), ours, "{row} {kind:?}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 4 * 11);
}

#[test]
fn with_one_session_every_way_of_choosing_comes_to_that_session() {
    for row in TABLE_ONE {
        let (addresses, allowed) = cells(row);
        for to in addresses {
            for (kind, allowed) in COLUMNS.into_iter().zip(&allowed) {
                let got = match letter(&decide(Stanza::Message(kind), to, NonNegative, Flags::default())) {
                    'M' | 'A' => 'D',
                    other => other,
                };
                assert!(allowed.split('/').any(|a| a == got.to_string()), "{row} {kind:?} {got}");
            }
        }
    }
}

const ACCOUNTS: [Account; 4] = [Missing, NoneAvailable, OnlyNegative, NonNegative];
const ADDRESSES: [To; 3] = [To::Bare, To::Full { matched: false }, To::Full { matched: true }];
const KINDS: [Kind; 4] = [Kind::Subscribe, Kind::Subscribed, Kind::Unsubscribe, Kind::Unsubscribed];

fn stanzas() -> Vec<Stanza> {
    use PresenceType::{Available, Probe, Subscription, Unavailable};
    let messages = COLUMNS.into_iter().chain([MessageType::Error]).map(Stanza::Message);
    let plain = [Available, Unavailable, Probe, PresenceType::Error].map(Stanza::Presence);
    let subscriptions = KINDS.map(|kind| Stanza::Presence(Subscription(kind)));
    let iqs = [IqType::Get, IqType::Set, IqType::Result, IqType::Error].map(Stanza::Iq);
    messages.chain(plain).chain(subscriptions).chain(iqs).collect()
}

/// Every question there is.
fn questions() -> impl Iterator<Item = (Stanza, To, Account, Flags)> {
    let flags = [(false, false), (false, true), (true, false), (true, true)]
        .map(|(from_room, shares_presence)| Flags { from_room, shares_presence });
    stanzas().into_iter().flat_map(move |stanza| {
        ADDRESSES.into_iter().flat_map(move |to| {
            ACCOUNTS.into_iter().flat_map(move |account| flags.map(|flags| (stanza, to, account, flags)))
        })
    })
}

#[test]
fn errors_results_and_presence_are_never_bounced() {
    for (stanza, to, account, flags) in questions() {
        let answered = match stanza {
            Stanza::Message(kind) => kind != MessageType::Error,
            Stanza::Presence(_) => false,
            Stanza::Iq(kind) => matches!(kind, IqType::Get | IqType::Set),
        };
        if !answered {
            let decision = decide(stanza, to, account, flags);
            assert!(!matches!(decision, Bounce(_)), "{stanza:?} {to:?} {account:?}: {decision:?}");
        }
    }
}

#[test]
fn a_question_is_never_left_without_an_answer() {
    for (stanza, to, account, flags) in questions() {
        if let Stanza::Iq(IqType::Get | IqType::Set) = stanza {
            let decision = decide(stanza, to, account, flags);
            let fine = matches!(decision, Bounce(_) | Handle(Handler::Iq) | Deliver(ThatSession));
            assert!(fine, "{to:?} {account:?}: {decision:?}");
        }
    }
}

#[test]
fn nothing_is_delivered_to_sessions_that_are_not_there() {
    for (stanza, to, account, flags) in questions() {
        if let Deliver(selector) = decide(stanza, to, account, flags) {
            let there = match selector {
                ThatSession => account != Missing && to == To::Full { matched: true },
                HighestPriority | AllNonNegative => account == NonNegative,
                AllAvailable => matches!(account, OnlyNegative | NonNegative),
            };
            assert!(there, "{stanza:?} {to:?} {account:?}: {selector:?}");
        }
    }
}

#[test]
fn only_messages_are_stored_and_only_for_accounts_that_exist() {
    for (stanza, to, account, flags) in questions() {
        if decide(stanza, to, account, flags) == Store {
            assert!(matches!(stanza, Stanza::Message(MessageType::Normal | MessageType::Chat)), "{stanza:?}");
            assert!(matches!(account, NoneAvailable | OnlyNegative), "{stanza:?} {account:?}");
            assert_ne!(to, To::Full { matched: true });
        }
    }
}

#[test]
fn sessions_of_negative_priority_count_as_no_sessions_for_messages() {
    // §8.5.2.1.1, the rule for any type.
    for (stanza, to, _, flags) in questions() {
        if matches!(stanza, Stanza::Message(_)) {
            assert_eq!(decide(stanza, to, OnlyNegative, flags), decide(stanza, to, NoneAvailable, flags), "{stanza:?}");
        }
    }
}

#[test]
fn a_private_message_from_a_room_to_a_session_that_is_gone_goes_back() {
    let flags = Flags { from_room: true, ..Flags::default() };
    let chat = Stanza::Message(MessageType::Chat);
    for account in ACCOUNTS {
        let gone = decide(chat, To::Full { matched: false }, account, flags);
        assert_eq!(gone, Bounce(Condition::ServiceUnavailable), "{account:?}");
    }
    // It changes nothing else.
    for (stanza, to, account, _) in questions() {
        if stanza != chat || to != (To::Full { matched: false }) {
            assert_eq!(decide(stanza, to, account, flags), decide(stanza, to, account, Flags::default()), "{stanza:?}");
        }
    }
}

#[test]
fn an_error_reaches_the_session_it_is_for_and_nobody_else() {
    let error = Stanza::Message(MessageType::Error);
    for account in [NoneAvailable, OnlyNegative, NonNegative] {
        let there = decide(error, To::Full { matched: true }, account, Flags::default());
        assert_eq!(there, Deliver(ThatSession), "{account:?}");
        for to in [To::Bare, To::Full { matched: false }] {
            assert!(matches!(decide(error, to, account, Flags::default()), Ignore(_)), "{account:?} {to:?}");
        }
    }
}

fn presence_to(kind: PresenceType, to: To, account: Account) -> Decision {
    decide(Stanza::Presence(kind), to, account, Flags::default())
}

#[test]
fn presence_to_the_bare_address_goes_to_all_available_sessions() {
    // §8.5.2.1.2 and §8.5.2.2.2.
    for kind in [PresenceType::Available, PresenceType::Unavailable, PresenceType::Error] {
        assert_eq!(presence_to(kind, To::Bare, NonNegative), Deliver(AllAvailable));
        assert_eq!(presence_to(kind, To::Bare, OnlyNegative), Deliver(AllAvailable));
        assert!(matches!(presence_to(kind, To::Bare, NoneAvailable), Ignore(_)));
    }
}

#[test]
fn presence_to_a_full_address_goes_to_that_session_or_nowhere() {
    // §8.5.3.1 and §8.5.3.2.2.
    for kind in [PresenceType::Available, PresenceType::Unavailable, PresenceType::Error] {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            assert_eq!(presence_to(kind, To::Full { matched: true }, account), Deliver(ThatSession));
            assert!(matches!(presence_to(kind, To::Full { matched: false }, account), Ignore(_)));
        }
    }
}

#[test]
fn subscriptions_are_handled_unless_their_session_is_gone() {
    for kind in KINDS {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            let handled = Handle(Handler::Subscription(kind));
            // §8.5.2.1.2, §8.5.2.2.2, §8.5.3.1.
            for to in [To::Bare, To::Full { matched: true }] {
                assert_eq!(presence_to(PresenceType::Subscription(kind), to, account), handled);
            }
            // §8.5.3.2.2.
            let gone = presence_to(PresenceType::Subscription(kind), To::Full { matched: false }, account);
            if kind == Kind::Subscribe {
                assert_eq!(gone, handled);
            } else {
                assert!(matches!(gone, Ignore(_)), "{kind:?}");
            }
        }
    }
}

#[test]
fn probes_are_handled_whatever_the_address() {
    for to in ADDRESSES {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            assert_eq!(presence_to(PresenceType::Probe, to, account), Handle(Handler::Probe));
        }
        assert_eq!(presence_to(PresenceType::Probe, to, Missing), Handle(Handler::RefuseProbe));
    }
}

#[test]
fn an_account_that_does_not_exist_answers_as_8_5_1_asks() {
    for (stanza, to, _, flags) in questions() {
        let decision = decide(stanza, to, Missing, flags);
        let fine = match stanza {
            Stanza::Iq(IqType::Get | IqType::Set) => decision == Bounce(Condition::ServiceUnavailable),
            Stanza::Iq(_) => matches!(decision, Ignore(_)),
            Stanza::Message(_) => matches!(decision, Ignore(_) | Bounce(Condition::ServiceUnavailable)),
            Stanza::Presence(PresenceType::Probe) => decision == Handle(Handler::RefuseProbe),
            Stanza::Presence(_) => matches!(decision, Ignore(_)),
        };
        assert!(fine, "{stanza:?} {to:?}: {decision:?}");
    }
}

#[test]
fn the_server_answers_questions_to_the_bare_address_itself() {
    // §8.5.2.1.3 and §8.5.2.2.3.
    for kind in [IqType::Get, IqType::Set] {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            assert_eq!(decide(Stanza::Iq(kind), To::Bare, account, Flags::default()), Handle(Handler::Iq));
        }
    }
}

#[test]
fn a_stranger_cannot_tell_a_session_from_none_by_asking_it() {
    // §8.5.3.1 and §8.5.3.2.3.
    let contact = Flags { shares_presence: true, ..Flags::default() };
    for kind in [IqType::Get, IqType::Set] {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            let there = To::Full { matched: true };
            let gone = decide(Stanza::Iq(kind), To::Full { matched: false }, account, Flags::default());
            assert_eq!(gone, Bounce(Condition::ServiceUnavailable));
            assert_eq!(decide(Stanza::Iq(kind), there, account, Flags::default()), gone);
            assert_eq!(decide(Stanza::Iq(kind), there, account, contact), Deliver(ThatSession));
        }
    }
    assert_eq!(
        decide(Stanza::Iq(IqType::Get), To::Full { matched: false }, Missing, Flags::default()),
        Bounce(Condition::ServiceUnavailable)
    );
}

#[test]
fn an_answer_reaches_its_session_even_from_a_stranger() {
    for kind in [IqType::Result, IqType::Error] {
        for account in [NoneAvailable, OnlyNegative, NonNegative] {
            let there = decide(Stanza::Iq(kind), To::Full { matched: true }, account, Flags::default());
            assert_eq!(there, Deliver(ThatSession));
            for to in [To::Bare, To::Full { matched: false }] {
                assert!(matches!(decide(Stanza::Iq(kind), to, account, Flags::default()), Ignore(_)));
            }
        }
    }
}
