//! A small owned tree of XML: what is read closely, and what is built.
//!
//! Most stanzas are forwarded as bytes and never become a tree. Names and namespaces are kept apart: there are no
//! prefixes in a tree. Inside a stanza the content namespace is always `ns::CLIENT`, whatever stream it came from.
//!
//! Invariant: no two text nodes stand side by side and none is empty, so that writing and parsing give the same tree.

use std::collections::HashMap;
use std::fmt::{self, Display};

use compact_str::{CompactString, ToCompactString};
use smallvec::SmallVec;
use zeroize::Zeroize;

use crate::budget::OverBudget;
use crate::chars::is_ncname;
use crate::ns::{self, Ns};
use crate::space::Space;
use crate::write::{escape_attr, escape_text};

/// One element with its attributes and everything inside it.
pub struct Element {
    pub(crate) name: CompactString,
    pub(crate) space: Space,
    pub(crate) attrs: Vec<Attr>,
    pub(crate) nodes: Vec<Node>,
}

/// What stands between the tags of an element.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, unescaped.
    Text(CompactString),
}

/// An attribute; declarations of namespaces are not attributes.
#[derive(Clone, PartialEq, Eq)]
pub struct Attr {
    /// `NONE` for an attribute without a prefix: it belongs to its element and is in no namespace.
    pub(crate) space: Space,
    pub(crate) name: CompactString,
    pub(crate) value: CompactString,
}

impl Attr {
    /// The namespace, empty for an attribute without a prefix.
    pub fn ns(&self) -> &str {
        self.space.as_str()
    }

    /// The name without a prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, unescaped.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// An empty element. `name` is a name without a prefix; one that is not would be our own bug.
pub fn el(name: impl Into<CompactString>, ns: Ns) -> Element {
    debug_assert!(ns != ns::XML, "elements of the namespace of `xml` cannot be written without a prefix");
    Element { name: checked(name.into()), space: ns.into(), attrs: Vec::new(), nodes: Vec::new() }
}

/// A name from our own code. A wrong one is replaced, so that no bug of ours sends what is not XML.
fn checked(name: CompactString) -> CompactString {
    debug_assert!(is_ncname(&name) && name != "xmlns", "not a name: {name:?}");
    if is_ncname(&name) && name != "xmlns" { name } else { CompactString::const_new("invalid") }
}

/// Building.
impl Element {
    /// With an attribute; an earlier one of the same name is replaced.
    pub fn attr(mut self, name: &str, value: impl Display) -> Element {
        self.set_attr(name, value);
        self
    }

    /// With an attribute if there is a value.
    pub fn attr_opt(self, name: &str, value: Option<impl Display>) -> Element {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// With `xml:lang`.
    pub fn with_lang(mut self, lang: impl Display) -> Element {
        self.put(Attr { space: ns::XML.into(), name: "lang".into(), value: lang.to_compact_string() });
        self
    }

    /// The same element with nothing between its tags.
    #[must_use]
    pub fn tag(&self) -> Element {
        Element { name: self.name.clone(), space: self.space.clone(), attrs: self.attrs.clone(), nodes: Vec::new() }
    }

    /// With a child at the end.
    pub fn child(mut self, child: Element) -> Element {
        self.push_child(child);
        self
    }

    /// With children at the end.
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// With text at the end.
    pub fn text(mut self, text: impl AsRef<str>) -> Element {
        self.push_text(text.as_ref());
        self
    }

    /// Adds a child at the end.
    pub fn push_child(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Adds text at the end; it joins text that is there already.
    pub fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Node::Text(before)) => before.push_str(text),
            _ => self.nodes.push(Node::Text(text.into())),
        }
    }

    /// Sets an attribute without a namespace; an earlier one of the same name is replaced.
    pub fn set_attr(&mut self, name: &str, value: impl Display) {
        self.put(Attr { space: Space::NONE, name: checked(name.into()), value: value.to_compact_string() });
    }

    /// Removes an attribute without a namespace and returns its value.
    pub fn remove_attr(&mut self, name: &str) -> Option<CompactString> {
        let at = self.attrs.iter().position(|attr| attr.space == Space::NONE && attr.name == name)?;
        Some(self.attrs.remove(at).value)
    }

    fn put(&mut self, new: Attr) {
        match self.attrs.iter_mut().find(|old| old.space == new.space && old.name == new.name) {
            Some(old) => old.value = new.value,
            None => self.attrs.push(new),
        }
    }
}

/// Reading.
impl Element {
    /// The name without a prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace; empty for an element in none.
    pub fn ns(&self) -> &str {
        self.space.as_str()
    }

    /// The number of the namespace, 0 for one that is not in the table.
    pub fn ns_id(&self) -> u16 {
        self.space.id()
    }

    /// Whether it is this element.
    pub fn is(&self, ns: Ns, name: &str) -> bool {
        self.space.is(ns) && self.name == name
    }

    /// The value of an attribute without a namespace.
    pub fn get(&self, attr: &str) -> Option<&str> {
        self.find_attr(&Space::NONE, attr)
    }

    /// The value of an attribute in a namespace.
    pub fn get_in(&self, ns: Ns, attr: &str) -> Option<&str> {
        self.find_attr(&ns.into(), attr)
    }

    /// The `xml:lang` of this element itself; what it inherits is not looked at.
    pub fn lang(&self) -> Option<&str> {
        self.find_attr(&ns::XML.into(), "lang")
    }

    fn find_attr(&self, space: &Space, name: &str) -> Option<&str> {
        self.attrs.iter().find(|attr| attr.name == name && attr.space == *space).map(Attr::value)
    }

    /// All attributes, in the order they were written.
    pub fn attrs(&self) -> impl Iterator<Item = &Attr> {
        self.attrs.iter()
    }

    /// Everything between the tags, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child of this name.
    pub fn find(&self, ns: Ns, name: &str) -> Option<&Element> {
        self.elements().find(|child| child.is(ns, name))
    }

    /// Whether there is a child of this name.
    pub fn has(&self, ns: Ns, name: &str) -> bool {
        self.find(ns, name).is_some()
    }

    /// The text directly inside, without that of children.
    pub fn content(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }
}

/// Writing.
impl Element {
    /// Appends the element in the one form we write: single quotes, no prefixes on elements, `xmlns` only where the
    /// namespace differs from that of the parent. `parent_ns` is the default namespace where the bytes will stand.
    ///
    /// For elements of our own and those that were measured before: what a peer sent is written by
    /// [`write_within`](Self::write_within) first.
    pub fn write(&self, out: &mut Vec<u8>, parent_ns: &str) {
        let unbounded = self.write_within(out, parent_ns, usize::MAX);
        debug_assert!(unbounded.is_ok());
    }

    /// The same, until `out` is longer than `budget` bytes.
    ///
    /// # Errors
    /// Over the budget, by one start tag or one text at most. What was written until then is in `out`.
    pub fn write_within(&self, out: &mut Vec<u8>, parent_ns: &str, budget: usize) -> Result<(), OverBudget> {
        let mut open: SmallVec<[(&Element, std::slice::Iter<'_, Node>); 8]> = SmallVec::new();
        self.write_start(out, parent_ns);
        if !self.nodes.is_empty() {
            open.push((self, self.nodes.iter()));
        }
        while let Some((element, nodes)) = open.last_mut() {
            if out.len() > budget {
                break;
            }
            let element = *element;
            match nodes.next() {
                Some(Node::Text(text)) => escape_text(out, text),
                Some(Node::Element(child)) => {
                    child.write_start(out, element.ns());
                    if !child.nodes.is_empty() {
                        open.push((child, child.nodes.iter()));
                    }
                }
                None => {
                    out.extend_from_slice(b"</");
                    out.extend_from_slice(element.name.as_bytes());
                    out.push(b'>');
                    open.pop();
                }
            }
        }
        if out.len() > budget { Err(OverBudget(budget)) } else { Ok(()) }
    }

    /// The start tag, or the whole of an empty element.
    fn write_start(&self, out: &mut Vec<u8>, parent_ns: &str) {
        out.push(b'<');
        out.extend_from_slice(self.name.as_bytes());
        if self.ns() != parent_ns {
            out.extend_from_slice(b" xmlns='");
            escape_attr(out, self.ns());
            out.push(b'\'');
        }
        let mut prefixes = Prefixes::default();
        for (at, attr) in self.attrs.iter().enumerate() {
            out.push(b' ');
            if attr.space.is(ns::XML) {
                out.extend_from_slice(b"xml:");
            } else if attr.space != Space::NONE {
                prefixes.write(out, at, attr);
            }
            out.extend_from_slice(attr.name.as_bytes());
            out.extend_from_slice(b"='");
            escape_attr(out, &attr.value);
            out.push(b'\'');
        }
        out.extend_from_slice(if self.nodes.is_empty() { b"/>" } else { b">" });
    }

    /// The element as a string, to stand where `ns` is the default namespace.
    pub fn to_string_in(&self, ns: &str) -> String {
        let mut out = Vec::new();
        self.write(&mut out, ns);
        // Everything written is a `&str` or ASCII, cut nowhere: the lossy way never loses.
        String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// The prefixes that one start tag has declared so far, each numbered by the first attribute that uses it.
#[derive(Default)]
struct Prefixes<'a> {
    few: SmallVec<[(&'a Space, usize); 4]>,
    /// all of them, where they are more: none is looked for among many one by one
    many: Option<HashMap<&'a Space, usize, foldhash::fast::RandomState>>,
}

impl<'a> Prefixes<'a> {
    /// Writes the prefix of an attribute, with its declaration if it is new.
    fn write(&mut self, out: &mut Vec<u8>, at: usize, attr: &'a Attr) {
        let number = match self.find(&attr.space) {
            Some(number) => number,
            None => {
                out.extend_from_slice(format!("xmlns:ns{at}='").as_bytes());
                escape_attr(out, attr.ns());
                out.extend_from_slice(b"' ");
                self.insert(&attr.space, at);
                at
            }
        };
        out.extend_from_slice(format!("ns{number}:").as_bytes());
    }

    fn find(&self, space: &Space) -> Option<usize> {
        match &self.many {
            None => self.few.iter().find(|(known, _)| *known == space).map(|(_, number)| *number),
            Some(many) => many.get(space).copied(),
        }
    }

    fn insert(&mut self, space: &'a Space, number: usize) {
        match &mut self.many {
            None if self.few.len() < FEW => self.few.push((space, number)),
            many => {
                let many = many.get_or_insert_default();
                many.extend(self.few.drain(..));
                many.insert(space, number);
            }
        }
    }
}

/// Up to this number of prefixes it is cheapest to look at one after the other.
const FEW: usize = 8;

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_in(ns::CLIENT.as_str()))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Element(element) => element.fmt(f),
            Node::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

impl fmt::Debug for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}{}={:?}", self.ns(), self.name, self.value)
    }
}

/// Equal as XML: the order of attributes has no meaning.
impl PartialEq for Element {
    fn eq(&self, other: &Element) -> bool {
        let mut pairs: SmallVec<[(&Element, &Element); 8]> = SmallVec::new();
        pairs.push((self, other));
        while let Some((a, b)) = pairs.pop() {
            let same_tag = a.name == b.name && a.space == b.space && a.attrs.len() == b.attrs.len();
            if !same_tag || a.nodes.len() != b.nodes.len() || !a.attrs.iter().all(|attr| b.attrs.contains(attr)) {
                return false;
            }
            for nodes in a.nodes.iter().zip(&b.nodes) {
                match nodes {
                    (Node::Element(a), Node::Element(b)) => pairs.push((a, b)),
                    (Node::Text(a), Node::Text(b)) if a == b => {}
                    _ => return false,
                }
            }
        }
        true
    }
}

impl Eq for Element {}

/// Without recursion, as are dropping, comparing and writing: a tree of any depth costs no stack.
impl Clone for Element {
    fn clone(&self) -> Element {
        let mut open: SmallVec<[(Element, std::slice::Iter<'_, Node>); 4]> = SmallVec::new();
        let (mut copy, mut nodes) = (self.clone_tag(), self.nodes.iter());
        loop {
            match nodes.next() {
                Some(Node::Text(text)) => copy.nodes.push(Node::Text(text.clone())),
                Some(Node::Element(child)) if child.nodes.is_empty() => copy.push_child(child.clone_tag()),
                Some(Node::Element(child)) => {
                    open.push((copy, nodes));
                    (copy, nodes) = (child.clone_tag(), child.nodes.iter());
                }
                None => match open.pop() {
                    None => return copy,
                    Some((mut parent, rest)) => {
                        parent.push_child(copy);
                        (copy, nodes) = (parent, rest);
                    }
                },
            }
        }
    }
}

impl Element {
    /// A copy without what is inside, but with room for it.
    fn clone_tag(&self) -> Element {
        Element {
            name: self.name.clone(),
            space: self.space.clone(),
            attrs: self.attrs.clone(),
            nodes: Vec::with_capacity(self.nodes.len()),
        }
    }
}

impl Element {
    /// Overwrites the text between its tags, which was a secret.
    pub fn wipe(&mut self) {
        for node in &mut self.nodes {
            match node {
                Node::Text(text) => text.zeroize(),
                Node::Element(child) => child.wipe(),
            }
        }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let mut doomed = std::mem::take(&mut self.nodes);
        while let Some(node) = doomed.pop() {
            if let Node::Element(mut element) = node {
                doomed.append(&mut element.nodes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Ns = Ns::private("urn:example:mine");

    #[test]
    fn a_built_element_is_written_in_the_one_form() {
        let message = el("message", ns::CLIENT)
            .attr("to", "romeo@example.net/o'neil")
            .attr_opt("id", None::<&str>)
            .attr_opt("type", Some("chat"))
            .with_lang("en")
            .child(el("body", ns::CLIENT).text("a < b").text(" & c"))
            .child(el("x", MINE).attr("n", 7).child(el("y", MINE)).child(el("z", ns::CLIENT)));
        assert_eq!(
            message.to_string_in("jabber:client"),
            "<message to='romeo@example.net/o&apos;neil' type='chat' xml:lang='en'><body>a &lt; b &amp; c</body>\
             <x xmlns='urn:example:mine' n='7'><y/><z xmlns='jabber:client'/></x></message>"
        );
        assert!(message.to_string_in("").starts_with("<message xmlns='jabber:client' to="));
    }

    #[test]
    fn attributes_in_a_namespace_share_a_declared_prefix() {
        let mut e = el("a", ns::CLIENT).attr("b", "1");
        for (space, name) in [("urn:x", "b"), ("urn:y", "b"), ("urn:x", "c")] {
            e.attrs.push(Attr { space: Space::of(space), name: name.into(), value: "2".into() });
        }
        assert_eq!(
            e.to_string_in("jabber:client"),
            "<a b='1' xmlns:ns1='urn:x' ns1:b='2' xmlns:ns2='urn:y' ns2:b='2' ns1:c='2'/>"
        );
        assert_eq!(e.get("b"), Some("1"));
        assert_eq!(e.get_in(Ns::private("urn:y"), "b"), Some("2"));
        assert_eq!(e.get("c"), None);
    }

    #[test]
    fn reading_looks_at_direct_children_only() {
        let e = el("iq", ns::CLIENT)
            .text("one")
            .child(el("query", MINE).text("no").child(el("deep", MINE)))
            .text("two")
            .children([el("query", ns::ROSTER)]);
        assert_eq!(e.content(), "onetwo");
        assert_eq!(e.find(MINE, "query").map(Element::content).as_deref(), Some("no"));
        assert!(e.has(ns::ROSTER, "query"));
        assert!(!e.has(MINE, "deep"));
        assert_eq!(e.elements().count(), 2);
        assert_eq!(e.nodes().len(), 4);
        assert!(e.is(ns::CLIENT, "iq") && !e.is(ns::SERVER, "iq"));
        assert_eq!(e.find(MINE, "query").map(|q| (q.ns(), q.ns_id())), Some(("urn:example:mine", 0)));
    }

    #[test]
    fn setting_an_attribute_again_replaces_it() {
        let mut e = el("a", MINE).attr("x", 1).attr("x", 2);
        assert_eq!(e.attrs().count(), 1);
        assert_eq!(e.remove_attr("x").as_deref(), Some("2"));
        assert_eq!(e.remove_attr("x"), None);
        assert_eq!(e.with_lang("de").with_lang("en").lang(), Some("en"));
    }

    #[test]
    fn equality_ignores_the_order_of_attributes_and_nothing_else() {
        let a = || el("a", MINE).attr("x", 1).attr("y", 2).text("t").child(el("b", MINE));
        assert_eq!(a(), el("a", MINE).attr("y", 2).attr("x", 1).text("t").child(el("b", MINE)));
        assert_ne!(a(), a().attr("z", 3));
        assert_ne!(a(), a().attr("y", 3));
        assert_ne!(a(), a().text("t"));
        assert_ne!(a(), el("a", MINE).attr("x", 1).attr("y", 2).child(el("b", MINE)).text("t"));
        assert_ne!(a(), el("a", MINE).attr("x", 1).attr("y", 2).text("t").child(el("b", ns::PING)));
    }

    #[test]
    fn empty_text_leaves_no_node() {
        assert!(el("a", MINE).text("").nodes().is_empty());
    }

    #[test]
    fn a_tree_a_million_deep_can_be_cloned_compared_written_and_dropped() {
        let mut tree = el("a", MINE);
        for _ in 0..1_000_000 {
            tree = el("a", MINE).child(tree);
        }
        let copy = tree.clone();
        assert!(copy == tree);
        assert_eq!(tree.to_string_in("urn:example:mine").len(), 7 * 1_000_000 + 4);
    }

    #[test]
    fn an_element_stays_small() {
        assert_eq!(size_of::<Element>(), 88);
        assert_eq!(size_of::<Node>(), 88);
    }
}
