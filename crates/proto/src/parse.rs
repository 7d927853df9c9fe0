//! The full parser: every XML 1.0 document that RFC 6120 §11 allows in a stream, one frame at a time, into a tree.
//!
//! It is not on the fast path: a stanza in the plain grammar is never parsed as a whole (`scan.rs`). There is no second
//! parser in the server; stored bytes are parsed here as well.
//!
//! Content namespaces: elements in the namespace of the stream (`jabber:client`, `jabber:server` or
//! `jabber:component:accept`) are `ns::CLIENT` in the tree, so that everything above handles only one. A first-level element in
//! another of the three is refused (RFC 6120 §4.8.3); deeper elements keep their namespace.
//!
//! Limits: [`Limits`]. The tree takes at most 16 bytes of memory for each byte of the frame and 128 for each of
//! `Limits::nodes`, and while it grows at most 40 and 400.
//! Not: elements in the namespace of `xml`, which could not be written without a prefix, and attributes `p:xmlns`, which
//! other parsers misread. Both are legal XML and useless.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::budget;
use crate::element::{Attr, Element, Node};
use crate::ns::{self, Ns};
use crate::reader::{QName, Reader};
use crate::space::Space;
pub use crate::xml_error::XmlError;

/// The namespace of declarations, which nothing may be bound to (Namespaces §3).
pub(crate) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Limits for one frame. The framer limits its bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Elements inside each other; a first-level element is the first.
    pub depth: usize,
    /// Attributes of one element, declarations among them.
    pub attributes: usize,
    /// Declarations of namespaces in force at one place.
    pub declarations: usize,
    /// Bytes of one namespace name. Registered ones have fewer than 80.
    pub uri: usize,
    /// Bytes of all namespace names declared in force at one place, those of the stream header not counted: they were
    /// counted when the header was read.
    pub uris: usize,
    /// Elements, texts and attributes that a frame of any length may have; one more comes with every
    /// [`BYTES_PER_NODE`] bytes, so that memory is bounded by the length.
    pub nodes: usize,
    /// Bytes of a name as it is written, with its prefix.
    pub name: usize,
}

/// See [`Limits::nodes`]. Real stanzas have a node for every twenty bytes or so.
pub const BYTES_PER_NODE: usize = 8;

impl Limits {
    /// For a peer that has authenticated.
    pub const DEFAULT: Limits =
        Limits { depth: 64, attributes: 64, declarations: 64, uri: 1_024, uris: 8_192, nodes: 512, name: 256 };
    /// For stored stanzas: they were within the limits when they were stored.
    pub const STORED: Limits = Limits { uri: usize::MAX, uris: usize::MAX, ..Limits::DEFAULT };
    /// For a peer that has not, and for every stream header: more than stream negotiation needs.
    pub const BEFORE_LOGIN: Limits =
        Limits { depth: 16, attributes: 32, declarations: 32, uri: 256, uris: 2_048, nodes: 64, name: 128 };

    /// How many elements, texts and attributes a frame of `len` bytes may have.
    pub(crate) fn nodes_in(&self, len: usize) -> usize {
        self.nodes.saturating_add(len / BYTES_PER_NODE)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// The header of a stream (RFC 6120 §4.7). Values are unescaped and otherwise unchecked, except for the length of `lang`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// The addressee of the stream.
    pub to: Option<CompactString>,
    /// The initiator of the stream.
    pub from: Option<CompactString>,
    /// The stream's id, to be ignored if a peer that opened the stream sends one (§4.7.3).
    pub id: Option<CompactString>,
    /// Major and minor version; `None` is "0.9" (§4.7.5). Numbers over 255 are taken as 255.
    pub version: Option<(u8, u8)>,
    /// The default language (§4.7.4). One of more than [`MAX_LANG`](crate::budget::MAX_LANG) bytes is ignored.
    pub lang: Option<CompactString>,
    /// The content namespace if the header declares it as the default namespace (§4.8.2): `ns::CLIENT`, `ns::SERVER` or
    /// `ns::COMPONENT`.
    pub content: Option<Ns>,
}

/// The declarations of a stream's header for everything inside the stream.
#[derive(Clone)]
pub struct StreamContext {
    content: Ns,
    default: Space,
    prefixes: Box<[(CompactString, Space)]>,
    lang: Option<CompactString>,
}

impl StreamContext {
    /// The context of a stream whose header declares `content` as its default namespace and no prefix but `stream`.
    pub fn new(content: Ns) -> StreamContext {
        let stream = (CompactString::const_new("stream"), ns::STREAM.into());
        StreamContext { content, default: content.into(), prefixes: Box::new([stream]), lang: None }
    }

    /// The content namespace: `jabber:client` until [`set_content`](Self::set_content) if the header declares none.
    pub fn content(&self) -> Ns {
        self.content
    }

    /// Sets the content namespace of a stream whose header leaves it to the stanzas (§4.8.2).
    pub fn set_content(&mut self, content: Ns) {
        self.content = content;
    }

    /// The default language of stanzas on this stream.
    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// About how many bytes of the header are kept.
    pub fn kept(&self) -> usize {
        let prefixes = self.prefixes.iter().map(|(prefix, space)| prefix.len() + space.as_str().len());
        prefixes.sum::<usize>() + self.lang.as_ref().map_or(0, |lang| lang.len())
    }

    /// Whether the header binds a prefix to `ns`, as servers do to announce dialback (XEP-0220 §2.1).
    pub fn declares(&self, ns: Ns) -> bool {
        self.prefixes.iter().any(|(_, space)| space.is(ns))
    }

    /// Whether an element without `xmlns` is in the content namespace.
    pub(crate) fn content_is_default(&self) -> bool {
        self.default.is(self.content)
    }
}

impl Default for StreamContext {
    fn default() -> StreamContext {
        StreamContext::new(ns::CLIENT)
    }
}

/// Whether stanzas are in this namespace on some kind of stream.
pub(crate) fn is_content(ns: Ns) -> bool {
    ns == ns::CLIENT || ns == ns::SERVER || ns == ns::COMPONENT
}

/// Parses what [`Frame::Open`](crate::frame::Frame::Open) holds.
///
/// # Errors
/// Also if it is a document, but not the start of an XMPP stream.
pub fn parse_open(frame: &[u8], limits: &Limits) -> Result<(StreamHeader, StreamContext), XmlError> {
    let nothing = StreamContext { default: Space::NONE, prefixes: Box::default(), ..StreamContext::default() };
    let mut parser = Parser::new(frame, &nothing, limits)?;
    declaration(&mut parser.reader)?;
    parser.reader.skip_space();
    // §4.9.3.2: here, other than inside the stream, a prefix means the stream's own.
    let start = parser.start().map_err(|e| if e == UNBOUND { XmlError::BadPrefix("not declared") } else { e })?;
    if !parser.reader.is_empty() {
        return Err(XmlError::NotWellFormed("something after the stream header"));
    }
    if start.empty {
        return Err(XmlError::BadFormat("a stream that ends where it begins"));
    }
    let default = parser.scope.default();
    let content = match &default {
        Space::Known(id) if *id != 0 && *id != ns::STREAM.id() => {
            Some(Ns::known(*id).filter(|&ns| is_content(ns)).ok_or(XmlError::InvalidNamespace("content"))?)
        }
        Space::Other(_) => return Err(XmlError::InvalidNamespace("content")),
        Space::Known(_) => None,
    };
    if start.space != ns::STREAM.into() {
        return Err(XmlError::InvalidNamespace("stream"));
    }
    if start.name.local != "stream" {
        return Err(XmlError::BadFormat("not a stream"));
    }
    let mut header = StreamHeader { content, ..StreamHeader::default() };
    for attr in start.attrs {
        match (attr.space, attr.name.as_str()) {
            (Space::NONE, "to") => header.to = Some(attr.value),
            (Space::NONE, "from") => header.from = Some(attr.value),
            (Space::NONE, "id") => header.id = Some(attr.value),
            (Space::NONE, "version") => header.version = Some(version(&attr.value)?),
            (space, "lang") if space.is(ns::XML) => header.lang = budget::language(&attr.value).map(Into::into),
            _ => {}
        }
    }
    let prefixes = parser.scope.bound.iter().filter(|bound| !bound.prefix.is_empty());
    let context = StreamContext {
        content: content.unwrap_or(ns::CLIENT),
        prefixes: prefixes.map(|bound| (bound.prefix.into(), bound.space.clone())).collect(),
        default,
        lang: header.lang.clone(),
    };
    Ok((header, context))
}

/// XML §2.8. The standalone declaration has no meaning in XMPP and is passed over (RFC 6120 §11.5).
fn declaration(reader: &mut Reader<'_>) -> Result<(), XmlError> {
    const BAD: XmlError = XmlError::NotWellFormed("XML declaration");
    if !reader.eat("<?xml") {
        return Ok(());
    }
    let mut space = reader.skip_space();
    for expected in ["version", "encoding", "standalone"] {
        if !(space && reader.eat(expected)) {
            if expected == "version" {
                return Err(BAD);
            }
            continue;
        }
        reader.skip_space();
        reader.expect("=", "an attribute without a value")?;
        reader.skip_space();
        let value = reader.literal()?;
        match (expected, value) {
            ("version", "1.0") | ("standalone", "yes" | "no") => {}
            ("encoding", _) if value.eq_ignore_ascii_case("utf-8") => {}
            ("encoding", _) => return Err(XmlError::Encoding),
            ("version", _) => return Err(XmlError::BadFormat("another version of XML")),
            _ => return Err(BAD),
        }
        space = reader.skip_space();
    }
    if reader.eat("?>") { Ok(()) } else { Err(BAD) }
}

/// §4.7.5: two integers; leading zeros mean nothing.
fn version(value: &str) -> Result<(u8, u8), XmlError> {
    let number = |digits: &str| {
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        valid
            .then(|| digits.trim_start_matches('0'))
            .map(|d| if d.is_empty() { 0 } else { d.parse().unwrap_or(u8::MAX) })
    };
    let parts = value.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    parts.ok_or(XmlError::BadFormat("version of the stream"))
}

/// Parses what [`Frame::Element`](crate::frame::Frame::Element) holds: exactly one element, with nothing around it.
///
/// # Errors
/// Any violation of XML, of namespaces or of RFC 6120 §11, or of a limit. All of them end the stream.
pub fn parse_element(frame: &[u8], context: &StreamContext, limits: &Limits) -> Result<Element, XmlError> {
    Parser::new(frame, context, limits)?.tree()
}

/// Parses an element that stands alone, with `jabber:client` as the default namespace: stored bytes, and tests. White
/// space around it does not matter.
///
/// # Errors
/// As [`parse_element`], with [`Limits::STORED`].
pub fn parse_fragment(xml: &str) -> Result<Element, XmlError> {
    let xml = xml.trim_matches([' ', '\t', '\n', '\r']);
    parse_element(xml.as_bytes(), &StreamContext::default(), &Limits::STORED)
}

/// A prefix and what it stands for; the default namespace has the empty prefix.
struct Bound<'a> {
    prefix: &'a str,
    space: Space,
    /// Bytes of the namespace names declared up to here, this one among them.
    uris: usize,
}

/// The declarations in force: those of the stream's header, and above them those of the open elements.
struct Scope<'a> {
    context: &'a StreamContext,
    bound: Vec<Bound<'a>>,
}

impl Scope<'_> {
    fn default(&self) -> Space {
        let declared = self.bound.iter().rev().find(|bound| bound.prefix.is_empty());
        declared.map_or(&self.context.default, |bound| &bound.space).clone()
    }

    fn prefix(&self, prefix: &str) -> Option<Space> {
        if prefix == "xml" {
            return Some(ns::XML.into());
        }
        let declared = self.bound.iter().rev().find(|bound| bound.prefix == prefix).map(|bound| &bound.space);
        let in_header = || self.context.prefixes.iter().find(|(name, _)| name == prefix).map(|(_, space)| space);
        declared.or_else(in_header).cloned()
    }
}

/// A start tag with its names resolved.
struct Start<'a> {
    name: QName<'a>,
    space: Space,
    attrs: Vec<Attr>,
    empty: bool,
    /// How many declarations were in force before it.
    outside: usize,
}

/// An element whose end tag has not come yet.
struct Open<'a> {
    start: Start<'a>,
    /// Where its children begin among the finished nodes.
    nodes: usize,
}

struct Parser<'a> {
    reader: Reader<'a>,
    scope: Scope<'a>,
    limits: &'a Limits,
    /// Elements, texts and attributes that may still come.
    budget: usize,
    raw: Vec<(QName<'a>, Cow<'a, str>)>,
}

impl<'a> Parser<'a> {
    fn new(frame: &'a [u8], context: &'a StreamContext, limits: &'a Limits) -> Result<Parser<'a>, XmlError> {
        let reader = Reader::new(frame)?;
        let scope = Scope { context, bound: Vec::new() };
        Ok(Parser { reader, scope, limits, budget: limits.nodes_in(frame.len()), raw: Vec::new() })
    }

    fn spend(&mut self) -> Result<(), XmlError> {
        self.budget = self.budget.checked_sub(1).ok_or(XmlError::TooMany("elements, texts and attributes"))?;
        Ok(())
    }

    /// One element with everything in it. Finished nodes wait in one list until their parent ends and takes its own children, so that
    /// every allocation has its final size.
    fn tree(mut self) -> Result<Element, XmlError> {
        let mut open: Vec<Open<'a>> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        loop {
            let element = if self.reader.eat("</") {
                let ended = open.pop().ok_or(XmlError::NotWellFormed("an end tag without a start tag"))?;
                self.end(ended, &mut nodes)?
            } else {
                if open.len() >= self.limits.depth {
                    return Err(XmlError::TooMany("elements inside each other"));
                }
                let start = self.start()?;
                if open.is_empty() {
                    self.check_first_level(&start)?;
                }
                if !start.empty {
                    open.push(Open { start, nodes: nodes.len() });
                    self.text(&mut nodes)?;
                    continue;
                }
                self.finish(start, Vec::new())
            };
            if open.is_empty() {
                return if self.reader.is_empty() {
                    Ok(element)
                } else {
                    Err(XmlError::NotWellFormed("something after the element"))
                };
            }
            nodes.push(Node::Element(element));
            self.text(&mut nodes)?;
        }
    }

    fn text(&mut self, nodes: &mut Vec<Node>) -> Result<(), XmlError> {
        let text = self.reader.text()?;
        if self.reader.is_empty() {
            return Err(XmlError::NotWellFormed("an element without an end"));
        }
        if !text.is_empty() {
            self.spend()?;
            nodes.push(Node::Text(CompactString::new(&text)));
        }
        Ok(())
    }

    /// The rest of an end tag.
    fn end(&mut self, ended: Open<'a>, nodes: &mut Vec<Node>) -> Result<Element, XmlError> {
        let name = self.reader.name(self.limits.name)?;
        if name != ended.start.name {
            return Err(XmlError::NotWellFormed("an end tag of another name"));
        }
        self.reader.skip_space();
        self.reader.expect(">", "an unfinished end tag")?;
        let own = nodes.drain(ended.nodes..).collect();
        Ok(self.finish(ended.start, own))
    }

    fn finish(&mut self, start: Start<'a>, nodes: Vec<Node>) -> Element {
        self.scope.bound.truncate(start.outside);
        let content: Space = self.scope.context.content.into();
        let space = if start.space == content { ns::CLIENT.into() } else { start.space };
        Element { name: start.name.local.into(), space, attrs: start.attrs, nodes }
    }

    /// §4.8.3: a stanza of another kind of stream is not allowed here.
    fn check_first_level(&self, start: &Start<'a>) -> Result<(), XmlError> {
        let ns = Ns::known(start.space.id());
        match ns {
            Some(ns) if is_content(ns) && ns != self.scope.context.content => {
                Err(XmlError::InvalidNamespace("content namespace of another kind of stream"))
            }
            _ => Ok(()),
        }
    }

    /// A start tag, or an empty element, from its `<` to its `>`.
    fn start(&mut self) -> Result<Start<'a>, XmlError> {
        for (forbidden, what) in [("<!", "comment or DTD"), ("<?", "processing instruction")] {
            if self.reader.eat(forbidden) {
                return Err(XmlError::Restricted(what));
            }
        }
        self.reader.expect("<", "an element was expected")?;
        self.spend()?;
        let name = self.reader.name(self.limits.name)?;
        self.raw.clear();
        let empty = loop {
            let space = self.reader.skip_space();
            if self.reader.eat(">") {
                break false;
            }
            if self.reader.eat("/>") {
                break true;
            }
            if !space {
                return Err(XmlError::NotWellFormed("no space before an attribute"));
            }
            self.attribute()?;
        };
        if has_twins(self.raw.iter().map(|(name, _)| name.whole)) {
            return Err(DUPLICATE);
        }
        let outside = self.scope.bound.len();
        self.declare()?;
        let space = match name.prefix {
            None => self.scope.default(),
            Some("xmlns") => return Err(XmlError::NotWellFormed("an element with the prefix xmlns")),
            Some(prefix) => self.scope.prefix(prefix).ok_or(UNBOUND)?,
        };
        if space.is(ns::XML) {
            return Err(XmlError::BadPrefix("an element in the namespace of xml"));
        }
        Ok(Start { name, space, attrs: self.attrs()?, empty, outside })
    }

    fn attribute(&mut self) -> Result<(), XmlError> {
        self.spend()?;
        let name = self.reader.name(self.limits.name)?;
        self.reader.skip_space();
        self.reader.expect("=", "an attribute without a value")?;
        self.reader.skip_space();
        let value = self.reader.value()?;
        if self.raw.len() >= self.limits.attributes {
            return Err(XmlError::TooMany("attributes"));
        }
        self.raw.push((name, value));
        Ok(())
    }

    /// Puts the tag's declarations in force (Namespaces §3, §5).
    fn declare(&mut self) -> Result<(), XmlError> {
        const RESERVED: XmlError = XmlError::NotWellFormed("a reserved prefix or namespace is declared");
        for (name, value) in &self.raw {
            let prefix = match (name.prefix, name.local) {
                (None, "xmlns") => "",
                (Some("xmlns"), "xmlns") => return Err(RESERVED),
                (Some("xmlns"), "xml") if value == ns::XML.as_str() => continue,
                (Some("xmlns"), "xml") => return Err(RESERVED),
                (Some("xmlns"), _) if value.is_empty() => {
                    return Err(XmlError::NotWellFormed("a prefix is undeclared"));
                }
                (Some("xmlns"), prefix) => prefix,
                _ => continue,
            };
            if value == ns::XML.as_str() || value == XMLNS {
                return Err(RESERVED);
            }
            if self.scope.bound.len() >= self.limits.declarations {
                return Err(XmlError::TooMany("declarations of namespaces"));
            }
            if value.len() > self.limits.uri {
                return Err(XmlError::TooMany("bytes of a namespace"));
            }
            let outside = self.scope.bound.last().map_or(0, |bound| bound.uris);
            let uris = outside.saturating_add(value.len());
            if uris > self.limits.uris {
                return Err(XmlError::TooMany("bytes of namespaces"));
            }
            self.scope.bound.push(Bound { prefix, space: Space::of(value), uris });
        }
        Ok(())
    }

    /// The tag's attributes without the declarations, no two with one expanded name (Namespaces §6.3).
    fn attrs(&mut self) -> Result<Vec<Attr>, XmlError> {
        let is_declaration = |name: &QName<'_>| name.prefix.unwrap_or(name.local) == "xmlns";
        let count = self.raw.iter().filter(|(name, _)| !is_declaration(name)).count();
        let mut attrs: Vec<Attr> = Vec::with_capacity(count);
        let mut prefixed = false;
        for (name, value) in self.raw.drain(..).filter(|(name, _)| !is_declaration(name)) {
            let space = match name.prefix {
                None => Space::NONE,
                // Legal, but a widely used parser takes it for a declaration, and could be made to read a different tree.
                Some(_) if name.local == "xmlns" => return Err(XmlError::BadPrefix("an attribute named xmlns")),
                Some(prefix) => self.scope.prefix(prefix).ok_or(UNBOUND)?,
            };
            prefixed |= name.prefix.is_some();
            attrs.push(Attr { space, name: name.local.into(), value: CompactString::new(&value) });
        }
        // Attributes without a prefix differ if their names do, which were compared before.
        if prefixed && has_twins(attrs.iter().map(|attr| (&attr.space, &attr.name))) {
            return Err(DUPLICATE);
        }
        Ok(attrs)
    }
}

/// Up to this number of attributes it is cheapest to compare each with each.
const FEW: usize = 8;

/// Whether two of them are equal. With many, not every pair is compared.
fn has_twins<T: Eq + Hash>(all: impl ExactSizeIterator<Item = T>) -> bool {
    if all.len() <= FEW {
        let mut seen: SmallVec<[T; FEW]> = SmallVec::new();
        return all.into_iter().any(|one| {
            let known = seen.contains(&one);
            seen.push(one);
            known
        });
    }
    let mut seen = HashSet::with_capacity_and_hasher(all.len(), foldhash::fast::RandomState::default());
    !all.into_iter().all(|one| seen.insert(one))
}

const UNBOUND: XmlError = XmlError::NotWellFormed("a prefix that was not declared");
const DUPLICATE: XmlError = XmlError::NotWellFormed("an attribute is given twice");
