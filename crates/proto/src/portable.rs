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

/// A conservative subset of RFC 3986, beginning with a letter: an optional scheme, a host by name, with or without a user and a
/// port, at most one fragment.
pub(crate) fn is_portable_uri(uri: &[u8]) -> bool {
    if !uri.first().is_some_and(u8::is_ascii_alphabetic) || !uri.iter().all(|&byte| URI_BYTE[usize::from(byte)]) {
        return false;
    }
    let scheme = uri.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    let after_scheme = match uri.split_at_checked(scheme) {
        Some((_, [b':', rest @ ..])) => rest,
        _ if uri.contains(&b':') => return false,
        _ => uri,
    };
    let sound_authority = after_scheme.strip_prefix(b"//").is_none_or(|rest| {
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        is_portable_authority(&rest[..end])
    });
    let mut escapes = uri.split(|&byte| byte == b'%').skip(1);
    let sound_escapes = escapes.all(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit));
    sound_authority && sound_escapes && uri.iter().filter(|&&byte| byte == b'#').count() <= 1
}

/// What stands behind `//` (RFC 3986 §3.2): no host in brackets, and no part that is there and empty.
fn is_portable_authority(authority: &[u8]) -> bool {
    let (user, rest) = match authority.iter().position(|&byte| byte == b'@') {
        Some(at) => (Some(&authority[..at]), &authority[at + 1..]),
        None => (None, authority),
    };
    let is_host_byte = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let host = rest.iter().take_while(is_host_byte).count();
    let sound_port = match &rest[host..] {
        [] => true,
        [b':', port @ ..] => (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host > 0 && sound_port && user.is_none_or(|user| !user.is_empty())
}

const URI_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#!$()*+,;=@%";
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
        for uri in [
            "urn:xmpp:ping",
            "http://jabber.org/protocol/disco#info",
            "vcard-temp",
            "a.b.c",
            "http://h?q=1",
            "x:",
            "x",
            "http://h:5/",
            "http://h:65535",
            "http://u@h/",
            "http://u:p%20w@h:5?q",
            "tag:u@h,2026:x",
            "a%20b",
            "http://h/%C3%a9",
        ] {
            assert!(is_portable_uri(uri.as_bytes()), "{uri}");
        }
        for uri in [
            "",
            ":x",
            "1:x",
            "a_b:c",
            "a/b:c",
            "http://",
            "http://@h/",
            "http://u@/",
            "http://u@v@h/",
            "http://h:/",
            "http://h:x/",
            "http://h:5:6/",
            "http://h:123456/",
            "http://:5/",
            "http://h%20/",
            "http://[::1]/",
            "a#b#c",
            "a%2",
            "a%",
            "a%zz",
            "u@h:5",
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
