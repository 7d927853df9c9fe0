//! Before TLS, where it is required (RFC 6120 §5).

use vorpal_proto::element::{Element, el};
use vorpal_proto::ns;
use vorpal_proto::sasl::SaslError;

use super::attempt::Dialect;
use super::{Negotiation, NegotiationCx, NegotiationStep, out_of_place};
use crate::c2s::Need;

/// The client must start TLS before it can log in. It logs in on the stream after that: see [`crate::c2s::Connection::secured`].
pub(in crate::c2s) struct Unprotected;

impl From<Unprotected> for Negotiation {
    fn from(stage: Unprotected) -> Negotiation {
        Negotiation::Unprotected(stage)
    }
}

impl Unprotected {
    pub fn on(self, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        match (element.ns_id(), element.name()) {
            (id, "starttls") if id == ns::TLS.id() => {
                cx.say(&el("proceed", ns::TLS));
                NegotiationStep::Ask(self.into(), Need::Tls)
            }
            (id, "auth") if id == ns::SASL.id() => Dialect::Sasl.refuse(cx, SaslError::EncryptionRequired, self),
            _ => out_of_place(self, cx, element),
        }
    }
}

/// §5.4.1: mandatory, so nothing else is offered.
pub(super) fn offer(features: Element) -> Element {
    features.child(el("starttls", ns::TLS).child(el("required", ns::TLS)))
}
