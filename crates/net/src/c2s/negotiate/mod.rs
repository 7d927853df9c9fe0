//! From the first stream header to a session: TLS (RFC 6120 §5), SASL (§6), then a new session (§7) or an old one (XEP-0198 §5).
//!
//! Each stage is a type that holds what this stage knows and nothing else. An element of the client, or an answer of the driver,
//! consumes the stage and yields the next one ([`NegotiationStep`]). So no stage can see the leftovers of another: a stage with
//! an account is one whose client has proven that it may have it.
//!
//! | stage | waits for |
//! |---|---|
//! | [`Unprotected`] | `<starttls/>` |
//! | [`Opened`] | `<auth/>` |
//! | [`Begun`] | the client's first message |
//! | [`Named`] | the driver: may this account be tried, and what is stored of it |
//! | [`Proving`] | the client's proof, or the driver's check of a password |
//! | [`Authenticated`] | a request for a session |
//! | [`Binding`] | the driver: may there be a new session now |

mod attempt;
mod authenticated;
mod sasl;
mod tls;
mod wiped;

use std::sync::Arc;

use vorpal_core::core::Core;
use vorpal_core::life::establish::Attached;
use vorpal_core::module::host::Host;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::session::{Wake, Wire};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::ns;
use vorpal_proto::parse::StreamContext;
use vorpal_proto::sasl::{ChannelBindings, Verdict};
use vorpal_proto::stanza::Stanza;

use super::audit::Trail;
use super::connection::{Need, Settings};
use crate::limits::Class;
use crate::wire::Framing;
use attempt::{Begun, Named, Proving};
use authenticated::{Authenticated, Binding};
use sasl::Opened;
use tls::Unprotected;

pub(super) use wiped::{Wiped, wipe};

/// The stage of a connection without a session.
pub(super) enum Negotiation {
    Unprotected(Unprotected),
    Opened(Opened),
    Begun(Begun),
    Named(Named),
    Proving(Proving),
    Authenticated(Authenticated),
    Binding(Binding),
}

impl Default for Negotiation {
    /// The stage in which nobody can log in.
    fn default() -> Negotiation {
        Negotiation::Unprotected(Unprotected)
    }
}

/// What all stages know of the client.
pub(super) struct Client {
    /// the channel bindings of the connection: none without TLS
    bindings: ChannelBindings,
    /// the number of the connection
    order: u64,
    /// the log of its logins
    pub trail: Trail,
    /// the number of refused requests, wrong passwords and requests out of place, since the connection began or the client logged in
    refused: u32,
    /// the number of bytes that it has sent since then
    pub sent: usize,
    /// the attempt that failed last was no guess: the password was correct
    proven: bool,
}

impl Client {
    pub fn new(core: &Core, bindings: ChannelBindings) -> Client {
        Client { bindings, order: core.next_connection(), trail: Trail::default(), refused: 0, sent: 0, proven: false }
    }

    /// Whether the attempt that failed last proved knowledge of the password, as for a disabled account. Answered once.
    pub fn take_proven(&mut self) -> bool {
        std::mem::take(&mut self.proven)
    }
}

/// The connection, as a stage sees it.
pub(super) struct NegotiationCx<'a> {
    pub core: &'a Arc<Core>,
    pub settings: &'a Settings,
    pub host: Option<&'a Arc<Host>>,
    /// the declarations of the client's stream header
    pub context: &'a StreamContext,
    pub wake: &'a Arc<dyn Wake>,
    /// TLS is established
    pub secure: bool,
    pub client: &'a mut Client,
    pub framing: &'a mut Framing,
    pub out: &'a mut Vec<u8>,
}

impl NegotiationCx<'_> {
    fn say(&mut self, element: &Element) {
        self.framing.element(self.out, element);
    }

    fn say_stanza(&mut self, stanza: &Stanza) {
        self.framing.output(self.out).stanza(stanza);
    }

    /// A request was refused, and this is the stage in which the client may make another. Too many refusals end the stream: that
    /// limits guessing (RFC 6120 §6.4.5).
    fn refused(&mut self, stage: impl Into<Negotiation>) -> NegotiationStep {
        self.client.refused += 1;
        if self.client.refused < self.settings.max_attempts {
            return NegotiationStep::Stay(stage.into());
        }
        let error = StreamError::from(StreamCondition::PolicyViolation);
        NegotiationStep::Fail(error.with_text("too many failed attempts"))
    }
}

/// What an event leads to.
pub(super) enum NegotiationStep {
    /// The client speaks next, in this stage.
    Stay(Negotiation),
    /// As `Stay`, in a new stream on the same connection (RFC 6120 §4.3.3).
    Restart(Negotiation),
    /// The driver does this first, and its answer meets this stage.
    Ask(Negotiation, Need),
    /// The client has a new session.
    Bound(Attached),
    /// The client resumes a session, whose stanzas it has up to this number.
    Resuming(Attached, u32),
    /// The stream ends with this error.
    Fail(StreamError),
}

impl Negotiation {
    /// The first stage of a connection.
    pub fn begin(settings: &Settings, secure: bool) -> Negotiation {
        if secure || settings.without_tls { Opened.into() } else { Unprotected.into() }
    }

    /// An element of the client; `read` is its size in bytes.
    pub fn on(self, now: Timestamp, cx: &mut NegotiationCx<'_>, element: &Element, read: usize) -> NegotiationStep {
        match self {
            Negotiation::Unprotected(stage) => stage.on(cx, element),
            Negotiation::Opened(stage) => stage.on(cx, element),
            Negotiation::Begun(stage) => stage.on(cx, element),
            Negotiation::Named(stage) => stage.on(cx, element),
            Negotiation::Proving(stage) => stage.on(cx, element),
            Negotiation::Authenticated(stage) => stage.on(now, cx, element, read),
            Negotiation::Binding(stage) => stage.on(now, cx, element, read),
        }
    }

    /// Whether the login attempt may continue.
    pub fn admitted(self, cx: &mut NegotiationCx<'_>, may: bool) -> NegotiationStep {
        match self {
            Negotiation::Named(stage) => stage.admitted(cx, may),
            other => NegotiationStep::Stay(other),
        }
    }

    /// Too many clients are logging in: the client may try again, and this attempt does not count.
    pub fn put_off(self, cx: &mut NegotiationCx<'_>) -> NegotiationStep {
        match self {
            Negotiation::Named(stage) => stage.put_off(cx),
            other => NegotiationStep::Stay(other),
        }
    }

    /// The account was looked up, or the store failed.
    pub fn loaded(self, cx: &mut NegotiationCx<'_>, found: Result<(), ()>) -> NegotiationStep {
        match self {
            Negotiation::Named(stage) => stage.loaded(cx, found),
            other => NegotiationStep::Stay(other),
        }
    }

    /// The password was checked.
    pub fn derived(self, now: Timestamp, cx: &mut NegotiationCx<'_>, verdict: Verdict) -> NegotiationStep {
        match self {
            Negotiation::Proving(stage) => stage.derived(now, cx, verdict),
            other => NegotiationStep::Stay(other),
        }
    }

    /// The new session may be created, or too many clients wait for one.
    pub fn may_bind(self, now: Timestamp, cx: &mut NegotiationCx<'_>, may: bool) -> NegotiationStep {
        match self {
            Negotiation::Binding(stage) => stage.may_bind(now, cx, may),
            other => NegotiationStep::Stay(other),
        }
    }

    /// RFC 6120 §4.3.2: what may be negotiated now.
    pub fn features(&self, cx: &NegotiationCx<'_>) -> Element {
        let features = el("features", ns::STREAM);
        match self {
            Negotiation::Unprotected(_) => tls::offer(features),
            Negotiation::Authenticated(_) | Negotiation::Binding(_) => authenticated::offer(cx, features),
            Negotiation::Opened(_) | Negotiation::Begun(_) | Negotiation::Named(_) | Negotiation::Proving(_) => {
                sasl::offer(cx, features)
            }
        }
    }

    /// The account to which the client has logged in.
    pub fn account(&self) -> Option<&AccountRef> {
        match self {
            Negotiation::Authenticated(stage) => Some(stage.account()),
            Negotiation::Binding(stage) => Some(stage.account()),
            Negotiation::Unprotected(_)
            | Negotiation::Opened(_)
            | Negotiation::Begun(_)
            | Negotiation::Named(_)
            | Negotiation::Proving(_) => None,
        }
    }

    /// See [`super::Connection::prospect`].
    pub fn prospect(&self, core: &Core) -> (Class, bool) {
        match self {
            Negotiation::Named(stage) => stage.prospect(core),
            _ => (Class::New, false),
        }
    }
}

/// An element that has no place in this stage.
fn out_of_place(stage: impl Into<Negotiation>, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
    match (element.ns_id(), element.name()) {
        // XEP-0198 §3, §5: not before a resource is bound, or before login. Its other elements are ignored here.
        (id, "enable" | "resume") if id == ns::SM.id() => {
            cx.say(&el("failed", ns::SM).child(el("unexpected-request", ns::STANZA_ERROR)));
            cx.refused(stage)
        }
        // RFC 6120 §4.9.3.12: a stanza before login, or before there is a session.
        (id, "iq" | "message" | "presence") if id == ns::CLIENT.id() => {
            NegotiationStep::Fail(StreamCondition::NotAuthorized.into())
        }
        _ => NegotiationStep::Fail(StreamCondition::UnsupportedStanzaType.into()),
    }
}
