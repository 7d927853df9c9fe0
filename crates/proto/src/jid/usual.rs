//! Addresses of the usual kind, which enforcement gives back as they are: recognised in one pass.
//!
//! Each message names an address. Nearly all are lower-case ASCII, and the rules of three profiles need several passes over each
//! part to come to that result.

use super::MAX_PART;

/// Maximum length of a domain of the usual kind (RFC 1034 §3.1).
const MAX_NAME: usize = 253;
/// The same of a label.
const MAX_LABEL: usize = 63;

/// May stand in a localpart: ASCII that UsernameCaseMapped gives back, without the characters of RFC 7622 §3.3.1.
const LOCAL: u8 = 1;
/// May stand in a label: a lower-case letter or a digit.
const LABEL: u8 = 2;
/// May stand in a resourcepart: ASCII without controls.
const RESOURCE: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        let excluded = matches!(byte, b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@');
        if byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !excluded {
            class[byte as usize] |= LOCAL;
        }
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
            class[byte as usize] |= LABEL;
        }
        if !byte.is_ascii_control() {
            class[byte as usize] |= RESOURCE;
        }
        byte += 1;
    }
    class
};

/// Number of bytes at the start that are all of this class.
fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| CLASS[usize::from(byte)] & class == 0).unwrap_or(bytes.len())
}

/// Length of the localpart, 0 without one, and of the bare address; `None` if the address is of another kind, or invalid.
pub(super) fn parts(s: &str) -> Option<(usize, usize)> {
    let bytes = s.as_bytes();
    let mut at = run(bytes, LOCAL);
    let mut domain = 0;
    match bytes.get(at) {
        Some(b'@') if (1..=MAX_PART).contains(&at) => domain = at + 1,
        // There is no localpart: this was the domain.
        Some(b'/') | None => at = 0,
        Some(_) => return None,
    }
    let mut slash = domain;
    loop {
        let label = run(bytes.get(slash..)?, LABEL);
        if !(1..=MAX_LABEL).contains(&label) {
            return None;
        }
        slash += label;
        match bytes.get(slash) {
            Some(b'.') => slash += 1,
            Some(b'/') | None => break,
            // A hyphen has rules of its own.
            Some(_) => return None,
        }
    }
    if slash - domain > MAX_NAME {
        return None;
    }
    if let Some(resource) = bytes.get(slash + 1..).filter(|_| slash < bytes.len()) {
        let fits = (1..=MAX_PART).contains(&resource.len()) && run(resource, RESOURCE) == resource.len();
        return fits.then_some((at, slash));
    }
    Some((at, slash))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jid::Jid;

    /// What is of the usual kind is the same address by the rules of each part.
    fn agrees(s: &str) -> bool {
        let Some((at, slash)) = parts(s) else { return false };
        let jid = Jid::parse_any(s).expect(s);
        assert_eq!((jid.as_str(), usize::from(jid.at), usize::from(jid.slash)), (s, at, slash));
        true
    }

    #[test]
    fn the_usual_addresses_are_recognised() {
        for usual in [
            "romeo@example.org",
            "example.org",
            "a@b/c",
            "a@b/a b/@c",
            "x.y-z_1!@10.0.0.1/é".split('é').next().unwrap_or(""),
            "b/c",
        ] {
            let whole = usual.strip_suffix('/').unwrap_or(usual);
            assert!(agrees(whole), "{whole}");
        }
        let long = format!("{}@{}/{}", "a".repeat(1023), "b".repeat(63), "c".repeat(1023));
        assert!(agrees(&long));
    }

    #[test]
    fn all_others_are_left_to_the_rules() {
        let (local, label, resource) = ("a".repeat(1024), "b".repeat(64), "c".repeat(1024));
        let name = [&label[..63]; 4].join(".") + ".b";
        let long = [format!("{local}@b"), format!("a@{label}"), format!("a@b/{resource}"), format!("a@{name}")];
        let short = [
            "",
            "@",
            "@b",
            "a@",
            "a@/c",
            "/c",
            "a@b/",
            "A@b",
            "a@B",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@-b",
            "a@xn--a",
            "a:b@c",
            "a@b@c",
            "a b@c",
            "a@b\u{e9}",
            "a@b/\u{e9}",
            "a@b/\u{7f}",
            "a@[::1]",
            "a@b_c",
            "a&b@c",
            "a@b c",
        ];
        for other in long.iter().map(String::as_str).chain(short) {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_recognised_that_the_rules_would_change_or_refuse(s in "[a-cA-C0-9.@/ :_~\u{e9}-]{0,12}") {
            agrees(&s);
        }
    }
}
