//! A stanza on its way through the server (RFC 6120 §8).
//!
//! The header is stored as values: addresses are parsed and normalised, and escaped again whenever they are written. The body is
//! shared bytes with an index of its direct children. Forwarding copies bytes, stamping appends a fragment, stripping
//! hides a child, a clone increments a counter.
//!
//! Invariant: the body declares every namespace it uses and leaves the content namespace implicit, so that the same
//! bytes are valid on a client's, a server's and a component's stream.

mod head;

pub use head::{Head, Kind, Type};

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

use crate::budget::{self, MAX_ID, OverBudget, output_for};
use crate::element::{Element, Node, el};
use crate::error::StanzaError;
use crate::jid::Jid;
use crate::ns::{self, Ns};
use crate::parse::{self, Limits, StreamContext, XmlError};
use crate::scan::Plain;
use crate::write::{escape_attr, escape_text, is_plain};

/// The position of a child in its bytes.
#[derive(Clone, Debug)]
struct Child {
    ns: u16,
    name: Range<u32>,
    range: Range<u32>,
}

impl Child {
    /// A child of which the tag begins at `start`, with a name of so many bytes.
    fn new(ns: u16, start: usize, name: usize, end: usize) -> Result<Child, OverBudget> {
        let at = |at: usize| u32::try_from(at).map_err(|_| OverBudget(u32::MAX as usize));
        Ok(Child { ns, name: at(start + 1)?..at(start + 1 + name)?, range: at(start)?..at(end)? })
    }
}

#[derive(Debug)]
struct Body {
    /// the body, within the frame that it was read from: a slice of its own would be another allocation
    frame: Bytes,
    within: Range<u32>,
    /// their places count from the start of the body
    children: SmallVec<[Child; 4]>,
    /// the namespaces of the children, each as the bit of [`mark`]
    marks: u64,
}

impl Body {
    fn new(frame: Bytes, within: Range<u32>, children: SmallVec<[Child; 4]>) -> Body {
        let marks = children.iter().fold(0, |marks, child| marks | mark(child.ns));
        Body { frame, within, children, marks }
    }

    /// Of bytes that contain nothing else.
    fn alone(raw: Vec<u8>, children: SmallVec<[Child; 4]>) -> Result<Body, OverBudget> {
        let end = u32::try_from(raw.len()).map_err(|_| OverBudget(u32::MAX as usize))?;
        Ok(Body::new(raw.into(), 0..end, children))
    }

    fn raw(&self) -> &[u8] {
        self.frame.get(self.within.start as usize..self.within.end as usize).unwrap_or_default()
    }
}

/// A bit for a namespace. Most lookups are for children that do not exist: a missing bit answers them at once.
fn mark(ns: u16) -> u64 {
    1 << (ns % 64)
}

/// A fragment appended by the server: a stanza-id, a delay.
#[derive(Clone, Debug)]
struct Appended {
    ns: u16,
    name_len: u32,
    raw: Bytes,
}

#[derive(Clone, Debug, Default)]
struct Edits {
    hidden: u64,
    appended: SmallVec<[Appended; 1]>,
}

/// Why a frame is not an acceptable stanza.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StanzaFault {
    /// Not message, presence or iq in the content namespace: a nonza, or unknown.
    #[error("not a stanza")]
    NotAStanza,
    /// The XML itself is invalid; ends the stream.
    #[error("{0}")]
    Xml(#[from] XmlError),
    /// The header is invalid; the stanza is answered with this error and the stream continues (RFC 6120 §8.3).
    #[error("the stanza's header is at fault")]
    Header(Box<HeaderFault>),
}

/// A stanza with an invalid header, with the data needed to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFault {
    /// the kind of the stanza
    pub kind: Kind,
    /// whether it is itself an error or a result: these are never answered (RFC 6120 §8.3.1)
    pub answerable: bool,
    /// the `id` to answer with
    pub id: Option<CompactString>,
    /// the `to` as it was sent, if it is a valid address: the error is sent from it
    pub to: Option<Jid>,
    /// the error
    pub error: StanzaError,
}

/// A stanza: cheap to clone, cheap to edit.
#[derive(Clone, Debug)]
pub struct Stanza {
    /// The start tag.
    pub head: Head,
    /// what was read; the server's own stanzas have none
    body: Option<Arc<Body>>,
    /// most stanzas have none
    edits: Option<Arc<Edits>>,
}

/// What a frame is.
#[derive(Debug)]
pub enum Read {
    /// A stanza.
    Stanza(Stanza),
    /// Something else: a nonza, or unknown.
    Other(Box<Element>),
}

/// A child of a stanza that has been looked up but not parsed.
#[derive(Clone, Copy)]
pub struct View<'a> {
    ns: u16,
    name: &'a [u8],
    raw: &'a [u8],
}

impl View<'_> {
    /// The child as a tree. The bytes were checked when the stanza was read.
    pub fn parse(&self) -> Element {
        let text = std::str::from_utf8(self.raw).unwrap_or_default();
        let parsed = parse::parse_fragment(text).ok().or_else(|| nested(text));
        parsed.unwrap_or_else(|| el(std::str::from_utf8(self.name).unwrap_or_default(), ns::CLIENT))
    }

    fn is_in(&self, ns: Ns) -> bool {
        if ns.id() != 0 { ns.id() == self.ns } else { self.ns == 0 && self.parse().ns() == ns.as_str() }
    }

    fn is(&self, ns: Ns, name: &str) -> bool {
        // Compares the number first: it decides nearly every lookup.
        self.ns == ns.id() && self.name == name.as_bytes() && self.is_in(ns)
    }
}

/// A child in the content namespace of another kind of stream: legal there, but not as a stanza (§4.8.3).
fn nested(text: &str) -> Option<Element> {
    parse::parse_fragment(&format!("<a>{text}</a>")).ok()?.elements().next().cloned()
}

impl Stanza {
    /// A stanza made by the server itself.
    pub fn new(kind: Kind, type_: Type) -> Stanza {
        let head = Head { kind, type_, id: None, from: None, to: None, lang: None };
        Stanza { head, body: None, edits: None }
    }

    /// An empty message of the given type.
    pub fn message(type_: Type) -> Stanza {
        Stanza::new(Kind::Message, type_)
    }

    /// An empty presence of the given type.
    pub fn presence(type_: Type) -> Stanza {
        Stanza::new(Kind::Presence, type_)
    }

    /// The same stanza with `from`.
    pub fn from(mut self, from: impl Into<Option<Jid>>) -> Stanza {
        self.head.from = from.into();
        self
    }

    /// The same stanza with `to`.
    pub fn to(mut self, to: impl Into<Option<Jid>>) -> Stanza {
        self.head.to = to.into();
        self
    }

    /// The same stanza with `id`.
    pub fn id(mut self, id: impl Into<CompactString>) -> Stanza {
        self.head.id = Some(id.into());
        self
    }

    /// The same stanza with one more child at its end.
    pub fn child(mut self, child: Element) -> Stanza {
        self.append(&child);
        self
    }

    /// Reads one frame. `passthrough` allows the peer's own bytes to be kept if they are in the plain grammar.
    pub fn read(frame: &Bytes, cx: &StreamContext, limits: &Limits, passthrough: bool) -> Result<Stanza, StanzaFault> {
        match Stanza::read_any(frame, cx, limits, passthrough)? {
            Read::Stanza(stanza) => Ok(stanza),
            Read::Other(_) => Err(StanzaFault::NotAStanza),
        }
    }

    /// As [`Stanza::read`], but what is no stanza is an element, and no fault.
    pub fn read_any(
        frame: &Bytes,
        cx: &StreamContext,
        limits: &Limits,
        passthrough: bool,
    ) -> Result<Read, StanzaFault> {
        if passthrough && let Some(plain) = cx.scan(frame, limits) {
            match Stanza::read_plain(frame.clone(), &plain, cx) {
                Err(StanzaFault::NotAStanza) => {}
                read => return read.map(Read::Stanza),
            }
        }
        let tree = parse::parse_element(frame, cx, limits)?;
        let stanza = match Stanza::from_element(&tree, cx, frame.len()) {
            Err(StanzaFault::NotAStanza) => return Ok(Read::Other(Box::new(tree))),
            read => read?,
        };
        // RFC 6120 §11.3: XML that some receivers' parsers refuse would end their streams, again at each login.
        if !tree.is_portable() {
            let error = StanzaError::not_acceptable().with_text("names or namespaces that not every client can read");
            return Err(stanza.head.fault(error));
        }
        stanza.with_fair_id().map(Read::Stanza)
    }

    /// Reads a frame that was judged: as [`Stanza::read`] with `passthrough`.
    pub(crate) fn read_plain(frame: Bytes, plain: &Plain, cx: &StreamContext) -> Result<Stanza, StanzaFault> {
        Stanza::from_plain(frame, plain, cx)?.with_fair_id()
    }

    /// See [`MAX_ID`].
    fn with_fair_id(self) -> Result<Stanza, StanzaFault> {
        match &self.head.id {
            Some(id) if id.len() > MAX_ID => Err(self.head.fault(StanzaError::bad_request("an id of this length"))),
            _ => Ok(self),
        }
    }

    /// Reads the output of [`Stanza::write`] with the client's content namespace: for tests, and for stanzas stored as text.
    pub fn parse(text: &str) -> Result<Stanza, StanzaFault> {
        Stanza::stored(&Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Reads the output of [`Stanza::write`] with the client's content namespace. It was checked when it was first read: it keeps its
    /// bytes, and has no budget.
    pub fn stored(bytes: &Bytes) -> Result<Stanza, StanzaFault> {
        let cx = StreamContext::default();
        if let Some(plain) = cx.scan(bytes, &Limits::STORED) {
            return Stanza::from_plain(bytes.clone(), &plain, &cx);
        }
        Stanza::from_element(&parse::parse_element(bytes, &cx, &Limits::STORED)?, &cx, usize::MAX)
    }

    /// From a tree that was parsed from `read` bytes, rewritten in canonical form.
    ///
    /// # Errors
    /// Also if the output would exceed [`output_for`] these bytes.
    pub fn from_element(tree: &Element, cx: &StreamContext, read: usize) -> Result<Stanza, StanzaFault> {
        let kind = Kind::from_name(tree.name()).filter(|_| tree.ns_id() == ns::CLIENT.id());
        let kind = kind.ok_or(StanzaFault::NotAStanza)?;
        let lang = tree.lang().and_then(budget::language).or(cx.lang());
        let head = head(kind, tree.get("type"), tree.get("id"), tree.get("from"), tree.get("to"), lang)?;
        match body(tree, output_for(read).saturating_sub(head.own_bytes())) {
            Ok(body) => Ok(Stanza { head, body: Some(Arc::new(body)), edits: None }),
            Err(OverBudget(_)) => {
                let error = StanzaError::not_acceptable().with_text("namespaces that make it many times larger");
                Err(head.fault(error))
            }
        }
    }

    fn from_plain(frame: Bytes, plain: &Plain, cx: &StreamContext) -> Result<Stanza, StanzaFault> {
        // Checked at once, and not piece by piece.
        let end = plain.attrs.last().map_or(plain.name.end, |attr| attr.value.end);
        let tag = frame.get(..end as usize).and_then(|tag| std::str::from_utf8(tag).ok()).unwrap_or_default();
        let text = |range: &Range<u32>| tag.get(range.start as usize..range.end as usize).unwrap_or_default();
        let kind = Kind::from_name(text(&plain.name)).ok_or(StanzaFault::NotAStanza)?;
        let (mut type_, mut id, mut from, mut to, mut lang) = (None, None, None, None, None);
        for attr in &plain.attrs {
            let name = frame.get(attr.name.start as usize..attr.name.end as usize);
            let place = match name.unwrap_or_default() {
                b"type" => &mut type_,
                b"id" => &mut id,
                b"from" => &mut from,
                b"to" => &mut to,
                b"xml:lang" => &mut lang,
                _ => continue,
            };
            *place = Some(crate::write::unescape(text(&attr.value), attr.has_entities));
        }
        let lang = lang.as_deref().and_then(budget::language).or(cx.lang());
        let head = head(kind, type_.as_deref(), id.as_deref(), from.as_deref(), to.as_deref(), lang)?;
        let base = plain.body.start;
        let children = plain.children.iter().map(|c| Child {
            ns: c.ns,
            name: c.name.start - base..c.name.end - base,
            range: c.range.start - base..c.range.end - base,
        });
        let children = children.collect();
        Ok(Stanza { head, body: Some(Arc::new(Body::new(frame, plain.body.clone(), children))), edits: None })
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.head.kind
    }

    /// The type.
    pub fn type_(&self) -> Type {
        self.head.type_
    }

    /// What stands between the tags of the stanza as it was read.
    fn raw(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], |body| body.raw())
    }

    fn own_children(&self) -> &[Child] {
        self.body.as_ref().map_or(&[], |body| &body.children)
    }

    /// A bit for each child that is hidden.
    fn hidden(&self) -> u64 {
        self.edits.as_ref().map_or(0, |edits| edits.hidden)
    }

    /// The children appended by the server.
    fn late(&self) -> &[Appended] {
        self.edits.as_ref().map_or(&[], |edits| &edits.appended)
    }

    fn edit(&mut self) -> &mut Edits {
        Arc::make_mut(self.edits.get_or_insert_default())
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        let (raw, children, hidden) = (self.raw(), self.own_children(), self.hidden());
        let visible = children.iter().enumerate().filter(move |(i, _)| hidden & bit(*i) == 0);
        let own = visible.map(move |(_, child)| View {
            ns: child.ns,
            name: &raw[child.name.start as usize..child.name.end as usize],
            raw: &raw[child.range.start as usize..child.range.end as usize],
        });
        let late = self.late().iter().map(|a| View { ns: a.ns, name: &a.raw[1..1 + a.name_len as usize], raw: &a.raw });
        own.chain(late)
    }

    /// False if no child is in the namespace: most lookups end here.
    #[inline]
    fn may_have(&self, ns: Ns) -> bool {
        let own = self.body.as_ref().map_or(0, |body| body.marks);
        own & mark(ns.id()) != 0 || self.edits.is_some() && self.may_have_appended(ns)
    }

    fn may_have_appended(&self, ns: Ns) -> bool {
        self.late().iter().any(|a| mark(a.ns) == mark(ns.id()))
    }

    /// The first direct child of this name.
    #[inline]
    pub fn view(&self, ns: Ns, name: &str) -> Option<View<'_>> {
        if self.may_have(ns) { self.find(ns, name) } else { None }
    }

    fn find(&self, ns: Ns, name: &str) -> Option<View<'_>> {
        self.views().find(|view| view.is(ns, name))
    }

    /// The first direct child of this name, as a tree.
    pub fn get(&self, ns: Ns, name: &str) -> Option<Element> {
        self.view(ns, name).map(|view| view.parse())
    }

    /// Whether there is a direct child of this name.
    #[inline]
    pub fn has(&self, ns: Ns, name: &str) -> bool {
        self.view(ns, name).is_some()
    }

    /// Whether there is any direct child in the namespace.
    pub fn has_any(&self, ns: Ns) -> bool {
        self.may_have(ns) && self.views().any(|view| view.is_in(ns))
    }

    /// The only child of an IQ, as namespace number and name; `None` if it has no child (RFC 6120 §8.2.3).
    pub fn payload(&self) -> Option<(u16, View<'_>)> {
        self.views().next().map(|view| (view.ns, view))
    }

    /// Number of visible direct children.
    pub fn child_count(&self) -> usize {
        self.views().count()
    }

    /// All visible children, as trees.
    pub fn children(&self) -> Vec<Element> {
        self.views().map(|view| view.parse()).collect()
    }

    /// Whether every visible child is in one of the namespaces: for instance, whether there is anything besides chat states.
    pub fn only_has(&self, allowed: &[Ns]) -> bool {
        self.views().all(|view| allowed.iter().any(|ns| view.is_in(*ns)))
    }

    /// Hides every direct child of this name that satisfies `which`.
    #[inline]
    pub fn hide(&mut self, ns: Ns, name: &str, which: impl Fn(&Element) -> bool) {
        if self.has(ns, name) {
            self.hide_those(ns, name, which);
        }
    }

    fn hide_those(&mut self, ns: Ns, name: &str, which: impl Fn(&Element) -> bool) {
        let goes: SmallVec<[bool; 8]> = self.views().map(|view| view.is(ns, name) && which(&view.parse())).collect();
        if !goes.contains(&true) {
            return;
        }
        if self.own_children().len() > MAX_HIDEABLE {
            // An empty body rather than one with hidden children; no stanza that can be read reaches this.
            self.body = self.rebuilt(&goes).ok().map(Arc::new);
            self.edits = None;
            return;
        }
        let (mut goes, children) = (goes.into_iter(), self.own_children().len());
        let edits = self.edit();
        for i in 0..children {
            if edits.hidden & bit(i) == 0 && goes.next() == Some(true) {
                edits.hidden |= bit(i);
            }
        }
        edits.appended.retain(|_| goes.next() != Some(true));
    }

    /// The visible children except those to remove, in a new body.
    fn rebuilt(&self, goes: &[bool]) -> Result<Body, OverBudget> {
        let mut raw = Vec::with_capacity(self.raw().len());
        let mut children = SmallVec::new();
        for (view, _) in self.views().zip(goes).filter(|(_, goes)| !**goes) {
            let start = raw.len();
            raw.extend_from_slice(view.raw);
            children.push(Child::new(view.ns, start, view.name.len(), raw.len())?);
        }
        Body::alone(raw, children)
    }

    /// Appends a child.
    pub fn append(&mut self, child: &Element) {
        let mut raw = Vec::with_capacity(96);
        child.write(&mut raw, ns::CLIENT.as_str());
        let name_len = name_len(child.name());
        self.edit().appended.push(Appended { ns: child.ns_id(), name_len, raw: raw.into() });
    }

    /// Appends another stanza as it would be written, wrapped in these elements, the outermost first (XEP-0297).
    pub fn append_around(&mut self, inner: &Stanza, wrappers: &[(Ns, &str)]) {
        let Some((ns, name)) = wrappers.first() else { return };
        let mut raw = Vec::with_capacity(inner.weight() + wrappers.len() * 96);
        for (ns, name) in wrappers {
            raw.push(b'<');
            raw.extend_from_slice(name.as_bytes());
            namespace_attr(&mut raw, *ns);
            raw.push(b'>');
        }
        inner.write(&mut raw, Some(ns::CLIENT));
        for (_, name) in wrappers.iter().rev() {
            raw.extend_from_slice(b"</");
            raw.extend_from_slice(name.as_bytes());
            raw.push(b'>');
        }
        self.edit().appended.push(Appended { ns: ns.id(), name_len: name_len(name), raw: raw.into() });
    }

    /// Appends a child that is already serialized: one well-formed element of this name, which declares every namespace it
    /// uses except the content namespace.
    pub fn append_written(&mut self, ns: Ns, name: &str, raw: Bytes) {
        debug_assert!(raw.get(1..).is_some_and(|raw| raw.starts_with(name.as_bytes())));
        self.edit().appended.push(Appended { ns: ns.id(), name_len: name_len(name), raw });
    }

    /// Replaces the whole body with these children.
    pub fn with_children(mut self, children: impl IntoIterator<Item = Element>) -> Stanza {
        self.body = None;
        self.edits = None;
        for child in children {
            self.append(&child);
        }
        self
    }

    /// Writes the stanza for a stream whose content namespace is the default one; with `xmlns` for places where it is not: a
    /// forwarded stanza, a WebSocket frame.
    pub fn write(&self, out: &mut Vec<u8>, xmlns: Option<Ns>) {
        self.write_to(out, xmlns, self.head.to.as_ref());
    }

    /// Writes the stanza with another `to`: one body for many receivers.
    pub fn write_to(&self, out: &mut Vec<u8>, xmlns: Option<Ns>, to: Option<&Jid>) {
        let name = self.head.kind.name();
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        if let Some(ns) = xmlns {
            namespace_attr(out, ns);
        }
        if let Some(from) = &self.head.from {
            address_attr(out, " from='", from);
        }
        if let Some(to) = to {
            address_attr(out, " to='", to);
        }
        if let Some(type_) = self.head.type_.name() {
            plain_attr(out, " type='", type_);
        }
        if let Some(id) = &self.head.id {
            attr(out, " id='", id);
        }
        if let Some(lang) = &self.head.lang {
            attr(out, " xml:lang='", lang);
        }
        if self.raw().is_empty() && self.late().is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        self.write_body(out);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.push(b'>');
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        let (raw, hidden) = (self.raw(), self.hidden());
        if hidden == 0 {
            out.extend_from_slice(raw);
        } else {
            let mut at = 0;
            for (i, child) in self.own_children().iter().enumerate() {
                if hidden & bit(i) != 0 {
                    join(out, &raw[at..child.range.start as usize]);
                    at = child.range.end as usize;
                }
            }
            join(out, &raw[at..]);
        }
        for appended in self.late() {
            out.extend_from_slice(&appended.raw);
        }
    }

    /// The stanza as text, as [`Stanza::parse`] reads it.
    pub fn to_xml(&self) -> String {
        let mut out = Vec::with_capacity(self.weight());
        self.write(&mut out, None);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The same stanza in a separate allocation of its exact size: a stanza that was read shares the memory of everything that was
    /// read with it.
    pub fn compacted(&self) -> Stanza {
        let body = self.body.as_deref().map(|body| {
            let frame = Bytes::from(Box::<[u8]>::from(body.raw()));
            let within = 0..body.within.end - body.within.start;
            Arc::new(Body { frame, within, children: body.children.clone(), marks: body.marks })
        });
        let edits = self.edits.as_deref().map(|edits| {
            let mut edits = edits.clone();
            for appended in &mut edits.appended {
                appended.raw = Bytes::from(Box::<[u8]>::from(appended.raw.as_ref()));
            }
            Arc::new(edits)
        });
        Stanza { head: self.head.clone(), body, edits }
    }

    /// Number of children appended by the server.
    pub fn appended(&self) -> usize {
        self.late().len()
    }

    /// About how many bytes the stanza takes when written: for budgets of queues.
    pub fn weight(&self) -> usize {
        let head = &self.head;
        let jid = |jid: &Option<Jid>| jid.as_ref().map_or(0, |j| j.as_str().len());
        let text = |text: &Option<CompactString>| text.as_ref().map_or(0, |text| text.len());
        let appended: usize = self.late().iter().map(|a| a.raw.len()).sum();
        64 + jid(&head.from) + jid(&head.to) + text(&head.id) + text(&head.lang) + self.raw().len() + appended
    }

    /// As a tree, with its content namespace.
    pub fn to_element(&self) -> Element {
        parse::parse_fragment(&self.to_xml()).unwrap_or_else(|_| el(self.head.kind.name(), ns::CLIENT))
    }

    /// The result of an IQ, without a child (RFC 6120 §8.2.3).
    pub fn result(&self) -> Stanza {
        let mut answer = Stanza::new(Kind::Iq, Type::Result);
        answer.head.id.clone_from(&self.head.id);
        answer.head.from.clone_from(&self.head.to);
        answer.head.to.clone_from(&self.head.from);
        answer
    }

    /// Whether it may be answered with an error (RFC 6120 §8.3.1; RFC 6121 §8.5: results and errors are never answered).
    pub fn is_answerable(&self) -> bool {
        !matches!(self.head.type_, Type::Error | Type::Result)
    }

    /// The error that answers this stanza, from the address it was sent to (RFC 6120 §8.3.1). Must not be called for one that
    /// is not answerable.
    pub fn error(&self, error: &StanzaError) -> Stanza {
        debug_assert!(self.is_answerable());
        let mut answer = Stanza::new(self.head.kind, Type::Error);
        answer.head.id.clone_from(&self.head.id);
        answer.head.from.clone_from(&self.head.to);
        answer.head.to.clone_from(&self.head.from);
        answer.append_error(error);
        answer
    }

    fn append_error(&mut self, error: &StanzaError) {
        let raw = error.to_xml();
        let name_len = name_len("error");
        self.edit().appended.push(Appended { ns: ns::CLIENT.id(), name_len, raw: raw.into_bytes().into() });
    }
}

impl HeaderFault {
    /// The answer, if there may be one.
    pub fn answer(&self) -> Option<Stanza> {
        if !self.answerable {
            return None;
        }
        let mut answer = Stanza::new(self.kind, Type::Error);
        answer.head.id.clone_from(&self.id);
        answer.head.from.clone_from(&self.to);
        answer.append_error(&self.error);
        Some(answer)
    }
}

/// Maximum number of children that can be hidden by a bit; a stanza with more is rewritten instead.
const MAX_HIDEABLE: usize = 64;

fn bit(i: usize) -> u64 {
    if i < MAX_HIDEABLE { 1 << i } else { 0 }
}

/// ` name='value'`. The name includes everything before the value.
fn attr(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    escape_attr(out, value);
    out.push(b'\'');
}

/// The same with a value that needs no escaping.
fn plain_attr(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\'');
}

/// ` xmlns='…'`. No namespace of the table needs escaping.
fn namespace_attr(out: &mut Vec<u8>, ns: Ns) {
    match ns.id() {
        0 => attr(out, " xmlns='", ns.as_str()),
        _ => plain_attr(out, " xmlns='", ns.as_str()),
    }
}

/// The same with an address. The localpart and the domainpart never need escaping (RFC 7622 §3.2, §3.3): they contain neither
/// markup nor control characters.
fn address_attr(out: &mut Vec<u8>, name: &str, value: &Jid) {
    out.extend_from_slice(name.as_bytes());
    match value.resource() {
        Some(resource) if !is_plain(resource) => {
            out.extend_from_slice(value.bare_str().as_bytes());
            out.push(b'/');
            escape_attr(out, resource);
        }
        _ => out.extend_from_slice(value.as_str().as_bytes()),
    }
    out.push(b'\'');
}

/// Continues after a hidden child. Text on both sides of it must not become `]]>`, which is not allowed in text (XML §2.4).
fn join(out: &mut Vec<u8>, rest: &[u8]) {
    let before = out.iter().rev().take_while(|b| **b == b']').count();
    let after = rest.iter().take_while(|b| **b == b']').count();
    match rest.get(after..).and_then(|rest| rest.strip_prefix(b">")) {
        Some(behind) if before > 0 && before + after >= 2 => {
            out.extend_from_slice(&rest[..after]);
            out.extend_from_slice(b"&gt;");
            out.extend_from_slice(behind);
        }
        _ => out.extend_from_slice(rest),
    }
}

/// Names are from our own code or within `Limits::name`.
fn name_len(name: &str) -> u32 {
    u32::try_from(name.len()).unwrap_or_default()
}

/// The content of a stanza, in canonical form.
fn body(tree: &Element, budget: usize) -> Result<Body, OverBudget> {
    let mut raw = Vec::new();
    let mut children = SmallVec::new();
    for node in tree.nodes() {
        match node {
            Node::Text(text) => escape_text(&mut raw, text),
            Node::Element(child) => {
                let start = raw.len();
                child.write_within(&mut raw, ns::CLIENT.as_str(), budget)?;
                children.push(Child::new(child.ns_id(), start, child.name().len(), raw.len())?);
            }
        }
    }
    if raw.len() > budget { Err(OverBudget(budget)) } else { Body::alone(raw, children) }
}

/// RFC 6120 §8.1: the attributes that every kind has.
fn head(
    kind: Kind,
    type_: Option<&str>,
    id: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    lang: Option<&str>,
) -> Result<Head, StanzaFault> {
    let fault = |to: Option<Jid>, error: StanzaError| {
        let answerable = !matches!(type_, Some("error" | "result"));
        let id = id.map(CompactString::from);
        StanzaFault::Header(Box::new(HeaderFault { kind, answerable, id, to, error }))
    };
    // RFC 6120 §8.3.3.8: an invalid address.
    let to = match to.map(Jid::parse).transpose() {
        Ok(to) => to,
        Err(_) => return Err(fault(None, StanzaError::jid_malformed())),
    };
    // §8.1.2.1: a client's `from` is compared with its own addresses, so it must at least be valid.
    let from = match from.map(Jid::parse).transpose() {
        Ok(from) => from,
        Err(_) => return Err(fault(to, StanzaError::jid_malformed())),
    };
    let Some(parsed) = Type::of(kind, type_) else {
        return Err(fault(to, StanzaError::bad_request("unknown type")));
    };
    // §8.2.3 rule 1
    if kind == Kind::Iq && id.is_none_or(str::is_empty) {
        return Err(fault(to, StanzaError::bad_request("an iq needs an id")));
    }
    let text = |value: Option<&str>| value.map(CompactString::from);
    Ok(Head { kind, type_: parsed, id: text(id), from, to, lang: text(lang) })
}
