//! Elements that are kept for a client, as it sent them: written once, read as often as somebody asks (XEP-0049, XEP-0054).

use bytes::Bytes;

use crate::element::Element;
use crate::ns;
use crate::parse::parse_fragment;

/// Why an element cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Its written form is larger than allowed.
    TooLarge,
    /// Written anew it goes beyond what an element that is read may have: in most cases by declarations of namespaces.
    CannotBeRead,
}

/// The written form of an element, at most `most` bytes. What it gives, [`read`] reads as the same element.
///
/// # Errors
/// See [`NotKept`].
pub fn write(element: &Element, most: usize) -> Result<Bytes, NotKept> {
    let mut xml = Vec::new();
    if element.write_within(&mut xml, ns::CLIENT.as_str(), most).is_err() {
        return Err(NotKept::TooLarge);
    }
    let xml = Bytes::from(xml);
    if read(&xml).as_ref() != Some(element) {
        return Err(NotKept::CannotBeRead);
    }
    Ok(xml)
}

/// The element of a written form; `None` if these bytes are none.
pub fn read(xml: &Bytes) -> Option<Element> {
    std::str::from_utf8(xml).ok().and_then(|xml| parse_fragment(xml).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(xml: &str) -> Element {
        parse_fragment(xml).expect("an element")
    }

    #[test]
    fn what_is_kept_is_read_again_as_it_was() {
        for xml in [
            "<a xmlns='urn:a'/>",
            "<p:a xmlns:p='urn:a' p:x='&apos;' xml:lang='de'>\u{e4}<b xmlns='urn:b'>&lt;<p:c/></b><c xmlns='jabber:client'/></p:a>",
            "<a xmlns='urn:a'><b xmlns=''/></a>",
        ] {
            let element = element(xml);
            let kept = write(&element, 1_000).expect("it fits");
            assert_eq!(read(&kept), Some(element.clone()), "{xml}");
            assert_eq!(write(&element, kept.len() - 1), Err(NotKept::TooLarge));
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        // In force at the innermost: one declaration for each level, and its attributes' on each of them.
        let mut xml = String::from("<a xmlns='urn:a' xmlns:p='urn:p' xmlns:q='urn:q'>");
        (0..40).for_each(|_| xml.push_str("<a p:x='' q:x=''>"));
        (0..40).for_each(|_| xml.push_str("</a>"));
        assert_eq!(write(&element(&(xml + "</a>")), 100_000), Err(NotKept::CannotBeRead));
    }
}
