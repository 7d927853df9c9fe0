//! SASL: authentication of clients (RFC 4422, RFC 6120 §6).
//!
//! An [`Exchange`] is one attempt with one mechanism: bytes in, a [`Step`] out. It does no I/O. If it needs stored credentials, it
//! returns [`Step::NeedCredentials`] and continues with [`Exchange::account`]; if it needs a key derivation,
//! [`Step::NeedDerivation`] and [`Exchange::verdict`], so that the CPU time is spent elsewhere.
//!
//! ```text
//!              receive          account            receive
//! SCRAM  <auth/> ---> NeedCredentials ---> Challenge ---> Success | Failure
//! PLAIN  <auth/> ---> NeedCredentials ---> NeedDerivation ---> Success | Failure
//!                                                  verdict
//! ```
//!
//! *Invariant:* a client's identity comes from [`Authenticated`] only; one is created only in [`Exchange`]'s `conclude`, which
//! is also the one place where an authzid is compared, for every mechanism.
//!
//! *Invariant:* a missing account cannot be distinguished from a wrong password, neither by messages nor by work: the caller
//! answers [`Step::NeedCredentials`] with [`Credentials::fake`].
//!
//! The stream around it has to: offer mechanisms only under TLS; count attempts (at most 5 per connection); answer `<abort/>`; drop
//! the exchange when another `<auth/>` arrives (RFC 6120 §6.4.2); limit simultaneous derivations; drop the exchange and send
//! `temporary-auth-failure` if the store does not answer; send `account-disabled` or `credentials-expired` only instead of a
//! success.
//!
//! Limits: [`MAX_INPUT_BYTES`] per message, [`MAX_USERNAME_BYTES`], [`MAX_AUTHZID_BYTES`], [`Iterations`].

mod binding;
pub mod client;
mod credentials;
mod crypto;
mod downgrade;
mod error;
mod mechanism;
mod nonce;
mod payload;
mod plain;
pub mod prep;
mod scram;
#[cfg(test)]
mod tests;

use std::{fmt, mem};

pub use binding::{ChannelBindings, TLS_EXPORTER, TLS_SERVER_END_POINT};
pub use credentials::{
    Credentials, CredentialsError, Iterations, MAX_SALT_BYTES, MAX_TEXT_BYTES, SALT_BYTES, SaltForm, Shown, lot,
};
pub use downgrade::Offered;
pub use error::{Refusal, SaslError};
pub use mechanism::{Hash, Mechanism};
pub use nonce::Nonce;
pub use payload::{decode_payload, encode_payload};
pub use plain::{Marks, PasswordCheck, Renewal, Verdict};

/// Maximum length of a client's message, in bytes after base64 decoding.
pub const MAX_INPUT_BYTES: usize = 4096;

/// Maximum length of a username, in bytes: that of a localpart (RFC 7622 §3.3.1).
pub const MAX_USERNAME_BYTES: usize = 1023;

/// Maximum length of an authzid, in bytes: that of a bare JID.
pub const MAX_AUTHZID_BYTES: usize = 2047;

/// Properties of the connection that an exchange needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The channel bindings of this connection.
    pub bindings: ChannelBindings,
    /// Whether the features of this stream offered any `-PLUS` mechanism. Decides what a client's `y` means (RFC 5802 §6).
    pub plus_offered: bool,
    /// Whether an authzid, as the client wrote it, names this account (its bare JID as given with [`Account`]).
    ///
    /// Must parse the authzid as a bare JID and compare; an authzid that does not parse names no account.
    pub names_account: fn(authzid: &str, account: &str) -> bool,
    /// XEP-0474: the offered lists, to be signed. `None`: not in use.
    pub offered: Option<Offered>,
}

/// The account that a client wants to log in to.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its bare JID, normalised. If the exchange succeeds, this is the client's identity.
    pub address: String,
    /// The credentials for the requested hash, or [`Credentials::fake`] ones.
    pub credentials: Credentials,
}

/// What an exchange needs next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send this in a `<challenge/>`. Empty: the client sent no initial response, though the mechanism needs one.
    Challenge(Vec<u8>),
    /// Look these up, then call [`Exchange::account`], for an unknown name as well.
    NeedCredentials(Query),
    /// Run this on a thread for CPU-intensive work, then call [`Exchange::verdict`].
    NeedDerivation(PasswordCheck),
    /// The client is authenticated.
    Success(Authenticated),
    /// Authentication failed. The exchange has ended.
    Failure(Refusal),
}

/// The requested credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The simple user name (RFC 6120 §6.3.7) after SASLprep; to become a localpart. If it cannot, use fake credentials.
    pub username: String,
    /// The hash needed. `None`: any; take the strongest stored, and for an unknown account the one that new passwords get.
    pub hash: Option<Hash>,
}

/// An authenticated client. Created only by a successful [`Exchange`].
#[derive(Debug, PartialEq, Eq)]
pub struct Authenticated {
    account: String,
    mechanism: Mechanism,
    binding: Option<&'static str>,
    data: Option<Vec<u8>>,
}

impl Authenticated {
    /// The bare JID of the account, as it was given in [`Account::address`] with the credentials that were proven.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The mechanism.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The channel-binding type that was used, for the log.
    pub const fn binding(&self) -> Option<&'static str> {
        self.binding
    }

    /// The additional data for `<success/>`, by which the client authenticates the server.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }
}

/// The result of a mechanism; not yet a success.
struct Proven {
    account: String,
    authzid: Option<String>,
    binding: Option<&'static str>,
    data: Option<Vec<u8>>,
}

/// The state of an exchange.
enum State {
    /// Nothing was received.
    Start,
    /// An empty challenge was sent for the initial response.
    Prompted,
    PlainAccount(plain::Message),
    PlainVerdict {
        authzid: Option<String>,
    },
    ScramAccount(scram::First),
    ScramFinal(scram::Pending),
    Over,
}

/// One attempt to authenticate, on the side of the server.
pub struct Exchange {
    mechanism: Mechanism,
    settings: Settings,
    nonce: Nonce,
    state: State,
}

impl Exchange {
    /// Begins an exchange. The caller has checked that the mechanism was offered on this stream (else `invalid-mechanism`).
    pub fn new(mechanism: Mechanism, settings: Settings, nonce: Nonce) -> Exchange {
        Exchange { mechanism, settings, nonce, state: State::Start }
    }

    /// The mechanism of this attempt.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Takes the data of `<auth/>` or `<response/>`, decoded ([`decode_payload`]). `None`: the element was empty.
    ///
    /// Cheap: a few hashes at most.
    pub fn receive(&mut self, data: Option<&[u8]>) -> Step {
        let step = match mem::replace(&mut self.state, State::Over) {
            // RFC 4422 §5.1: in both mechanisms the client sends first.
            State::Start if data.is_none() => {
                self.state = State::Prompted;
                Ok(Step::Challenge(Vec::new()))
            }
            _ if data.is_some_and(|data| data.len() > MAX_INPUT_BYTES) => Err(Refusal::malformed("message too long")),
            State::Start | State::Prompted => self.first(data.unwrap_or_default()),
            State::ScramFinal(pending) => {
                pending.finish(data.unwrap_or_default()).and_then(|proven| self.conclude(proven))
            }
            _ => Err(Refusal::malformed("message out of turn")),
        };
        self.settle(step)
    }

    /// Takes the answer to [`Step::NeedCredentials`].
    pub fn account(&mut self, account: Account) -> Step {
        let usable = self.mechanism.hash().is_none_or(|hash| hash == account.credentials.hash());
        let step = match mem::replace(&mut self.state, State::Over) {
            _ if !usable => {
                Err(Refusal { condition: SaslError::TemporaryAuthFailure, reason: "credentials of another hash" })
            }
            State::PlainAccount(message) => {
                self.state = State::PlainVerdict { authzid: message.authzid };
                let ticket = self.nonce.clone();
                let password = message.password;
                let (wanted, iterations) = (Vec::new(), Iterations::DEFAULT);
                Ok(Step::NeedDerivation(PasswordCheck { account, password, ticket, wanted, iterations }))
            }
            State::ScramAccount(first) => {
                let (challenge, pending) = first.challenge(account, &self.nonce, self.settings.offered.as_ref());
                self.state = State::ScramFinal(pending);
                Ok(Step::Challenge(challenge))
            }
            _ => Err(Refusal::malformed("account out of turn")),
        };
        self.settle(step)
    }

    /// Takes the answer to [`Step::NeedDerivation`].
    pub fn verdict(&mut self, verdict: Verdict) -> Step {
        let step = match mem::replace(&mut self.state, State::Over) {
            State::PlainVerdict { authzid } => {
                verdict.conclude(&self.nonce, authzid).and_then(|proven| self.conclude(proven))
            }
            _ => Err(Refusal::malformed("verdict out of turn")),
        };
        self.settle(step)
    }

    fn first(&mut self, data: &[u8]) -> Result<Step, Refusal> {
        let username = match self.mechanism {
            Mechanism::Plain => {
                let message = plain::Message::parse(data)?;
                let username = message.username.clone();
                self.state = State::PlainAccount(message);
                username
            }
            Mechanism::Scram { plus, .. } => {
                let Settings { bindings, plus_offered, .. } = &self.settings;
                let first = scram::First::parse(data, &scram::Terms { plus, plus_offered: *plus_offered, bindings })?;
                let username = first.username().to_owned();
                self.state = State::ScramAccount(first);
                username
            }
        };
        Ok(Step::NeedCredentials(Query { username, hash: self.mechanism.hash() }))
    }

    /// RFC 6120 §6.3.8: the one place where an authzid is compared and where a success is created.
    ///
    /// Called after the proof, so that it reveals nothing to a client without one.
    fn conclude(&self, proven: Proven) -> Result<Step, Refusal> {
        let Proven { account, authzid, binding, data } = proven;
        if authzid.is_some_and(|authzid| !(self.settings.names_account)(&authzid, &account)) {
            return Err(Refusal { condition: SaslError::InvalidAuthzid, reason: "authzid is another account" });
        }
        Ok(Step::Success(Authenticated { account, mechanism: self.mechanism, binding, data }))
    }

    fn settle(&mut self, step: Result<Step, Refusal>) -> Step {
        step.unwrap_or_else(|refusal| {
            self.state = State::Over;
            Step::Failure(refusal)
        })
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}
