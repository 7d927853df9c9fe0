//! XEP-0280: Message Carbons.
//!
//! Copies a message to the account's other sessions that asked for it.
//!
//! Hooks:  message/Clean, message/Copy
//! Stores: nothing; one flag for each session
//! Config: none
//! Limits: as many copies as sessions
//! Not:    removal of `<private/>`, which §9 no longer asks for; copies of errors by what they answer (§6.1)

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "carbons", xeps: &[Xep(280, "1.0.1")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    let wants = m.session_flag("carbons")?;
    m.feature(ns::CARBONS);
    m.iq_set(At::OwnAccount, ns::CARBONS, "enable", move |cx, _| switch(cx, wants, true));
    m.iq_set(At::OwnAccount, ns::CARBONS, "disable", move |cx, _| switch(cx, wants, false));
    m.on_message(Phase::Clean, strip_wrappers);
    m.on_message(Phase::Copy, move |cx, msg| copy(cx, msg, wants));
    Ok(())
}

/// §4, §5: for the session that asks, from the next stanza on.
fn switch(cx: &mut IqCx<'_>, wants: Flag, on: bool) -> vorpal_core::hook::Answer {
    if let Some(session) = cx.session {
        session.set(wants, on);
        cx.fx.save_session();
    }
    ok()
}

/// §11: a wrapper comes from the account itself or it is forged; not every client looks.
fn strip_wrappers(cx: &mut MessageCx<'_>, msg: &mut Stanza) -> Flow {
    if cx.dir == Dir::Received && cx.peer.as_str() != cx.account.jid.as_str() {
        for name in ["received", "sent"] {
            msg.hide(ns::CARBONS, name, |_| true);
        }
    }
    Flow::Next
}

/// §7 and §8: every session that wants carbons and does not get the message itself.
fn copy(cx: &mut MessageCx<'_>, msg: &mut Stanza, wants: Flag) -> Flow {
    if eligible(msg, cx.dir) {
        cx.fx.copy(wants);
    }
    Flow::Next
}

/// §6.1, in its order.
fn eligible(msg: &Stanza, dir: Dir) -> bool {
    // §6.1: private messages, and what a sender wants nobody else to have (XEP-0334 §4.4).
    if msg.has(ns::CARBONS, "private") || msg.has(ns::HINTS, "no-copy") {
        return false;
    }
    // A carbon of a carbon would never end.
    if msg.has(ns::CARBONS, "received") || msg.has(ns::CARBONS, "sent") {
        return false;
    }
    let room_user = msg.has(ns::MUC_USER, "x");
    let mediated = msg.get(ns::MUC_USER, "x").is_some_and(|x| x.has(ns::MUC_USER, "invite"));
    let invitation = msg.has(ns::CONFERENCE, "x") || mediated;
    let im = [ns::RECEIPTS, ns::CHAT_STATES, ns::CHAT_MARKERS].iter().any(|ns| msg.has_any(*ns));
    match msg.type_() {
        Type::Groupchat => false,
        _ if invitation => true,
        // The room has sent it to each of the user's sessions already.
        _ if room_user && dir == Dir::Received => false,
        Type::Chat => true,
        Type::None | Type::Normal => im || msg.has(ns::CLIENT, "body"),
        _ => false,
    }
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
}
