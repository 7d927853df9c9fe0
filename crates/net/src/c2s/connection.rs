//! The state machine of one client connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vorpal_core::core::Core;
use vorpal_core::life::establish::Attached;
use vorpal_core::life::join::Fetch;
use vorpal_core::module::host::{Host, Serves};
use vorpal_core::owner::account::AccountRef;
use vorpal_core::route::Later;
use vorpal_core::route::reading::Inquiry;
use vorpal_core::session::{Session, Wake};
use vorpal_core::store::Entry;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::frame::Frame;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, StreamHeader, XmlError, parse_element};
use vorpal_proto::sasl::{ChannelBindings, Mechanism, PasswordCheck, Verdict};

use super::audit::Trail;
use super::negotiate::{Client, Negotiation, NegotiationCx, NegotiationStep, Wiped, wipe};
use crate::limits::Class;
use crate::wire::{Framing, Opening};

/// Settings shared by all connections of a listener.
pub struct Settings {
    /// Maximum number of login attempts on one connection (RFC 6120 §6.4.5 requires at least two).
    pub max_attempts: u32,
    /// Maximum number of bytes that a connection may send until it is logged in, and again until it has a session, including
    /// white space and stream headers, excluding TLS overhead.
    pub max_before_login: usize,
    /// Maximum size of a stanza after login, in bytes.
    pub max_stanza: usize,
    /// Whether clients log in without TLS and are not offered it: for a proxy on this machine that terminates TLS, and for
    /// tests.
    pub without_tls: bool,
    /// Whether PLAIN is offered there.
    pub plain_without_tls: bool,
    /// SASL mechanisms, by the domain of the host; each SCRAM entry includes its variant with channel binding. A host without an
    /// entry offers all mechanisms.
    pub mechanisms: HashMap<String, Vec<Mechanism>>,
    /// Whether a stanza in the plain grammar is passed through as the bytes received.
    pub passthrough: bool,
    /// Parser limits in a session. Before a session, [`Limits::BEFORE_LOGIN`] apply.
    pub limits: Limits,
}

/// What the connection needs before it can process more input.
#[derive(Debug)]
pub enum Need {
    /// More bytes.
    Input,
    /// The output must be written, then TLS begins: call [`Connection::secured`].
    Tls,
    /// The client tries to log in to this account: call [`Connection::admitted`] with whether it may try now.
    Admit(String),
    /// The client wants a new session: call [`Connection::may_bind`] with whether it may have one now.
    Bind,
    /// This account must be loaded: call [`Connection::loaded`].
    Load(BareJid),
    /// This must be run on a thread that may block: call [`Connection::derived`].
    Derive(Box<PasswordCheck>),
    /// A wake-up: too much is unsettled, or an answer is due first. Then call [`Connection::input`] again.
    Wait,
    /// The output must be written; then the connection is closed.
    Close,
}

#[allow(clippy::large_enum_variant, reason = "nearly all connections are bound: a box would cost each of them")]
pub(super) enum ConnectionState {
    /// There is no session yet.
    Negotiating(Box<Negotiating>),
    /// In a session.
    Bound(Bound),
    /// Nothing more is read.
    Closed,
}

/// A connection without a session.
pub(super) struct Negotiating {
    pub client: Client,
    stage: Negotiation,
    /// what the driver is to do before more input is processed
    pub next: Option<Need>,
}

/// A connection in a session.
pub(super) struct Bound {
    pub lock: AccountRef,
    pub session: Arc<Session>,
    pub epoch: u32,
    /// boxed, because it rarely exists
    pub later: Option<Box<Later>>,
    /// the client closed its stream; the server's is closed when everything the client sent is settled
    pub closing: bool,
    /// `<resumed/>` waits until what the old connection read is settled
    pub resuming: Option<u32>,
}

/// One client's connection. See the module's text.
pub struct Connection {
    pub(super) core: Arc<Core>,
    pub(super) settings: Arc<Settings>,
    pub(super) host: Option<Arc<Host>>,
    pub(super) context: StreamContext,
    pub(super) state: ConnectionState,
    pub(super) wake: Arc<dyn Wake>,
    pub(super) secure: bool,
    pub(super) framing: Framing,
    /// the server's stream header is written: the stream has to be closed
    opened: bool,
    /// no input is processed until `out` has been written
    choked: bool,
    pub(super) out: Vec<u8>,
}

/// With this many bytes of answers unwritten, no more input is processed: `out` never exceeds it by more than one answer. In a
/// session, answers wait in its queue, which has the same rule ([`Stream::must_pause`]).
///
/// [`Stream::must_pause`]: vorpal_core::session::Stream::must_pause
pub(super) const MAX_UNWRITTEN: usize = 16 * 1024;

impl Connection {
    /// An accepted connection. `secure`: TLS is already established.
    pub fn new(
        core: Arc<Core>,
        settings: Arc<Settings>,
        bindings: Option<ChannelBindings>,
        wake: Arc<dyn Wake>,
    ) -> Connection {
        let framing = Framing::tcp(settings.max_before_login);
        let secure = bindings.is_some();
        let client = Client::new(&core, bindings.unwrap_or_default());
        let stage = Negotiation::begin(&settings, secure);
        Connection {
            core,
            settings,
            host: None,
            context: StreamContext::default(),
            state: ConnectionState::Negotiating(Box::new(Negotiating { client, stage, next: None })),
            wake,
            secure,
            framing,
            opened: false,
            choked: false,
            out: Vec::new(),
        }
    }

    /// Sets the client's address and the audit log for its logins.
    pub(super) fn leave_trail(&mut self, trail: Trail) {
        if let ConnectionState::Negotiating(negotiating) = &mut self.state {
            negotiating.client.trail = trail;
        }
    }

    /// Processes input. Stops at the first need; the rest stays in the buffer.
    pub fn input(&mut self, now: Timestamp, buf: &mut BytesMut) -> Need {
        self.input_while(now, buf, || true).unwrap_or(Need::Input)
    }

    /// As [`Connection::input`], but asks after each element, if there are more bytes, whether to continue. `None` if not.
    pub fn input_while(
        &mut self,
        now: Timestamp,
        buf: &mut BytesMut,
        mut goes_on: impl FnMut() -> bool,
    ) -> Option<Need> {
        loop {
            if let Some(need) = self.unfinished(now) {
                return Some(need);
            }
            if self.out.len() >= MAX_UNWRITTEN {
                self.choked = true;
                return Some(Need::Wait);
            }
            // In a session nearly all that comes is a plain stanza: found and read in one pass.
            if self.settings.passthrough
                && matches!(self.state, ConnectionState::Bound(_))
                && let Some(read) = self.framing.next_stanza(buf, &self.context, &self.settings.limits)
            {
                let need = self.take_read(now, read);
                if need.is_some() {
                    return need;
                }
                if !buf.is_empty() && !goes_on() {
                    return None;
                }
                continue;
            }
            let before = buf.len();
            let frame = match self.framing.next(buf) {
                Ok(frame) => frame,
                Err(error) => {
                    let error = self.framing_error(error);
                    return Some(self.fail(now, error));
                }
            };
            if let ConnectionState::Negotiating(negotiating) = &mut self.state {
                let sent = &mut negotiating.client.sent;
                *sent = sent.saturating_add(before.saturating_sub(buf.len()));
                // Bytes after a complete frame may be for the session that this frame creates.
                let unfinished = if frame.is_none() { buf.len() } else { 0 };
                if sent.saturating_add(unfinished) > self.settings.max_before_login {
                    let error = StreamError::from(StreamCondition::PolicyViolation);
                    let limit = self.settings.max_before_login;
                    let text = format!("more than {limit} bytes before there is a session");
                    return Some(self.fail(now, error.with_text(text)));
                }
            }
            match frame {
                None => return Some(Need::Input),
                Some(frame) => {
                    // Before login, the bytes may contain a password.
                    let secret = match &frame {
                        Frame::Element(bytes) if !self.is_authenticated() => Some(bytes.clone()),
                        _ => None,
                    };
                    let need = self.frame(now, frame);
                    if let Some(frame) = secret {
                        wipe(frame, buf);
                    }
                    if need.is_some() {
                        return need;
                    }
                    if !buf.is_empty() && !goes_on() {
                        return None;
                    }
                }
            }
        }
    }

    /// Bytes of large answers to the client's requests since the last call: see [`Stream::take_answered`].
    ///
    /// [`Stream::take_answered`]: vorpal_core::session::Stream::take_answered
    pub(super) fn take_answered(&self) -> usize {
        match &self.state {
            ConnectionState::Bound(bound) => self.core.stream(&bound.session).take_answered(),
            ConnectionState::Negotiating(_) | ConnectionState::Closed => 0,
        }
    }

    /// The driver now has to write the output; no more input is processed before that is done.
    pub(super) fn relieved(&mut self) {
        if std::mem::take(&mut self.choked) {
            self.wake.wake();
        }
    }

    /// Whether the buffer contains no part of a frame, so that it may be freed.
    pub fn is_idle(&self) -> bool {
        self.framing.is_idle()
    }

    /// RFC 6120 §4.9.3.14: the error for a frame that is too large contains the limit.
    fn framing_error(&self, error: XmlError) -> StreamError {
        if error != XmlError::TooLong {
            return xml_error(error);
        }
        let limit = self.framing.limit();
        StreamError::from(StreamCondition::PolicyViolation)
            .with_text(format!("a stanza may have at most {limit} bytes"))
    }

    fn frame(&mut self, now: Timestamp, frame: Frame) -> Option<Need> {
        match frame {
            Frame::Open(bytes) => self.open(now, &bytes),
            Frame::Close => Some(self.client_closed(now)),
            Frame::Element(bytes) => match &self.state {
                ConnectionState::Negotiating(_) => self.before_session(now, &bytes),
                ConnectionState::Bound(_) => self.in_session(now, &bytes),
                ConnectionState::Closed => Some(Need::Close),
            },
        }
    }

    /// RFC 6120 §4.7: the client's stream header, and ours.
    fn open(&mut self, now: Timestamp, bytes: &Bytes) -> Option<Need> {
        let (header, context) = match self.framing.read_header(bytes, &Limits::BEFORE_LOGIN) {
            Ok(open) => open,
            Err(error) => return Some(self.fail(now, xml_error(error))),
        };
        self.context = context;
        if header.content.is_some_and(|content| content != ns::CLIENT) {
            return Some(self.fail(now, StreamCondition::InvalidNamespace.into()));
        }
        let host = self.host_of(&header);
        if let Some(host) = &host {
            self.host = Some(host.clone());
        }
        self.say_header(&header);
        // §4.7.5: versions below 1.0 do not support features, TLS and SASL.
        if header.version.is_none_or(|(major, _)| major < 1) {
            return Some(self.fail(now, StreamCondition::UnsupportedVersion.into()));
        }
        if host.is_none() {
            return Some(self.fail(now, StreamCondition::HostUnknown.into()));
        }
        self.negotiate(|stage, cx| {
            let features = stage.features(cx);
            cx.framing.features(cx.out, &features);
            NegotiationStep::Stay(stage)
        })
    }

    /// §4.7.2: the host in the stream header; the only host if there is none in it. It cannot change after login.
    fn host_of(&self, header: &StreamHeader) -> Option<Arc<Host>> {
        let named = match &header.to {
            Some(to) => Jid::parse(to).ok().filter(Jid::is_domain).and_then(|to| self.core.host(to.domain())),
            None => match self.core.hosts().as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
        }?;
        // Nobody logs in where there are no accounts.
        if named.serves != Serves::Accounts {
            return None;
        }
        let logged_in = self.is_authenticated();
        let same = self.host.as_ref().is_none_or(|host| host.domain() == named.domain());
        (same || !logged_in).then_some(named)
    }

    fn say_header(&mut self, header: &StreamHeader) {
        self.opened = true;
        let id = self.core.random_id();
        let from = self.host.as_ref().map(|host| host.domain());
        self.framing.open(&mut self.out, Opening { id: &id, from, to: header.from.as_deref() });
    }

    /// A new stream on the same connection: after TLS, after SASL.
    pub(super) fn restart(&mut self) {
        self.framing.restart();
        self.opened = false;
    }

    /// TLS is established. The buffer must be discarded before: its content was not protected (RFC 6120 §5.4.3.3).
    pub fn secured(&mut self, bindings: ChannelBindings) {
        self.secure = true;
        self.restart();
        let mut client = Client::new(&self.core, bindings);
        if let ConnectionState::Negotiating(before) = &mut self.state {
            client.sent = before.client.sent;
            client.trail = std::mem::take(&mut before.client.trail);
        }
        let stage = Negotiation::begin(&self.settings, true);
        self.state = ConnectionState::Negotiating(Box::new(Negotiating { client, stage, next: None }));
    }

    /// An element before there is a session.
    fn before_session(&mut self, now: Timestamp, frame: &[u8]) -> Option<Need> {
        let element = match parse_element(frame, &self.context, &Limits::BEFORE_LOGIN) {
            Ok(element) => Wiped(element),
            Err(error) => {
                let condition = StreamCondition::from_name(error.condition(), "");
                return Some(self.fail(now, condition.into()));
            }
        };
        self.negotiate(|stage, cx| stage.on(now, cx, &element, frame.len()))
    }

    /// Gives the negotiation an event, and carries out what it leads to. In another state the event is ignored.
    fn negotiate(
        &mut self,
        event: impl FnOnce(Negotiation, &mut NegotiationCx<'_>) -> NegotiationStep,
    ) -> Option<Need> {
        let ConnectionState::Negotiating(negotiating) = &mut self.state else { return None };
        // If the event panics, nobody can log in on this connection any more.
        let stage = std::mem::take(&mut negotiating.stage);
        let step = event(
            stage,
            &mut NegotiationCx {
                core: &self.core,
                settings: &self.settings,
                host: self.host.as_ref(),
                context: &self.context,
                wake: &self.wake,
                secure: self.secure,
                client: &mut negotiating.client,
                framing: &mut self.framing,
                out: &mut self.out,
            },
        );
        match step {
            NegotiationStep::Stay(stage) => negotiating.stage = stage,
            NegotiationStep::Restart(stage) => {
                negotiating.stage = stage;
                self.restart();
            }
            NegotiationStep::Ask(stage, need) => {
                negotiating.stage = stage;
                return Some(need);
            }
            NegotiationStep::Bound(attached) => self.enter(attached, None),
            NegotiationStep::Resuming(attached, h) => self.enter(attached, Some(h)),
            NegotiationStep::Fail(error) => return Some(self.end(&error)),
        }
        None
    }

    /// What the driver's last answer led to, if that is the driver's turn again: [`Connection::input`] asks for it.
    pub(super) fn then(&mut self, need: Option<Need>) {
        // Every other state finds by itself what it needs.
        if let ConnectionState::Negotiating(negotiating) = &mut self.state {
            negotiating.next = need;
        }
    }

    /// The connection carries a session from here on. Stanzas may be larger than elements before it.
    fn enter(&mut self, attached: Attached, resuming: Option<u32>) {
        let Attached { account: lock, session, epoch } = attached;
        self.state = ConnectionState::Bound(Bound { lock, session, epoch, later: None, closing: false, resuming });
        self.framing.set_limit(self.settings.max_stanza);
    }

    /// The needed account was looked up, or the store failed.
    pub fn loaded(&mut self, now: Timestamp, found: Result<(), ()>) -> Option<Need> {
        match &mut self.state {
            ConnectionState::Negotiating(_) => self.negotiate(|stage, cx| stage.loaded(cx, found)),
            ConnectionState::Bound(bound) => {
                let later = bound.later.take()?;
                // For this stanza, an account that cannot be read now counts as missing.
                if found.is_err() {
                    self.core.give_up(now, &bound.lock, &bound.session, *later);
                    return None;
                }
                bound.later = self.core.go_on(now, &bound.lock, &bound.session, *later).map(Box::new);
                None
            }
            ConnectionState::Closed => None,
        }
    }

    /// The password was checked.
    pub fn derived(&mut self, now: Timestamp, verdict: Verdict) -> Option<Need> {
        self.negotiate(|stage, cx| stage.derived(now, cx, verdict))
    }

    /// Sends the session's untold items, as far as its queue has room, and returns what the session wants to read from its
    /// account's log. Call [`Connection::fetched`] with it.
    pub fn hungry(&self, now: Timestamp) -> Option<Fetch> {
        match &self.state {
            ConnectionState::Bound(bound) if bound.resuming.is_none() => {
                self.core.tell_on(now, &bound.lock, &bound.session);
                self.core.hungry(&bound.lock, &bound.session)
            }
            _ => None,
        }
    }

    /// The part of the log that was read; `None` if reading failed.
    pub fn fetched(&mut self, fetch: Fetch, entries: Option<&[Entry]>) {
        let ConnectionState::Bound(bound) = &self.state else { return };
        match entries {
            Some(entries) => self.core.fed(&bound.lock, &bound.session, fetch, entries),
            None => self.core.unfed(&bound.session, fetch),
        }
    }

    /// A query of the session that is to be run on the store now. Pass the result to [`Core::answered`].
    pub fn inquiry(&self) -> Option<Inquiry> {
        match &self.state {
            ConnectionState::Bound(bound) => self.core.inquiry(&bound.lock, &bound.session),
            _ => None,
        }
    }

    /// Whether a session is bound. Before that the login deadline applies.
    pub fn is_bound(&self) -> bool {
        matches!(self.state, ConnectionState::Bound(_))
    }

    /// Whether it has a session that it resumes, and that is not resumed yet.
    pub fn is_resuming(&self) -> bool {
        matches!(&self.state, ConnectionState::Bound(bound) if bound.resuming.is_some())
    }

    /// The host that the client named, if it has.
    pub fn host_domain(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.domain())
    }

    /// Who is logged in, for the log.
    pub fn jid(&self) -> Option<&Jid> {
        match &self.state {
            ConnectionState::Bound(bound) => Some(&bound.session.jid),
            _ => None,
        }
    }

    /// Whose account the client has logged in to.
    pub fn account(&self) -> Option<&BareJid> {
        match &self.state {
            ConnectionState::Negotiating(negotiating) => negotiating.stage.account().map(|account| &account.jid),
            ConnectionState::Bound(bound) => Some(&bound.lock.jid),
            ConnectionState::Closed => None,
        }
    }

    /// Whether the client is authenticated.
    pub fn is_authenticated(&self) -> bool {
        match &self.state {
            ConnectionState::Negotiating(negotiating) => negotiating.stage.account().is_some(),
            _ => true,
        }
    }

    /// For a client that waits for admission: whether the account may have a resumable session, and whether the attempt costs
    /// time, because the account has to be read or a password derived.
    pub fn prospect(&self) -> (Class, bool) {
        match &self.state {
            ConnectionState::Negotiating(negotiating) => negotiating.stage.prospect(&self.core),
            ConnectionState::Bound(_) | ConnectionState::Closed => (Class::New, false),
        }
    }

    /// Too many clients are logging in. The client may try again, and this attempt does not count.
    pub fn put_off(&mut self) -> Option<Need> {
        self.negotiate(|stage, cx| stage.put_off(cx))
    }

    /// Whether the last attempt failed although it proved knowledge of the password, as for a disabled account. Answered once.
    pub(super) fn take_proven(&mut self) -> bool {
        match &mut self.state {
            ConnectionState::Negotiating(negotiating) => negotiating.client.take_proven(),
            ConnectionState::Bound(_) | ConnectionState::Closed => false,
        }
    }

    /// The new session may be created, or too many clients wait for one.
    pub fn may_bind(&mut self, now: Timestamp, may: bool) -> Option<Need> {
        self.negotiate(|stage, cx| stage.may_bind(now, cx, may))
    }

    /// Whether the login attempt may continue.
    pub fn admitted(&mut self, may: bool) -> Option<Need> {
        self.negotiate(|stage, cx| stage.admitted(cx, may))
    }

    /// Ends the stream with an error (RFC 6120 §4.9).
    pub fn fail(&mut self, now: Timestamp, error: StreamError) -> Need {
        if let ConnectionState::Bound(bound) = &self.state {
            self.core.hang_up(now, &bound.lock, &bound.session, bound.epoch);
        }
        self.end(&error)
    }

    /// The stream ends with an error, and the session, if there is one, knows.
    fn end(&mut self, error: &StreamError) -> Need {
        self.say_end(Some(error));
        self.state = ConnectionState::Closed;
        Need::Close
    }

    pub(super) fn say_end(&mut self, error: Option<&StreamError>) {
        if let Some(error) = error {
            tracing::debug!(%error, "stream closed with an error");
            if !self.opened {
                // §4.9.1.2: an error before the header is sent inside a stream, too.
                self.say_header(&StreamHeader::default());
            }
            self.framing.error(&mut self.out, error);
        }
        if self.opened {
            self.framing.close(&mut self.out);
        }
    }

    /// The socket is closed, for whatever reason.
    pub fn gone(&mut self, now: Timestamp) {
        if let ConnectionState::Bound(bound) = std::mem::replace(&mut self.state, ConnectionState::Closed) {
            // A resumption waits for everything that was read, and this stanza will not be processed any further.
            if let Some(later) = bound.later {
                self.core.take_back(&bound.session, *later);
            }
            self.core.detach(now, &bound.lock, &bound.session, bound.epoch);
        }
    }
}

fn xml_error(error: XmlError) -> StreamError {
    let condition = StreamCondition::from_name(error.condition(), "");
    StreamError::from(condition).with_text(error.to_string())
}
