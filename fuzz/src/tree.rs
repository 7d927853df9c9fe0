//! One form of an XML tree for all parsers, to compare what they read.

use std::collections::BTreeMap;

use rxml::{Options, Parse, Parser, WithOptions};
use vorpal_proto::element::{Element, Node as Ours};

/// An element by its expanded names; texts are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub ns: String,
    pub name: String,
    pub attrs: BTreeMap<(String, String), String>,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Element(Tree),
    Text(String),
}

impl Tree {
    fn text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Node::Text(before)) => before.push_str(text),
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// One text for one tree, in characters that cannot occur in XML: for parsers in other languages (`others.py`).
    pub fn dump(&self, out: &mut String) {
        out.push_str(&format!("\x01E{}\x02{}", self.ns, self.name));
        for ((ns, name), value) in &self.attrs {
            out.push_str(&format!("\x01A{ns}\x02{name}\x02{value}"));
        }
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.dump(out),
                Node::Text(text) => out.push_str(&format!("\x01T{text}")),
            }
        }
        out.push_str("\x01Z");
    }

    /// The only node, if it is an element.
    fn only_child(mut self) -> Result<Tree, String> {
        match (self.nodes.pop(), self.nodes.is_empty()) {
            (Some(Node::Element(child)), true) => Ok(child),
            _ => Err("not exactly one element".to_owned()),
        }
    }
}

/// What a frame stands in: `jabber:client` is the default namespace, and `stream` is bound.
pub const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const FOOTER: &str = "</stream:stream>";

/// A frame as the whole document it would be.
pub fn document(frame: &[u8]) -> Vec<u8> {
    [HEADER.as_bytes(), frame, FOOTER.as_bytes()].concat()
}

/// Our own tree.
pub fn ours(element: &Element) -> Tree {
    let attrs = element.attrs().map(|attr| ((attr.ns().to_owned(), attr.name().to_owned()), attr.value().to_owned()));
    let nodes = element.nodes().iter().map(|node| match node {
        Ours::Element(child) => Node::Element(ours(child)),
        Ours::Text(text) => Node::Text(text.to_string()),
    });
    Tree {
        ns: element.ns().to_owned(),
        name: element.name().to_owned(),
        attrs: attrs.collect(),
        nodes: nodes.collect(),
    }
}

/// What rxml reads in a frame.
pub fn rxml(frame: &[u8]) -> Result<Tree, String> {
    // An empty section beside the element leaves no trace among its events.
    if frame.starts_with(b"<![") || frame.ends_with(b"]]>") {
        return Err("a section outside the element".to_owned());
    }
    rxml_document(&document(frame))?.only_child()
}

fn rxml_parser() -> Parser {
    Parser::with_options(Options { max_token_length: 1 << 24, ..Options::default() })
}

/// What rxml reads in a document.
pub fn rxml_document(document: &[u8]) -> Result<Tree, String> {
    let (mut parser, mut rest, mut open) = (rxml_parser(), document, vec![Tree::default()]);
    while let Some(event) = parser.parse(&mut rest, true).map_err(|e| format!("{e:?}"))? {
        step(event, &mut open);
    }
    open.pop().ok_or("nothing")?.only_child()
}

/// What rxml reads in a start tag, with a declaration or without: the root element, without an end.
pub fn rxml_header(header: &[u8]) -> Result<Tree, String> {
    let (mut parser, mut rest, mut open) = (rxml_parser(), header, vec![Tree::default()]);
    parser.set_text_buffering(false);
    loop {
        match parser.parse(&mut rest, false) {
            Ok(Some(event)) => step(event, &mut open),
            Ok(None) => return Err("ended".to_owned()),
            Err(rxml::error::EndOrError::NeedMoreData) if rest.is_empty() => break,
            Err(e) => return Err(format!("{e:?}")),
        }
    }
    // A tag or a text that has only begun is no event yet.
    let utf8 = std::str::from_utf8(header).is_ok();
    let tags = header.iter().filter(|&&byte| byte == b'<').count() - usize::from(header.starts_with(b"<?"));
    match open.pop() {
        Some(root) if open.len() == 1 && root.nodes.is_empty() && header.ends_with(b">") && tags == 1 && utf8 => {
            Ok(root)
        }
        _ => Err("not one open element".to_owned()),
    }
}

fn step(event: rxml::Event, open: &mut Vec<Tree>) {
    match event {
        rxml::Event::StartElement(_, (ns, name), attrs) => {
            let attrs = attrs.into_iter().map(|((ns, name), value)| ((ns.to_string(), name.to_string()), value));
            open.push(Tree { ns: ns.to_string(), name: name.to_string(), attrs: attrs.collect(), nodes: vec![] });
        }
        rxml::Event::Text(_, text) => open.last_mut().expect("a text inside something").text(&text),
        rxml::Event::EndElement(_) => {
            let ended = open.pop().expect("an element that ends");
            open.last_mut().expect("a place for it").nodes.push(Node::Element(ended));
        }
        rxml::Event::XmlDeclaration(..) => {}
    }
}

/// What roxmltree reads in a frame.
pub fn roxmltree(frame: &[u8]) -> Result<Tree, String> {
    let document = document(frame);
    let text = std::str::from_utf8(&document).map_err(|e| e.to_string())?;
    let parsed = roxmltree::Document::parse(text).map_err(|e| e.to_string())?;
    // It would keep nothing of a comment but the gap it leaves.
    if parsed.descendants().any(|node| node.is_comment() || node.is_pi()) {
        return Err("a comment or processing instruction".to_owned());
    }
    from_roxmltree(parsed.root_element()).only_child()
}

fn from_roxmltree(element: roxmltree::Node<'_, '_>) -> Tree {
    let attrs = element.attributes().map(|attr| {
        ((attr.namespace().unwrap_or_default().to_owned(), attr.name().to_owned()), attr.value().to_owned())
    });
    let mut tree = Tree {
        ns: element.tag_name().namespace().unwrap_or_default().to_owned(),
        name: element.tag_name().name().to_owned(),
        attrs: attrs.collect(),
        nodes: vec![],
    };
    for node in element.children() {
        match node.text() {
            Some(text) if node.is_text() => tree.text(text),
            _ => tree.nodes.push(Node::Element(from_roxmltree(node))),
        }
    }
    tree
}

/// What quick-xml reads in a frame, with all the checks it has.
pub fn quick_xml(frame: &[u8]) -> Result<Tree, String> {
    use quick_xml::XmlVersion::Implicit1_0;
    use quick_xml::escape::resolve_predefined_entity;
    use quick_xml::events::Event;

    let document = document(frame);
    let text = std::str::from_utf8(&document).map_err(|e| e.to_string())?;
    let mut reader = quick_xml::NsReader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let mut open = vec![Tree::default()];
    loop {
        let event = reader.read_event().map_err(|e| e.to_string())?;
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let (ns, name) = reader.resolver().resolve_element(start.name());
                let mut tree = Tree { ns: bound(ns)?, name: utf8(name.as_ref())?, ..Tree::default() };
                for attr in start.attributes() {
                    let attr = attr.map_err(|e| e.to_string())?;
                    if attr.key.as_namespace_binding().is_some() {
                        continue;
                    }
                    let (ns, name) = reader.resolver().resolve_attribute(attr.key);
                    let value = attr.normalized_value(Implicit1_0).map_err(|e| e.to_string())?;
                    if tree.attrs.insert((bound(ns)?, utf8(name.as_ref())?), value.into_owned()).is_some() {
                        return Err("an attribute twice".to_owned());
                    }
                }
                match event {
                    Event::Empty(_) => open.last_mut().ok_or("outside")?.nodes.push(Node::Element(tree)),
                    _ => open.push(tree),
                }
            }
            Event::End(_) => {
                let ended = open.pop().ok_or("an end too many")?;
                open.last_mut().ok_or("an end too many")?.nodes.push(Node::Element(ended));
            }
            Event::Text(text) => {
                open.last_mut().ok_or("outside")?.text(&text.xml10_content().map_err(|e| e.to_string())?)
            }
            Event::CData(text) => {
                open.last_mut().ok_or("outside")?.text(&text.xml10_content().map_err(|e| e.to_string())?);
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|e| e.to_string())?;
                let text = match reference.resolve_char_ref().map_err(|e| e.to_string())? {
                    Some(c) => c.to_string(),
                    None => resolve_predefined_entity(&name).ok_or("an unknown entity")?.to_owned(),
                };
                open.last_mut().ok_or("outside")?.text(&text);
            }
            Event::Eof if open.len() == 1 => return open.remove(0).only_child()?.only_child(),
            _ => return Err("something else".to_owned()),
        }
    }
}

fn utf8(name: &[u8]) -> Result<String, String> {
    String::from_utf8(name.to_vec()).map_err(|e| e.to_string())
}

fn bound(ns: quick_xml::name::ResolveResult<'_>) -> Result<String, String> {
    match ns {
        quick_xml::name::ResolveResult::Unbound => Ok(String::new()),
        // It gives the name as it is written.
        quick_xml::name::ResolveResult::Bound(ns) => {
            let value = utf8(ns.as_ref())?.replace("\r\n", " ").replace(['\r', '\n', '\t'], " ");
            Ok(quick_xml::escape::unescape(&value).map_err(|e| e.to_string())?.into_owned())
        }
        quick_xml::name::ResolveResult::Unknown(_) => Err("a prefix that was not declared".to_owned()),
    }
}
