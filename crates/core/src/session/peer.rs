//! What is known of the connection of a session: for operators, who list sessions. Nothing is decided by it.

use std::fmt;
use std::time::Duration;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::sasl::Mechanism;

/// The client's end of a connection, and how it logged in. Small, as every session has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// the bytes of its IPv6 address, or of the IPv6 form of its IPv4 address (RFC 4291 §2.5.5.2); all zero if it is not known, as of
    /// a session that is back after a restart and was not resumed yet
    pub address: [u8; 16],
    /// what the connection is encrypted with
    pub tls: Tls,
    /// how the client logged in
    pub mechanism: Option<Mechanism>,
}

impl Default for Peer {
    /// Nothing is known.
    fn default() -> Peer {
        Peer { address: [0; 16], tls: Tls::None, mechanism: None }
    }
}

/// The encryption of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None here: a proxy may have ended it.
    None,
    /// TLS 1.2 (RFC 5246).
    V12(Cipher),
    /// TLS 1.3 (RFC 8446).
    V13(Cipher),
}

/// The cipher of an encrypted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cipher {
    /// AES-128-GCM
    Aes128Gcm,
    /// AES-256-GCM
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439)
    ChaCha20Poly1305,
    /// Another one.
    Other,
}

impl Tls {
    /// The version as it is usually written.
    pub fn version(self) -> Option<&'static str> {
        match self {
            Tls::None => None,
            Tls::V12(_) => Some("TLSv1.2"),
            Tls::V13(_) => Some("TLSv1.3"),
        }
    }

    /// The cipher.
    pub fn cipher(self) -> Option<Cipher> {
        match self {
            Tls::None => None,
            Tls::V12(cipher) | Tls::V13(cipher) => Some(cipher),
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cipher::Aes128Gcm => "AES-128-GCM",
            Cipher::Aes256Gcm => "AES-256-GCM",
            Cipher::ChaCha20Poly1305 => "CHACHA20-POLY1305",
            Cipher::Other => "other",
        })
    }
}

/// A session as operators see it in a list.
#[derive(Clone, Debug)]
pub struct Facts {
    /// when it was bound
    pub since: Timestamp,
    /// since when it has no connection, by [`crate::core::Core::steady`]; none while it has one
    pub detached: Option<Duration>,
    /// its client's end
    pub peer: Peer,
    /// what the client calls itself: the `node` of its entity capabilities (XEP-0115 §4), if its presence has them
    pub client: Option<String>,
    /// the `<show/>` of its presence (RFC 6121 §4.7.2.1)
    pub show: Option<String>,
    /// whether it can be resumed
    pub resumable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_costs_a_session_little() {
        assert!(size_of::<Peer>() <= 20, "{}", size_of::<Peer>());
    }
}
