//! The tokens of XML 1.0: names, attribute values, character data, references.
//!
//! Input is strict UTF-8 before the first token is read. There is no code for constructs that RFC 6120 §11.1 forbids: they
//! are recognised by their first characters and refused.

use std::borrow::Cow;

use memchr::memmem;

use crate::chars::{NAME_BYTE, is_char, is_ncname, is_space, ncname_len};
use crate::xml_error::XmlError;

/// A name as it is written: with a prefix or without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct QName<'a> {
    pub(crate) whole: &'a str,
    pub(crate) prefix: Option<&'a str>,
    pub(crate) local: &'a str,
}

pub(crate) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Result<Reader<'a>, XmlError> {
        let rest = std::str::from_utf8(frame).map_err(|_| XmlError::Encoding)?;
        Ok(Reader { rest })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips `token` if it comes next.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn expect(&mut self, token: &str, rule: &'static str) -> Result<(), XmlError> {
        if self.eat(token) { Ok(()) } else { Err(XmlError::NotWellFormed(rule)) }
    }

    /// Skips white space and says whether there was any.
    pub(crate) fn skip_space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.len() < before
    }

    /// Takes so many bytes, which end between characters.
    fn split(&mut self, at: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(at).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// A qualified name (Namespaces §4) of at most `limit` bytes.
    pub(crate) fn name(&mut self, limit: usize) -> Result<QName<'a>, XmlError> {
        let (all, first) = (self.rest, self.ncname()?);
        let name = if self.eat(":") {
            let local = self.ncname()?;
            let whole = all.get(..first.len() + 1 + local.len()).unwrap_or(all);
            QName { whole, prefix: Some(first), local }
        } else {
            QName { whole: first, prefix: None, local: first }
        };
        if name.whole.len() > limit {
            return Err(XmlError::TooMany("bytes in a name"));
        }
        Ok(name)
    }

    fn ncname(&mut self) -> Result<&'a str, XmlError> {
        match ncname_len(self.rest) {
            0 => Err(XmlError::NotWellFormed("a name was expected")),
            len => Ok(self.split(len)),
        }
    }

    /// A quoted value in the XML declaration: letters, digits and a little more (XML §2.8, §4.3.3).
    pub(crate) fn literal(&mut self) -> Result<&'a str, XmlError> {
        let unquoted = self.rest.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (value, rest) = unquoted
            .or_else(|| self.rest.strip_prefix('"').and_then(|rest| rest.split_once('"')))
            .filter(|(value, _)| value.bytes().all(|byte| NAME_BYTE[usize::from(byte)]))
            .ok_or(XmlError::NotWellFormed("an attribute without a quoted value"))?;
        self.rest = rest;
        Ok(value)
    }

    /// An attribute's value with its quotes: references resolved, white space normalised (XML §3.3.3).
    pub(crate) fn value(&mut self) -> Result<Cow<'a, str>, XmlError> {
        let quote = match self.rest.as_bytes().first() {
            Some(b'\'') => '\'',
            Some(b'"') => '"',
            _ => return Err(XmlError::NotWellFormed("an attribute without a quoted value")),
        };
        self.split(1);
        let mut value = Cow::Borrowed("");
        loop {
            self.run(&mut value, &VALUE_STOP);
            match self.rest.chars().next() {
                Some(c) if c == quote => {
                    self.split(1);
                    return Ok(value);
                }
                Some(c @ ('\'' | '"')) => {
                    self.split(1);
                    value.to_mut().push(c);
                }
                Some('\t' | '\n' | '\r') => {
                    self.newline();
                    value.to_mut().push(' ');
                }
                Some('<') => return Err(XmlError::NotWellFormed("< in the value of an attribute")),
                Some('&') => value.to_mut().push(self.reference()?),
                Some(c) => self.checked(&mut value, c)?,
                None => return Err(XmlError::NotWellFormed("the end within a tag")),
            }
        }
    }

    /// Character data and CDATA sections up to a tag or the end, as one text (XML §2.4, §2.7, §2.11).
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, XmlError> {
        let mut text = Cow::Borrowed("");
        loop {
            let run = self.run(&mut text, &TEXT_STOP);
            match self.rest.chars().next() {
                Some('<') if self.eat("<![CDATA[") => self.cdata(&mut text)?,
                Some('<') | None => return Ok(text),
                Some('>') if run.ends_with("]]") => return Err(XmlError::NotWellFormed("]]> in text")),
                Some('>') => {
                    self.split(1);
                    text.to_mut().push('>');
                }
                Some('\r') => {
                    self.newline();
                    text.to_mut().push('\n');
                }
                Some('&') => text.to_mut().push(self.reference()?),
                Some(c) => self.checked(&mut text, c)?,
            }
        }
    }

    fn cdata(&mut self, text: &mut Cow<'a, str>) -> Result<(), XmlError> {
        let Some(len) = memmem::find(self.rest.as_bytes(), b"]]>") else {
            return Err(XmlError::NotWellFormed("a CDATA section without an end"));
        };
        let mut inside = Reader { rest: self.split(len) };
        self.split(3);
        loop {
            inside.run(text, &CDATA_STOP);
            match inside.rest.chars().next() {
                None => return Ok(()),
                Some('\r') => {
                    inside.newline();
                    text.to_mut().push('\n');
                }
                Some(c) => inside.checked(text, c)?,
            }
        }
    }

    /// Takes ordinary characters, without a copy as long as there was nothing else. Returns them.
    fn run(&mut self, into: &mut Cow<'a, str>, stop: &[bool; 256]) -> &'a str {
        let len = self.rest.bytes().position(|byte| stop[usize::from(byte)]).unwrap_or(self.rest.len());
        let run = self.split(len);
        if into.is_empty() {
            *into = Cow::Borrowed(run);
        } else if !run.is_empty() {
            into.to_mut().push_str(run);
        }
        run
    }

    /// One character that may be one XML forbids.
    fn checked(&mut self, into: &mut Cow<'a, str>, c: char) -> Result<(), XmlError> {
        if !is_char(c) {
            return Err(XmlError::NotWellFormed("a character that XML forbids"));
        }
        self.split(c.len_utf8());
        into.to_mut().push(c);
        Ok(())
    }

    /// One white space character, or the two that end a line (XML §2.11).
    fn newline(&mut self) {
        if !self.eat("\r\n") {
            self.split(1);
        }
    }

    /// A reference with its `&` and `;` (XML §4.1, §4.6).
    fn reference(&mut self) -> Result<char, XmlError> {
        const BAD: XmlError = XmlError::NotWellFormed("a bad reference");
        self.expect("&", "a reference was expected")?;
        let len = self.rest.bytes().position(|byte| !is_reference(byte)).ok_or(BAD)?;
        let inside = self.split(len);
        self.expect(";", "a reference without a semicolon")?;
        match inside {
            "amp" => Ok('&'),
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            _ => match inside.strip_prefix('#') {
                Some(digits) => numeric(digits).filter(|&c| is_char(c)).ok_or(BAD),
                None if is_ncname(inside) => Err(XmlError::Restricted("an entity that is not predefined")),
                None => Err(BAD),
            },
        }
    }
}

/// What may stand between `&` and `;`: digits, or a name.
fn is_reference(byte: u8) -> bool {
    byte == b'#' || byte >= 0x80 || NAME_BYTE[usize::from(byte)]
}

/// The number of a character, decimal or after an `x` hexadecimal.
fn numeric(digits: &str) -> Option<char> {
    let (digits, radix) = match digits.strip_prefix('x') {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    let mut number = (!digits.is_empty()).then_some(0u32);
    for digit in digits.chars() {
        number = number?.checked_mul(radix)?.checked_add(digit.to_digit(radix)?);
    }
    char::from_u32(number?)
}

const TEXT_STOP: [bool; 256] = stops(b"<&>\r");
const VALUE_STOP: [bool; 256] = stops(b"<&'\"\t\n\r");
const CDATA_STOP: [bool; 256] = stops(b"\r");

/// The bytes in `special`, control characters, and the first byte of U+FFFE and U+FFFF. A test goes through them all.
const fn stops(special: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = !is_space(byte as u8);
        byte += 1;
    }
    table[0xEF] = true;
    let mut at = 0;
    while at < special.len() {
        table[special[at] as usize] = true;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &str) -> Result<String, XmlError> {
        Reader { rest: input }.text().map(Cow::into_owned)
    }

    fn value(input: &str) -> Result<String, XmlError> {
        Reader { rest: input }.value().map(Cow::into_owned)
    }

    #[test]
    fn every_character_is_taken_or_refused_as_xml_says() {
        for c in '\0'..=char::MAX {
            let (in_text, in_value, in_cdata) =
                (text(&format!("a{c}")), value(&format!("\"a{c}\"")), text(&format!("<![CDATA[a{c}]]>")));
            let plain = format!("a{c}");
            match c {
                _ if !is_char(c) => assert!(in_text.is_err() && in_value.is_err() && in_cdata.is_err(), "{c:?}"),
                '\r' => {
                    assert_eq!((in_text, in_cdata), (Ok("a\n".into()), Ok("a\n".into())));
                    assert_eq!(in_value, Ok("a ".into()));
                }
                '\t' | '\n' => {
                    assert_eq!((in_text, in_cdata), (Ok(plain.clone()), Ok(plain)));
                    assert_eq!(in_value, Ok("a ".into()));
                }
                '<' => assert!(in_text == Ok("a".into()) && in_value.is_err() && in_cdata == Ok(plain)),
                '&' => assert!(in_text.is_err() && in_value.is_err() && in_cdata == Ok(plain)),
                '"' => assert!(in_text == Ok(plain.clone()) && in_value == Ok("a".into()) && in_cdata == Ok(plain)),
                _ => assert!(in_text == Ok(plain.clone()) && in_value == Ok(plain.clone()) && in_cdata == Ok(plain)),
            }
        }
    }

    #[test]
    fn lines_end_in_one_line_feed() {
        assert_eq!(text("a\r\n\r\r\n\nb&#13;&#xD;\n"), Ok("a\n\n\n\nb\r\r\n".into()));
        assert_eq!(text("<![CDATA[a\r\n\rb]]>"), Ok("a\n\nb".into()));
        assert_eq!(value("'a\r\n\rb\t\n&#9;&#10;&#xd;'"), Ok("a  b  \t\n\r".into()));
    }

    #[test]
    fn references_are_the_five_and_numbers_of_legal_characters() {
        assert_eq!(text("&lt;&gt;&amp;&apos;&quot;&#x41;&#65;&#x1F600;&#0000065;"), Ok("<>&'\"AA😀A".into()));
        for bad in
            ["&", "&;", "&lt", "&lt ;", "&#;", "&#x;", "&#xG;", "&#X41;", "&#0;", "&#xFFFE;", "&#xD800;", "&#x110000;"]
        {
            assert_eq!(text(bad).map_err(|e| e.condition()), Err("not-well-formed"), "{bad}");
        }
        for bad in ["&#-1;", "&#+65;", "&#99999999999999999999;", "&#6 5;", "& lt;", "&-;", "&#x1;", "&a:b;"] {
            assert_eq!(text(bad).map_err(|e| e.condition()), Err("not-well-formed"), "{bad}");
        }
        for bad in ["&nbsp;", "&Lt;", "&AMP;", "&é;"] {
            assert_eq!(text(bad).map_err(|e| e.condition()), Err("restricted-xml"), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_cdata_section_may_not_stand_in_text() {
        for bad in ["]]>", "a]]>b", "<![CDATA[x]]>]]>", "&amp;]]>", "]]]>", "<![CDATA[x"] {
            assert!(text(bad).is_err(), "{bad}");
        }
        assert_eq!(text("]]&gt;]] >]><![CDATA[]]]]><![CDATA[>]]>>"), Ok("]]>]] >]>]]>>".into()));
    }

    #[test]
    fn a_name_has_at_most_one_colon_and_parts_on_both_sides() {
        for bad in [":a", "a:", "a:1", "1:a", "-a", "", " a", "a::b", "é:-"] {
            assert!(Reader { rest: bad }.name(100).is_err(), "{bad}");
        }
        let mut reader = Reader { rest: "a:b:c" };
        let name = reader.name(100).ok().map(|n| (n.whole, n.prefix, n.local));
        assert_eq!((name, reader.rest), (Some(("a:b", Some("a"), "b")), ":c"));
        assert_eq!(Reader { rest: "abcd" }.name(3).err(), Some(XmlError::TooMany("bytes in a name")));
    }
}
