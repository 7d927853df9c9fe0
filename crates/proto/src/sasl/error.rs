//! RFC 6120 §6.5: the conditions of failed exchanges for the peer, and their reasons for the log.

use thiserror::Error;

/// A condition of RFC 6120 §6.5, the child of `<failure/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
#[error("{}", self.element())]
pub enum SaslError {
    /// §6.5.1: the client sent `<abort/>`. Used by the stream, never by an exchange.
    Aborted,
    /// §6.5.2: the account is disabled. Sent only to a client that has proven to own it, so after a success.
    AccountDisabled,
    /// §6.5.3: the password was correct but has expired. As above.
    CredentialsExpired,
    /// §6.5.4: the mechanism needs TLS. Used by the stream.
    EncryptionRequired,
    /// §6.5.5: the base64 of the XML character data is invalid.
    IncorrectEncoding,
    /// §6.5.6: the authzid is not the account that was proven.
    InvalidAuthzid,
    /// §6.5.7: a mechanism that was not offered. Used by the stream.
    InvalidMechanism,
    /// §6.5.8: the data breaks the mechanism's grammar, comes at the wrong moment or is too long.
    MalformedRequest,
    /// §6.5.9: policy requires a stronger mechanism. Used by the stream.
    MechanismTooWeak,
    /// §6.5.10: wrong password, no such account, wrong channel: deliberately not distinguished.
    NotAuthorized,
    /// §6.5.11: a temporary failure of the server (the store does not answer, the queue of derivations is full).
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
/// The reason is a constant: it never quotes the peer's input, and must not be sent to the peer, who would learn from it
/// whether an account exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The condition for the peer.
    pub condition: SaslError,
    /// The reason for the log.
    pub reason: &'static str,
}

impl Refusal {
    /// The password was correct, and the account is disabled.
    pub(super) const BARRED: Refusal =
        Refusal { condition: SaslError::AccountDisabled, reason: "the account is disabled" };

    /// RFC 5802 §6: the client supports channel binding and saw no `-PLUS` mechanism, although one was offered: somebody
    /// removed it from the list. Or the client is an old one that claims this without having checked (slixmpp before 1.9). It is
    /// refused before it names an account, so it is not a guess.
    pub const DOWNGRADE: Refusal = Refusal::unauthorized("downgrade: -PLUS was offered (y)");

    pub(super) const fn malformed(reason: &'static str) -> Refusal {
        Refusal { condition: SaslError::MalformedRequest, reason }
    }

    pub(super) const fn unauthorized(reason: &'static str) -> Refusal {
        Refusal { condition: SaslError::NotAuthorized, reason }
    }
}
