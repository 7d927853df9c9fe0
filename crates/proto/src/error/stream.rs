//! RFC 6120 §4.9: errors of streams. After one of them the stream is closed.

use super::{AppCondition, ErrorChild, Text};
use crate::ns;
use std::fmt;

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The conditions of stream errors: all 25 of RFC 6120 §4.9.3, in its order.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum StreamCondition {
            $($(#[$doc])* $variant,)*
            /// §4.9.3.19: connect there: a domain or an IP address (IPv6 in brackets), perhaps with `:port`.
            SeeOtherHost(Box<str>),
        }

        impl StreamCondition {
            /// The name of the element.
            pub const fn as_str(&self) -> &'static str {
                match self {
                    $(StreamCondition::$variant => $name,)*
                    StreamCondition::SeeOtherHost(_) => "see-other-host",
                }
            }

            /// The condition called `name`, `data` being its character data; one that is not known counts as
            /// `undefined-condition` (§4.9.2), and so does `see-other-host` without a host.
            pub fn from_name(name: &str, data: &str) -> StreamCondition {
                match name {
                    $($name => StreamCondition::$variant,)*
                    "see-other-host" if !data.is_empty() => StreamCondition::SeeOtherHost(data.into()),
                    _ => StreamCondition::UndefinedCondition,
                }
            }
        }
    };
}

conditions! {
    /// §4.9.3.1: XML that cannot be processed; where possible one of the more exact ones.
    BadFormat = "bad-format";
    /// §4.9.3.2: a namespace prefix that is not supported, or none where one is needed.
    BadNamespacePrefix = "bad-namespace-prefix";
    /// §4.9.3.3: another stream has taken the place of this one.
    Conflict = "conflict";
    /// §4.9.3.4: nothing was heard for too long.
    ConnectionTimeout = "connection-timeout";
    /// §4.9.3.5: the domain is no longer served here.
    HostGone = "host-gone";
    /// §4.9.3.6: the domain is not served here.
    HostUnknown = "host-unknown";
    /// §4.9.3.7: a stanza between servers without `to` or `from`, or with one that is no address.
    ImproperAddressing = "improper-addressing";
    /// §4.9.3.8: we failed.
    InternalServerError = "internal-server-error";
    /// §4.9.3.9: a `from` that is not what was authorised.
    InvalidFrom = "invalid-from";
    /// §4.9.3.10: a wrong stream or content namespace.
    InvalidNamespace = "invalid-namespace";
    /// §4.9.3.11: XML that fails validation, at servers that validate.
    InvalidXml = "invalid-xml";
    /// §4.9.3.12: stanzas before the stream was authenticated.
    NotAuthorized = "not-authorized";
    /// §4.9.3.13: XML that is not well formed.
    NotWellFormed = "not-well-formed";
    /// §4.9.3.14: against the rules of the service.
    PolicyViolation = "policy-violation";
    /// §4.9.3.15: a server we need to authenticate you cannot be reached.
    RemoteConnectionFailed = "remote-connection-failed";
    /// §4.9.3.16: close and start anew.
    Reset = "reset";
    /// §4.9.3.17: too busy, or too much.
    ResourceConstraint = "resource-constraint";
    /// §4.9.3.18: comments, processing instructions, DTDs and entities (§11.1).
    RestrictedXml = "restricted-xml";
    /// §4.9.3.20: the server stops.
    SystemShutdown = "system-shutdown";
    /// §4.9.3.21: none of these; the application's condition says which.
    UndefinedCondition = "undefined-condition";
    /// §4.9.3.22: not UTF-8.
    UnsupportedEncoding = "unsupported-encoding";
    /// §4.9.3.23: the other side insists on a feature that this one has not.
    UnsupportedFeature = "unsupported-feature";
    /// §4.9.3.24: a top-level element that is no stanza.
    UnsupportedStanzaType = "unsupported-stanza-type";
    /// §4.9.3.25: a version of XMPP that is not supported.
    UnsupportedVersion = "unsupported-version";
}

impl StreamCondition {
    fn host(&self) -> Option<&str> {
        match self {
            StreamCondition::SeeOtherHost(host) => Some(host),
            _ => None,
        }
    }
}

/// Why a stream is closed: what a `<stream:error/>` says (RFC 6120 §4.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// What is wrong.
    pub condition: StreamCondition,
    text: Option<Box<Text>>,
    app: Option<Box<AppCondition>>,
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> StreamError {
        StreamError { condition, text: None, app: None }
    }
}

impl StreamError {
    /// The same with a text in English for whoever reads the peer's log.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> StreamError {
        self.text = Some(Box::new(Text::ours(text)));
        self
    }

    /// The same with a condition of the application (§4.9.4), such as `<handled-count-too-high/>` of XEP-0198.
    #[must_use]
    pub fn with_app(mut self, app: AppCondition) -> StreamError {
        self.app = Some(Box::new(app));
        self
    }

    /// The text for people, if there is one.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref().map(|text| text.text.as_str())
    }

    /// The application's condition, if there is one.
    pub fn app(&self) -> Option<&AppCondition> {
        self.app.as_deref()
    }

    /// Understands a received `<stream:error/>` by its children. Never fails: the stream ends in any case, and a
    /// condition that is unknown or missing is `undefined-condition`. The host of `see-other-host` is not checked.
    pub fn read<'a>(children: impl IntoIterator<Item = ErrorChild<'a>>) -> StreamError {
        let parts = super::read(ns::STREAM_ERROR, children);
        let condition = match parts.condition {
            Some((name, data)) => StreamCondition::from_name(name, &data),
            None => StreamCondition::UndefinedCondition,
        };
        StreamError { condition, text: parts.text.map(Box::new), app: parts.app }
    }

    /// Appends `<stream:error>…</stream:error>` for a stream whose header declared the prefix `stream`. The end tag
    /// of the stream is not part of it.
    pub fn write_xml(&self, out: &mut String) {
        self.write_with("<stream:error>", out);
    }

    /// Appends the error for a WebSocket, where nothing around it declares the prefix (RFC 7395 §3.5).
    pub fn write_framed(&self, out: &mut String) {
        self.write_with("<stream:error xmlns:stream='http://etherx.jabber.org/streams'>", out);
    }

    fn write_with(&self, start: &str, out: &mut String) {
        out.push_str(start);
        let condition = (self.condition.as_str(), self.condition.host());
        super::write_children(ns::STREAM_ERROR, condition, self.text.as_deref(), self.app(), out);
        out.push_str("</stream:error>");
    }

    /// What [`StreamError::write_xml`] writes, as a string of its own.
    pub fn to_xml(&self) -> String {
        let mut out = String::with_capacity(128);
        self.write_xml(&mut out);
        out
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.as_str())?;
        if let Some(app) = self.app() {
            write!(f, " ({})", app.name())?;
        }
        match self.text() {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StreamError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns::Ns;

    const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

    fn child<'a>(ns: &'a str, name: &'a str, text: &'a str) -> ErrorChild<'a> {
        ErrorChild { ns, name, lang: None, text: text.into() }
    }

    #[test]
    fn all_conditions_of_the_rfc_are_known() {
        let names = "bad-format bad-namespace-prefix conflict connection-timeout host-gone host-unknown \
            improper-addressing internal-server-error invalid-from invalid-namespace invalid-xml not-authorized \
            not-well-formed policy-violation remote-connection-failed reset resource-constraint restricted-xml \
            see-other-host system-shutdown undefined-condition unsupported-encoding unsupported-feature \
            unsupported-stanza-type unsupported-version";
        assert_eq!(names.split_whitespace().count(), 25);
        for name in names.split_whitespace() {
            assert_eq!(StreamCondition::from_name(name, "there.example").as_str(), name);
        }
    }

    #[test]
    fn an_error_is_written_for_a_stream_and_for_a_websocket() {
        let error = StreamError::from(StreamCondition::SeeOtherHost("[2001:db8::1]:9222".into())).with_text("a & b");
        let inner = "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:9222</see-other-host>\
            <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &amp; b</text>";
        assert_eq!(error.to_xml(), format!("<stream:error>{inner}</stream:error>"));
        let mut framed = String::new();
        error.write_framed(&mut framed);
        let start = "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>";
        assert_eq!(framed, format!("{start}{inner}</stream:error>"));
    }

    #[test]
    fn a_received_error_is_understood() {
        let error = StreamError::read([
            child(NS, "see-other-host", "\n  there.example:5222 "),
            child(NS, "text", "moved"),
            child("urn:xmpp:sm:3", "handled-count-too-high", ""),
        ]);
        assert_eq!(error.condition, StreamCondition::SeeOtherHost("there.example:5222".into()));
        assert_eq!(error.text(), Some("moved"));
        assert!(error.app().is_some_and(|app| app.is(Ns::private("urn:xmpp:sm:3"), "handled-count-too-high")));
        assert_eq!(error.to_string(), "see-other-host (handled-count-too-high): moved");
    }

    #[test]
    fn what_is_unknown_missing_or_empty_counts_as_undefined() {
        assert_eq!(StreamError::read([]).condition, StreamCondition::UndefinedCondition);
        let unknown = StreamError::read([child(NS, "not-yet-invented", "")]);
        assert_eq!(unknown.condition, StreamCondition::UndefinedCondition);
        let no_host = StreamError::read([child(NS, "see-other-host", " ")]);
        assert_eq!(no_host.condition, StreamCondition::UndefinedCondition);
    }
}
