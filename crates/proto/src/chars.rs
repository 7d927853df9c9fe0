//! The character classes of XML 1.0 (fifth edition) and of Namespaces in XML 1.0.

use memchr::memchr_iter;

/// §2.2 `Char`: what may stand in a document at all. Surrogates cannot occur in a `char`.
pub(crate) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Whether there is a character in `text` that may not stand in a document.
pub(crate) fn has_forbidden(text: &str) -> bool {
    let is_control = |&byte: &u8| byte < b' ' && !is_space(byte);
    let bytes = text.as_bytes();
    // The other two are U+FFFE and U+FFFF.
    let is_noncharacter = |at| matches!(bytes.get(at..at + 3), Some([0xEF, 0xBF, 0xBE | 0xBF]));
    bytes.iter().any(is_control) || memchr_iter(0xEF, bytes).any(is_noncharacter)
}

/// §2.3 `NameStartChar` without the colon, which Namespaces §3 keeps for itself.
const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

/// §2.3 `NameChar` without the colon.
const fn is_name_char(c: char) -> bool {
    is_name_start(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// §2.3 `S`.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many bytes at the start of `text` are an `NCName` (Namespaces §3); 0 if it does not begin with one.
pub(crate) fn ncname_len(text: &str) -> usize {
    let ascii = text.bytes().position(|b| !NAME_BYTE[usize::from(b)]).unwrap_or(text.len());
    let starts_ascii = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts_ascii && text.as_bytes().get(ascii).is_none_or(u8::is_ascii) {
        return ascii;
    }
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, c)) if is_name_start(c) => {}
        _ => return 0,
    }
    chars.find(|&(_, c)| !is_name_char(c)).map_or(text.len(), |(at, _)| at)
}

/// Whether `text` as a whole is a name without a prefix.
pub(crate) fn is_ncname(text: &str) -> bool {
    !text.is_empty() && ncname_len(text) == text.len()
}

/// The ASCII part of `is_name_char`, for the common case.
pub(crate) const NAME_BYTE: [bool; 256] = name_bytes();

const fn name_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = is_name_char(byte as char);
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_and_go_on_as_the_fifth_edition_says() {
        for good in ["a", "_", "message", "stanza-id", "x.1", "é", "aé", "a\u{B7}", "日本", "\u{10000}", "a\u{301}b-"]
        {
            assert!(is_ncname(good), "{good:?}");
        }
        for bad in ["", "-a", "1a", ".a", ":", "a:b", "a b", "\u{B7}a", "\u{301}", "a\u{D7}", "\u{F0000}", "a\u{FFFE}"]
        {
            assert!(!is_ncname(bad), "{bad:?}");
        }
        assert_eq!(ncname_len("body>x"), 4);
        assert_eq!(ncname_len("bodyé:x"), 6);
    }

    #[test]
    fn control_characters_and_the_last_two_of_the_plane_are_not_characters() {
        for bad in ['\0', '\u{8}', '\u{B}', '\u{1F}', '\u{FFFE}', '\u{FFFF}'] {
            assert!(!is_char(bad), "{bad:?}");
        }
        for good in ['\t', ' ', '\u{7F}', '\u{85}', '\u{FEFF}', '\u{FFFD}', '\u{1FFFE}', '\u{10FFFF}'] {
            assert!(is_char(good), "{good:?}");
        }
    }
}
