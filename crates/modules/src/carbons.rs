//! XEP-0280: Message Carbons.
//!
//! Copies a message to the account's other sessions that asked for it.
//!
//! Hooks:  message/Clean, message/Copy
//! Stores: nothing; one flag for each session
//! Config: none
//! Limits: as many copies as sessions
//! Not:    removal of `<private/>`, which §9 no longer asks for

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "carbons", xeps: &[Xep(280, "1.0.1")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    let wants = m.session_flag("carbons")?;
    m.feature(ns::CARBONS);
    // §6.2: the rules of §6.1 as they stand.
    m.feature(ns::CARBONS_RULES);
    m.iq_set(At::OwnAccount, ns::CARBONS, "enable", move |cx, _| switch(cx, wants, true));
    m.iq_set(At::OwnAccount, ns::CARBONS, "disable", move |cx, _| switch(cx, wants, false));
    m.on_received_message(Phase::Clean, strip_wrappers);
    m.on_message(Phase::Copy, move |cx, msg| copy(cx, msg, wants));
    Ok(())
}

/// §4, §5: for the session that asks, from the next stanza on.
fn switch(cx: &mut IqCx<'_>, wants: Flag, on: bool) -> vorpal_core::session::inquiries::Answer {
    if let Some(session) = cx.session {
        session.set(wants, on);
        cx.fx.save_session();
    }
    ok()
}

/// §11: a wrapper comes from the account itself or it is forged; not every client looks.
fn strip_wrappers(cx: &mut MessageCx<'_>, msg: &mut Stanza) -> Flow {
    if cx.peer.as_str() != cx.account.jid.as_str() {
        for name in ["received", "sent"] {
            msg.hide(ns::CARBONS, name, |_| true);
        }
    }
    Flow::Next
}

/// §7 and §8: every session that wants carbons and does not get the message itself.
fn copy(cx: &mut MessageCx<'_>, msg: &mut Stanza, wants: Flag) -> Flow {
    let eligible = match msg.type_() {
        Type::Error => answers_eligible(msg, cx.dir, cx.account.has_joined(cx.peer), cx.peer.is_bare()),
        _ => eligible(msg, cx.dir),
    };
    if eligible {
        cx.fx.copy(wants);
    }
    Flow::Next
}

/// §6.1, of a message that is no error.
fn eligible(msg: &Stanza, dir: Dir) -> bool {
    if is_private(msg) || msg.type_() == Type::Groupchat {
        return false;
    }
    if is_invitation(msg) {
        return true;
    }
    // The room has sent it to each of the user's sessions already.
    if is_of_room(msg) && dir == Dir::Received {
        return false;
    }
    match msg.type_() {
        Type::Chat => true,
        Type::None | Type::Normal if msg.has(ns::CLIENT, "body") => true,
        // Whatever its type.
        _ => [ns::RECEIPTS, ns::CHAT_STATES, ns::CHAT_MARKERS].iter().any(|ns| msg.has_any(*ns)),
    }
}

/// §6.1: an error is eligible if what it answers was. Nothing is remembered of messages, so this is read from what the
/// error carries back of it (RFC 6120 §8.3.1 rule 6), and from where it is from. The type of what it answers is lost:
/// where nothing says otherwise, it is taken for a chat message, as most are. The other sessions have a copy of that one,
/// and would show it as delivered. What this server refuses itself is judged by the message (`Core::failed_copies`).
fn answers_eligible(error: &Stanza, dir: Dir, of_joined_room: bool, peer_is_bare: bool) -> bool {
    // Hints of an error are those of what it answers: XEP-0334 §5 has them ignored for the error's own sake only.
    if is_private(error) {
        return false;
    }
    match dir {
        // It answers what the account sent: to the room itself that was groupchat, to an occupant a private message.
        Dir::Received => is_invitation(error) || !(of_joined_room && peer_is_bare),
        // It answers what the account received: of a room that was eligible only if it invites.
        Dir::Sent => is_invitation(error) || !(of_joined_room || is_of_room(error)),
    }
}

/// What no other session is to have: §6.1 and §9; XEP-0334 §4.3. A wrapper of carbons in what a client sends is forged
/// (§11), or comes back with a copy that bounced (§10.3).
fn is_private(msg: &Stanza) -> bool {
    msg.has(ns::CARBONS, "private")
        || msg.has(ns::HINTS, "no-copy")
        || msg.has(ns::CARBONS, "received")
        || msg.has(ns::CARBONS, "sent")
}

/// XEP-0249, XEP-0045 §7.8.2.
fn is_invitation(msg: &Stanza) -> bool {
    msg.has(ns::CONFERENCE, "x") || msg.get(ns::MUC_USER, "x").is_some_and(|x| x.has(ns::MUC_USER, "invite"))
}

fn is_of_room(msg: &Stanza) -> bool {
    msg.has(ns::MUC_USER, "x")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(xml: &str, dir: Dir) -> bool {
        eligible(&Stanza::parse(xml).expect("a stanza"), dir)
    }

    #[test]
    fn the_rules_of_eligibility_are_those_of_section_6_1() {
        let cases = [
            ("<message type='chat'><body>hi</body></message>", true, true),
            ("<message type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>", true, true),
            ("<message><body>hi</body></message>", true, true),
            ("<message><received xmlns='urn:xmpp:receipts' id='1'/></message>", true, true),
            ("<message><foo xmlns='urn:example'/></message>", false, false),
            ("<message type='groupchat'><body>hi</body></message>", false, false),
            ("<message type='headline'><body>hi</body></message>", false, false),
            ("<message type='headline'><received xmlns='urn:xmpp:receipts' id='1'/></message>", true, true),
            ("<message><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/></message>", true, true),
            ("<message type='groupchat'><received xmlns='urn:xmpp:receipts' id='1'/></message>", false, false),
            ("<message type='groupchat'><x xmlns='jabber:x:conference' jid='a@b'/></message>", false, false),
            (
                "<message><x xmlns='jabber:x:conference' jid='a@b'/><private xmlns='urn:xmpp:carbons:2'/></message>",
                false,
                false,
            ),
            ("<message type='chat'><sent xmlns='urn:xmpp:carbons:2'/></message>", false, false),
            (
                "<message type='chat'><body>a</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>",
                true,
                false,
            ),
            ("<message><x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x></message>", true, true),
            ("<message><x xmlns='jabber:x:conference' jid='a@b'/></message>", true, true),
            ("<message type='chat'><body>a</body><private xmlns='urn:xmpp:carbons:2'/></message>", false, false),
            ("<message type='chat'><body>a</body><no-copy xmlns='urn:xmpp:hints'/></message>", false, false),
        ];
        for (xml, sent, received) in cases {
            assert_eq!(judge(xml, Dir::Sent), sent, "sent {xml}");
            assert_eq!(judge(xml, Dir::Received), received, "received {xml}");
        }
    }

    #[test]
    fn an_error_is_judged_by_what_it_carries_back_and_where_it_is_from() {
        // Of whom: somebody; a room that was joined; an occupant of it.
        let cases = [
            ("", [true, false, true], [true, false, false]),
            ("<body>hi</body>", [true, false, true], [true, false, false]),
            ("<private xmlns='urn:xmpp:carbons:2'/>", [false; 3], [false; 3]),
            ("<no-copy xmlns='urn:xmpp:hints'/>", [false; 3], [false; 3]),
            ("<received xmlns='urn:xmpp:carbons:2'/>", [false; 3], [false; 3]),
            ("<x xmlns='jabber:x:conference' jid='a@b'/>", [true; 3], [true; 3]),
            ("<x xmlns='http://jabber.org/protocol/muc#user'/>", [true, false, true], [false; 3]),
        ];
        for (carried, received, sent) in cases {
            let error = Stanza::parse(&format!("<message type='error'>{carried}<error type='cancel'/></message>"));
            let error = error.expect("a stanza");
            for (at, (joined, bare)) in [(false, true), (true, true), (true, false)].into_iter().enumerate() {
                assert_eq!(
                    answers_eligible(&error, Dir::Received, joined, bare),
                    received[at],
                    "received {carried} {at}"
                );
                assert_eq!(answers_eligible(&error, Dir::Sent, joined, bare), sent[at], "sent {carried} {at}");
            }
        }
    }
}
