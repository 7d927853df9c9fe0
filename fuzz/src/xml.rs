//! What must hold for the XML of `vorpal-proto`, whatever the input.

use bytes::BytesMut;
use vorpal_proto::element::Element;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::parse::{Limits, StreamContext, XmlError, parse_element, parse_fragment, parse_open};
use vorpal_proto::scan::{Plain, scan};

use crate::random::Random;
use crate::tree::{self, HEADER, Tree};

/// Nothing here is about limits, which other parsers do not have; frames are framed with a limit of their own.
const LIMITS: Limits = Limits {
    depth: 500,
    attributes: 500,
    declarations: 1000,
    uri: usize::MAX,
    uris: usize::MAX,
    nodes: 1_000_000,
    name: 1 << 20,
};

/// What an input turned out to be.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    pub parsed: bool,
    pub plain: bool,
    pub header: bool,
}

/// Runs all comparisons on one input.
///
/// # Errors
/// The disagreement: first the name of the property, then what each side says.
pub fn check(input: &[u8], random: &mut Random) -> Result<Seen, String> {
    let context = StreamContext::default();
    let parsed = parse_element(input, &context, &LIMITS);
    let plain = scan(input, &LIMITS);
    let oracle = oracle(input, parsed.is_ok());
    scan_agrees(input, plain.as_ref(), &parsed)?;
    oracle_agrees(input, &parsed, oracle)?;
    if let Ok(element) = &parsed {
        rewritten_is_the_same(element)?;
        let tree = tree::ours(element);
        if input.contains(&b'\r') {
            same("line ends in quick-xml", &tree, tree::quick_xml(input))?;
        }
        if plain.is_some() {
            // What passes through is read by programs we do not know: here are two.
            same("plain in roxmltree", &tree, tree::roxmltree(input))?;
            same("plain in quick-xml", &tree, tree::quick_xml(input))?;
        }
    }
    frames_agree(input, &parsed, random)?;
    let header = header_agrees(input)?;
    Ok(Seen { parsed: parsed.is_ok(), plain: plain.is_some(), header })
}

/// What rxml reads. Where it has a gap, roxmltree reads what we `accepted`.
fn oracle(input: &[u8], accepted: bool) -> Result<Tree, String> {
    let normal = line_ends(input);
    tree::rxml(&normal).or_else(|e| if accepted && has_gap(input) { tree::roxmltree(&normal) } else { Err(e) })
}

/// rxml 0.14 takes none of U+FDF0 to U+FFFD in names, which are among the last of `NameStartChar` (XML §2.3).
fn has_gap(input: &[u8]) -> bool {
    String::from_utf8_lossy(input).contains(|c| ('\u{FDF0}'..='\u{FFFD}').contains(&c))
}

/// XML §2.11: as if the ends of lines were made one before parsing. rxml 0.14 refuses a lone CR in the value of an
/// attribute if a letter follows and loses it if the quote follows, so it gets the input with this step done.
fn line_ends(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((&byte, tail)) = rest.split_first() {
        out.push(if byte == b'\r' { b'\n' } else { byte });
        rest = if byte == b'\r' { tail.strip_prefix(b"\n").unwrap_or(tail) } else { tail };
    }
    out
}

fn same(what: &str, ours: &Tree, theirs: Result<Tree, String>) -> Result<(), String> {
    match theirs {
        Ok(theirs) if theirs == *ours => Ok(()),
        theirs => Err(format!("{what}: we read {ours:?}, they {theirs:?}")),
    }
}

/// (a) What the scanner accepts the parser accepts with the same header, the same children and the same form.
fn scan_agrees(input: &[u8], plain: Option<&Plain>, parsed: &Result<Element, XmlError>) -> Result<(), String> {
    let Some(plain) = plain else { return Ok(()) };
    let element = parsed.as_ref().map_err(|e| format!("scan accepts what parse refuses: {e}"))?;
    if !element.is_portable() {
        return Err("scan accepts what is not portable".to_owned());
    }
    let text = std::str::from_utf8(input).map_err(|_| "scan accepts what is not UTF-8")?;
    let part = |range: &std::ops::Range<u32>| text.get(range.start as usize..range.end as usize).unwrap_or("<cut>");
    let wrong = |what: &str| Err(format!("scan: {what} differ: {plain:?} of {element:?}"));

    if part(&plain.name) != element.name() || element.ns() != "jabber:client" {
        return wrong("names");
    }
    let mut attrs: Vec<(&str, &str, String)> = Vec::new();
    for attr in &plain.attrs {
        let value =
            parse_fragment(&format!("<a>{}</a>", part(&attr.value))).map_or("<bad>".to_owned(), |a| a.content());
        if attr.has_entities != part(&attr.value).contains('&') || !attr.has_entities && value != part(&attr.value) {
            return wrong("entities");
        }
        match part(&attr.name).strip_prefix("xml:") {
            Some(name) => attrs.push(("http://www.w3.org/XML/1998/namespace", name, value)),
            None => attrs.push(("", part(&attr.name), value)),
        }
    }
    if !attrs.into_iter().eq(element.attrs().map(|a| (a.ns(), a.name(), a.value().to_owned()))) {
        return wrong("attributes");
    }
    if plain.children.len() != element.elements().count() {
        return wrong("numbers of children");
    }
    let mut last = plain.body.start;
    for (child, parsed) in plain.children.iter().zip(element.elements()) {
        let alone = parse_element(part(&child.range).as_bytes(), &StreamContext::default(), &LIMITS);
        if part(&child.name) != parsed.name() || child.ns != parsed.ns_id() || alone.as_ref() != Ok(parsed) {
            return wrong("children");
        }
        if child.range.start < last || child.range.end > plain.body.end {
            return wrong("places of children");
        }
        last = child.range.end;
    }
    let again = format!("<{0}>{1}</{0}>", element.name(), part(&plain.body));
    match parse_element(again.as_bytes(), &StreamContext::default(), &LIMITS) {
        Ok(body) if body.nodes() == element.nodes() => Ok(()),
        _ => wrong("bodies"),
    }
}

/// Where we refuse and rxml accepts, on purpose. The other way round there is no exception.
const STRICTER: &[(XmlError, &str)] = &[
    (
        XmlError::BadPrefix("an element in the namespace of xml"),
        "Legal, but has no form without a prefix; nobody has a use for it.",
    ),
    (XmlError::BadPrefix("an attribute named xmlns"), "Legal; roxmltree 0.21 takes `p:xmlns` for a declaration."),
    (
        XmlError::NotWellFormed("a reserved prefix or namespace is declared"),
        "Namespaces §3, constraint Reserved Prefixes and Namespace Names: rxml does not look.",
    ),
    (
        XmlError::NotWellFormed("a prefix is undeclared"),
        "Namespaces §5, constraint No Prefix Undeclaring: rxml does not look.",
    ),
    (
        XmlError::NotWellFormed("an element with the prefix xmlns"),
        "Namespaces §3, constraint Reserved Prefixes: rxml lets the prefix be declared first.",
    ),
    (
        XmlError::NotWellFormed("an attribute is given twice"),
        "XML §3.1, Unique Att Spec: rxml forgets the first of two `xmlns`.",
    ),
    (XmlError::InvalidNamespace("content namespace of another kind of stream"), "RFC 6120 §4.8.3: no matter of XML."),
];

/// (b) rxml accepts and refuses the same, and reads the same tree.
fn oracle_agrees(input: &[u8], parsed: &Result<Element, XmlError>, oracle: Result<Tree, String>) -> Result<(), String> {
    match (parsed, oracle) {
        (Ok(element), oracle) => same("rxml", &tree::ours(element), oracle),
        (Err(_), Err(_)) => Ok(()),
        (Err(error), Ok(theirs)) => {
            let excepted = STRICTER.iter().any(|(stricter, _)| stricter == error);
            // Of two `xmlns` only: any other attribute given twice rxml does see.
            let twice = XmlError::NotWellFormed("an attribute is given twice");
            if excepted && (*error != twice || input.windows(5).filter(|w| w == b"xmlns").count() >= 2) {
                Ok(())
            } else {
                Err(format!("oracle accepts what we refuse: {error}: {theirs:?}"))
            }
        }
    }
}

/// (d) What we write is read as the same by ourselves and by three parsers that know nothing of us.
fn rewritten_is_the_same(element: &Element) -> Result<(), String> {
    let tree = tree::ours(element);
    for ns in ["jabber:client", "", "urn:x"] {
        let written = element.to_string_in(ns);
        let alone = if ns == "urn:x" { format!("<a xmlns='urn:x'>{written}</a>") } else { written.clone() };
        let again = if ns.is_empty() { format!("<a xmlns=''>{written}</a>") } else { alone };
        let read = parse_fragment_unlimited(&again).map_err(|e| format!("we refuse what we wrote: {e}: {again}"))?;
        let read = if ns == "jabber:client" { &read } else { read.elements().next().ok_or("nothing written")? };
        if read != element {
            return Err(format!("we read what we wrote as {read:?}: {again}"));
        }
        if read.to_string_in(ns) != written {
            return Err(format!("the form is not stable: {written}"));
        }
    }
    let written = element.to_string_in("jabber:client");
    same("written, in rxml", &tree, oracle(written.as_bytes(), true))?;
    same("written, in roxmltree", &tree, tree::roxmltree(written.as_bytes()))?;
    same("written, in quick-xml", &tree, tree::quick_xml(written.as_bytes()))
}

fn parse_fragment_unlimited(xml: &str) -> Result<Element, XmlError> {
    parse_element(xml.as_bytes(), &StreamContext::default(), &LIMITS)
}

/// All frames of a stream that comes in pieces, and how it ended.
fn frames(stream: &[u8], limit: usize, mut piece: impl FnMut() -> usize) -> (Vec<Frame>, Option<XmlError>) {
    let (mut framer, mut buf, mut found, mut rest) = (Framer::new(limit), BytesMut::new(), Vec::new(), stream);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
        buf.extend_from_slice(now);
        rest = later;
        loop {
            match framer.next(&mut buf) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// What the framer refuses before a frame is complete.
const EARLY: &[XmlError] = &[
    XmlError::Encoding,
    XmlError::NotWellFormed("a character that XML forbids"),
    XmlError::NotWellFormed("an end tag of another name"),
    XmlError::NotWellFormed("an end tag without a start tag"),
    XmlError::NotWellFormed("an element without an end"),
    XmlError::NotWellFormed("an unfinished end tag"),
    XmlError::NotWellFormed("something after the element"),
];

/// (c) The frames do not depend on the pieces, and a stanza alone is one frame.
fn frames_agree(input: &[u8], parsed: &Result<Element, XmlError>, random: &mut Random) -> Result<(), String> {
    let stream = [HEADER.as_bytes(), b" ", input, b"\n", input, b"</stream:stream>"].concat();
    let limit = if random.one_in(4) { HEADER.len() + random.below(2 * input.len() + 1) } else { usize::MAX };
    for stream in [&stream[..], input] {
        let whole = frames(stream, limit, || usize::MAX);
        let most = 1 + random.below(20);
        for pieces in [frames(stream, limit, || 1 + random.below(most)), frames(stream, limit, || 1)] {
            if pieces != whole {
                return Err(format!("frames in pieces {pieces:?}, as a whole {whole:?}"));
            }
        }
        for frame in &whole.0 {
            if let Frame::Open(bytes) | Frame::Element(bytes) = frame
                && (std::str::from_utf8(bytes).is_err() || bytes.len() > limit)
            {
                return Err(format!("a frame that should not be one: {frame:?}"));
            }
            if let Frame::Element(bytes) = frame
                && let Err(error) = parse_element(bytes, &StreamContext::default(), &LIMITS)
                && EARLY.contains(&error)
            {
                return Err(format!("the framer lets through what it should refuse: {error}: {frame:?}"));
            }
        }
    }
    if parsed.is_ok() {
        let (found, end) = frames(&stream, usize::MAX, || usize::MAX);
        let one = Frame::Element(input.to_vec().into());
        let expected = [Frame::Open(HEADER.as_bytes().to_vec().into()), one.clone(), one, Frame::Close];
        if found != expected || end.is_some() {
            return Err(format!("a stanza is not one frame: {found:?} {end:?}"));
        }
    }
    Ok(())
}

/// Where we refuse a header for what rxml has no opinion on.
fn header_is_xmpp(error: XmlError) -> bool {
    matches!(error, XmlError::BadFormat(_) | XmlError::InvalidNamespace(_) | XmlError::BadPrefix(_))
        || STRICTER.iter().any(|(stricter, _)| *stricter == error)
}

/// (e) A stream header is one for rxml as well, with the same attributes.
fn header_agrees(input: &[u8]) -> Result<bool, String> {
    // XML §2.8 lets white space stand before the root element, rxml only after a declaration.
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let rest = input.iter().position(|byte| !space(byte)).and_then(|at| input.get(at..)).unwrap_or_default();
    let trimmed = Some(rest).filter(|rest| !rest.starts_with(b"<?")).unwrap_or(input);
    match (parse_open(input, &LIMITS), tree::rxml_header(&line_ends(trimmed))) {
        (Ok((header, _)), Ok(root)) => {
            let get = |ns: &str, name: &str| root.attrs.get(&(ns.to_owned(), name.to_owned())).map(String::as_str);
            let ours = [header.to.as_deref(), header.from.as_deref(), header.id.as_deref(), header.lang.as_deref()];
            let theirs =
                [get("", "to"), get("", "from"), get("", "id"), get("http://www.w3.org/XML/1998/namespace", "lang")];
            let is_stream = root.ns == "http://etherx.jabber.org/streams" && root.name == "stream";
            if ours != theirs || !is_stream || header.version.is_some() != get("", "version").is_some() {
                return Err(format!("header: {header:?} is {root:?}"));
            }
            Ok(true)
        }
        // RFC 6120 §11.5 lets `standalone='no'` pass and rxml does not; it takes 'Yes' and XML §2.9 does not.
        (ours, _) if input.windows(10).any(|w| w == b"standalone") => Ok(ours.is_ok()),
        (Ok(_), Err(_)) if has_gap(input) => Ok(true),
        (Ok((header, _)), Err(error)) => Err(format!("header: rxml refuses {header:?}: {error}")),
        (Err(error), Ok(root)) if !header_is_xmpp(error) => Err(format!("header: we refuse {error}: {root:?}")),
        (Err(_), _) => Ok(false),
    }
}
