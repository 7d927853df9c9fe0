//! Names for the ids that archives give to messages (XEP-0359): `{m1.juliet}` is the id of the message `m1` in the archive of juliet.
//!
//! The ids themselves say nothing to a reader. A name is a capture of [`crate::pattern`], so a scene also proves that a message
//! has the same id in live delivery, in copies and in results. Names are given when received stanzas are written into a file.

use vorpal_proto::element::Element;
use vorpal_proto::jid::Jid;
use vorpal_proto::ns;

use crate::pattern::Captures;

/// Replaces the ids of archives in the text of an element by names, and captures new ones.
pub fn name(element: &Element, mut text: String, captures: &mut Captures) -> String {
    let mut found = Vec::new();
    find(element, &mut found);
    for (name, id) in found {
        if captures.iter().any(|(known, value)| *value == id && known.contains('.')) {
            continue;
        }
        // Two messages with one id of their sender.
        let names = std::iter::once(name.clone()).chain((2..).map(|at| format!("{name}.{at}")));
        if let Some(free) = names.into_iter().find(|name| !captures.contains_key(name)) {
            captures.insert(free, id);
        }
    }
    for (name, id) in captures.iter().filter(|(name, _)| name.contains('.')) {
        text = text.replace(&format!("'{id}'"), &format!("'{{{name}}}'"));
        text = text.replace(&format!(">{id}<"), &format!(">{{{name}}}<"));
    }
    text
}

/// The ids of archives in an element, each with its name.
fn find(element: &Element, found: &mut Vec<(String, String)>) {
    let mut add = |message: &Element, archive: Option<&str>, id: Option<&str>| {
        let owner = archive.and_then(|jid| jid.parse::<Jid>().ok());
        let owner = owner.as_ref().and_then(|jid| jid.local().map(str::to_owned));
        if let (Some(owner), Some(id)) = (owner, id.filter(|id| is_ours(id))) {
            found.push((format!("{}.{owner}", message.get("id").unwrap_or("message")), id.to_owned()));
        }
    };
    if element.is(ns::CLIENT, "message") {
        for stamp in element.elements().filter(|child| child.is(ns::STANZA_ID, "stanza-id")) {
            add(element, stamp.get("by"), stamp.get("id"));
        }
        if let Some(result) = element.find(ns::MAM, "result")
            && let Some(message) = result.find(ns::FORWARD, "forwarded").and_then(|f| f.find(ns::CLIENT, "message"))
        {
            add(message, element.get("from"), result.get("id"));
        }
    }
    for child in element.elements() {
        find(child, found);
    }
}

/// Whether an id looks like those of the server. Others are written by clients, and remain as they are.
fn is_ours(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern;

    #[test]
    fn an_id_is_named_after_its_message_and_archive_wherever_it_stands() {
        let mut captures = Captures::new();
        let mut show = |xml: &str| name(&pattern::parse(xml).expect("XML"), xml.to_owned(), &mut captures);
        let (one, other) = ("0123456789abcdef", "fedcba9876543210");
        let stamp = |id: &str| format!("<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@x' id='{id}'/>");
        let live = |id: &str| format!("<message id='m1'>{}</message>", stamp(id));
        assert_eq!(show(&live(one)), live("{m1.juliet}"));
        let result = |id: &str| {
            format!(
                "<message from='juliet@x'><result xmlns='urn:xmpp:mam:2' id='{id}'><forwarded xmlns='urn:xmpp:forward:0'>\
                 <message xmlns='jabber:client' id='m1'/></forwarded></result></message>"
            )
        };
        assert_eq!(show(&result(one)), result("{m1.juliet}"));
        assert_eq!(show(&format!("<iq><first>{one}</first></iq>")), "<iq><first>{m1.juliet}</first></iq>");
        assert_eq!(show(&live(other)), live("{m1.juliet.2}"), "another message with this id");
        assert_eq!(show(&live("theirs")), live("theirs"), "a client wrote it");
    }
}
