//! RFC 5802 §5.1: the random text that makes each exchange different.

use base64::{Engine, engine::general_purpose::STANDARD};

/// One side's part of the nonce: printable ASCII without a comma, not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// How many random bytes make a nonce.
    pub const RANDOM_BYTES: usize = 24;

    /// Makes a nonce of 32 characters. The bytes must come from the CSPRNG and serve no other purpose.
    pub fn from_random(random: [u8; Nonce::RANDOM_BYTES]) -> Nonce {
        Nonce(STANDARD.encode(random))
    }

    /// Takes a text as it is: for the examples of the RFCs and for simulation. `None` if it breaks the grammar (§7).
    pub fn from_text(text: &str) -> Option<Nonce> {
        Nonce::is_valid(text).then(|| Nonce(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// §7: `printable = %x21-2B / %x2D-7E`, at least one.
    pub(super) fn is_valid(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x2b | 0x2d..=0x7e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_random_bytes_make_a_valid_nonce() {
        for byte in 0..=u8::MAX {
            let nonce = Nonce::from_random([byte; Nonce::RANDOM_BYTES]);
            assert_eq!(nonce.as_str().len(), 32);
            assert_eq!(Nonce::from_text(nonce.as_str()), Some(nonce));
        }
    }

    #[test]
    fn commas_spaces_and_controls_make_no_nonce() {
        for text in ["", "a,b", "a b", "a\t", "\u{7f}", "\u{e9}"] {
            assert_eq!(Nonce::from_text(text), None, "{text:?}");
        }
    }
}
