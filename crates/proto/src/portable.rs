//! XML that every parser in use accepts, as opposed to everything that XML allows.
//!
//! Some XML is legal and yet ends the connection of its recipient: expat supports only the letters of the fourth edition,
//! libxml2 treats a namespace that is not a URI as an error. A server that stores or forwards such a stanza can be made to
//! disconnect its recipient at every login. The plain grammar excludes such XML; for parsed stanzas there is
//! [`Element::is_portable`].

use crate::chars::is_ncname;
use crate::element::{Element, Node};
use crate::ns;
use crate::space::Space;

impl Element {
    /// Whether this may be sent to unknown programs: ASCII names, namespaces that are URIs, a valid `xml:id`.
    /// A stanza for which this is false should be bounced with `not-acceptable` (RFC 6120 §11.3), not forwarded.
    pub fn is_portable(&self) -> bool {
        let mut open = vec![self];
        while let Some(element) = open.pop() {
            let attrs = element.attrs.iter().all(|attr| {
                attr.name.is_ascii()
                    && is_portable_space(&attr.space)
                    && (!attr.space.is(ns::XML) || attr.name != "id" || attr.value.is_ascii() && is_ncname(&attr.value))
            });
            if !(attrs && element.name.is_ascii() && is_portable_space(&element.space)) {
                return false;
            }
            open.extend(element.nodes.iter().filter_map(|node| match node {
                Node::Element(child) => Some(child),
                Node::Text(_) => None,
            }));
        }
        true
    }
}

fn is_portable_space(space: &Space) -> bool {
    match space {
        Space::Known(_) => true,
        Space::Other(uri) => is_portable_uri(uri.as_bytes()),
    }
}

/// A conservative subset of RFC 3986, beginning with a letter: an optional scheme, a host without port or user, at most one
/// fragment, no percent-encoding.
pub(crate) fn is_portable_uri(uri: &[u8]) -> bool {
    let is_host_byte = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if !uri.first().is_some_and(u8::is_ascii_alphabetic) || !uri.iter().all(|&byte| URI_BYTE[usize::from(byte)]) {
        return false;
    }
    let scheme = uri.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    let after_scheme = match uri.split_at_checked(scheme) {
        Some((_, [b':', rest @ ..])) => rest,
        _ if uri.contains(&b':') => return false,
        _ => uri,
    };
    let sound_host = match after_scheme.strip_prefix(b"//") {
        Some(rest) => {
            let host = rest.iter().take_while(is_host_byte).count();
            host > 0 && rest.get(host).is_none_or(|byte| b"/?#".contains(byte))
        }
        None => true,
    };
    sound_host && uri.iter().filter(|&&byte| byte == b'#').count() <= 1
}

const URI_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#!$()*+,;=";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_fragment;

    #[test]
    fn names_in_ascii_and_real_uris_are_portable() {
        for uri in
            ["urn:xmpp:ping", "http://jabber.org/protocol/disco#info", "vcard-temp", "a.b.c", "http://h?q=1", "x:", "x"]
        {
            assert!(is_portable_uri(uri.as_bytes()), "{uri}");
        }
        for uri in [
            "",
            ":x",
            "1:x",
            "a_b:c",
            "a/b:c",
            "http://",
            "http://u@h/",
            "http://h:5/",
            "http://[::1]/",
            "a#b#c",
            "a%20b",
        ] {
            assert!(!is_portable_uri(uri.as_bytes()), "{uri}");
        }
        for uri in ["a b", " a", "a\t", "é", "a'b", "a{b}", "a|b", "a\\b", "http:///", "a]b", "a&b", "a<b"] {
            assert!(!is_portable_uri(uri.as_bytes()), "{uri}");
        }
    }

    #[test]
    fn one_odd_name_anywhere_makes_a_stanza_unfit_to_be_forwarded() {
        let portable = |xml: &str| parse_fragment(xml).unwrap().is_portable();
        assert!(portable("<a b='é' xml:id='x' xml:lang='x'>é<b xmlns='urn:b'/><c xmlns=''/></a>"));
        for xml in [
            "<é/>",
            "<a><b><\u{10000}/></b></a>",
            "<a é='1'/>",
            "<a xml:id='1'/>",
            "<a xml:id='é'/>",
            "<a><b xmlns=' urn:b'/></a>",
            "<a xmlns:p='urn:p q' p:b=''/>",
        ] {
            assert!(!portable(xml), "{xml}");
        }
    }
}
