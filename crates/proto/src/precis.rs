//! PRECIS: which strings may be names, and which of them are the same name (RFC 8264, RFC 8265, RFC 8266).
//!
//! Three profiles: [`username`] for localparts, [`opaque`] for resourceparts and passwords, [`nickname`] with its
//! comparison form [`nickname_key`] for people in rooms. Each returns its input borrowed where nothing had to change.
//!
//! A result is a fixed point: enforcing it again gives the same string (RFC 8264 §7 has the rules repeated until they
//! change nothing, and the string refused if that does not come to pass).
//!
//! Unicode is the version of ICU4X's compiled data; code points it does not know are refused, so a newer server accepts
//! more, never something else.

mod class;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::props::{BidiClass, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed};

use class::Class;
pub(crate) use class::check_label;

/// Why a string is not a name: the rule that failed, and the code point it failed at where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisError {
    /// Nothing is left after enforcement (RFC 8265 §3.3.3, RFC 8266 §2.3).
    #[error("it is empty")]
    Empty,
    /// The string class has no place for this code point (RFC 8264 §4).
    #[error("U+{:04X} is not allowed", u32::from(*.0))]
    Disallowed(char),
    /// Not a character in the Unicode version of this server (RFC 8264 §9.10).
    #[error("U+{:04X} is not a known character", u32::from(*.0))]
    Unassigned(char),
    /// Allowed only beside certain others, and they are not there (RFC 5892 appendix A).
    #[error("U+{:04X} is not allowed here", u32::from(*.0))]
    Context(char),
    /// Left-to-right and right-to-left are mixed in a way that reads differently from what it is (RFC 5893 §2).
    #[error("it mixes directions of writing")]
    Bidi,
    /// The rules have not settled after four rounds (RFC 8264 §7).
    #[error("it has no stable form")]
    Unstable,
}

/// UsernameCaseMapped (RFC 8265 §3.3): the localpart of an address, the user name of a login.
///
/// Lower case, composed, without width variants, spaces, symbols or compatibility characters. The length is the
/// caller's business. Letter by letter: capital sigma becomes σ also at the end of a word (RFC 7622 §3.5).
pub fn username(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    if !s.is_ascii() {
        return settle(s, username_once);
    }
    if let Some(b) = s.bytes().find(|b| !b.is_ascii_graphic()) {
        return Err(PrecisError::Disallowed(char::from(b)));
    }
    if s.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(Cow::Owned(s.to_ascii_lowercase()));
    }
    filled(Cow::Borrowed(s))
}

/// OpaqueString (RFC 8265 §4.2): the resourcepart of an address, a password.
///
/// Composed, every kind of space made U+0020; case and width stay, symbols and emoji are welcome, controls and
/// invisible characters are not.
pub fn opaque(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    if !s.is_ascii() {
        return settle(s, opaque_once);
    }
    if let Some(b) = s.bytes().find(u8::is_ascii_control) {
        return Err(PrecisError::Disallowed(char::from(b)));
    }
    filled(Cow::Borrowed(s))
}

/// Nickname (RFC 8266 §2.3): a name as it is shown. Compatibility forms are unified, spaces trimmed and collapsed,
/// case is kept.
pub fn nickname(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    settle(s, |s| nickname_once(s, false))
}

/// Nickname, form for comparison (RFC 8266 §2.4): two nicknames collide if and only if their keys are equal.
pub fn nickname_key(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    settle(s, |s| nickname_once(s, true))
}

/// RFC 8265 §3.3.2 and §3.3.3, in their order.
fn username_once(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    let s = narrow(s);
    class::check(&s, Class::Identifier)?;
    let s = then(s, lower);
    // The compiler's tables may be older than ICU4X's: a capital that it cannot map must not become a name that the next
    // compiler takes for another.
    let capital = |c: char| !c.is_ascii() && CATEGORY.get(c) == GeneralCategory::UppercaseLetter;
    if let Some(c) = s.chars().find(|&c| capital(c)) {
        return Err(PrecisError::Unassigned(c));
    }
    let s = then(s, nfc);
    check_bidi(&s)?;
    Ok(s)
}

/// RFC 8265 §4.2.1 and §4.2.2.
fn opaque_once(s: &str) -> Result<Cow<'_, str>, PrecisError> {
    class::check(s, Class::Freeform)?;
    Ok(then(plain_spaces(s), nfc))
}

/// RFC 8266 §2.3, with `fold` §2.4.
fn nickname_once(s: &str, fold: bool) -> Result<Cow<'_, str>, PrecisError> {
    class::check(s, Class::Freeform)?;
    let s = then(plain_spaces(s), trimmed);
    let s = if fold { then(s, lower) } else { s };
    Ok(then(s, nfkc))
}

/// Applies a profile until it changes nothing: once, and three times more at most (RFC 8264 §7).
fn settle<'a>(
    s: &'a str,
    once: impl Fn(&str) -> Result<Cow<'_, str>, PrecisError>,
) -> Result<Cow<'a, str>, PrecisError> {
    let first = once(s)?;
    if first == s {
        return filled(Cow::Borrowed(s));
    }
    let mut out = first.into_owned();
    for _ in 0..3 {
        let next = once(&out)?;
        if next == out {
            return filled(Cow::Owned(out));
        }
        out = next.into_owned();
    }
    Err(PrecisError::Unstable)
}

fn filled(s: Cow<'_, str>) -> Result<Cow<'_, str>, PrecisError> {
    if s.is_empty() { Err(PrecisError::Empty) } else { Ok(s) }
}

/// The next step of a profile, without a copy while nothing has changed.
fn then<'a>(s: Cow<'a, str>, step: impl Fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match s {
        Cow::Borrowed(s) => step(s),
        Cow::Owned(s) => match step(&s) {
            Cow::Owned(changed) => Cow::Owned(changed),
            Cow::Borrowed(part) if part.len() == s.len() => Cow::Owned(s),
            Cow::Borrowed(part) => Cow::Owned(part.to_owned()),
        },
    }
}

/// Width mapping (RFC 8264 §5.2.1): full-width and half-width characters become what they are variants of.
///
/// They stand in one block, with the ideographic space apart. The full decomposition is taken for the one step that the
/// rule asks for; it differs for old Hangul letters and the macron only, and the class refuses those either way.
fn narrow(s: &str) -> Cow<'_, str> {
    let wide = |c: char| matches!(c, '\u{3000}' | '\u{ff01}'..='\u{ffee}');
    if !s.contains(wide) {
        return Cow::Borrowed(s);
    }
    let nfkd = const { DecomposingNormalizerBorrowed::new_nfkd() };
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if wide(c) {
            out.extend(nfkd.normalize_iter(std::iter::once(c)));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// toLowerCase() letter by letter, hence not `str::to_lowercase`, which knows the final sigma.
fn lower(s: &str) -> Cow<'_, str> {
    if s.chars().all(|c| c.to_lowercase().eq([c])) {
        return Cow::Borrowed(s);
    }
    Cow::Owned(s.chars().flat_map(char::to_lowercase).collect())
}

fn nfc(s: &str) -> Cow<'_, str> {
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(s)
}

fn nfkc(s: &str) -> Cow<'_, str> {
    const { ComposingNormalizerBorrowed::new_nfkc() }.normalize(s)
}

/// Every space character becomes U+0020 (RFC 8265 §4.2.2 rule 2).
fn plain_spaces(s: &str) -> Cow<'_, str> {
    let odd = |c: char| !c.is_ascii() && CATEGORY.get(c) == GeneralCategory::SpaceSeparator;
    if !s.contains(odd) {
        return Cow::Borrowed(s);
    }
    Cow::Owned(s.chars().map(|c| if odd(c) { ' ' } else { c }).collect())
}

/// No space at either end, and one at a time between (RFC 8266 §2.1 rule 2).
fn trimmed(s: &str) -> Cow<'_, str> {
    let s = s.trim_matches(' ');
    if !s.contains("  ") {
        return Cow::Borrowed(s);
    }
    let mut out = String::with_capacity(s.len());
    for word in s.split(' ').filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    Cow::Owned(out)
}

const CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> = CodePointMapData::<GeneralCategory>::new();
const DIRECTION: CodePointMapDataBorrowed<'static, BidiClass> = CodePointMapData::<BidiClass>::new();

/// The Bidi Rule (RFC 5893 §2), for strings that hold a right-to-left character.
///
/// Such a string can only pass as a right-to-left one, since condition 5 has no place for R, AL and AN: so it starts with R
/// or AL (1), holds certain classes only (2), ends in a letter or digit but for marks (3), and does not mix two kinds of
/// digits (4).
fn check_bidi(s: &str) -> Result<(), PrecisError> {
    type B = BidiClass;
    let right =
        |c: char| !c.is_ascii() && matches!(DIRECTION.get(c), B::RightToLeft | B::ArabicLetter | B::ArabicNumber);
    if !s.contains(right) {
        return Ok(());
    }
    let mut last = None;
    let (mut european, mut arabic) = (false, false);
    for c in s.chars() {
        let class = DIRECTION.get(c);
        if last.is_none() && !matches!(class, B::RightToLeft | B::ArabicLetter) {
            return Err(PrecisError::Bidi);
        }
        match class {
            B::RightToLeft | B::ArabicLetter => {}
            B::ArabicNumber => arabic = true,
            B::EuropeanNumber => european = true,
            B::EuropeanSeparator
            | B::CommonSeparator
            | B::EuropeanTerminator
            | B::OtherNeutral
            | B::BoundaryNeutral => {}
            B::NonspacingMark => continue, // takes no part in condition 3
            _ => return Err(PrecisError::Bidi),
        }
        last = Some(class);
    }
    let ends_well = matches!(last, Some(B::RightToLeft | B::ArabicLetter | B::EuropeanNumber | B::ArabicNumber));
    if ends_well && !(european && arabic) { Ok(()) } else { Err(PrecisError::Bidi) }
}
