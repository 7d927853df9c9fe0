//! What is worth keeping (XEP-0313 §6.1.1), whatever the user's preferences say of its sender or receiver.

use crate::prelude::*;

/// The reason for which a message is kept, or is not. The order counts: the type, then what the sender wants (XEP-0334),
/// then what is in it.
pub(super) fn judge(msg: &Stanza) -> std::result::Result<&'static str, &'static str> {
    match msg.type_() {
        // For the moment at which it is sent (RFC 6121 §5.2.2).
        Type::Headline => return Err("headline"),
        // The answer to one message, for the session that sent it. It is no conversation, and XEP-0334 §5 takes even the
        // wish to store it from it. §6.1.1 names neither it nor the session's address.
        Type::Error => return Err("error"),
        // The room has an archive (§6.1.2), and each of the user's sessions gets a copy of its own.
        Type::Groupchat => return Err("groupchat"),
        _ => {}
    }
    // Who wants it nowhere wins over who wants it somewhere: both may be said by mistake, and one can be made up for.
    for hint in ["no-store", "no-permanent-store"] {
        if msg.has(ns::HINTS, hint) {
            return Err(hint);
        }
    }
    if msg.has(ns::HINTS, "store") {
        return Ok("store");
    }
    CONTENTS
        .iter()
        .find(|(ns, names, _)| match names {
            [] => msg.has_any(*ns),
            names => names.iter().any(|name| msg.has(*ns, name)),
        })
        .map(|(.., why)| *why)
        .or_else(|| invitation(msg).then_some("invitation"))
        .ok_or("nothing to keep in it")
}

/// A namespace, the names in it that count (none: all do), and why.
type Content = (ns::Ns, &'static [&'static str], &'static str);

/// What a conversation is made of, and what changes how it is shown. Not: who is typing (XEP-0085), and what only asks for
/// something (`<request/>`, `<markable/>`).
const CONTENTS: &[Content] = &[
    (ns::CLIENT, &["body"], "body"),
    (ns::CLIENT, &["subject"], "subject"),
    // Encrypted: a client without the body would miss the message.
    (ns::EME, &["encryption"], "encrypted"),
    (ns::OMEMO, &["encrypted"], "encrypted"),
    (ns::OMEMO_2, &["encrypted"], "encrypted"),
    (ns::OPENPGP, &["openpgp"], "encrypted"),
    (ns::OPENPGP_OLD, &["x"], "encrypted"),
    (ns::RECEIPTS, &["received"], "receipt"),
    (ns::CHAT_MARKERS, &["received", "displayed", "acknowledged"], "marker"),
    (ns::CORRECT, &["replace"], "correction"),
    // XEP-0424 §5.1: clients that were away learn of it here.
    (ns::RETRACT, &["retract"], "retraction"),
    (ns::REACTIONS, &["reactions"], "reaction"),
    (ns::CONFERENCE, &["x"], "invitation"),
    // XEP-0353: who called.
    (ns::JINGLE_MESSAGE, &[], "call"),
];

/// XEP-0045 §7.8.2: through the room.
fn invitation(msg: &Stanza) -> bool {
    msg.get(ns::MUC_USER, "x").is_some_and(|x| x.has(ns::MUC_USER, "invite") || x.has(ns::MUC_USER, "decline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_reason() {
        let body = "<body>hi</body>";
        let hint = |name: &str| format!("<{name} xmlns='urn:xmpp:hints'/>");
        let cases = [
            ("chat", body.to_owned(), Ok("body")),
            ("", body.to_owned(), Ok("body")),
            ("normal", "<subject>s</subject>".into(), Ok("subject")),
            ("headline", body.to_owned() + &hint("store"), Err("headline")),
            ("groupchat", body.to_owned() + &hint("store"), Err("groupchat")),
            ("error", body.to_owned() + &hint("store"), Err("error")),
            ("chat", body.to_owned() + &hint("no-store"), Err("no-store")),
            ("chat", body.to_owned() + &hint("no-permanent-store"), Err("no-permanent-store")),
            ("chat", body.to_owned() + &hint("no-copy"), Ok("body")),
            ("chat", body.to_owned() + &hint("store") + &hint("no-store"), Err("no-store")),
            ("chat", "<active xmlns='http://jabber.org/protocol/chatstates'/>".into(), Err("nothing to keep in it")),
            (
                "chat",
                "<composing xmlns='http://jabber.org/protocol/chatstates'/>".to_owned() + &hint("store"),
                Ok("store"),
            ),
            ("chat", "<thread>t</thread>".into(), Err("nothing to keep in it")),
            ("chat", "<foo xmlns='urn:example'/>".into(), Err("nothing to keep in it")),
            ("chat", "<foo xmlns='urn:example'/>".to_owned() + &hint("store"), Ok("store")),
            ("chat", "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>".into(), Ok("encrypted")),
            ("chat", "<encrypted xmlns='eu.siacs.conversations.axolotl'/>".into(), Ok("encrypted")),
            ("chat", "<encrypted xmlns='urn:xmpp:omemo:2'/>".into(), Ok("encrypted")),
            ("chat", "<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>".into(), Ok("encrypted")),
            ("chat", "<x xmlns='jabber:x:encrypted'>x</x>".into(), Ok("encrypted")),
            ("", "<received xmlns='urn:xmpp:receipts' id='1'/>".into(), Ok("receipt")),
            ("chat", "<request xmlns='urn:xmpp:receipts'/>".into(), Err("nothing to keep in it")),
            ("chat", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>".into(), Ok("marker")),
            ("chat", "<markable xmlns='urn:xmpp:chat-markers:0'/>".into(), Err("nothing to keep in it")),
            ("chat", "<replace xmlns='urn:xmpp:message-correct:0' id='1'/>".into(), Ok("correction")),
            ("chat", "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>".into(), Ok("retraction")),
            ("chat", "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>".into(), Ok("reaction")),
            ("", "<x xmlns='jabber:x:conference' jid='a@b'/>".into(), Ok("invitation")),
            ("", "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>".into(), Ok("invitation")),
            ("", "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='a@b'/></x>".into(), Ok("invitation")),
            ("", "<x xmlns='http://jabber.org/protocol/muc#user'/>".into(), Err("nothing to keep in it")),
            ("chat", "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>".into(), Ok("call")),
            ("", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>".into(), Err("nothing to keep in it")),
        ];
        for (kind, inner, said) in cases {
            let kind = if kind.is_empty() { String::new() } else { format!(" type='{kind}'") };
            let xml = format!("<message{kind}>{inner}</message>");
            assert_eq!(judge(&Stanza::parse(&xml).expect("a stanza")), said, "{xml}");
        }
    }
}
