//! XEP-0059: Result Set Management.
//!
//! The requested part of a long list ([`Request`]), and the part that an answer contains ([`Page`]). Both directions; parsed values
//! cannot contradict themselves.
//!
//! Limits: none of its own: a number that is too large for any list is taken as the maximum

use crate::element::{Element, el};
use crate::error::StanzaError;
use crate::ns;

/// The part that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// at most so many items (§2.1); zero asks for the count alone (§2.7)
    pub max: Option<u32>,
    /// where the part begins or ends
    pub place: Place,
}

/// Where a part begins or ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It begins with the first item (§2.1).
    #[default]
    First,
    /// It begins after this item (§2.2).
    After(String),
    /// It ends before this item (§2.3).
    Before(String),
    /// It ends with the last item (§2.5).
    Last,
    /// It begins with the item of this number, counted from zero (§2.6).
    At(u32),
}

impl Request {
    /// Parses `<set/>`. Unknown children are ignored.
    ///
    /// # Errors
    /// `bad-request`: an element is given twice, a number is invalid, or two positions are given at once.
    pub fn read(set: &Element) -> Result<Request, StanzaError> {
        if !set.is(ns::RSM, "set") {
            return Err(wrong("not a result set"));
        }
        let mut request = Request::default();
        let mut place = None;
        for child in set.elements().filter(|child| child.ns() == ns::RSM.as_str()) {
            let text = child.content();
            let named = match child.name() {
                "max" if request.max.is_some() => return Err(wrong("two times max")),
                "max" => {
                    request.max = Some(number(&text)?);
                    continue;
                }
                // An empty `<after/>` means the beginning.
                "after" if text.is_empty() => Place::First,
                "after" => Place::After(text),
                "before" if text.is_empty() => Place::Last,
                "before" => Place::Before(text),
                "index" => Place::At(number(&text)?),
                _ => continue,
            };
            // XEP-0313 §4.3.2: the combination of two of them is not defined.
            if place.replace(named).is_some() {
                return Err(wrong("more than one of after, before and index"));
            }
        }
        request.place = place.unwrap_or_default();
        Ok(request)
    }

    /// `<set/>`.
    pub fn element(&self) -> Element {
        let place = match &self.place {
            Place::First => None,
            Place::After(id) => Some(el("after", ns::RSM).text(id)),
            Place::Before(id) => Some(el("before", ns::RSM).text(id)),
            Place::Last => Some(el("before", ns::RSM)),
            Place::At(index) => Some(el("index", ns::RSM).text(index.to_string())),
        };
        let max = self.max.map(|max| el("max", ns::RSM).text(max.to_string()));
        el("set", ns::RSM).children(max).children(place)
    }
}

/// The part of a list that an answer has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// its first and its last item; `None` if it is empty (§2.2)
    pub ends: Option<Ends>,
    /// how many items the whole list has, if that is known
    pub count: Option<u64>,
}

/// The first and the last item of a part that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// the id of the first
    pub first: String,
    /// the index of the first in the whole list, counted from zero, if known
    pub index: Option<u64>,
    /// the id of the last; that of the first, if there is only one
    pub last: String,
}

impl Page {
    /// `<set/>`.
    pub fn element(&self) -> Element {
        let ends = self.ends.iter().flat_map(|ends| {
            let first = el("first", ns::RSM).attr_opt("index", ends.index).text(&ends.first);
            [first, el("last", ns::RSM).text(&ends.last)]
        });
        let count = self.count.map(|count| el("count", ns::RSM).text(count.to_string()));
        el("set", ns::RSM).children(ends).children(count)
    }

    /// Reads `<set/>` of an answer.
    ///
    /// # Errors
    /// `bad-request`: one end without the other, or something that is not a number.
    pub fn read(set: &Element) -> Result<Page, StanzaError> {
        if !set.is(ns::RSM, "set") {
            return Err(wrong("not a result set"));
        }
        let ends = match (set.find(ns::RSM, "first"), set.find(ns::RSM, "last")) {
            (None, None) => None,
            (Some(first), Some(last)) => {
                let index = first.get("index").map(|index| number(index).map(u64::from)).transpose()?;
                Some(Ends { first: first.content(), index, last: last.content() })
            }
            _ => return Err(wrong("one end without the other")),
        };
        let count = set.find(ns::RSM, "count").map(|count| number(&count.content()).map(u64::from)).transpose()?;
        Ok(Page { ends, count })
    }
}

/// §8: `xs:unsignedInt`. White space around it is dropped, as XML Schema says; a number that is too large for any list becomes the
/// maximum.
fn number(text: &str) -> Result<u32, StanzaError> {
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("not a number"));
    }
    Ok(digits.parse().unwrap_or(u32::MAX))
}

fn wrong(text: &'static str) -> StanzaError {
    StanzaError::bad_request(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_fragment;

    fn request(inner: &str) -> Result<Request, StanzaError> {
        let xml = format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>");
        Request::read(&parse_fragment(&xml).expect("xml"))
    }

    #[test]
    fn the_requests_of_the_specification_are_read_and_written() {
        let cases = [
            ("<max>10</max>", Some(10), Place::First),
            (
                "<max>10</max><after>peterpan@neverland.lit</after>",
                Some(10),
                Place::After("peterpan@neverland.lit".into()),
            ),
            ("<max>10</max><before>peter@pixyland.org</before>", Some(10), Place::Before("peter@pixyland.org".into())),
            ("<max>10</max><before/>", Some(10), Place::Last),
            ("<max>10</max><index>371</index>", Some(10), Place::At(371)),
            ("<max>0</max>", Some(0), Place::First),
            ("", None, Place::First),
        ];
        for (xml, max, place) in cases {
            let read = request(xml).expect(xml);
            assert_eq!(read, Request { max, place }, "{xml}");
            let written = read.element().to_string_in("");
            assert_eq!(written.replace("<set xmlns='http://jabber.org/protocol/rsm'>", "").replace("</set>", ""), {
                if xml.is_empty() { "<set xmlns='http://jabber.org/protocol/rsm'/>".to_owned() } else { xml.to_owned() }
            });
        }
    }

    #[test]
    fn what_contradicts_itself_is_a_bad_request() {
        let bad = [
            "<max>ten</max>",
            "<max/>",
            "<max>-1</max>",
            "<max>1.5</max>",
            "<max>1</max><max>1</max>",
            "<after>a</after><before>b</before>",
            "<before/><after>a</after>",
            "<index>1</index><after>a</after>",
            "<index/>",
        ];
        for xml in bad {
            assert!(request(xml).is_err(), "{xml}");
        }
        assert_eq!(request("<max> 99999999999999999999 </max>").expect("large").max, Some(u32::MAX));
        assert_eq!(request("<after/><x xmlns='urn:example'/>").expect("odd"), Request::default());
    }

    #[test]
    fn the_pages_of_the_specification_are_written_and_read() {
        let ends = |first: &str, index, last: &str| Some(Ends { first: first.into(), index, last: last.into() });
        let cases = [
            (
                Page { ends: ends("stpeter@jabber.org", Some(0), "peterpan@neverland.lit"), count: Some(800) },
                "<set xmlns='http://jabber.org/protocol/rsm'><first index='0'>stpeter@jabber.org</first>\
                 <last>peterpan@neverland.lit</last><count>800</count></set>",
            ),
            (
                Page { ends: ends("a", None, "a"), count: None },
                "<set xmlns='http://jabber.org/protocol/rsm'><first>a</first><last>a</last></set>",
            ),
            (
                Page { ends: None, count: Some(790) },
                "<set xmlns='http://jabber.org/protocol/rsm'><count>790</count></set>",
            ),
            (Page::default(), "<set xmlns='http://jabber.org/protocol/rsm'/>"),
        ];
        for (page, xml) in cases {
            assert_eq!(page.element().to_string_in(""), xml);
            assert_eq!(Page::read(&parse_fragment(xml).expect("xml")), Ok(page));
        }
        let half = parse_fragment("<set xmlns='http://jabber.org/protocol/rsm'><last>a</last></set>").expect("xml");
        assert!(Page::read(&half).is_err());
    }
}
