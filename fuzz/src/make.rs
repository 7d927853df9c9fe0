//! Input that is nearly XML: a grammar with slips, and mutation of what there is.

use crate::random::Random;

/// Pieces a mutation inserts: every character and construct that has confused a parser somewhere.
pub const ALPHABET: &[&[u8]] = &[
    b"<",
    b">",
    b"/",
    b"&",
    b"'",
    b"\"",
    b"=",
    b":",
    b";",
    b"!",
    b"?",
    b"-",
    b".",
    b"_",
    b"#",
    b"0",
    b"9",
    b"a",
    b"]",
    b"[",
    b" ",
    b"  ",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\x01",
    b"\x08",
    b"\x0B",
    b"\x0C",
    b"\x1F",
    b"\x7F",
    b"]]>",
    b"]]",
    b"</",
    b"/>",
    b"<!",
    b"<?",
    b"?>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"<![CDATA[]]>",
    b"<![CDATA[x]]>",
    b"<!DOCTYPE a>",
    b"<?xml version='1.0'?>",
    b"<?pi?>",
    b"&amp;",
    b"&lt;",
    b"&gt;",
    b"&apos;",
    b"&quot;",
    b"&nbsp;",
    b"&",
    b"&#",
    b"&#x",
    b"&#65;",
    b"&#x41;",
    b"&#13;",
    b"&#xA;",
    b"&#9;",
    b"&#0;",
    b"&#x0;",
    b"&#xFFFE;",
    b"&#xFFFF;",
    b"&#xD800;",
    b"&#x110000;",
    b"&#x10FFFF;",
    b"&#99999999999;",
    b"&#X41;",
    b"&#x1F600;",
    b"&lt;!",
    "\u{FEFF}".as_bytes(),
    "\u{FFFE}".as_bytes(),
    "\u{FFFF}".as_bytes(),
    "\u{FFFD}".as_bytes(),
    "\u{1FFFE}".as_bytes(),
    "\u{10FFFF}".as_bytes(),
    "\u{85}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{A0}".as_bytes(),
    "\u{3000}".as_bytes(),
    "\u{B7}".as_bytes(),
    "\u{300}".as_bytes(),
    "\u{37E}".as_bytes(),
    "\u{D7}".as_bytes(),
    "\u{E9}".as_bytes(),
    "\u{65E5}".as_bytes(),
    "\u{10000}".as_bytes(),
    "\u{F0000}".as_bytes(),
    "\u{1F600}".as_bytes(),
    b"\x80",
    b"\xBF",
    b"\xC0\xAF",
    b"\xC1\xBF",
    b"\xE0\x80\xAF",
    b"\xED\xA0\x80",
    b"\xEF\xBF",
    b"\xEF",
    b"\xF0\x9F\x98",
    b"\xF4\x90\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFE",
    b"\xFF",
    b" a='b'",
    b" a=\"b\"",
    b" id='1' id='1'",
    b" xml:lang='en'",
    b" xml:space='preserve'",
    b" xmlns='jabber:client'",
    b" xmlns='jabber:server'",
    b" xmlns='jabber:component:accept'",
    b" xmlns=''",
    b" xmlns='urn:x'",
    b" xmlns='urn:xmpp:ping'",
    b" xmlns:p='urn:p'",
    b" xmlns:p=''",
    b" xmlns:p='jabber:client'",
    b" xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:xml='urn:x'",
    b" xmlns='http://www.w3.org/XML/1998/namespace'",
    b" xmlns='http://www.w3.org/2000/xmlns/'",
    b" xmlns:xmlns='urn:x'",
    b" xmlns:p='http://www.w3.org/2000/xmlns/'",
    b" xmlns:p='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:stream='urn:x'",
    b" p:a='1'",
    b" q:a='1'",
    b" xmlns:q='urn:p'",
    b"p:",
    b"stream:",
    b"xml:",
    b"xmlns:",
    b"xmlns",
    b"xml",
    b"XML",
    b"<a/>",
    b"<a></a>",
    b"<p:a/>",
    b"<-a/>",
    b"<1/>",
    b"<a:/>",
    b"<:a/>",
    b"<a:b:c/>",
    b"<xml:a/>",
    b"<xmlns:a/>",
    b"<message/>",
    b"</message>",
    b"<body>x</body>",
    b"</stream:stream>",
    b"<stream:stream>",
    b"<stream:error/>",
    b"{",
    b"}",
    b"|",
    b"\\",
    b"%00",
    b"jabber:client",
    b"x",
];

const NAMES: &[&str] = &[
    "message",
    "presence",
    "iq",
    "body",
    "x",
    "query",
    "error",
    "a",
    "b",
    "active",
    "item",
    "_a",
    "a-b.c",
    "origin-id",
];
const ODD_NAMES: &[&str] = &[
    "-a",
    "1",
    ".a",
    "p:a",
    "q:a",
    "stream:features",
    "xml:a",
    "xmlns:a",
    "xmlns",
    "xml",
    "xmlfoo",
    "XMLa",
    "a:",
    ":a",
    "a:b:c",
    "\u{E9}",
    "a\u{B7}",
    "\u{B7}a",
    "\u{37E}",
    "\u{10000}",
    "\u{F0000}",
    "a\u{D7}",
    "",
    "a b",
    "p:-a",
    "p:1",
];
const ATTRS: &[&str] = &["to", "from", "id", "type", "a", "b", "xml:lang", "node", "var"];
const ODD_ATTRS: &[&str] = &[
    "p:a",
    "q:a",
    "xml:space",
    "xml:id",
    "xml:foo",
    "xmlns",
    "xmlns:p",
    "xmlns:q",
    "xmlns:xml",
    "xmlns:xmlns",
    "xmlns:stream",
    "stream:a",
    "XML",
    "xmlfoo",
    "-a",
    "1",
    "\u{E9}",
    "r:a",
    "a:",
    ":a",
    "lang",
    "",
];
const SPACES: &[&str] = &[
    "urn:xmpp:ping",
    "jabber:iq:roster",
    "urn:xmpp:receipts",
    "http://jabber.org/protocol/chatstates",
    "urn:x",
    "urn:p",
    "vcard-temp",
];
const ODD_SPACES: &[&str] = &[
    "",
    " ",
    "jabber:client",
    "jabber:server",
    "jabber:component:accept",
    "http://etherx.jabber.org/streams",
    "http://www.w3.org/XML/1998/namespace",
    "http://www.w3.org/2000/xmlns/",
    "urn:p",
    "urn:x y",
    "urn:&amp;",
    "urn:\u{E9}",
    "urn:&lt;",
    "&#x6a;abber:client",
    "jabber:client ",
    "Jabber:client",
    "urn:{x}",
    "a'b",
    "\turn:x",
];
const TEXTS: &[&str] = &[
    "hello",
    "a &amp; b",
    "1 &lt; 2",
    "x > y",
    " ",
    "\n",
    "\n  ",
    "it's \"so\"",
    "&apos;&quot;",
    "\u{E4}\u{20AC}",
    "\u{1F600}",
    "]]",
    "]>",
];
const ODD_TEXTS: &[&str] = &[
    "]]>",
    "\r",
    "\r\n",
    "a\rb",
    "&#65;",
    "&#xD;",
    "&#10;",
    "&#0;",
    "&#xFFFE;",
    "<![CDATA[<a>&]]>",
    "<![CDATA[]]]]>",
    "<![CDATA[]]>",
    "&foo;",
    "&",
    "<",
    "\u{FFFE}",
    "\u{FFFF}",
    "\u{FEFF}",
    "\0",
    "\u{B}",
    "\u{1F}",
    "\u{7F}",
    "\u{85}",
    "<!-- x -->",
    "<?x?>",
    "\u{10FFFF}",
    "&amp",
    "]]&gt;",
    "]]<![CDATA[>]]>",
    "\t",
];

/// A stanza; the higher `odd`, the more of it is unusual or wrong. With 0 it is plain.
pub fn stanza(random: &mut Random, odd: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if odd > 0 && random.below(200) < odd {
        out.extend_from_slice(pick(random, odd, TEXTS, ODD_TEXTS).as_bytes());
    }
    element(random, odd, 0, &mut out);
    if odd > 0 && random.below(200) < odd {
        out.extend_from_slice(pick(random, odd, TEXTS, ODD_TEXTS).as_bytes());
    }
    out
}

/// Something odd `odd` times in a hundred.
fn pick<'a>(random: &mut Random, odd: usize, usual: &[&'a str], unusual: &[&'a str]) -> &'a str {
    if random.below(100) < odd { random.pick(unusual) } else { random.pick(usual) }
}

fn element(random: &mut Random, odd: usize, depth: usize, out: &mut Vec<u8>) {
    let name = pick(random, odd, if depth == 0 { &NAMES[..3] } else { NAMES }, ODD_NAMES);
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    if depth > 0 && random.one_in(2) {
        let ns = pick(random, odd, SPACES, ODD_SPACES);
        attr(random, odd, "xmlns", ns, out);
    } else if random.below(100) < odd / 2 + 5 {
        let ns = pick(random, odd, &["jabber:client"], ODD_SPACES);
        attr(random, odd, "xmlns", ns, out);
    }
    if random.below(100) < odd {
        let (prefix, ns) = (random.pick(&["xmlns:p", "xmlns:q"]), pick(random, odd, SPACES, ODD_SPACES));
        attr(random, odd, prefix, ns, out);
    }
    let mut names = ATTRS.to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(names.len());
        // Once only, unless it is odd.
        let name = if random.below(100) < odd { random.pick(ODD_ATTRS) } else { names.swap_remove(at) };
        let value = if name.starts_with("xmlns") {
            pick(random, odd, SPACES, ODD_SPACES)
        } else {
            pick(random, odd, &["x", "a@b/c", "", "1", "&amp;", "\u{E4}", "chat"], ODD_TEXTS)
        };
        attr(random, odd, name, value, out);
    }
    if random.below(300) < odd {
        out.extend_from_slice(random.pick(&[" ", "\n", "\t", "  ", "/"]).as_bytes());
    }
    if random.one_in(4) {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    for _ in 0..random.below(if depth > 4 { 1 } else { 5 }) {
        if random.one_in(2) {
            out.extend_from_slice(pick(random, odd, TEXTS, ODD_TEXTS).as_bytes());
        } else {
            element(random, odd, depth + 1, out);
        }
    }
    out.extend_from_slice(b"</");
    let end = if random.below(400) < odd { pick(random, odd, NAMES, ODD_NAMES) } else { name };
    out.extend_from_slice(end.as_bytes());
    if random.below(300) < odd {
        out.extend_from_slice(random.pick(&[" ", "\n", "\r", "  ", " a='b'"]).as_bytes());
    }
    out.push(b'>');
}

fn attr(random: &mut Random, odd: usize, name: &str, value: &str, out: &mut Vec<u8>) {
    let quote = random.pick(if value.contains('\'') { &["\""] } else { &["'", "\""] });
    let (space, equals) = if random.below(300) < odd {
        (random.pick(&["", "  ", "\n", "\t", "\r\n"]), random.pick(&[" =", "= ", " = ", "", "=="]))
    } else {
        (" ", "=")
    };
    let quoted = if value.contains('"') && quote == "\"" { value.replace('"', "&quot;") } else { value.to_owned() };
    for piece in [space, name, equals, quote, &quoted, quote] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// A stream header, more or less.
pub fn header(random: &mut Random, odd: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if random.one_in(2) {
        out.extend_from_slice(b"<?xml");
        for (name, usual, unusual) in [
            ("version", "1.0", &["1.1", "2.0", "1.", "", "1.0 "][..]),
            ("encoding", "UTF-8", &["utf-8", "UTF-16", "latin1", "", "utf8"]),
            ("standalone", "yes", &["no", "maybe", ""]),
        ] {
            if name == "version" && random.below(100) >= odd / 4 || random.one_in(3) {
                let value = pick(random, odd, &[usual], unusual);
                attr(random, odd, name, value, &mut out);
            }
        }
        out.extend_from_slice(if random.below(100) < odd { b" ?>" } else { b"?>" });
    }
    if random.one_in(3) {
        out.extend_from_slice(pick(random, odd, &["\n", " "], ODD_TEXTS).as_bytes());
    }
    let prefix = pick(random, odd, &["stream:"], &["s:", "", "p:", "xml:", "xmlns:"]);
    out.extend_from_slice(format!("<{prefix}{}", pick(random, odd / 2, &["stream"], ODD_NAMES)).as_bytes());
    let mut attrs = vec![
        ("xmlns", pick(random, odd, &["jabber:client", "jabber:server"], ODD_SPACES)),
        ("xmlns:stream", pick(random, odd, &["http://etherx.jabber.org/streams"], ODD_SPACES)),
        ("to", "example.net"),
        ("from", "a@example.net"),
        ("id", pick(random, odd, &["1"], ODD_TEXTS)),
        ("version", pick(random, odd, &["1.0", "0.9"], &["1", "01.00", "1.300", "x", "", "1.0.0"])),
        ("xml:lang", "en"),
        (pick(random, odd, &["xmlns:db"], ODD_ATTRS), pick(random, odd, SPACES, ODD_SPACES)),
    ];
    while !attrs.is_empty() {
        let (name, value) = attrs.swap_remove(random.below(attrs.len()));
        if name.starts_with("xmlns") || random.one_in(2) {
            attr(random, odd, name, value, &mut out);
        }
    }
    out.extend_from_slice(if random.below(200) < odd { b"/>" } else { b">" });
    out
}

/// A few changes anywhere in `input`; `other` lends pieces.
pub fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + 1 + random.below(8)).min(out.len());
        match random.below(8) {
            0..3 => insert(&mut out, at, random.pick(ALPHABET)),
            3 => drop(out.drain(at..end)),
            4 => drop(out.splice(at..end, random.pick(ALPHABET).iter().copied())),
            5 => {
                let end = (at + random.below(40)).min(out.len());
                let copy = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                insert(&mut out, to, &copy);
            }
            6 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = (from + random.below(40)).min(other.len());
                insert(&mut out, at, &other[from..to]);
            }
            _ if at < out.len() => out[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    out
}

fn insert(out: &mut Vec<u8>, at: usize, what: &[u8]) {
    out.splice(at..at, what.iter().copied());
}
