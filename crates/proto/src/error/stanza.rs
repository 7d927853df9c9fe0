//! RFC 6120 §8.3: errors of stanzas.

use super::{AppCondition, ErrorChild, Text};
use crate::ns::{self, Ns};
use std::fmt;

/// What the sender of the refused stanza can do (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Try again with credentials.
    Auth,
    /// Give up.
    Cancel,
    /// Go on: it was only a warning.
    Continue,
    /// Try again with other data.
    Modify,
    /// Try again later.
    Wait,
}

impl ErrorType {
    /// The value of the attribute `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorType::Auth => "auth",
            ErrorType::Cancel => "cancel",
            ErrorType::Continue => "continue",
            ErrorType::Modify => "modify",
            ErrorType::Wait => "wait",
        }
    }

    /// The type called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<ErrorType> {
        match name {
            "auth" => Some(ErrorType::Auth),
            "cancel" => Some(ErrorType::Cancel),
            "continue" => Some(ErrorType::Continue),
            "modify" => Some(ErrorType::Modify),
            "wait" => Some(ErrorType::Wait),
            _ => None,
        }
    }
}

/// The conditions of stanza errors: all of RFC 6120 §8.3.3, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// §8.3.3.1: the stanza does not follow its schema.
    BadRequest,
    /// §8.3.3.2: something of that name exists.
    Conflict,
    /// §8.3.3.3: we know the namespace, not what is asked there.
    FeatureNotImplemented,
    /// §8.3.3.4: the requester may not.
    Forbidden,
    /// §8.3.3.5: moved for good, perhaps to this URI.
    Gone(Option<Box<str>>),
    /// §8.3.3.6: we failed.
    InternalServerError,
    /// §8.3.3.7: no such address or item. Never where it would tell a stranger who is online (§13.10.2).
    ItemNotFound,
    /// §8.3.3.8: an address that is none.
    JidMalformed,
    /// §8.3.3.9: understood, but it does not meet our criteria.
    NotAcceptable,
    /// §8.3.3.10: nobody may.
    NotAllowed,
    /// §8.3.3.11: credentials are missing or wrong.
    NotAuthorized,
    /// §8.3.3.12: against the rules of the service.
    PolicyViolation,
    /// §8.3.3.13: the recipient is away for a while. Never where it would tell a stranger who is online (§13.10.2).
    RecipientUnavailable,
    /// §8.3.3.14: ask there for the time being.
    Redirect(Option<Box<str>>),
    /// §8.3.3.15: register first.
    RegistrationRequired,
    /// §8.3.3.16: the remote domain does not exist.
    RemoteServerNotFound,
    /// §8.3.3.17: the remote domain cannot be reached in time.
    RemoteServerTimeout,
    /// §8.3.3.18: too busy, or too much.
    ResourceConstraint,
    /// §8.3.3.19: not offered here; also said instead of what would tell a stranger who is online.
    ServiceUnavailable,
    /// §8.3.3.20: subscribe first.
    SubscriptionRequired,
    /// §8.3.3.21: none of these; the application's condition says which.
    UndefinedCondition,
    /// §8.3.3.22: not at this moment.
    UnexpectedRequest,
}

impl Condition {
    /// The name of the element.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Condition::BadRequest => "bad-request",
            Condition::Conflict => "conflict",
            Condition::FeatureNotImplemented => "feature-not-implemented",
            Condition::Forbidden => "forbidden",
            Condition::Gone(_) => "gone",
            Condition::InternalServerError => "internal-server-error",
            Condition::ItemNotFound => "item-not-found",
            Condition::JidMalformed => "jid-malformed",
            Condition::NotAcceptable => "not-acceptable",
            Condition::NotAllowed => "not-allowed",
            Condition::NotAuthorized => "not-authorized",
            Condition::PolicyViolation => "policy-violation",
            Condition::RecipientUnavailable => "recipient-unavailable",
            Condition::Redirect(_) => "redirect",
            Condition::RegistrationRequired => "registration-required",
            Condition::RemoteServerNotFound => "remote-server-not-found",
            Condition::RemoteServerTimeout => "remote-server-timeout",
            Condition::ResourceConstraint => "resource-constraint",
            Condition::ServiceUnavailable => "service-unavailable",
            Condition::SubscriptionRequired => "subscription-required",
            Condition::UndefinedCondition => "undefined-condition",
            Condition::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The condition called `name`, `data` being its character data; one that is not known counts as
    /// `undefined-condition` (§8.3.2).
    pub fn from_name(name: &str, data: &str) -> Condition {
        let uri = || (!data.is_empty()).then(|| data.into());
        match name {
            "bad-request" => Condition::BadRequest,
            "conflict" => Condition::Conflict,
            "feature-not-implemented" => Condition::FeatureNotImplemented,
            "forbidden" => Condition::Forbidden,
            "gone" => Condition::Gone(uri()),
            "internal-server-error" => Condition::InternalServerError,
            "item-not-found" => Condition::ItemNotFound,
            "jid-malformed" => Condition::JidMalformed,
            "not-acceptable" => Condition::NotAcceptable,
            "not-allowed" => Condition::NotAllowed,
            "not-authorized" => Condition::NotAuthorized,
            "policy-violation" => Condition::PolicyViolation,
            "recipient-unavailable" => Condition::RecipientUnavailable,
            "redirect" => Condition::Redirect(uri()),
            "registration-required" => Condition::RegistrationRequired,
            "remote-server-not-found" => Condition::RemoteServerNotFound,
            "remote-server-timeout" => Condition::RemoteServerTimeout,
            "resource-constraint" => Condition::ResourceConstraint,
            "service-unavailable" => Condition::ServiceUnavailable,
            "subscription-required" => Condition::SubscriptionRequired,
            "unexpected-request" => Condition::UnexpectedRequest,
            _ => Condition::UndefinedCondition,
        }
    }

    /// The type that the RFC recommends for the condition; the first where it leaves a choice.
    pub const fn usual_type(&self) -> ErrorType {
        match self {
            Condition::BadRequest
            | Condition::JidMalformed
            | Condition::NotAcceptable
            | Condition::PolicyViolation
            | Condition::Redirect(_) => ErrorType::Modify,
            Condition::Forbidden
            | Condition::NotAuthorized
            | Condition::RegistrationRequired
            | Condition::SubscriptionRequired => ErrorType::Auth,
            Condition::RecipientUnavailable
            | Condition::RemoteServerTimeout
            | Condition::ResourceConstraint
            | Condition::UnexpectedRequest => ErrorType::Wait,
            Condition::Conflict
            | Condition::FeatureNotImplemented
            | Condition::Gone(_)
            | Condition::InternalServerError
            | Condition::ItemNotFound
            | Condition::NotAllowed
            | Condition::RemoteServerNotFound
            | Condition::ServiceUnavailable
            | Condition::UndefinedCondition => ErrorType::Cancel,
        }
    }

    fn uri(&self) -> Option<&str> {
        match self {
            Condition::Gone(uri) | Condition::Redirect(uri) => uri.as_deref(),
            _ => None,
        }
    }
}

/// Why a stanza was refused: what an `<error/>` says (RFC 6120 §8.3).
///
/// Made by the function that has the condition's name and set to the type that the RFC recommends for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender can do about it.
    pub kind: ErrorType,
    /// What is wrong.
    pub condition: Condition,
    /// Boxed with its language, so that a `Result` with this error stays small.
    text: Option<Box<Text>>,
    app: Option<Box<AppCondition>>,
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> StanzaError {
        StanzaError { kind: condition.usual_type(), condition, text: None, app: None }
    }
}

/// The constructors: one for each condition.
impl StanzaError {
    /// The stanza breaks its schema; `text` says where, in English.
    pub fn bad_request(text: impl Into<String>) -> StanzaError {
        StanzaError::from(Condition::BadRequest).with_text(text)
    }

    /// Something of that name exists.
    pub fn conflict() -> StanzaError {
        Condition::Conflict.into()
    }

    /// We know the namespace, not what is asked there.
    pub fn feature_not_implemented() -> StanzaError {
        Condition::FeatureNotImplemented.into()
    }

    /// The requester may not; `text` says what, in English.
    pub fn forbidden(text: impl Into<String>) -> StanzaError {
        StanzaError::from(Condition::Forbidden).with_text(text)
    }

    /// Moved for good; `uri` is the new address if one is known.
    pub fn gone(uri: Option<&str>) -> StanzaError {
        Condition::Gone(uri.map(Into::into)).into()
    }

    /// We failed. Takes no text: what went wrong inside is nothing for a peer.
    pub fn internal_server_error() -> StanzaError {
        Condition::InternalServerError.into()
    }

    /// `item-not-found`: no such address or item.
    pub fn not_found() -> StanzaError {
        Condition::ItemNotFound.into()
    }

    /// An address that is none.
    pub fn jid_malformed() -> StanzaError {
        Condition::JidMalformed.into()
    }

    /// Understood, but it does not meet our criteria.
    pub fn not_acceptable() -> StanzaError {
        Condition::NotAcceptable.into()
    }

    /// Nobody may.
    pub fn not_allowed() -> StanzaError {
        Condition::NotAllowed.into()
    }

    /// Credentials are missing or wrong.
    pub fn not_authorized() -> StanzaError {
        Condition::NotAuthorized.into()
    }

    /// Against the rules of the service; `text` says which, in English.
    pub fn policy_violation(text: impl Into<String>) -> StanzaError {
        StanzaError::from(Condition::PolicyViolation).with_text(text)
    }

    /// The recipient is away for a while.
    pub fn recipient_unavailable() -> StanzaError {
        Condition::RecipientUnavailable.into()
    }

    /// Ask there for the time being.
    pub fn redirect(uri: &str) -> StanzaError {
        Condition::Redirect(Some(uri.into())).into()
    }

    /// Register first.
    pub fn registration_required() -> StanzaError {
        Condition::RegistrationRequired.into()
    }

    /// The remote domain does not exist.
    pub fn remote_server_not_found() -> StanzaError {
        Condition::RemoteServerNotFound.into()
    }

    /// The remote domain cannot be reached in time.
    pub fn remote_server_timeout() -> StanzaError {
        Condition::RemoteServerTimeout.into()
    }

    /// Too busy, or too much.
    pub fn resource_constraint() -> StanzaError {
        Condition::ResourceConstraint.into()
    }

    /// Not offered here.
    pub fn service_unavailable() -> StanzaError {
        Condition::ServiceUnavailable.into()
    }

    /// Subscribe first.
    pub fn subscription_required() -> StanzaError {
        Condition::SubscriptionRequired.into()
    }

    /// What only the application's condition can say (§8.3.3.21: not to be used without one).
    pub fn undefined(kind: ErrorType, app: AppCondition) -> StanzaError {
        let text = None;
        StanzaError { kind, condition: Condition::UndefinedCondition, text, app: Some(Box::new(app)) }
    }

    /// Not at this moment.
    pub fn unexpected_request() -> StanzaError {
        Condition::UnexpectedRequest.into()
    }
}

impl StanzaError {
    /// The same with another type, for specifications that ask for it.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorType) -> StanzaError {
        self.kind = kind;
        self
    }

    /// The same with a text in English for whoever reads the sender's log.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> StanzaError {
        self.text = Some(Box::new(Text::ours(text)));
        self
    }

    /// The same with a condition of the application.
    #[must_use]
    pub fn with_app(mut self, app: AppCondition) -> StanzaError {
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

    /// Whether the application's condition is the element `name` in the namespace `ns`.
    pub fn has_app(&self, ns: Ns, name: &str) -> bool {
        self.app().is_some_and(|app| app.is(ns, name))
    }

    /// Understands a received `<error/>` by its attribute `type` and its children.
    ///
    /// Never fails, because an error must not be answered with an error (§8.3.1): a condition that is unknown or
    /// missing is `undefined-condition`, a type that is unknown or missing the usual one of the condition.
    pub fn read<'a>(kind: Option<&str>, children: impl IntoIterator<Item = ErrorChild<'a>>) -> StanzaError {
        let parts = super::read(ns::STANZA_ERROR, children);
        let condition = match parts.condition {
            Some((name, data)) => Condition::from_name(name, &data),
            None => Condition::UndefinedCondition,
        };
        let kind = kind.and_then(ErrorType::from_name).unwrap_or(condition.usual_type());
        StanzaError { kind, condition, text: parts.text.map(Box::new), app: parts.app }
    }

    /// Appends `<error type='…'>…</error>`, in the content namespace of whatever is around it.
    pub fn write_xml(&self, out: &mut String) {
        out.push_str("<error type='");
        out.push_str(self.kind.as_str());
        out.push_str("'>");
        let condition = (self.condition.as_str(), self.condition.uri());
        super::write_children(ns::STANZA_ERROR, condition, self.text.as_deref(), self.app(), out);
        out.push_str("</error>");
    }

    /// The `<error/>` as a string of its own.
    pub fn to_xml(&self) -> String {
        let mut out = String::with_capacity(128);
        self.write_xml(&mut out);
        out
    }
}

impl fmt::Display for StanzaError {
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

impl std::error::Error for StanzaError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AppCondition;

    const NS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

    fn child<'a>(ns: &'a str, name: &'a str, text: &'a str) -> ErrorChild<'a> {
        ErrorChild { ns, name, lang: None, text: text.into() }
    }

    /// Every condition with the types §8.3.3 allows, in the order of its sections.
    const BY_SECTION: [(&str, &str); 22] = [
        ("bad-request", "modify"),
        ("conflict", "cancel"),
        ("feature-not-implemented", "cancel or modify"),
        ("forbidden", "auth"),
        ("gone", "cancel"),
        ("internal-server-error", "cancel"),
        ("item-not-found", "cancel"),
        ("jid-malformed", "modify"),
        ("not-acceptable", "modify"),
        ("not-allowed", "cancel"),
        ("not-authorized", "auth"),
        ("policy-violation", "modify or wait"),
        ("recipient-unavailable", "wait"),
        ("redirect", "modify"),
        ("registration-required", "auth"),
        ("remote-server-not-found", "cancel"),
        ("remote-server-timeout", "wait"),
        ("resource-constraint", "wait"),
        ("service-unavailable", "cancel"),
        ("subscription-required", "auth"),
        ("undefined-condition", "auth cancel continue modify wait"),
        ("unexpected-request", "wait or modify"),
    ];

    #[test]
    fn every_condition_of_the_rfc_is_known_with_a_type_it_recommends() {
        for (name, types) in BY_SECTION {
            let condition = Condition::from_name(name, "");
            assert_eq!(condition.as_str(), name);
            assert!(types.split(' ').any(|t| t == condition.usual_type().as_str()), "{name}");
        }
    }

    #[test]
    fn every_constructor_has_the_condition_of_its_name() {
        let all = [
            StanzaError::bad_request("x"),
            StanzaError::conflict(),
            StanzaError::feature_not_implemented(),
            StanzaError::forbidden("x"),
            StanzaError::gone(None),
            StanzaError::internal_server_error(),
            StanzaError::not_found(),
            StanzaError::jid_malformed(),
            StanzaError::not_acceptable(),
            StanzaError::not_allowed(),
            StanzaError::not_authorized(),
            StanzaError::policy_violation("x"),
            StanzaError::recipient_unavailable(),
            StanzaError::redirect("xmpp:a@example"),
            StanzaError::registration_required(),
            StanzaError::remote_server_not_found(),
            StanzaError::remote_server_timeout(),
            StanzaError::resource_constraint(),
            StanzaError::service_unavailable(),
            StanzaError::subscription_required(),
            StanzaError::undefined(ErrorType::Continue, AppCondition::new(ns::PING, "x")),
            StanzaError::unexpected_request(),
        ];
        for (error, (name, types)) in all.iter().zip(BY_SECTION) {
            assert_eq!(error.condition.as_str(), name);
            assert!(types.contains(error.kind.as_str()), "{name}");
        }
    }

    #[test]
    fn an_error_is_written_with_condition_text_and_application_in_this_order() {
        assert_eq!(
            StanzaError::not_found().to_xml(),
            "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        );
        let blocked = AppCondition::new(ns::BLOCKING_ERRORS, "blocked");
        assert_eq!(
            StanzaError::not_acceptable()
                .with_kind(ErrorType::Cancel)
                .with_text("you blocked <them>")
                .with_app(blocked)
                .to_xml(),
            "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>you blocked &lt;them&gt;</text>\
             <blocked xmlns='urn:xmpp:blocking:errors'/></error>"
        );
    }

    #[test]
    fn a_new_address_and_attributes_are_escaped() {
        assert_eq!(
            StanzaError::gone(Some("xmpp:a@example?x&y")).to_xml(),
            "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:a@example?x&amp;y</gone></error>"
        );
        let app = AppCondition::new(Ns::private("urn:example:e"), "unsupported").attr("feature", "a'b");
        assert_eq!(
            StanzaError::feature_not_implemented().with_app(app).to_xml(),
            "<error type='cancel'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <unsupported xmlns='urn:example:e' feature='a&apos;b'/></error>"
        );
    }

    #[test]
    fn a_received_error_is_understood_in_any_order_of_its_children() {
        let error = StanzaError::read(
            Some("modify"),
            [
                child("urn:example:e", "too-many-parameters", ""),
                ErrorChild { ns: NS, name: "text", lang: Some("de"), text: "nein".into() },
                child(NS, "gone", "\n   xmpp:la-mer@example.com\n  "),
            ],
        );
        assert_eq!(error.kind, ErrorType::Modify);
        assert_eq!(error.condition, Condition::Gone(Some("xmpp:la-mer@example.com".into())));
        assert_eq!(error.text(), Some("nein"));
        assert!(error.has_app(Ns::private("urn:example:e"), "too-many-parameters"));
        assert!(error.to_xml().contains("xml:lang='de'>nein<"), "the language of the peer is kept");
        assert_eq!(error.to_string(), "gone (too-many-parameters): nein");
    }

    #[test]
    fn what_a_peer_leaves_out_or_invents_never_fails() {
        let empty = StanzaError::read(None, []);
        assert_eq!((empty.kind, empty.condition), (ErrorType::Cancel, Condition::UndefinedCondition));
        let odd = StanzaError::read(Some("fatal"), [child(NS, "not-yet-invented", "x")]);
        assert_eq!((odd.kind, odd.condition), (ErrorType::Cancel, Condition::UndefinedCondition));
        let no_type = StanzaError::read(None, [child(NS, "forbidden", "")]);
        assert_eq!(no_type, Condition::Forbidden.into());
        let empty_uri = StanzaError::read(None, [child(NS, "redirect", "  ")]);
        assert_eq!(empty_uri.condition, Condition::Redirect(None));
    }

    #[test]
    fn of_two_conditions_texts_and_applications_the_first_counts() {
        let error = StanzaError::read(
            Some("wait"),
            [
                child(NS, "conflict", ""),
                child(NS, "gone", ""),
                child(NS, "text", "one"),
                child(NS, "text", "two"),
                child("urn:example:e", "first", ""),
                child("urn:example:e", "second", ""),
            ],
        );
        assert_eq!(error.condition, Condition::Conflict);
        assert_eq!(error.text(), Some("one"));
        assert_eq!(error.app().map(AppCondition::name), Some("first"));
    }

    #[test]
    fn a_result_with_an_error_stays_small() {
        assert!(size_of::<StanzaError>() <= 48, "{}", size_of::<StanzaError>());
    }
}
