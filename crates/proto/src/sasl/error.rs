//! RFC 6120 §6.5: what a failed exchange is called towards the peer, and why it failed towards the log.

use thiserror::Error;

/// A condition of RFC 6120 §6.5, the child of `<failure/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
#[error("{}", self.element())]
pub enum SaslError {
    /// §6.5.1: the client sent `<abort/>`. Said by the stream, never by an exchange.
    Aborted,
    /// §6.5.2: the account is disabled. To be said only to one who has proven to own it, so after a success.
    AccountDisabled,
    /// §6.5.3: the password was right and is too old. As above.
    CredentialsExpired,
    /// §6.5.4: the mechanism needs TLS. Said by the stream.
    EncryptionRequired,
    /// §6.5.5: the base64 of the XML character data is wrong.
    IncorrectEncoding,
    /// §6.5.6: the authzid is not the account that was proven.
    InvalidAuthzid,
    /// §6.5.7: a mechanism that was not offered. Said by the stream.
    InvalidMechanism,
    /// §6.5.8: the data breaks the mechanism's grammar, comes at the wrong moment or is too long.
    MalformedRequest,
    /// §6.5.9: policy wants a stronger mechanism. Said by the stream.
    MechanismTooWeak,
    /// §6.5.10: wrong password, no such account, wrong channel: deliberately not distinguished.
    NotAuthorized,
    /// §6.5.11: our fault, for the moment (the store does not answer, the queue of derivations is full).
    TemporaryAuthFailure,
}

impl SaslError {
    /// The name of the element, in the namespace `urn:ietf:params:xml:ns:xmpp-sasl`.
    pub const fn element(self) -> &'static str {
        match self {
            SaslError::Aborted => "aborted",
            SaslError::AccountDisabled => "account-disabled",
            SaslError::CredentialsExpired => "credentials-expired",
            SaslError::EncryptionRequired => "encryption-required",
            SaslError::IncorrectEncoding => "incorrect-encoding",
            SaslError::InvalidAuthzid => "invalid-authzid",
            SaslError::InvalidMechanism => "invalid-mechanism",
            SaslError::MalformedRequest => "malformed-request",
            SaslError::MechanismTooWeak => "mechanism-too-weak",
            SaslError::NotAuthorized => "not-authorized",
            SaslError::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

/// Why an exchange failed: a condition for the peer and a reason for the log.
///
/// The reason is one of our own constants: it never quotes what the peer sent, and it must not be sent to the peer,
/// who would learn from it whether an account exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What the peer is told.
    pub condition: SaslError,
    /// What the log is told.
    pub reason: &'static str,
}

impl Refusal {
    /// The password was right, and nobody is let in by it.
    pub(super) const BARRED: Refusal =
        Refusal { condition: SaslError::AccountDisabled, reason: "the account is disabled" };

    /// RFC 5802 §6: the client supports channel binding and saw no `-PLUS` mechanism, though one was offered: somebody
    /// took it off the list. Or the client is an old one that says so without having looked (slixmpp before 1.9). It is
    /// refused before it names an account, so nothing was guessed.
    pub const DOWNGRADE: Refusal = Refusal::unauthorized("downgrade: -PLUS was offered (y)");

    pub(super) const fn malformed(reason: &'static str) -> Refusal {
        Refusal { condition: SaslError::MalformedRequest, reason }
    }

    pub(super) const fn unauthorized(reason: &'static str) -> Refusal {
        Refusal { condition: SaslError::NotAuthorized, reason }
    }
}
