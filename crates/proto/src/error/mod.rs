//! RFC 6120 §8.3 and §4.9: errors of stanzas and of streams.
//!
//! Both have the same make: a condition out of a fixed list, perhaps a text for people, perhaps a condition of the
//! application. They are written as XML here; they are read from the children of the `<error/>`, which the caller
//! hands over one by one, so that this file needs no tree.

mod stanza;
mod stream;

pub use stanza::{Condition, ErrorType, StanzaError};
pub use stream::{StreamCondition, StreamError};

use crate::ns::Ns;
use compact_str::CompactString;
use std::borrow::Cow;

/// A condition of an application inside an error (RFC 6120 §8.3.4, §4.9.4), such as `<blocked/>` of XEP-0191.
///
/// An element with a namespace, a name and attributes. The attributes of one that a peer sent are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCondition {
    ns: Cow<'static, str>,
    name: Cow<'static, str>,
    attrs: Vec<(&'static str, String)>,
}

impl AppCondition {
    /// `<name xmlns='ns'/>`. The name has to be an XML name without a prefix; it is written as it stands.
    pub fn new(ns: Ns, name: &'static str) -> AppCondition {
        AppCondition { ns: Cow::Borrowed(ns.as_str()), name: Cow::Borrowed(name), attrs: Vec::new() }
    }

    /// The same with one attribute more, as `feature` in `<unsupported feature='…'/>` of XEP-0060.
    #[must_use]
    pub fn attr(mut self, name: &'static str, value: impl Into<String>) -> AppCondition {
        self.attrs.push((name, value.into()));
        self
    }

    /// Whether it is the element `name` in the namespace `ns`.
    pub fn is(&self, ns: Ns, name: &str) -> bool {
        self.ns == ns.as_str() && self.name == name
    }

    /// The namespace of the element.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// The name of the element.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        out.push_str(" xmlns='");
        escape(&self.ns, true, out);
        out.push('\'');
        for (name, value) in &self.attrs {
            out.push(' ');
            out.push_str(name);
            out.push_str("='");
            escape(value, true, out);
            out.push('\'');
        }
        out.push_str("/>");
    }
}

/// A direct child of a received `<error/>`, with what is needed to understand it.
#[derive(Clone, Debug)]
pub struct ErrorChild<'a> {
    /// The namespace of the element.
    pub ns: &'a str,
    /// Its name without prefix.
    pub name: &'a str,
    /// The language in force there (`xml:lang`), if any is stated.
    pub lang: Option<&'a str>,
    /// The character data directly inside it, references resolved.
    pub text: Cow<'a, str>,
}

/// What stanza errors and stream errors have in common when they are read.
struct Parts<'a> {
    /// Name and character data (trimmed) of the condition; none if the peer sent none.
    condition: Option<(&'a str, String)>,
    text: Option<Text>,
    app: Option<Box<AppCondition>>,
}

/// Sorts the children of an `<error/>`: the first condition, the first text, the first foreign element count. More
/// texts, in other languages, are legal; nothing here speaks several.
fn read<'a>(conditions: Ns, children: impl IntoIterator<Item = ErrorChild<'a>>) -> Parts<'a> {
    let mut parts = Parts { condition: None, text: None, app: None };
    for child in children {
        if child.ns != conditions.as_str() {
            if parts.app.is_none() {
                let (ns, name) = (child.ns.to_owned().into(), child.name.to_owned().into());
                parts.app = Some(Box::new(AppCondition { ns, name, attrs: Vec::new() }));
            }
        } else if child.name == "text" {
            if parts.text.is_none() {
                let lang = child.lang.unwrap_or_default().into();
                parts.text = Some(Text { lang, text: child.text.into_owned() });
            }
        } else if parts.condition.is_none() {
            parts.condition = Some((child.name, child.text.trim().to_owned()));
        }
    }
    parts
}

/// A text for people and its language, which is empty if not known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    lang: CompactString,
    text: String,
}

impl Text {
    /// What this server says, it says in English.
    fn ours(text: impl Into<String>) -> Text {
        Text { lang: CompactString::const_new("en"), text: text.into() }
    }
}

/// Writes the three children that an error has, the condition with its own character data.
fn write_children(
    ns: Ns,
    (name, data): (&str, Option<&str>),
    text: Option<&Text>,
    app: Option<&AppCondition>,
    out: &mut String,
) {
    write_element(ns, name, "", data.unwrap_or_default(), out);
    if let Some(Text { lang, text }) = text {
        write_element(ns, "text", lang, text, out);
    }
    if let Some(app) = app {
        app.write(out);
    }
}

fn write_element(ns: Ns, name: &str, lang: &str, text: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push_str(" xmlns='");
    out.push_str(ns.as_str());
    if !lang.is_empty() {
        out.push_str("' xml:lang='");
        escape(lang, true, out);
    }
    if text.is_empty() {
        out.push_str("'/>");
        return;
    }
    out.push_str("'>");
    escape(text, false, out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Escapes with the five named entities alone, which every reader of ours takes without a detour. White space that
/// XML would have to write as a number becomes a space, a character XML forbids becomes U+FFFD: these are words for
/// people.
fn escape(text: &str, in_attribute: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' if in_attribute => out.push_str("&apos;"),
            '\t' | '\n' if !in_attribute => out.push(c),
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str, in_attribute: bool) -> String {
        let mut out = String::new();
        escape(text, in_attribute, &mut out);
        out
    }

    #[test]
    fn what_is_escaped_can_neither_end_the_text_nor_the_attribute() {
        assert_eq!(escaped("a<b>&'c\"", false), "a&lt;b&gt;&amp;'c\"");
        assert_eq!(escaped("a<b>&'c\"", true), "a&lt;b&gt;&amp;&apos;c\"");
    }

    #[test]
    fn what_xml_forbids_is_replaced_and_line_ends_survive_in_text_only() {
        assert_eq!(escaped("a\0b\u{1b}\u{ffff}", false), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(escaped("a\tb\nc\rd", false), "a\tb\nc d");
        assert_eq!(escaped("a\tb\nc\rd", true), "a b c d");
    }
}
