//! RFC 4013: SASLprep, how names and passwords are made comparable.

use std::borrow::Cow;

use stringprep::tables;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// Why a name or password cannot be prepared. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PrepError {
    /// Nothing is left (RFC 5802 §5.1: an empty name or password fails).
    #[error("nothing is left after preparation")]
    Empty,
    /// A control character, a private one, or another of RFC 4013 §2.3.
    #[error("a character that names and passwords may not contain")]
    Prohibited,
    /// Text of both directions mixed as RFC 3454 §6 forbids.
    #[error("left-to-right and right-to-left text mixed")]
    Bidirectional,
    /// A character that Unicode 3.2 does not know, emoji among them; only [`stored`] strings are refused for it.
    #[error("a character newer than Unicode 3.2")]
    Unassigned,
}

/// Prepares a "query" string: what a client claims (a name, a password to be checked). Time is linear in the length.
///
/// # Errors
/// See [`PrepError`]; never [`PrepError::Unassigned`] (RFC 5802 §5.1, RFC 4616 §2).
pub fn query(text: &str) -> Result<Cow<'_, str>, PrepError> {
    if text.is_empty() {
        return Err(PrepError::Empty);
    }
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(Cow::Borrowed(text));
    }
    // §2.1, §2.2. U+200B stands in both tables of the mapping; like others we make it a space.
    let prepared: String = text
        .chars()
        .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
        .filter(|&c| !tables::commonly_mapped_to_nothing(c))
        .nfkc()
        .collect();
    if prepared.is_empty() {
        return Err(PrepError::Empty);
    }
    if prepared.contains(prohibited) {
        return Err(PrepError::Prohibited);
    }
    if breaks_direction(&prepared) {
        return Err(PrepError::Bidirectional);
    }
    Ok(Cow::Owned(prepared))
}

/// Prepares a "stored" string: a password that is being set. Time is linear in the length.
///
/// Stricter than [`query`] because RFC 5802 §2.2 wants it so: another client could not prepare such a password the same
/// way and would be locked out.
///
/// # Errors
/// See [`PrepError`].
pub fn stored(text: &str) -> Result<Cow<'_, str>, PrepError> {
    let prepared = query(text)?;
    if prepared.contains(tables::unassigned_code_point) {
        return Err(PrepError::Unassigned);
    }
    Ok(prepared)
}

/// RFC 4013 §2.3. Surrogates (C.5) cannot occur in a `char`.
fn prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}

/// RFC 3454 §6: with one right-to-left character there may be no left-to-right one, and both ends must be right-to-left.
fn breaks_direction(text: &str) -> bool {
    text.contains(tables::bidi_r_or_al)
        && (text.contains(tables::bidi_l)
            || !text.starts_with(tables::bidi_r_or_al)
            || !text.ends_with(tables::bidi_r_or_al))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4013_hold() {
        assert_eq!(stored("I\u{ad}X").as_deref(), Ok("IX"));
        assert_eq!(stored("user").as_deref(), Ok("user"));
        assert_eq!(stored("USER").as_deref(), Ok("USER"));
        assert_eq!(stored("\u{aa}").as_deref(), Ok("a"));
        assert_eq!(stored("\u{2168}").as_deref(), Ok("IX"));
        assert_eq!(stored("\u{7}"), Err(PrepError::Prohibited));
        assert_eq!(stored("\u{627}\u{31}"), Err(PrepError::Bidirectional));
    }

    #[test]
    fn nothing_left_is_an_error() {
        assert_eq!(query(""), Err(PrepError::Empty));
        assert_eq!(query("\u{ad}\u{200d}"), Err(PrepError::Empty));
    }

    #[test]
    fn compatibility_forms_and_odd_spaces_become_the_plain_ones() {
        assert_eq!(query("\u{ff22}\u{ff4f}\u{ff42}").as_deref(), Ok("Bob"));
        assert_eq!(query("a\u{a0}b").as_deref(), Ok("a b"));
        assert_eq!(query("\u{bd}\u{b4}").as_deref(), Ok("1\u{2044}2 \u{301}"));
    }

    #[test]
    fn each_prohibited_table_is_consulted() {
        for c in ["\u{7f}", "\u{80}", "\u{e000}", "\u{fdd0}", "\u{fffd}", "\u{2ff0}", "\u{200e}", "\u{e0001}", "\0"] {
            assert_eq!(query(&format!("a{c}")), Err(PrepError::Prohibited), "{c:?}");
        }
    }

    #[test]
    fn a_new_character_may_be_asked_for_but_not_stored() {
        assert_eq!(query("\u{1f511}").as_deref(), Ok("\u{1f511}"));
        assert_eq!(stored("\u{1f511}"), Err(PrepError::Unassigned));
    }

    #[test]
    fn right_to_left_text_alone_is_fine() {
        assert_eq!(query("\u{5d0}\u{5d1}").as_deref(), Ok("\u{5d0}\u{5d1}"));
        assert_eq!(query("\u{5d0}a\u{5d0}"), Err(PrepError::Bidirectional));
        assert_eq!(query("1\u{5d0}"), Err(PrepError::Bidirectional));
    }
}
