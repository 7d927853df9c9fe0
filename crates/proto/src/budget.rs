//! What an input may become.
//!
//! Limits on what comes in say nothing about what it becomes: a namespace is declared once and written at every element that
//! uses it, the language of a stream header is copied to every stanza. So each input has a budget for its output as well: what
//! is made of it, when it is written anew, stored, delivered, copied or answered, is at most [`output_for`] its own length. What
//! would be more is refused (`not-acceptable`), or was bounded by name before: [`MAX_ID`], [`MAX_LANG`], and the limits on
//! namespaces in [`Limits`](crate::parse::Limits).
//!
//! Invariant: `written <= output_for(read)` for every stanza that is read. A property test and the fuzz target `budget` hold it.

/// How many bytes each byte of an input may become. Escaping alone makes at most 6 of one (`'` becomes `&apos;`), though of no
/// real text more than 2; declaring namespaces where a client used prefixes makes up to 3 of a real stanza.
pub const FACTOR: usize = 4;

/// How many bytes any input may become on top of that: an extension with its namespace, the addresses and the language that the
/// server adds.
pub const CONSTANT: usize = 1_024;

/// Maximum length of the `id` of a stanza in bytes. Longer ones are answered with `bad-request`: an `id` is repeated in the
/// answer, in copies and in archives.
pub const MAX_ID: usize = 1_023;

/// Maximum length of an `xml:lang` that a stream or a stanza carries in its header, in bytes. RFC 5646 §4.4.1 asks for room for
/// 35; a longer one is ignored, as a language that nobody can know.
pub const MAX_LANG: usize = 64;

/// How many bytes may be made of an input of so many bytes, addresses not counted: those have bounds of their own (RFC 7622 §3.1).
pub const fn output_for(read: usize) -> usize {
    read.saturating_mul(FACTOR).saturating_add(CONSTANT)
}

/// The input would become more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("larger when written than its budget of {0} bytes")]
pub struct OverBudget(pub usize);

/// A language that is short enough to be repeated.
pub(crate) fn language(lang: &str) -> Option<&str> {
    (lang.len() <= MAX_LANG).then_some(lang)
}
