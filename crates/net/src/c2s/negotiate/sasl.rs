//! SASL as RFC 6120 §6 speaks it: `<auth/>`, `<response/>`, `<abort/>`; with the kinds of channel binding that a login may use
//! (XEP-0440), and the lists to be signed against downgrades (XEP-0474).

use vorpal_core::core::Core;
use vorpal_core::module::Stage;
use vorpal_proto::element::{Element, el};
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::sasl::{self, Exchange, Mechanism, Offered, Refusal, SaslError, decode_payload, encode_payload};
use zeroize::Zeroizing;

use super::attempt::{Begun, Dialect};
use super::{Negotiation, NegotiationCx, NegotiationStep, out_of_place};

/// The client may log in, and has not begun to.
pub(in crate::c2s) struct Opened;

impl From<Opened> for Negotiation {
    fn from(stage: Opened) -> Negotiation {
        Negotiation::Opened(stage)
    }
}

/// What a client says.
pub(super) enum Request {
    /// §6.4.2: begins an attempt, and drops the one before
    Auth,
    /// §6.4.3
    Response,
    /// §6.4.4
    Abort,
}

impl Request {
    /// `None` if the element is something else.
    pub fn of(element: &Element) -> Option<Request> {
        match element.name() {
            _ if element.ns_id() != ns::SASL.id() => None,
            "auth" => Some(Request::Auth),
            "response" => Some(Request::Response),
            "abort" => Some(Request::Abort),
            _ => None,
        }
    }
}

impl Opened {
    pub fn on(self, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        match Request::of(element) {
            Some(Request::Auth) => auth(cx, element),
            Some(Request::Response) => Dialect::Sasl.refuse(cx, SaslError::MalformedRequest, self),
            Some(Request::Abort) => Dialect::Sasl.refuse(cx, SaslError::Aborted, self),
            None => out_of_place(self, cx, element),
        }
    }
}

/// §6.4.2: the client begins an attempt.
pub(super) fn auth(cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
    let all = mechanisms(cx);
    let mechanism = element.get("mechanism").and_then(Mechanism::from_name);
    let Some(mechanism) = mechanism.filter(|m| all.contains(m)) else {
        return Dialect::Sasl.refuse(cx, SaslError::InvalidMechanism, Opened);
    };
    let settings = sasl::Settings {
        bindings: cx.client.bindings.clone(),
        plus_offered: all.iter().any(|m| m.is_plus()),
        names_account,
        // XEP-0474 §6.1: as the features of this stream said it.
        offered: Some(Offered::new(all.iter().map(|m| m.name()), announced(cx, &all).as_deref())),
    };
    cx.client.trail.begins(mechanism.name());
    let exchange = Exchange::new(mechanism, settings, nonce(cx.core));
    Begun { exchange, dialect: Dialect::Sasl }.receive(cx, message(element))
}

/// The mechanism's message in an element; `None`: there is none.
pub(super) fn message(element: &Element) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
    decode_payload(&Zeroizing::new(element.content()))
}

/// §6.4.3
pub(super) fn challenge(data: &[u8]) -> Element {
    el("challenge", ns::SASL).text(encode_payload(Some(data).filter(|data| !data.is_empty())))
}

/// §6.4.6
pub(super) fn success(data: Option<&[u8]>) -> Element {
    el("success", ns::SASL).text(data.map_or_else(String::new, |data| encode_payload(Some(data))))
}

/// §6.5
pub(super) fn failure(error: SaslError) -> Element {
    el("failure", ns::SASL).child(el(error.element(), ns::SASL))
}

/// §6.4.1: the mechanisms, the channel bindings, and what modules offer.
pub(super) fn offer(cx: &NegotiationCx<'_>, mut features: Element) -> Element {
    let offered = mechanisms(cx);
    features.push_child(
        el("mechanisms", ns::SASL).children(offered.iter().map(|m| el("mechanism", ns::SASL).text(m.name()))),
    );
    if let Some(types) = announced(cx, &offered) {
        let types = types.into_iter().map(|t| el("channel-binding", ns::SASL_CB).attr("type", t));
        features.push_child(el("sasl-channel-binding", ns::SASL_CB).children(types));
    }
    let registry = cx.host.map(|host| host.registry());
    features.children(registry.iter().flat_map(|registry| registry.stream_features(Stage::Opened)))
}

/// The offered mechanisms, strongest first.
fn mechanisms(cx: &NegotiationCx<'_>) -> Vec<Mechanism> {
    let configured = cx.host.and_then(|host| cx.settings.mechanisms.get(host.domain()));
    let fits = |m: &Mechanism| match m {
        // RFC 4616 §4
        Mechanism::Plain => cx.secure || cx.settings.plain_without_tls,
        // Without TLS there is no channel to bind to.
        mechanism => !mechanism.is_plus() || !cx.client.bindings.is_empty(),
    };
    let wanted = |m: &Mechanism| configured.is_none_or(|all| all.iter().any(|one| one.hash() == m.hash()));
    Mechanism::ALL.into_iter().filter(fits).filter(wanted).collect()
}

/// XEP-0440 §3: the types of channel binding to announce, if an offered mechanism supports it.
fn announced(cx: &NegotiationCx<'_>, offered: &[Mechanism]) -> Option<Vec<&'static str>> {
    offered.iter().any(|m| m.is_plus()).then(|| cx.client.bindings.types().collect())
}

/// §6.3.8: the address in an authzid, compared as an address.
fn names_account(authzid: &str, account: &str) -> bool {
    BareJid::parse(authzid).is_ok_and(|authzid| authzid.as_str() == account)
}

fn nonce(core: &Core) -> sasl::Nonce {
    let mut random = [0; 24];
    core.fill_random(&mut random);
    sasl::Nonce::from_random(random)
}
