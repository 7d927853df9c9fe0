//! Compares received stanzas with those that a transcript expects.
//!
//! Given attributes must match, others are free; `name='!'` is an attribute that must be absent. `'*'` is any value, `'*.3'`
//! any value with that ending; `'{id}'` is captured at its first use and must be the same from then on. Names with a dot, such as
//! `{m1.juliet}`, stand for ids of archives: different names stand for different values. Children and texts must match exactly and
//! in order; the text `...` stands for any number of them. White space next to elements is ignored.

use std::collections::BTreeMap;

use vorpal_proto::element::{Element, Node};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, XmlError, parse_element, parse_open};

/// The values of `{names}` that were seen.
pub type Captures = BTreeMap<String, String>;

/// Reads an element of a transcript: in the client's namespace unless it says otherwise, with the prefix `stream`.
///
/// # Errors
/// It is not XML.
pub fn parse(xml: &str) -> Result<Element, XmlError> {
    parse_element(xml.trim().as_bytes(), &context(), &Limits { nodes: usize::MAX, ..Limits::default() })
}

fn context() -> StreamContext {
    const HEADER: &str =
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    parse_open(HEADER.as_bytes(), &Limits::default()).expect("a header").1
}

/// Compares an element with a pattern. Captures are only kept if they match.
///
/// # Errors
/// Where the first difference is.
pub fn fits(expected: &Element, got: &Element, captures: &mut Captures) -> Result<(), String> {
    let mut seen = captures.clone();
    element(expected, got, &mut seen)?;
    *captures = seen;
    Ok(())
}

fn element(expected: &Element, got: &Element, captures: &mut Captures) -> Result<(), String> {
    if expected.name() != got.name() || expected.ns() != got.ns() {
        return Err(format!(
            "<{} xmlns='{}'/> where <{} xmlns='{}'/> is expected",
            got.name(),
            got.ns(),
            expected.name(),
            expected.ns()
        ));
    }
    for attr in expected.attrs() {
        let value = got.attrs().find(|a| a.ns() == attr.ns() && a.name() == attr.name()).map(|a| a.value());
        let place = || format!("<{}/> {}", expected.name(), attr.name());
        match (attr.value(), value) {
            ("!", None) => {}
            ("!", Some(value)) => return Err(format!("{} must be absent and is '{value}'", place())),
            (_, None) => return Err(format!("{} is absent", place())),
            (wanted, Some(value)) => same(wanted, value, captures).map_err(|why| format!("{} {why}", place()))?,
        }
    }
    let (wanted, given) = (nodes(expected), nodes(got));
    sequence(&wanted, &given, captures).map_err(|why| format!("in <{}/> {why}", expected.name()))
}

fn sequence(wanted: &[&Node], given: &[&Node], captures: &mut Captures) -> Result<(), String> {
    match (wanted.split_first(), given.split_first()) {
        (None, None) => Ok(()),
        (Some((Node::Text(text), rest)), _) if text.trim() == "..." => {
            let mut why = String::new();
            for skipped in 0..=given.len() {
                let mut seen = captures.clone();
                match sequence(rest, &given[skipped..], &mut seen) {
                    Ok(()) => {
                        *captures = seen;
                        return Ok(());
                    }
                    Err(error) => why = error,
                }
            }
            Err(why)
        }
        (Some((first, rest)), Some((other, others))) => {
            match (first, other) {
                (Node::Element(expected), Node::Element(got)) => element(expected, got, captures)?,
                (Node::Text(wanted), Node::Text(given)) => same(wanted.trim(), given.trim(), captures)?,
                (first, other) => return Err(format!("{other:?} where {first:?} is expected")),
            }
            sequence(rest, others, captures)
        }
        (Some((first, _)), None) => Err(format!("{first:?} is missing")),
        (None, Some((other, _))) => Err(format!("{other:?} is too much")),
    }
}

/// Without white space beside elements; a text that holds `...` beside elements is the wildcard.
fn nodes(element: &Element) -> Vec<&Node> {
    let beside = element.nodes().iter().any(|node| matches!(node, Node::Element(_)));
    let counts = |node: &&Node| !matches!(node, Node::Text(text) if beside && text.trim().is_empty());
    element.nodes().iter().filter(counts).collect()
}

fn same(wanted: &str, value: &str, captures: &mut Captures) -> Result<(), String> {
    if wanted == "*" || wanted.strip_prefix('*').is_some_and(|end| end.starts_with('.') && value.ends_with(end)) {
        return Ok(());
    }
    if let Some(name) = wanted.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let is_id = |name: &str| name.contains('.');
        let other = captures.iter().find(|(other, known)| *other != name && is_id(other) && *known == value);
        if let (Some((other, _)), true) = (other, is_id(name)) {
            return Err(format!("{{{name}}} is '{value}', as {{{other}}} is"));
        }
        let known = captures.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        return if known == value { Ok(()) } else { Err(format!("is '{value}', and {{{name}}} was '{known}'")) };
    }
    if wanted == value { Ok(()) } else { Err(format!("is '{value}' where '{wanted}' is expected")) }
}

/// An element as it is written in a transcript.
pub fn print(element: &Element) -> String {
    let mut copy = element.clone();
    let is_push = copy.is(ns::CLIENT, "iq") && copy.get("type") == Some("set");
    if copy.get("id").is_some() && (is_push || copy.is(ns::SM, "enabled")) {
        copy.set_attr("id", "*");
    }
    let text = copy.to_string_in(ns::CLIENT.as_str());
    // The epoch of a roster's version is random, its number is not.
    let ver = element.find(ns::ROSTER, "query").and_then(|query| query.get("ver"));
    match ver.and_then(|ver| ver.split_once('.')) {
        Some((epoch, _)) => text.replacen(&format!("ver='{epoch}."), "ver='*.", 1),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(expected: &str, got: &str) -> Result<(), String> {
        fits(&parse(expected).unwrap(), &parse(got).unwrap(), &mut Captures::new())
    }

    #[test]
    fn given_attributes_must_match_and_others_are_free() {
        assert_eq!(judge("<iq id='1'/>", "<iq id='1' type='get'/>"), Ok(()));
        assert!(judge("<iq id='1'/>", "<iq id='2'/>").is_err());
        assert!(judge("<iq id='1'/>", "<iq/>").is_err());
        assert_eq!(judge("<iq id='*' to='!'/>", "<iq id='x'/>"), Ok(()));
        assert!(judge("<iq to='!'/>", "<iq to='x'/>").is_err());
    }

    #[test]
    fn children_are_exact_and_in_order_but_for_dots() {
        assert_eq!(judge("<iq> <a/> <b/> </iq>", "<iq><a/><b/></iq>"), Ok(()));
        assert!(judge("<iq><a/></iq>", "<iq><a/><b/></iq>").is_err());
        assert!(judge("<iq><b/><a/></iq>", "<iq><a/><b/></iq>").is_err());
        assert!(judge("<iq/>", "<iq>text</iq>").is_err());
        assert_eq!(judge("<iq>...</iq>", "<iq><a/>text<b/></iq>"), Ok(()));
        assert_eq!(judge("<iq>...</iq>", "<iq/>"), Ok(()));
        assert_eq!(judge("<iq>... <b/> ...</iq>", "<iq><a/><b/><c/></iq>"), Ok(()));
        assert!(judge("<iq>... <b/> ...</iq>", "<iq><a/><c/></iq>").is_err());
        assert!(judge("<iq><a xmlns='x'/></iq>", "<iq><a/></iq>").is_err());
    }

    #[test]
    fn a_captured_value_stays_the_same() {
        assert_eq!(judge("<iq id='{a}'><x id='{a}'/></iq>", "<iq id='1'><x id='1'/></iq>"), Ok(()));
        assert!(judge("<iq id='{a}'><x id='{a}'/></iq>", "<iq id='1'><x id='2'/></iq>").is_err());
    }

    #[test]
    fn ids_of_archives_differ_if_their_names_do() {
        assert_eq!(judge("<iq id='{a.b}'><x id='{a.c}'/></iq>", "<iq id='1'><x id='2'/></iq>"), Ok(()));
        assert!(judge("<iq id='{a.b}'><x id='{a.c}'/></iq>", "<iq id='1'><x id='1'/></iq>").is_err());
        assert_eq!(judge("<iq id='{a}'><x id='{c}'/></iq>", "<iq id='1'><x id='1'/></iq>"), Ok(()));
    }
}
