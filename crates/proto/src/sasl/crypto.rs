//! RFC 5802 §2.2: H, HMAC and Hi, over the three hashes, and a type for what comes out.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::Hash;

/// The result of a hash: secret until shown otherwise. Has no `==`, prints nothing and is wiped when dropped.
#[derive(Clone)]
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Key {
        Key(Zeroizing::new(bytes.to_vec()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the bytes are equal, in a time that depends on the length only.
    pub(super) fn same(&self, other: &[u8]) -> Choice {
        self.0.as_slice().ct_eq(other)
    }

    /// RFC 5802 §3: `self XOR other`. Both are digests of one hash; the shorter length counts.
    pub(super) fn xor(&self, other: &[u8]) -> Key {
        Key(Zeroizing::new(self.0.iter().zip(other).map(|(a, b)| a ^ b).collect()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// H(data).
pub(super) fn digest(hash: Hash, data: &[u8]) -> Key {
    match hash {
        Hash::Sha1 => Key::new(&Sha1::digest(data)),
        Hash::Sha256 => Key::new(&Sha256::digest(data)),
        Hash::Sha512 => Key::new(&Sha512::digest(data)),
    }
}

/// HMAC(key, parts one after the other).
pub(super) fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Key {
    match hash {
        Hash::Sha1 => mac::<Hmac<Sha1>>(key, parts),
        Hash::Sha256 => mac::<Hmac<Sha256>>(key, parts),
        Hash::Sha512 => mac::<Hmac<Sha512>>(key, parts),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §2)");
    for part in parts {
        mac.update(part);
    }
    Key::new(&mac.finalize().into_bytes())
}

/// Hi(password, salt, iterations): expensive, milliseconds.
pub(super) fn hi(hash: Hash, password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut out = Zeroizing::new(vec![0; hash.output_len()]);
    match hash {
        Hash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut out),
        Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
        Hash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out),
    }
    Key(out)
}
