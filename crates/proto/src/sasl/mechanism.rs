//! The mechanisms this server speaks: their names, their order, the hash behind each.

/// A hash function that SCRAM is built on (RFC 5802 for SHA-1, RFC 7677 for SHA-256; SHA-512 in the same manner).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-1, 20 bytes. Old, and every client has it (RFC 5802 §4).
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Hash {
    /// All of them, the strongest first.
    pub const ALL: [Hash; 3] = [Hash::Sha512, Hash::Sha256, Hash::Sha1];

    /// The length of a digest in bytes.
    pub const fn output_len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    /// The SCRAM mechanism without channel binding, which is also the scheme name of stored credentials.
    pub const fn scheme(self) -> &'static str {
        match self {
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash whose [`scheme`](Hash::scheme) has this name.
    pub fn from_scheme(name: &str) -> Option<Hash> {
        Hash::ALL.into_iter().find(|hash| hash.scheme() == name)
    }
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// RFC 4616: the password itself. Only ever to be offered under TLS.
    Plain,
    /// RFC 5802: neither side learns from the exchange what it did not know.
    Scram {
        /// What it is built on.
        hash: Hash,
        /// Whether it is the `-PLUS` variant, bound to the TLS channel (RFC 5802 §6).
        plus: bool,
    },
}

impl Mechanism {
    /// All of them, the strongest first: the order to offer them in (RFC 6120 §6.3.3).
    ///
    /// Channel binding outranks the hash, since it is what defeats a man in the middle today.
    pub const ALL: [Mechanism; 7] = [
        Mechanism::Scram { hash: Hash::Sha512, plus: true },
        Mechanism::Scram { hash: Hash::Sha256, plus: true },
        Mechanism::Scram { hash: Hash::Sha1, plus: true },
        Mechanism::Scram { hash: Hash::Sha512, plus: false },
        Mechanism::Scram { hash: Hash::Sha256, plus: false },
        Mechanism::Scram { hash: Hash::Sha1, plus: false },
        Mechanism::Plain,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram { hash, plus: false } => hash.scheme(),
            Mechanism::Scram { hash: Hash::Sha1, plus: true } => "SCRAM-SHA-1-PLUS",
            Mechanism::Scram { hash: Hash::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Mechanism::Scram { hash: Hash::Sha512, plus: true } => "SCRAM-SHA-512-PLUS",
        }
    }

    /// The mechanism with this name, letter by letter: mechanism names are upper case (RFC 4422 §3.1).
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// The hash that stored credentials must be of; `None` where any will do.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Mechanism::Plain => None,
            Mechanism::Scram { hash, .. } => Some(hash),
        }
    }

    /// Whether the exchange is bound to the TLS channel.
    pub const fn is_plus(self) -> bool {
        matches!(self, Mechanism::Scram { plus: true, .. })
    }

    /// A number that is greater for the stronger of two mechanisms.
    pub const fn strength(self) -> u8 {
        match self {
            Mechanism::Plain => 0,
            Mechanism::Scram { hash, plus } => {
                let hash = match hash {
                    Hash::Sha1 => 1,
                    Hash::Sha256 => 2,
                    Hash::Sha512 => 3,
                };
                if plus { hash + 3 } else { hash }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_mechanism() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
            assert!(mechanism.name().len() <= 20, "RFC 4422 §3.1 allows 20 characters");
            assert_eq!(mechanism.name().ends_with("-PLUS"), mechanism.is_plus());
        }
        for wrong in ["", "plain", "PLAIN ", "SCRAM-SHA-1-plus", "SCRAM-SHA-384", "EXTERNAL", "SCRAM-SHA-256-PLUS-PLUS"]
        {
            assert_eq!(Mechanism::from_name(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_list_falls_in_strength() {
        assert!(Mechanism::ALL.is_sorted_by(|a, b| a.strength() > b.strength()));
        assert_eq!(Mechanism::ALL.last(), Some(&Mechanism::Plain));
    }
}
