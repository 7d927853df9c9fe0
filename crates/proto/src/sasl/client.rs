//! A small SASL client for PLAIN and SCRAM, for the tests of the server and for the load program.
//!
//! It verifies the server as RFC 5802 §5 requires, so it can be used between servers or in tools as well.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::credentials::number;
use super::crypto::{self, Key};
use super::prep::{self, PrepError};
use super::{Hash, Iterations, MAX_INPUT_BYTES, MAX_SALT_BYTES, Mechanism, Nonce};

/// Why the client gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The username or password cannot be prepared.
    #[error("unusable username or password")]
    Prep(#[from] PrepError),
    /// `-PLUS` without a binding, a binding without `-PLUS`, PLAIN with keys: the caller contradicts itself.
    #[error("mechanism, secret and channel binding do not fit")]
    Setup,
    /// The server sent something that the mechanism does not allow.
    #[error("the server broke the mechanism: {0}")]
    Server(&'static str),
    /// RFC 5802 §5: the server could not prove that it has the client's keys. Must be treated as a failed authentication.
    #[error("the server has not authenticated itself")]
    Unproven,
}

/// The client's channel-binding flag (RFC 5802 §6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// `n`: it does not support channel binding.
    #[default]
    Unsupported,
    /// `y`: it supports channel binding, but the server offered none.
    NotOffered,
    /// `p`: with a `-PLUS` mechanism.
    Use {
        /// The type, such as `tls-exporter`.
        name: String,
        /// The bytes.
        data: Vec<u8>,
    },
}

/// The keys that a SCRAM client derives from a password. They may be cached and computed in advance (RFC 5802 §5.1, on `i`).
#[derive(Clone)]
pub struct Keys {
    hash: Hash,
    client_key: Key,
    server_key: Key,
}

impl Keys {
    /// Derives them. Expensive: milliseconds, see [`Iterations`].
    ///
    /// # Errors
    /// If the password cannot be prepared.
    pub fn derive(hash: Hash, password: &str, salt: &[u8], iterations: Iterations) -> Result<Keys, PrepError> {
        let password = prep::stored(password)?;
        let salted = crypto::hi(hash, password.as_bytes(), salt, iterations.count());
        Ok(Keys {
            hash,
            client_key: crypto::hmac(hash, salted.bytes(), &[b"Client Key"]),
            server_key: crypto::hmac(hash, salted.bytes(), &[b"Server Key"]),
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// What the client knows.
#[derive(Clone)]
pub enum Secret {
    /// The password.
    Password(String),
    /// Keys derived before, for the account's salt and iterations. Saves a load program the derivations.
    Keys(Keys),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One attempt to authenticate, on the side of the client: [`first`](Client::first), for SCRAM
/// [`respond`](Client::respond), then [`finish`](Client::finish).
#[derive(Debug)]
pub struct Client {
    mechanism: Mechanism,
    username: String,
    secret: Secret,
    nonce: Nonce,
    authzid: Option<String>,
    binding: Binding,
    /// client-first-message-bare, once sent.
    bare: String,
    /// The server signature to come, once the proof is sent.
    expected: Option<Key>,
}

impl Client {
    /// Begins an exchange. The nonce must be fresh; PLAIN does not use it.
    pub fn new(mechanism: Mechanism, username: &str, secret: Secret, nonce: Nonce) -> Client {
        Client {
            mechanism,
            username: username.to_owned(),
            secret,
            nonce,
            authzid: None,
            binding: Binding::Unsupported,
            bare: String::new(),
            expected: None,
        }
    }

    /// Requests an authorization identity, a bare JID.
    #[must_use]
    pub fn with_authzid(mut self, authzid: &str) -> Client {
        self.authzid = Some(authzid.to_owned());
        self
    }

    /// Sets a channel-binding flag other than `n`.
    #[must_use]
    pub fn with_binding(mut self, binding: Binding) -> Client {
        self.binding = binding;
        self
    }

    /// The initial response.
    ///
    /// # Errors
    /// [`ClientError::Prep`], [`ClientError::Setup`].
    pub fn first(&mut self) -> Result<Vec<u8>, ClientError> {
        let username = prep::query(&self.username)?;
        let bound = matches!(self.binding, Binding::Use { .. });
        if bound != self.mechanism.is_plus() {
            return Err(ClientError::Setup);
        }
        match (self.mechanism, &self.secret) {
            (Mechanism::Plain, Secret::Password(password)) => {
                let password = prep::query(password)?;
                Ok(format!("{}\0{username}\0{password}", self.authzid.as_deref().unwrap_or_default()).into_bytes())
            }
            (Mechanism::Plain, Secret::Keys(_)) => Err(ClientError::Setup),
            (Mechanism::Scram { hash, .. }, Secret::Keys(keys)) if keys.hash != hash => Err(ClientError::Setup),
            (Mechanism::Scram { .. }, _) => {
                self.bare = format!("n={},r={}", escape(&username), self.nonce.as_str());
                Ok(format!("{}{}", self.gs2_header(), self.bare).into_bytes())
            }
        }
    }

    /// The answer to the server-first-message of SCRAM. Expensive with [`Secret::Password`]: milliseconds.
    ///
    /// # Errors
    /// [`ClientError::Server`] if the message violates RFC 5802 §5 and §7, or has a number of iterations outside of [`Iterations`].
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ClientError> {
        let (Mechanism::Scram { hash, .. }, false) = (self.mechanism, self.bare.is_empty()) else {
            return Err(ClientError::Server("challenge out of turn"));
        };
        let server_first = ServerFirst::parse(challenge, self.nonce.as_str())?;
        let keys = match &self.secret {
            Secret::Keys(keys) => keys.clone(),
            Secret::Password(password) => Keys::derive(hash, password, &server_first.salt, server_first.iterations)?,
        };
        let mut cbind_input = self.gs2_header().into_bytes();
        if let Binding::Use { data, .. } = &self.binding {
            cbind_input.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={}", STANDARD.encode(cbind_input), server_first.nonce);
        let auth_message: [&[u8]; 5] = [self.bare.as_bytes(), b",", challenge, b",", without_proof.as_bytes()];
        let stored_key = crypto::digest(hash, keys.client_key.bytes());
        let signature = crypto::hmac(hash, stored_key.bytes(), &auth_message);
        let proof = keys.client_key.xor(signature.bytes());
        self.expected = Some(crypto::hmac(hash, keys.server_key.bytes(), &auth_message));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof.bytes())).into_bytes())
    }

    /// Takes the data of `<success/>` and checks that the server has the client's keys.
    ///
    /// # Errors
    /// [`ClientError::Unproven`]; the session must not be used then.
    pub fn finish(&mut self, data: Option<&[u8]>) -> Result<(), ClientError> {
        if self.mechanism == Mechanism::Plain {
            return if data.is_none() { Ok(()) } else { Err(ClientError::Server("data after PLAIN")) };
        }
        let expected = self.expected.take().ok_or(ClientError::Unproven)?;
        let text = data.and_then(|data| std::str::from_utf8(data).ok()).ok_or(ClientError::Unproven)?;
        let verifier = text.strip_prefix("v=").and_then(|rest| rest.split(',').next());
        let verifier = verifier.and_then(|verifier| STANDARD.decode(verifier).ok()).ok_or(ClientError::Unproven)?;
        if bool::from(expected.same(&verifier)) { Ok(()) } else { Err(ClientError::Unproven) }
    }

    fn gs2_header(&self) -> String {
        let authzid = self.authzid.as_deref().map(|authzid| format!("a={}", escape(authzid))).unwrap_or_default();
        match &self.binding {
            Binding::Unsupported => format!("n,{authzid},"),
            Binding::NotOffered => format!("y,{authzid},"),
            Binding::Use { name, .. } => format!("p={name},{authzid},"),
        }
    }
}

/// RFC 5802 §7: `server-first-message`.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: Iterations,
}

impl<'a> ServerFirst<'a> {
    fn parse(data: &'a [u8], own_nonce: &str) -> Result<ServerFirst<'a>, ClientError> {
        let wrong = |what| move || ClientError::Server(what);
        if data.len() > MAX_INPUT_BYTES {
            return Err(ClientError::Server("message too long"));
        }
        let text = std::str::from_utf8(data).map_err(|_| ClientError::Server("not UTF-8"))?;
        let mut attributes = text.split(',');
        let mut next = |name| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        // `m=` fails here: it would stand where the nonce must.
        let nonce = next("r=").ok_or_else(wrong("nonce"))?;
        let salt = next("s=").ok_or_else(wrong("salt"))?;
        let iterations = next("i=").ok_or_else(wrong("iterations"))?;
        // §5.1: the server's nonce begins with ours and adds something.
        if !Nonce::is_valid(nonce) || nonce.strip_prefix(own_nonce).is_none_or(str::is_empty) {
            return Err(ClientError::Server("nonce"));
        }
        let salt = STANDARD.decode(salt).map_err(|_| ClientError::Server("salt"))?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(ClientError::Server("salt"));
        }
        let iterations = number(iterations).and_then(Iterations::new).ok_or_else(wrong("iterations"))?;
        if attributes.any(|attribute| attribute.starts_with("m=")) {
            return Err(ClientError::Server("mandatory extension"));
        }
        Ok(ServerFirst { nonce, salt, iterations })
    }
}

/// RFC 5802 §5.1.
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}
