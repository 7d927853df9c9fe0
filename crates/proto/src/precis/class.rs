//! The string classes of PRECIS: what each code point may do (RFC 8264 §8, §9), and the rules for those that need company
//! (RFC 5892 appendix A).

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, HangulSyllableType, JoiningType,
    NoncharacterCodePoint, Script,
};
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed};

use super::{CATEGORY, PrecisError};

const IGNORABLE: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<DefaultIgnorableCodePoint>();
const NONCHARACTER: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<NoncharacterCodePoint>();
const HANGUL: CodePointMapDataBorrowed<'static, HangulSyllableType> = CodePointMapData::<HangulSyllableType>::new();
const COMBINING: CodePointMapDataBorrowed<'static, CanonicalCombiningClass> =
    CodePointMapData::<CanonicalCombiningClass>::new();
const JOINING: CodePointMapDataBorrowed<'static, JoiningType> = CodePointMapData::<JoiningType>::new();
const SCRIPT: CodePointMapDataBorrowed<'static, Script> = CodePointMapData::<Script>::new();

/// The two string classes (RFC 8264 §4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Letters, digits and printable ASCII: for what routes.
    Identifier,
    /// Also spaces, symbols, punctuation and compatibility forms: for what is shown.
    Freeform,
}

/// The derived property of a code point (RFC 8264 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Derived {
    /// PVALID.
    Valid,
    /// FREE_PVAL, which is ID_DIS.
    FreeOnly,
    /// CONTEXTJ or CONTEXTO.
    Context,
    Disallowed,
    Unassigned,
}

/// The algorithm of RFC 8264 §8, in its order. BackwardCompatible is empty to this day (§9.7).
pub(super) fn derived(c: char) -> Derived {
    use GeneralCategory as G;
    if let Some(exception) = exception(c) {
        return exception;
    }
    let category = CATEGORY.get(c);
    if category == G::Unassigned && !NONCHARACTER.contains(c) {
        return Derived::Unassigned;
    }
    if c.is_ascii_graphic() {
        return Derived::Valid;
    }
    if matches!(c, '\u{200c}' | '\u{200d}') {
        return Derived::Context;
    }
    // OldHangulJamo, PrecisIgnorableProperties, Controls
    if matches!(
        HANGUL.get(c),
        HangulSyllableType::LeadingJamo | HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo
    ) || IGNORABLE.contains(c)
        || NONCHARACTER.contains(c)
        || category == G::Control
    {
        return Derived::Disallowed;
    }
    if has_compat(c) {
        return Derived::FreeOnly;
    }
    match category {
        // LetterDigits
        G::LowercaseLetter
        | G::UppercaseLetter
        | G::OtherLetter
        | G::DecimalNumber
        | G::ModifierLetter
        | G::NonspacingMark
        | G::SpacingMark => Derived::Valid,
        // OtherLetterDigits, Spaces, Symbols, Punctuation
        G::TitlecaseLetter | G::LetterNumber | G::OtherNumber | G::EnclosingMark => Derived::FreeOnly,
        G::SpaceSeparator => Derived::FreeOnly,
        G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol => Derived::FreeOnly,
        G::ConnectorPunctuation
        | G::DashPunctuation
        | G::OpenPunctuation
        | G::ClosePunctuation
        | G::InitialPunctuation
        | G::FinalPunctuation
        | G::OtherPunctuation => Derived::FreeOnly,
        _ => Derived::Disallowed,
    }
}

/// Exceptions (RFC 5892 §2.6).
fn exception(c: char) -> Option<Derived> {
    Some(match c {
        '\u{df}' | '\u{3c2}' | '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => Derived::Valid,
        '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{30fb}' => Derived::Context,
        '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' => Derived::Context,
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => Derived::Disallowed,
        _ => return None,
    })
}

/// HasCompat (RFC 8264 §9.17): normalization form KC makes something else of it.
fn has_compat(c: char) -> bool {
    !const { ComposingNormalizerBorrowed::new_nfkc() }.is_normalized(c.encode_utf8(&mut [0; 4]))
}

/// Every code point belongs to the class, and those that need company have it. Linear in the length of the string.
pub(super) fn check(s: &str, class: Class) -> Result<(), PrecisError> {
    let (mut arabic, mut extended, mut dot) = (None, None, None);
    for (at, c) in s.char_indices() {
        if c.is_ascii_graphic() {
            continue;
        }
        match derived(c) {
            Derived::Valid => {}
            Derived::FreeOnly if class == Class::Freeform => {}
            Derived::FreeOnly | Derived::Disallowed => return Err(PrecisError::Disallowed(c)),
            Derived::Unassigned => return Err(PrecisError::Unassigned(c)),
            Derived::Context => match c {
                // These look at the whole string; once is enough.
                '\u{660}'..='\u{669}' => arabic = Some(c),
                '\u{6f0}'..='\u{6f9}' => extended = Some(c),
                '\u{30fb}' => dot = Some(c),
                _ if !company(s, at, c) => return Err(PrecisError::Context(c)),
                _ => {}
            },
        }
    }
    // A.8, A.9: the two sets of Arabic digits never together.
    if let (Some(digit), Some(_)) = (arabic, extended) {
        return Err(PrecisError::Context(digit));
    }
    // A.7: a katakana middle dot needs one Japanese character somewhere.
    let japanese = |c| matches!(SCRIPT.get(c), Script::Hiragana | Script::Katakana | Script::Han);
    match dot {
        Some(dot) if !s.contains(japanese) => Err(PrecisError::Context(dot)),
        _ => Ok(()),
    }
}

/// A label of a domain, after UTS 46: what IDNA2008 refuses beyond that (RFC 5892 §3).
///
/// UTS 46 lets symbols pass (emoji among them), IDNA2008 does not. What is left of its algorithm for a mapped string is
/// IdentifierClass and IgnorableBlocks (RFC 5892 §2.4).
pub(crate) fn check_label(s: &str) -> Result<(), PrecisError> {
    let ignorable = |c: char| matches!(c, '\u{20d0}'..='\u{20ff}' | '\u{1d100}'..='\u{1d24f}');
    if let Some(c) = s.chars().find(|&c| ignorable(c)) {
        return Err(PrecisError::Disallowed(c));
    }
    check(s, Class::Identifier)
}

/// The rules that look at the neighbours of the code point `c`, which stands at `at` (RFC 5892 A.1 to A.6).
fn company(s: &str, at: usize, c: char) -> bool {
    let (head, rest) = s.split_at(at);
    let tail = rest.get(c.len_utf8()..).unwrap_or_default();
    let (before, after) = (head.chars().next_back(), tail.chars().next());
    let virama = before.is_some_and(|b| COMBINING.get(b) == CanonicalCombiningClass::Virama);
    match c {
        '\u{200c}' => virama || joins(head, tail),
        '\u{200d}' => virama,
        '\u{b7}' => before == Some('l') && after == Some('l'),
        '\u{375}' => after.is_some_and(|a| SCRIPT.get(a) == Script::Greek),
        '\u{5f3}' | '\u{5f4}' => before.is_some_and(|b| SCRIPT.get(b) == Script::Hebrew),
        _ => false,
    }
}

/// A.1: between a letter that joins to its left and one that joins to its right, transparent ones set aside.
fn joins(head: &str, tail: &str) -> bool {
    let solid = |c: &char| JOINING.get(*c) != JoiningType::Transparent;
    let left = head.chars().rev().find(solid).map(|c| JOINING.get(c));
    let right = tail.chars().find(solid).map(|c| JOINING.get(c));
    matches!(left, Some(JoiningType::LeftJoining | JoiningType::DualJoining))
        && matches!(right, Some(JoiningType::RightJoining | JoiningType::DualJoining))
}
