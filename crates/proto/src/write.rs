//! Escaping of text and attribute values for XML.
//!
//! Carriage returns, and tabs and line feeds in attributes, are written as references: the receiver would change them if they were
//! raw (XML 1.0 §2.11, §3.3.3). A character that XML forbids cannot come from a parsed stanza; if the server's own code ever produces
//! one, it is written as U+FFFD, so that the output is always well-formed.

/// Appends `text` as character data. The result is also safe between quotes.
pub fn escape_text(out: &mut Vec<u8>, text: &str) {
    escape(out, text, &TEXT);
}

/// Appends `value` as the inside of an attribute, for either kind of quotes.
pub fn escape_attr(out: &mut Vec<u8>, value: &str) {
    escape(out, value, &ATTR);
}

/// Whether [`escape_attr`] leaves a value as it is.
pub(crate) fn is_plain(value: &str) -> bool {
    find(value.as_bytes(), &ATTR).is_none()
}

/// How many bytes [`escape_attr`] makes of a value.
pub(crate) fn escaped_len(value: &str) -> usize {
    let mut out = Vec::new();
    escape_attr(&mut out, value);
    out.len()
}

/// Copies runs of ordinary bytes and writes something else for the few others.
fn escape(out: &mut Vec<u8>, text: &str, special: &[bool; 256]) {
    let mut rest = text.as_bytes();
    while let Some(at) = find(rest, special) {
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run);
        let (instead, used): (&[u8], usize) = match tail {
            [b'&', ..] => (b"&amp;", 1),
            [b'<', ..] => (b"&lt;", 1),
            [b'>', ..] => (b"&gt;", 1),
            [b'\'', ..] => (b"&apos;", 1),
            [b'"', ..] => (b"&quot;", 1),
            [b'\r', ..] => (b"&#xD;", 1),
            [b'\n', ..] => (b"&#xA;", 1),
            [b'\t', ..] => (b"&#x9;", 1),
            [0xEF, 0xBF, 0xBE | 0xBF, ..] => (REPLACEMENT, 3),
            [0xEF, ..] => (&[0xEF], 1),
            _ => (REPLACEMENT, 1),
        };
        out.extend_from_slice(instead);
        rest = tail.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The first byte that is not simply copied. Whole blocks are looked at first, without a branch for each byte.
fn find(bytes: &[u8], special: &[bool; 256]) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for (at, block) in blocks.iter().enumerate() {
        if block.iter().fold(false, |found, &byte| found | may_be_special(byte))
            && let Some(within) = block.iter().position(|&byte| special[usize::from(byte)])
        {
            return Some(at * 16 + within);
        }
    }
    let within = rest.iter().position(|&byte| special[usize::from(byte)])?;
    Some(bytes.len() - rest.len() + within)
}

/// Whether [`specials`] may have it.
const fn may_be_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'&') | (byte == b'<') | (byte == b'>') | (byte == b'\'') | (byte == b'"') | (byte == 0xEF)
}

/// The value of an attribute in the plain grammar (see [`scan`](crate::scan)): without `has_entities` as it stands, else
/// with the five named entities replaced.
pub(crate) fn unescape(value: &str, has_entities: bool) -> std::borrow::Cow<'_, str> {
    if !has_entities {
        return value.into();
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        let (run, tail) = rest.split_at(at);
        out.push_str(run);
        let known = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&apos;", '\''), ("&quot;", '"')];
        let found = known.iter().find(|(name, _)| tail.starts_with(name));
        let (used, plain) = found.map_or((1, '&'), |(name, plain)| (name.len(), *plain));
        out.push(plain);
        rest = tail.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    out.into()
}

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

const TEXT: [bool; 256] = specials(false);
const ATTR: [bool; 256] = specials(true);

/// The bytes that are not simply copied: markup, control characters, and the first byte of U+FFFE and U+FFFF.
const fn specials(attr: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'&' | b'<' | b'>' | b'\'' | b'"' | b'\r' | 0xEF => true,
            b'\t' | b'\n' => attr,
            other => other < 0x20,
        };
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> String {
        let mut out = Vec::new();
        escape_text(&mut out, s);
        String::from_utf8(out).unwrap()
    }

    fn attr(s: &str) -> String {
        let mut out = Vec::new();
        escape_attr(&mut out, s);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markup_becomes_entities() {
        assert_eq!(text("a&b<c>d'e\"f"), "a&amp;b&lt;c&gt;d&apos;e&quot;f");
        assert_eq!(attr("a&b<c>d'e\"f"), "a&amp;b&lt;c&gt;d&apos;e&quot;f");
        assert_eq!(text(""), "");
        assert_eq!(text("plain"), "plain");
    }

    #[test]
    fn whitespace_that_a_parser_would_change_becomes_a_reference() {
        assert_eq!(text("a\r\n\tb"), "a&#xD;\n\tb");
        assert_eq!(attr("a\r\n\tb"), "a&#xD;&#xA;&#x9;b");
    }

    #[test]
    fn every_special_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            assert!(may_be_special(byte) || !(TEXT[usize::from(byte)] || ATTR[usize::from(byte)]), "{byte}");
        }
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 50] {
            let plain = "x".repeat(len);
            assert_eq!(attr(&plain), plain);
            for at in 0..len {
                // A line feed is special in attributes alone.
                let mut one = plain.clone();
                one.replace_range(at..=at, "\n");
                assert_eq!(text(&one), one);
                assert_eq!(attr(&one), one.replace('\n', "&#xA;"));
                let two = one.replacen('x', "&", 1);
                assert_eq!(attr(&two), two.replace('&', "&amp;").replace('\n', "&#xA;"));
            }
        }
    }

    #[test]
    fn what_xml_forbids_is_replaced_and_its_neighbours_are_not() {
        assert_eq!(text("a\0b\u{1F}c\u{FFFE}\u{FFFF}d"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}d");
        assert_eq!(text("\u{FFFD}\u{FEFF}\u{F000}\u{1FFFE}é"), "\u{FFFD}\u{FEFF}\u{F000}\u{1FFFE}é");
    }
}
