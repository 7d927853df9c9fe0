//! What must hold for stanzas: kept in the peer's own bytes or written anew, they are the same.

use bytes::Bytes;
use vorpal_proto::element::{Element, el};
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::parse::{Limits, StreamContext, parse_open};
use vorpal_proto::stanza::{Kind, Stanza, StanzaFault};

use crate::make;
use crate::random::Random;
use crate::run::{Reached, Target};

/// Stanzas, read in both ways.
pub struct Stanzas {
    contexts: Vec<StreamContext>,
}

const SPACES: &[Ns] = &[
    ns::CLIENT,
    ns::PING,
    ns::ROSTER,
    ns::BIND,
    ns::CHAT_STATES,
    Ns::private("urn:x"),
    Ns::private("urn:p"),
    Ns::private("urn:unheard-of"),
    Ns::private(""),
];

const NAMES: &[&str] = &["body", "x", "query", "error", "a", "b", "active", "item", "_a", "message"];

impl Default for Stanzas {
    fn default() -> Stanzas {
        let open = |head: &str| {
            let header = format!("<{head} xmlns:q='urn:q' version='1.0' to='x'>");
            parse_open(header.as_bytes(), &Limits::default()).expect("a header").1
        };
        Stanzas {
            contexts: vec![
                StreamContext::default(),
                open(
                    "stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'",
                ),
                open("stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'"),
                open("s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:p='urn:p'"),
            ],
        }
    }
}

fn own(random: &mut Random, out: &mut String) {
    let kind = random.pick(&["message", "presence", "iq"]);
    out.push_str(&format!("<{kind}"));
    for (name, values) in [
        ("to", &["a@b/c", "x", "A@B.example/R", "", "a@", "m\u{FC}@x", "a&amp;b@c", "x/a &lt; b"][..]),
        ("from", &["a@b/c", "x", "", "@", "a@b/&quot;"]),
        ("type", &["chat", "groupchat", "error", "set", "get", "result", "unavailable", "subscribe", "odd", ""]),
        ("id", &["1", "", "&lt;&apos;", "\u{E4}", "a b"]),
        ("xml:lang", &["en", "", "x&amp;y"]),
        ("other", &["1"]),
    ] {
        if !random.one_in(if name == "type" { 4 } else { 2 }) {
            let value = if random.one_in(4) { random.pick(values) } else { values[0] };
            let value = if name == "type" { random.pick(values) } else { value };
            let quote = random.pick(&["'", "\""]);
            out.push_str(&format!(" {name}={quote}{value}{quote}"));
        }
    }
    out.push('>');
    let many = if random.one_in(30) { 60 + random.below(12) } else { random.below(6) };
    for _ in 0..many {
        let (name, space) = (random.pick(NAMES), SPACES[random.below(SPACES.len() - 1)].as_str());
        let space = if space == "jabber:client" { String::new() } else { format!(" xmlns='{space}'") };
        let inner = random.pick(&["", "t", "<a/>", "<b xmlns='urn:p'>x</b>", "a &amp; b", "<a b='c'>\n</a>"]);
        out.push_str(&format!("<{name}{space}>{inner}</{name}>"));
        if random.one_in(6) {
            out.push_str(random.pick(&[" ", "text", "\n", "&lt;"]));
        }
    }
    out.push_str(&format!("</{kind}>"));
}

impl Target for Stanzas {
    const NAME: &'static str = "stanza";
    const MUST: &'static [&'static str] = &[
        "plain",
        "rewritten",
        "header fault",
        "answered",
        "not a stanza",
        "xml fault",
        "hidden",
        "appended",
        "many children",
        "rebuilt",
        "text besides children",
        "language of the stream",
    ];

    fn make(&self, random: &mut Random) -> Vec<u8> {
        if random.one_in(3) {
            let odd = [0, 1, 3, 10][random.below(4)];
            return make::stanza(random, odd);
        }
        let mut out = String::new();
        own(random, &mut out);
        out.into_bytes()
    }

    fn check(&self, input: &[u8], random: &mut Random, reached: &mut Reached) -> Result<(), String> {
        let cx = &self.contexts[if random.one_in(2) { 0 } else { random.below(self.contexts.len()) }];
        let (frame, limits) = (Bytes::copy_from_slice(input), Limits::default());
        let plain = cx.scan(&frame, &limits).is_some();
        let (kept, anew) = (Stanza::read(&frame, cx, &limits, true), Stanza::read(&frame, cx, &limits, false));
        let (kept, anew) = match (kept, anew) {
            (Ok(kept), Ok(anew)) => (kept, anew),
            (Err(kept), Err(anew)) if kept == anew => return fault(&kept, reached),
            (kept, anew) => return Err(format!("one is refused: {:?}, {:?}", kept.err(), anew.err())),
        };
        reached.here(if plain { "plain" } else { "rewritten" });
        if cx.lang().is_some() && kept.head.lang.as_deref() == cx.lang() {
            reached.here("language of the stream");
        }
        let untouched = (kept.clone(), kept.to_xml());
        if anew.child_count() >= 64 {
            reached.here("many children");
        }
        same(&kept, &anew)?;
        edit(kept, anew, random, reached)?;
        if untouched.0.to_xml() != untouched.1 {
            return Err(format!("a clone changed: {} was {}", untouched.0.to_xml(), untouched.1));
        }
        Ok(())
    }
}

fn fault(fault: &StanzaFault, reached: &mut Reached) -> Result<(), String> {
    match fault {
        StanzaFault::NotAStanza => reached.here("not a stanza"),
        StanzaFault::Xml(_) => reached.here("xml fault"),
        StanzaFault::Header(fault) => {
            reached.here("header fault");
            if let Some(answer) = fault.answer() {
                reached.here("answered");
                let text = answer.to_xml();
                // The answer to an IQ without id has none either, and nobody reads it again.
                if answer.kind() == Kind::Iq && answer.head.id.as_deref().unwrap_or_default().is_empty() {
                    return Ok(());
                }
                let read = Stanza::parse(&text).map_err(|e| format!("an answer is no stanza: {e}: {text}"))?;
                same(&answer, &read)?;
            }
        }
    }
    Ok(())
}

fn edit(mut kept: Stanza, mut anew: Stanza, random: &mut Random, reached: &mut Reached) -> Result<(), String> {
    for _ in 0..random.below(4) {
        if random.one_in(3) {
            let element = el(*pick(random, NAMES), *pick(random, &SPACES[..SPACES.len() - 1])).text("a & b");
            kept.append(&element);
            anew.append(&element);
            reached.here("appended");
        } else {
            // One that is there, mostly.
            let there = anew.children();
            let one = there.get(random.below(there.len()));
            let space = one.and_then(|one| SPACES.iter().find(|ns| ns.as_str() == one.ns()));
            let name = one.map_or("a", Element::name).to_owned();
            let space = *space.unwrap_or(pick(random, SPACES));
            let only_empty = random.one_in(3);
            let before = anew.child_count();
            for stanza in [&mut kept, &mut anew] {
                stanza.hide(space, &name, |child| !only_empty || child.content().is_empty());
                if !only_empty && stanza.has(space, &name) {
                    return Err(format!("hidden and still there: {name} in {}", stanza.to_xml()));
                }
            }
            if anew.child_count() < before {
                reached.here(if there.len() > 64 { "rebuilt" } else { "hidden" });
            }
        }
        same(&kept, &anew)?;
    }
    if anew.to_element().nodes().len() > anew.child_count() {
        reached.here("text besides children");
    }
    Ok(())
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len())]
}

/// Same head, same children, same tree; and what is written is read as the same.
fn same(one: &Stanza, other: &Stanza) -> Result<(), String> {
    let head = |stanza: &Stanza| format!("{:?}", stanza.head);
    let wrong = |what: &str| Err(format!("{what}: {} | {}", one.to_xml(), other.to_xml()));
    if head(one) != head(other) {
        return wrong("heads differ");
    }
    let children = one.children();
    if children != other.children() || children.len() != one.child_count() || children.len() != other.child_count() {
        return wrong("children differ");
    }
    if one.to_element() != other.to_element() {
        return wrong("trees differ");
    }
    let payload = |s: &Stanza| s.payload().map(|(ns, view)| (ns, view.parse()));
    if payload(one) != payload(other) {
        return wrong("payloads differ");
    }
    for space in SPACES {
        let any = children.iter().any(|child| child.ns() == space.as_str());
        if one.has_any(*space) != any || other.has_any(*space) != any {
            let (one, other) = (one.has_any(*space), other.has_any(*space));
            return wrong(&format!("has_any: {space:?} {any} {one} {other}"));
        }
        if !any {
            continue;
        }
        for name in NAMES {
            let first = children.iter().find(|child| child.is(*space, name));
            if one.get(*space, name).as_ref() != first || other.get(*space, name).as_ref() != first {
                return wrong("get");
            }
        }
    }
    for stanza in [one, other] {
        let text = stanza.to_xml();
        for passthrough in [false, true] {
            let bytes = Bytes::from(text.clone().into_bytes());
            let again = Stanza::read(&bytes, &StreamContext::default(), &Limits::default(), passthrough);
            let again = again.map_err(|e| format!("we refuse what we wrote: {e}: {text}"))?;
            if head(&again) != head(stanza) || again.children() != children || again.to_element() != one.to_element() {
                return Err(format!("read again it is another: {text}: {}", again.to_xml()));
            }
        }
    }
    Ok(())
}
