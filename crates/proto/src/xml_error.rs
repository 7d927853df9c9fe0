//! What can be wrong with the XML a peer sends, and the stream error that says so.

/// Why a peer's XML was refused. Each closes the stream with the condition of RFC 6120 §4.9.3 that [`condition`] names.
///
/// [`condition`]: XmlError::condition
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// It breaks a rule of XML 1.0 or of Namespaces in XML; the text names the rule.
    #[error("not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// It uses what RFC 6120 §11.1 forbids: a comment, a processing instruction, a DTD, an entity of its own.
    #[error("restricted XML: {0}")]
    Restricted(&'static str),
    /// It is not strict UTF-8, or says that it is in another encoding (§11.6).
    #[error("not UTF-8")]
    Encoding,
    /// A prefix that XMPP does not allow where it stands (§4.8.5, §4.9.3.2).
    #[error("bad namespace prefix: {0}")]
    BadPrefix(&'static str),
    /// The stream's namespace or the content namespace is none that we speak (§4.8.1, §4.8.3).
    #[error("invalid namespace: {0}")]
    InvalidNamespace(&'static str),
    /// It is XML, but not what belongs here.
    #[error("bad format: {0}")]
    BadFormat(&'static str),
    /// More bytes than one header or stanza may have.
    #[error("too many bytes")]
    TooLong,
    /// More of something than [`Limits`](crate::parse::Limits) allows.
    #[error("too many or too deep: {0}")]
    TooMany(&'static str),
}

impl XmlError {
    /// The defined condition of the stream error (RFC 6120 §4.9.3).
    pub fn condition(&self) -> &'static str {
        match self {
            XmlError::NotWellFormed(_) => "not-well-formed",
            XmlError::Restricted(_) => "restricted-xml",
            XmlError::Encoding => "unsupported-encoding",
            XmlError::BadPrefix(_) => "bad-namespace-prefix",
            XmlError::InvalidNamespace(_) => "invalid-namespace",
            XmlError::BadFormat(_) => "bad-format",
            XmlError::TooLong | XmlError::TooMany(_) => "policy-violation",
        }
    }
}
