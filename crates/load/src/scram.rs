//! RFC 5802, RFC 7677: the client's side of SCRAM, without channel binding.
//!
//! Salted passwords are kept, since thousands of sessions share a few accounts and the derivation would cost more than
//! everything else this program does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The server may not ask for more rounds than this.
const MAX_ROUNDS: u32 = 1_000_000;

/// The hash of the mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SCRAM-SHA-1
    Sha1,
    /// SCRAM-SHA-256
    Sha256,
}

impl Hash {
    /// The mechanism's name in SASL.
    pub fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Hash::Sha1 => {
                let mut mac = Hmac::<Sha1>::new_from_slice(key)?;
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
            Hash::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
        })
    }

    fn salted(self, password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, rounds).to_vec(),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, rounds).to_vec(),
        }
    }
}

/// Salt and rounds.
type Recipe = (Hash, Vec<u8>, u32);

/// Salted passwords by what they were made of; the password is the same for all.
#[derive(Debug, Clone, Default)]
pub struct Cache(Rc<RefCell<HashMap<Recipe, Vec<u8>>>>);

/// One authentication. `first`, `respond`, `finish`, in this order.
#[derive(Debug)]
pub struct Client {
    hash: Hash,
    password: String,
    cache: Cache,
    nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Client {
    /// User name and password must be plain ASCII without `,` and `=`: nothing is prepared or escaped.
    pub fn new(hash: Hash, user: &str, password: &str, nonce: &[u8], cache: &Cache) -> Client {
        let nonce = BASE64.encode(nonce);
        Client {
            hash,
            password: password.to_owned(),
            cache: cache.clone(),
            first_bare: format!("n={user},r={nonce}"),
            nonce,
            server_signature: Vec::new(),
        }
    }

    /// The initial response.
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    /// The answer to the server's first message.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>> {
        let server_first = str::from_utf8(challenge)?;
        let (nonce, salt, rounds) = fields(server_first).context("not a SCRAM challenge")?;
        ensure!(nonce.starts_with(&self.nonce), "the challenge has another nonce");
        ensure!(rounds <= MAX_ROUNDS, "the server asks for {rounds} rounds");
        let salt = BASE64.decode(salt)?;
        let salted = self
            .cache
            .0
            .borrow_mut()
            .entry((self.hash, salt.clone(), rounds))
            .or_insert_with(|| self.hash.salted(&self.password, &salt, rounds))
            .clone();
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = self.hash.hmac(&salted, b"Client Key")?;
        let mut proof = self.hash.hmac(&self.hash.digest(&client_key), said.as_bytes())?;
        proof.iter_mut().zip(&client_key).for_each(|(p, k)| *p ^= k);
        self.server_signature = self.hash.hmac(&self.hash.hmac(&salted, b"Server Key")?, said.as_bytes())?;
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    /// Checks that the server knows the password too.
    pub fn finish(&self, data: &[u8]) -> Result<()> {
        let Some(signature) = data.strip_prefix(b"v=") else { bail!("the server does not prove itself") };
        ensure!(!self.server_signature.is_empty(), "success without a challenge");
        ensure!(BASE64.decode(signature)? == self.server_signature, "the server proves itself wrongly");
        Ok(())
    }
}

/// Nonce, salt and rounds of the server's first message.
fn fields(message: &str) -> Option<(&str, &str, u32)> {
    let mut parts = message.split(',');
    let nonce = parts.next()?.strip_prefix("r=")?;
    let salt = parts.next()?.strip_prefix("s=")?;
    let rounds = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    Some((nonce, salt, rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose nonce is the given text rather than the encoding of bytes.
    fn client(hash: Hash, nonce: &str) -> Client {
        let mut client = Client::new(hash, "user", "pencil", b"", &Cache::default());
        client.nonce = nonce.to_owned();
        client.first_bare = format!("n=user,r={nonce}");
        client
    }

    #[test]
    fn the_example_of_rfc_5802_section_5_is_reproduced() {
        let mut client = client(Hash::Sha1, "fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(client.first(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let answer = client.respond(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096").unwrap();
        assert_eq!(
            str::from_utf8(&answer).unwrap(),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        client.finish(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap();
        assert!(client.finish(b"v=rmF9pqV8S7suAoZWja4dJRkFsKA=").is_err());
    }

    #[test]
    fn the_example_of_rfc_7677_section_3_is_reproduced() {
        let mut client = client(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        let answer = client
            .respond(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
            .unwrap();
        assert_eq!(
            str::from_utf8(&answer).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        client.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_challenge_with_a_foreign_nonce_is_refused() {
        assert!(client(Hash::Sha1, "mine").respond(b"r=yours,s=QSXCR+Q6sek8bf92,i=4096").is_err());
    }

    #[test]
    fn success_before_the_challenge_is_refused() {
        assert!(client(Hash::Sha1, "mine").finish(b"v=").is_err());
    }
}
