//! The fast path: stanzas whose bytes may be passed on as they are.
//!
//! The *plain grammar* is a language so small that no two XML parsers can read it differently. The scanner judges a whole
//! frame, finds the stanza's attributes and direct children, and copies nothing. A frame that it does not accept is not an error:
//! it goes through [`parse_element`](crate::parse::parse_element) and is rewritten.
//!
//! ```text
//! frame    = element, in the content namespace of the stream
//! element  = "<" name *( " " attr ) ( "/>" / ">" *( element / text ) "</" name ">" )
//! attr     = name "=" ( "'" value "'" / DQUOTE value DQUOTE )      ; none twice
//! name     = ( ALPHA / "_" ) *( ALPHA / DIGIT / "_" / "-" / "." )  ; none beginning with "xml" but xml:lang and xmlns
//! value    = any character XML allows but TAB LF CR < > and the quote, or an entity
//! text     = any character XML allows but CR <, or an entity; without "]]>"
//! entity   = "&amp;" / "&lt;" / "&gt;" / "&apos;" / "&quot;"
//! ```
//!
//! `xmlns` on the stanza itself may only be the content namespace. On an element inside it is a URI of a cautious
//! kind (`portable.rs`), none of the three content namespaces and none that Namespaces §3 reserves. All is strict UTF-8 and
//! within the [`Limits`].
//!
//! Invariant: whatever is accepted here [`parse_element`](crate::parse::parse_element) accepts with the same header,
//! children and text.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr3};
use smallvec::SmallVec;

use crate::chars::NAME_BYTE;
use crate::ns::{self, Ns};
use crate::parse::{Limits, StreamContext, XMLNS, is_content};
use crate::portable::is_portable_uri;

/// A stanza in the plain grammar. Ranges count bytes from the start of the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// The name of the stanza, which is in the content namespace.
    pub name: Range<u32>,
    /// Its attributes without `xmlns`.
    pub attrs: SmallVec<[PlainAttr; 6]>,
    /// What stands between its tags: self-contained bytes, with the content namespace implied. Empty for an empty
    /// element.
    pub body: Range<u32>,
    /// The child elements in order. Text between them is in `body` only.
    pub children: SmallVec<[Child; 8]>,
}

/// An attribute of the stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainAttr {
    /// The name; the one that has a prefix is `xml:lang`.
    pub name: Range<u32>,
    /// The value between its quotes.
    pub value: Range<u32>,
    /// Whether the value has entities to be replaced.
    pub has_entities: bool,
}

/// A direct child of the stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The number of its namespace: that of `ns::CLIENT` for a child without `xmlns`, 0 for one not in the table.
    pub ns: u16,
    /// Its name.
    pub name: Range<u32>,
    /// The whole child with its tags.
    pub range: Range<u32>,
}

/// Judges a frame that stands alone, with `jabber:client` as content namespace, as [`parse_fragment`] does.
///
/// `None`: it is not plain, and may be anything.
///
/// [`parse_fragment`]: crate::parse::parse_fragment
pub fn scan(frame: &[u8], limits: &Limits) -> Option<Plain> {
    scan_whole(frame, limits, ns::CLIENT, true)
}

fn scan_whole(frame: &[u8], limits: &Limits, content: Ns, implied: bool) -> Option<Plain> {
    let has_space = judge_characters(frame)?;
    let mut scanner = Scanner::new(frame, limits, has_space)?;
    let mut plain = Plain::default();
    scanner.stanza(content, implied, &mut plain)?;
    (scanner.at == frame.len()).then_some(plain)
}

impl StreamContext {
    /// Judges a frame from this stream: as [`scan`], with the content namespace of the stream.
    pub fn scan(&self, frame: &[u8], limits: &Limits) -> Option<Plain> {
        scan_whole(frame, limits, self.content(), self.content_is_default())
    }

    /// Judges the frame at the start of `bytes`, and says how long it is; `plain` has to be new. `None`: it is not plain, not complete,
    /// or it contains a tab or a line feed.
    ///
    /// Invariant: [`StreamContext::scan`] accepts that frame with the same result, and the framer finds the same one.
    pub(crate) fn scan_first(&self, bytes: &[u8], limits: &Limits, plain: &mut Plain) -> Option<usize> {
        // Its length is not known yet: characters are judged at the end, and as many nodes are allowed as fit all bytes.
        let mut scanner = Scanner::new(bytes, limits, false)?;
        let allowed = scanner.budget;
        scanner.stanza(self.content(), self.content_is_default(), plain)?;
        let frame = bytes.get(..scanner.at)?;
        let fits = allowed - scanner.budget <= limits.nodes_in(frame.len());
        (fits && !judge_characters(frame)?).then_some(frame.len())
    }
}

/// Looks at the characters as such: after this only ASCII has a meaning. `None` if there is one that XML forbids, or a carriage
/// return; else whether there is a tab or a line feed.
fn judge_characters(frame: &[u8]) -> Option<bool> {
    let (mut least, mut union) = (u8::MAX, 0);
    for &byte in frame {
        least = least.min(byte);
        union |= byte;
    }
    // Tabs and line feeds, which may stand in text, make it look again, and later at each value.
    let has_space = least < b' ';
    let is_control = |&byte: &u8| byte < b' ' && byte != b'\t' && byte != b'\n';
    let refused = has_space && frame.iter().any(is_control) || !union.is_ascii() && !is_xml_text(frame);
    (!refused).then_some(has_space)
}

struct Scanner<'a> {
    frame: &'a [u8],
    at: usize,
    limits: &'a Limits,
    /// Elements, texts and attributes that may still come.
    budget: usize,
    /// Whether there is a tab or a line feed anywhere.
    has_space: bool,
    /// The names of the attributes of the tag that is being read.
    names: SmallVec<[&'a [u8]; 8]>,
}

/// What a start tag says.
struct Tag<'a> {
    name: &'a [u8],
    /// Where it begins, with its `<`.
    start: usize,
    xmlns: Option<Xmlns>,
    empty: bool,
}

/// A declaration of the default namespace.
#[derive(Clone, Copy)]
struct Xmlns {
    /// the number of the namespace
    id: u16,
    /// the length of its name
    len: usize,
}

/// The declarations in force at one place.
#[derive(Clone, Copy, Default)]
struct Declared {
    count: usize,
    /// bytes of their names
    uris: usize,
}

impl Declared {
    fn with(self, xmlns: Option<Xmlns>) -> Declared {
        xmlns.map_or(self, |xmlns| Declared { count: self.count + 1, uris: self.uris + xmlns.len })
    }

    fn without(self, xmlns: Option<Xmlns>) -> Declared {
        xmlns.map_or(self, |xmlns| Declared { count: self.count - 1, uris: self.uris - xmlns.len })
    }
}

/// Each name of an attribute is compared with those before it: an element with more of them is left to the full parser.
const MAX_ATTRIBUTES: usize = 16;

/// Attributes are wanted of the stanza only.
type Attrs = SmallVec<[PlainAttr; 6]>;

impl<'a> Scanner<'a> {
    /// `has_space`: see [`judge_characters`].
    fn new(frame: &'a [u8], limits: &'a Limits, has_space: bool) -> Option<Scanner<'a>> {
        u32::try_from(frame.len()).ok()?;
        let budget = limits.nodes_in(frame.len());
        (limits.depth > 0).then(|| Scanner { frame, at: 0, limits, budget, has_space, names: SmallVec::new() })
    }

    /// The stanza up to its end. `implied`: without `xmlns` the stanza is in the content namespace.
    fn stanza(&mut self, content: Ns, implied: bool, plain: &mut Plain) -> Option<()> {
        let stanza = self.start_tag(Declared::default(), Some(&mut plain.attrs))?;
        if !stanza.xmlns.map_or(implied, |xmlns| xmlns.id == content.id()) {
            return None;
        }
        let body = self.at;
        let mut declared = Declared::default().with(stanza.xmlns);
        let mut end = body;
        let mut open: SmallVec<[Tag<'a>; 8]> = SmallVec::new();
        plain.name = self.range_of(stanza.start + 1, stanza.name);
        if !stanza.empty {
            open.push(stanza);
        }
        while let Some(parent) = open.last() {
            self.text()?;
            let ended = if self.frame.get(self.at + 1) == Some(&b'/') {
                end = self.at;
                self.end_tag(parent.name)?;
                open.pop()?
            } else {
                if open.len() >= self.limits.depth {
                    return None;
                }
                let tag = self.start_tag(declared, None)?;
                let known = tag.xmlns.and_then(|xmlns| Ns::known(xmlns.id));
                if known.is_some_and(|ns| is_content(ns) || ns == ns::XML) {
                    return None;
                }
                declared = declared.with(tag.xmlns);
                if !tag.empty {
                    open.push(tag);
                    continue;
                }
                tag
            };
            declared = declared.without(ended.xmlns);
            if open.len() == 1 {
                plain.children.push(Child {
                    ns: ended.xmlns.map_or(ns::CLIENT.id(), |xmlns| xmlns.id),
                    name: self.range_of(ended.start + 1, ended.name),
                    range: range(ended.start, self.at),
                });
            }
        }
        plain.body = range(body, end);
        Some(())
    }

    fn rest(&self) -> &'a [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, token: &[u8]) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn spend(&mut self) -> Option<()> {
        self.budget = self.budget.checked_sub(1)?;
        Some(())
    }

    fn range_of(&self, start: usize, what: &[u8]) -> Range<u32> {
        range(start, start + what.len())
    }

    /// An element's start tag, with `declared` namespaces in force around it.
    fn start_tag(&mut self, declared: Declared, mut attrs: Option<&mut Attrs>) -> Option<Tag<'a>> {
        self.spend()?;
        let start = self.at;
        if self.frame.get(start)? != &b'<' {
            return None;
        }
        self.at += 1;
        let name = self.name()?;
        if is_reserved(name) {
            return None;
        }
        let mut xmlns = None;
        self.names.clear();
        loop {
            match self.rest() {
                [b' ', ..] => self.at += 1,
                [b'>', ..] => return self.tag(name, start, xmlns, false),
                [b'/', b'>', ..] => return self.tag(name, start, xmlns, true),
                _ => return None,
            }
            // Before they are compared with each other.
            if self.names.len() >= self.limits.attributes.min(MAX_ATTRIBUTES) {
                return None;
            }
            let (at, name) = (self.at, self.name()?);
            if name == b"xmlns" {
                if xmlns.is_some() || declared.count >= self.limits.declarations {
                    return None;
                }
                let new = self.xmlns()?;
                if new.len > self.limits.uri || declared.uris + new.len > self.limits.uris {
                    return None;
                }
                xmlns = Some(new);
                self.names.push(name);
                continue;
            }
            if is_reserved(name) && !(name == b"xml" && self.eat(b":lang")) {
                return None;
            }
            let name = self.frame.get(at..self.at)?;
            let (value, has_entities) = self.value()?;
            if name.len() > self.limits.name || self.names.contains(&name) {
                return None;
            }
            self.names.push(name);
            if let Some(attrs) = &mut attrs {
                attrs.push(PlainAttr { name: self.range_of(at, name), value, has_entities });
            }
        }
    }

    /// The end of a start tag.
    fn tag(&mut self, name: &'a [u8], start: usize, xmlns: Option<Xmlns>, empty: bool) -> Option<Tag<'a>> {
        self.at += if empty { 2 } else { 1 };
        self.budget = self.budget.checked_sub(self.names.len())?;
        Some(Tag { name, start, xmlns, empty })
    }

    /// A name without a prefix, in ASCII: about other letters the editions of XML differ.
    fn name(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        let len = rest.iter().position(|&byte| !NAME_BYTE[usize::from(byte)])?;
        let name = rest.get(..len)?;
        let first = *name.first()?;
        if !(first.is_ascii_alphabetic() || first == b'_') || len > self.limits.name {
            return None;
        }
        self.at += len;
        Some(name)
    }

    /// `=` and a quoted value: where it is and whether it has entities.
    fn value(&mut self) -> Option<(Range<u32>, bool)> {
        let quote = match self.rest() {
            [b'=', quote @ (b'\'' | b'"'), ..] => *quote,
            _ => return None,
        };
        let start = self.at + 2;
        let value = self.frame.get(start..)?;
        // Most values are short, and end at the first byte that has a meaning anywhere.
        let stop = value.iter().position(|&byte| VALUE_STOP[usize::from(byte)])?;
        if value.get(stop) == Some(&quote) {
            self.at = start + stop + 1;
            return Some((range(start, start + stop), false));
        }
        let value = value.get(..memchr(quote, value)?)?;
        // Seldom there is one, and most values are short: first only whether.
        let has_entities = match memchr3(b'<', b'&', b'>', value) {
            Some(_) => only_entities(value)?,
            None => false,
        };
        if self.has_space && value.iter().any(|byte| b"\t\n".contains(byte)) {
            return None;
        }
        self.at = start + value.len() + 1;
        Some((range(start, start + value.len()), has_entities))
    }

    /// The value of a declaration.
    fn xmlns(&mut self) -> Option<Xmlns> {
        let start = self.at + 2;
        let (_, has_entities) = self.value()?;
        let uri = self.frame.get(start..self.at - 1)?;
        let id = Ns::id_of_bytes(uri);
        let fits = !has_entities && (id != 0 || is_portable_uri(uri) && uri != XMLNS.as_bytes());
        fits.then_some(Xmlns { id, len: uri.len() })
    }

    /// The rest of an end tag.
    fn end_tag(&mut self, name: &[u8]) -> Option<()> {
        let found = self.rest().strip_prefix(b"</")?.strip_prefix(name)?.first() == Some(&b'>');
        self.at += name.len() + 3;
        found.then_some(())
    }

    /// Character data up to the next tag.
    fn text(&mut self) -> Option<()> {
        // Tags often follow each other directly.
        if self.frame.get(self.at)? == &b'<' {
            return Some(());
        }
        self.spend()?;
        loop {
            self.at += memchr3(b'<', b'&', b'>', self.rest())?;
            match self.frame.get(self.at)? {
                b'<' => return Some(()),
                b'&' => self.at += entity_len(self.rest())?,
                _ if self.frame.get(..self.at)?.ends_with(b"]]") => return None,
                _ => self.at += 1,
            }
        }
    }
}

/// The bytes that have a meaning in some value. A tab or a line feed is only allowed in text.
const VALUE_STOP: [bool; 256] = {
    let mut table = [false; 256];
    table[b'\'' as usize] = true;
    table[b'"' as usize] = true;
    table[b'<' as usize] = true;
    table[b'&' as usize] = true;
    table[b'>' as usize] = true;
    table[b'\t' as usize] = true;
    table[b'\n' as usize] = true;
    table
};

/// Whether all of `&`, `<` and `>` in a value belong to entities.
fn only_entities(value: &[u8]) -> Option<bool> {
    let mut rest = value;
    while let Some(at) = memchr3(b'<', b'&', b'>', rest) {
        rest = rest.get(at..)?;
        rest = rest.get(entity_len(rest)?..)?;
    }
    Some(true)
}

/// The length of the entity at the start of `bytes`.
fn entity_len(bytes: &[u8]) -> Option<usize> {
    let entities: [&[u8]; 5] = [b"&amp;", b"&lt;", b"&gt;", b"&apos;", b"&quot;"];
    entities.iter().find(|entity| bytes.starts_with(entity)).map(|entity| entity.len())
}

/// `frame` has fewer than 2^32 bytes.
fn range(start: usize, end: usize) -> Range<u32> {
    start as u32..end as u32
}

/// Names that XML keeps for itself (XML §2.3).
fn is_reserved(name: &[u8]) -> bool {
    matches!(name, [b'x' | b'X', b'm' | b'M', b'l' | b'L', ..])
}

/// Strict UTF-8 without U+FFFE and U+FFFF.
fn is_xml_text(frame: &[u8]) -> bool {
    let forbidden = |at| matches!(frame.get(at..at + 3), Some([0xEF, 0xBF, 0xBE | 0xBF]));
    std::str::from_utf8(frame).is_ok() && !memchr_iter(0xEF, frame).any(forbidden)
}
