//! The client is logged in and gets a session: a new one (RFC 6120 §7), or an old one (XEP-0198 §5).

use vorpal_core::life::bind::BindError;
use vorpal_core::life::establish::{Bind, Establish, Established, Resume};
use vorpal_core::module::Stage;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::session::Carrier;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::{StanzaError, StreamCondition, StreamError};
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use super::{Negotiation, NegotiationCx, NegotiationStep, out_of_place};
use crate::c2s::Need;

/// The client is logged in to this account.
pub(in crate::c2s) struct Authenticated {
    account: AccountRef,
    /// as when its password was looked up: a login that was revoked since gets no session
    revocations: u32,
}

/// The client asks for a new session. The driver says whether there may be one now.
pub(in crate::c2s) struct Binding {
    login: Authenticated,
    request: Box<Stanza>,
}

impl From<Authenticated> for Negotiation {
    fn from(stage: Authenticated) -> Negotiation {
        Negotiation::Authenticated(stage)
    }
}

impl From<Binding> for Negotiation {
    fn from(stage: Binding) -> Negotiation {
        Negotiation::Binding(stage)
    }
}

/// RFC 6120 §7.4: binding, and what modules offer.
pub(super) fn offer(cx: &NegotiationCx<'_>, features: Element) -> Element {
    let registry = cx.host.map(|host| host.registry());
    let offered = registry.iter().flat_map(|registry| registry.stream_features(Stage::Authenticated));
    features.child(el("bind", ns::BIND)).children(offered)
}

impl Authenticated {
    pub fn new(account: AccountRef, revocations: u32) -> Authenticated {
        Authenticated { account, revocations }
    }

    pub fn account(&self) -> &AccountRef {
        &self.account
    }

    pub fn on(self, now: Timestamp, cx: &mut NegotiationCx<'_>, element: &Element, read: usize) -> NegotiationStep {
        match (element.ns_id(), element.name()) {
            (id, "resume") if id == ns::SM.id() => self.resume(now, cx, element),
            (id, "iq") if id == ns::CLIENT.id() => self.iq(cx, element, read),
            _ => out_of_place(self, cx, element),
        }
    }

    fn establish(
        &self,
        now: Timestamp,
        cx: &NegotiationCx<'_>,
        resume: Option<Resume>,
        bind: Option<Bind>,
    ) -> Established {
        let carrier = Carrier {
            wake: cx.wake.clone(),
            order: cx.client.order,
            revocations: self.revocations,
            peer: cx.client.trail.peer(),
        };
        cx.core.establish(now, Establish { account: self.account.clone(), resume, bind }, carrier)
    }

    /// XEP-0198 §5.
    fn resume(self, now: Timestamp, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        let h = element.get("h").and_then(|h| h.parse().ok());
        let (Some(h), Some(token)) = (h, element.get("previd")) else {
            cx.say(&el("failed", ns::SM).child(el("bad-request", ns::STANZA_ERROR)));
            return cx.refused(self);
        };
        match self.establish(now, cx, Some(Resume { token: token.to_owned(), h }), None) {
            Established::Resuming(attached, resume) => NegotiationStep::Resuming(attached, resume.h),
            Established::Bound(attached, _) => NegotiationStep::Bound(attached),
            Established::Failed { resume, .. } => {
                let h = resume.and_then(|error| error.h);
                let failed = el("failed", ns::SM).attr_opt("h", h);
                cx.say(&failed.child(el("item-not-found", ns::STANZA_ERROR)));
                cx.refused(self)
            }
        }
    }

    /// RFC 6120 §7: the only IQ before there is a session.
    fn iq(self, cx: &mut NegotiationCx<'_>, element: &Element, read: usize) -> NegotiationStep {
        let Ok(stanza) = Stanza::from_element(element, cx.context, read) else {
            return NegotiationStep::Fail(StreamCondition::InvalidXml.into());
        };
        if stanza.type_() != Type::Set || !stanza.has(ns::BIND, "bind") {
            // §7.1: everything else waits until a resource is bound.
            return NegotiationStep::Fail(StreamCondition::NotAuthorized.into());
        }
        NegotiationStep::Ask(Binding { login: self, request: Box::new(stanza) }.into(), Need::Bind)
    }
}

impl Binding {
    pub fn account(&self) -> &AccountRef {
        &self.login.account
    }

    /// The client does not wait for the answer.
    pub fn on(self, now: Timestamp, cx: &mut NegotiationCx<'_>, element: &Element, read: usize) -> NegotiationStep {
        self.login.on(now, cx, element, read)
    }

    /// §7.6, or an error after which the client may retry (§7.7.2.1).
    pub fn may_bind(self, now: Timestamp, cx: &mut NegotiationCx<'_>, may: bool) -> NegotiationStep {
        let Binding { login, request } = self;
        if !may {
            cx.say_stanza(&request.from(None).to(None).error(&StanzaError::resource_constraint()));
            return NegotiationStep::Stay(login.into());
        }
        let wanted =
            request.get(ns::BIND, "bind").and_then(|bind| bind.find(ns::BIND, "resource").map(Element::content));
        match login.establish(now, cx, None, Some(Bind { resource: wanted })) {
            Established::Bound(attached, _) => {
                let mut answer = Stanza::new(Kind::Iq, Type::Result);
                answer.head.id.clone_from(&request.head.id);
                let jid = el("jid", ns::BIND).text(attached.session.jid.as_str());
                cx.say_stanza(&answer.child(el("bind", ns::BIND).child(jid)));
                NegotiationStep::Bound(attached)
            }
            Established::Resuming(attached, resume) => NegotiationStep::Resuming(attached, resume.h),
            Established::Failed { bind, .. } => {
                let error = match bind {
                    Some(BindError::Revoked) => return NegotiationStep::Fail(revoked()),
                    Some(BindError::TooMany) | None => StanzaError::resource_constraint(),
                    Some(BindError::BadResource) => StanzaError::bad_request("this cannot be a resource"),
                };
                cx.say_stanza(&request.from(None).to(None).error(&error));
                cx.refused(login)
            }
        }
    }
}

fn revoked() -> StreamError {
    StreamError::from(StreamCondition::NotAuthorized).with_text("this login has been revoked")
}
