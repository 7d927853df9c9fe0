//! The output budget of an input.
//!
//! Limits on input do not limit output: a namespace is declared once and written at every element that uses it, the language of a
//! stream header is copied to every stanza. So each input also has a budget for its output: whatever is made of it, when it is
//! rewritten, stored, delivered, copied or answered, is at most [`output_for`] its own length. Input that would exceed it is refused
//! (`not-acceptable`), or is bounded by a limit of its own: [`MAX_ID`], [`MAX_LANG`], and the limits on namespaces in
//! [`Limits`](crate::parse::Limits).
//!
//! Invariant: `written <= output_for(read)` for every stanza that is read. A property test and the fuzz target `budget` check it.

/// Maximum number of output bytes for each input byte. Escaping alone turns one byte into at most 6 (`'` becomes `&apos;`), but at most
/// doubles any real text; declaring namespaces where a client used prefixes makes a real stanza up to 3 times larger.
pub const FACTOR: usize = 4;

/// Additional output bytes for any input: for an extension with its namespace, the addresses and the language that the server adds.
pub const CONSTANT: usize = 1_024;

/// Maximum length of the `id` of a stanza in bytes. Longer ones are answered with `bad-request`: an `id` is repeated in the
/// answer, in copies and in archives.
pub const MAX_ID: usize = 1_023;

/// Maximum length of the `xml:lang` in the header of a stream or a stanza, in bytes. RFC 5646 §4.4.1 requires at least 35; a longer one
/// is ignored, like an unknown language.
pub const MAX_LANG: usize = 64;

/// Maximum number of output bytes for an input of this length, addresses not counted: those have limits of their own (RFC 7622 §3.1).
pub const fn output_for(read: usize) -> usize {
    read.saturating_mul(FACTOR).saturating_add(CONSTANT)
}

/// The output would exceed the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("larger when written than its budget of {0} bytes")]
pub struct OverBudget(pub usize);

/// The language, if it is short enough to be repeated.
pub(crate) fn language(lang: &str) -> Option<&str> {
    (lang.len() <= MAX_LANG).then_some(lang)
}
