//! XEP-0474: SASL SCRAM Downgrade Protection.
//!
//! The lists of mechanisms and channel-binding types are sent before anything is authenticated. Their hash travels in
//! the server's first SCRAM message, which the proof covers, so a client sees when somebody shortened them.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Hash, crypto};

/// What was offered on this stream, in the form that is hashed (§6.1). Covers SASL or SASL2, whichever the client uses.
#[derive(Clone, Debug)]
pub struct Offered(String);

impl Offered {
    /// Takes the names as offered, in any order; `types` is `None` where XEP-0440 was not announced at all.
    pub fn new<'a>(mechanisms: impl IntoIterator<Item = &'a str>, types: Option<&[&str]>) -> Offered {
        let mut text = sorted(mechanisms.into_iter().collect());
        if let Some(types) = types {
            text.push('\x1f');
            text.push_str(&sorted(types.to_vec()));
        }
        Offered(text)
    }

    /// The value of the attribute `h`.
    pub(super) fn attribute(&self, hash: Hash) -> String {
        STANDARD.encode(crypto::digest(hash, self.0.as_bytes()).bytes())
    }
}

/// §6.1: sorted by octets, joined by %x1E.
fn sorted(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.join("\x1e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_the_xeps_example_comes_out() {
        let offered = Offered::new(
            ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
            Some(["tls-server-end-point", "tls-exporter"].as_slice()),
        );
        assert_eq!(offered.attribute(Hash::Sha1), "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    }

    #[test]
    fn an_empty_list_of_types_differs_from_none() {
        let none = Offered::new(["PLAIN"], None);
        let empty = Offered::new(["PLAIN"], Some(&[]));
        assert_ne!(none.attribute(Hash::Sha256), empty.attribute(Hash::Sha256));
    }
}
