//! From the first stream header to a session: STARTTLS (RFC 6120 §5), SASL (§6), binding (§7) or resumption
//! (XEP-0198 §5), with the kinds of channel binding that a login may use (XEP-0440).

use std::ops::Deref;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vorpal_core::core::Core;
use vorpal_core::life::bind::BindError;
use vorpal_core::module::Stage;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::session::Carrier;
use vorpal_core::watch::counts::Count;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::{StanzaError, StreamCondition, StreamError};
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, parse_element};
use vorpal_proto::sasl::{
    Account, Authenticated, ChannelBindings, Exchange, Mechanism, Offered, Query, Refusal, SALT_BYTES, SaslError,
    Settings, Step, Verdict, decode_payload, encode_payload,
};
use vorpal_proto::stanza::{Kind, Stanza, Type};
use zeroize::{Zeroize, Zeroizing};

use crate::limits::Class;

use super::audit::Trail;
use super::connection::{Bound, Connection, Need, State, names_account, nonce};

/// A connection before it has a session.
pub(super) struct Login {
    bindings: ChannelBindings,
    exchange: Option<Exchange>,
    query: Option<(Query, Option<BareJid>)>,
    /// the password of the failed attempt was correct: it was not a guess
    proven: bool,
    /// number of refused requests: wrong passwords, and requests at the wrong time
    attempts: u32,
    /// bytes that the client has sent since the connection began, or since it logged in
    pub sent: usize,
    /// the number of the connection
    order: u64,
    /// the IQ that binds a resource, until a session may be made
    binding: Option<Box<Stanza>>,
    /// keeps the account loaded until authentication has finished
    held: Option<AccountRef>,
    /// whether the login was revoked since the password was looked up: see [`Core::revocations`]
    revocations: u32,
    pub account: Option<AccountRef>,
    /// logs attempts
    pub trail: Trail,
}

impl Login {
    pub fn new(core: &Core, bindings: ChannelBindings) -> Login {
        Login {
            bindings,
            exchange: None,
            query: None,
            proven: false,
            attempts: 0,
            sent: 0,
            order: core.next_connection(),
            binding: None,
            held: None,
            revocations: 0,
            account: None,
            trail: Trail::default(),
        }
    }
}

/// An element that may hold a password.
struct Wiped(Element);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl Deref for Wiped {
    type Target = Element;

    fn deref(&self) -> &Element {
        &self.0
    }
}

/// Overwrites a frame that may contain a password. `rest` follows it in the same allocation; it is moved to a separate one, so that
/// nothing else refers to the frame.
pub(super) fn wipe(frame: Bytes, rest: &mut BytesMut) -> bool {
    *rest = BytesMut::from(&rest[..]);
    let Ok(mut frame) = frame.try_into_mut() else { return false };
    frame.zeroize();
    true
}

/// XEP-0440 §3: the types of channel binding to announce, if an offered mechanism supports it.
fn announced(login: &Login, offered: &[Mechanism]) -> Option<Vec<&'static str>> {
    offered.iter().any(|m| m.is_plus()).then(|| login.bindings.types().collect())
}

fn revoked() -> StreamError {
    StreamError::from(StreamCondition::NotAuthorized).with_text("this login has been revoked")
}

impl Connection {
    /// The offered mechanisms, strongest first.
    fn mechanisms(&self, login: &Login) -> Vec<Mechanism> {
        let configured = self.host.as_ref().and_then(|host| self.settings.mechanisms.get(host.domain()));
        let fits = |m: &Mechanism| match m {
            // RFC 4616 §4
            Mechanism::Plain => self.secure || self.settings.plain_without_tls,
            // Without TLS there is no channel to bind to.
            mechanism => !mechanism.is_plus() || !login.bindings.is_empty(),
        };
        let wanted = |m: &Mechanism| configured.is_none_or(|all| all.iter().any(|one| one.hash() == m.hash()));
        Mechanism::ALL.into_iter().filter(fits).filter(wanted).collect()
    }

    /// RFC 6120 §4.3.2: what may be negotiated now.
    pub(super) fn say_features(&mut self) {
        let State::Login(login) = &self.state else { return };
        let mut features = el("features", ns::STREAM);
        if login.account.is_some() {
            features.push_child(el("bind", ns::BIND));
            if let Some(host) = &self.host {
                let registry = host.registry();
                for feature in registry.stream_features(Stage::Authenticated) {
                    features.push_child(feature);
                }
            }
        } else {
            if self.wants_tls() {
                // §5.4.1: mandatory.
                features.push_child(el("starttls", ns::TLS).child(el("required", ns::TLS)));
            } else {
                let offered = self.mechanisms(login);
                let names = offered.iter().map(|m| el("mechanism", ns::SASL).text(m.name()));
                features.push_child(el("mechanisms", ns::SASL).children(names));
                if let Some(types) = announced(login, &offered) {
                    let types = types.into_iter().map(|t| el("channel-binding", ns::SASL_CB).attr("type", t));
                    features.push_child(el("sasl-channel-binding", ns::SASL_CB).children(types));
                }
            }
        }
        self.framing.features(&mut self.out, &features);
    }

    /// Whether TLS must be started first.
    fn wants_tls(&self) -> bool {
        !self.secure && !self.settings.without_tls
    }

    pub(super) fn before_session(&mut self, now: Timestamp, frame: &[u8]) -> Option<Need> {
        let element = match parse_element(frame, &self.context, &Limits::BEFORE_LOGIN) {
            Ok(element) => Wiped(element),
            Err(error) => {
                let condition = StreamCondition::from_name(error.condition(), "");
                return Some(self.fail(now, condition.into()));
            }
        };
        let State::Login(login) = &self.state else { return None };
        let logged_in = login.account.is_some();
        let may_log_in = !logged_in && !self.wants_tls();
        match (element.ns_id(), element.name()) {
            (id, "starttls") if id == ns::TLS.id() && self.wants_tls() => {
                self.say(&el("proceed", ns::TLS));
                Some(Need::Tls)
            }
            (id, "auth") if id == ns::SASL.id() && may_log_in => self.auth(now, &element),
            (id, "response") if id == ns::SASL.id() && may_log_in => self.receive(now, &element),
            (id, "abort") if id == ns::SASL.id() && may_log_in => self.refuse(now, SaslError::Aborted),
            (id, "auth") if id == ns::SASL.id() && !logged_in => self.refuse(now, SaslError::EncryptionRequired),
            (id, "resume") if id == ns::SM.id() && logged_in => self.resume(now, &element),
            // XEP-0198 §3, §5: not before a resource is bound, or before login. Its other elements are ignored here.
            (id, "enable" | "resume") if id == ns::SM.id() => {
                self.say(&el("failed", ns::SM).child(el("unexpected-request", ns::STANZA_ERROR)));
                self.count_try(now)
            }
            (id, "iq") if id == ns::CLIENT.id() && logged_in => self.wants_session(now, &element, frame.len()),
            // §4.9.3.12: a stanza before login, or before there is a session.
            (id, "iq" | "message" | "presence") if id == ns::CLIENT.id() => {
                Some(self.fail(now, StreamCondition::NotAuthorized.into()))
            }
            _ => Some(self.fail(now, StreamCondition::UnsupportedStanzaType.into())),
        }
    }

    fn auth(&mut self, now: Timestamp, element: &Element) -> Option<Need> {
        let State::Login(login) = &self.state else { return None };
        let all = self.mechanisms(login);
        let mechanism = element.get("mechanism").and_then(Mechanism::from_name);
        let Some(mechanism) = mechanism.filter(|m| all.contains(m)) else {
            return self.refuse(now, SaslError::InvalidMechanism);
        };
        let plus_offered = all.iter().any(|m| m.is_plus());
        // XEP-0474 §6.1: as the features of this stream said it.
        let offered = Some(Offered::new(all.iter().map(|m| m.name()), announced(login, &all).as_deref()));
        let State::Login(login) = &mut self.state else { return None };
        let settings = Settings { bindings: login.bindings.clone(), plus_offered, names_account, offered };
        login.trail.begins(mechanism.name());
        login.exchange = Some(Exchange::new(mechanism, settings, nonce(&self.core)));
        self.receive(now, element)
    }

    fn receive(&mut self, now: Timestamp, element: &Element) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        let Some(exchange) = &mut login.exchange else {
            return self.refuse(now, SaslError::MalformedRequest);
        };
        let step = match decode_payload(&Zeroizing::new(element.content())) {
            Ok(data) => exchange.receive(data.as_ref().map(|data| data.as_slice())),
            Err(refusal) => Step::Failure(refusal),
        };
        self.step(now, step)
    }

    fn step(&mut self, now: Timestamp, step: Step) -> Option<Need> {
        match step {
            Step::Challenge(data) => {
                self.say(
                    &el("challenge", ns::SASL)
                        .text(encode_payload(Some(&data).filter(|d| !d.is_empty()).map(|d| d.as_slice()))),
                );
                None
            }
            Step::NeedCredentials(query) => self.look_up(query),
            Step::NeedDerivation(check) => Some(Need::Derive(Box::new(check))),
            Step::Success(authenticated) => self.authenticated(now, &authenticated),
            // The attempt counts neither as failed nor as successful: old clients make one with each mechanism, and then another
            // without channel binding. `max_before_login` bounds them.
            Step::Failure(Refusal::DOWNGRADE) => {
                if let State::Login(login) = &mut self.state {
                    login.trail.unheard(Refusal::DOWNGRADE.reason);
                }
                self.say_failure(Refusal::DOWNGRADE.condition);
                None
            }
            Step::Failure(Refusal { condition, reason }) => {
                if let State::Login(login) = &mut self.state {
                    login.trail.because(reason);
                    login.proven = condition == SaslError::AccountDisabled;
                }
                self.refuse(now, condition)
            }
        }
    }

    fn look_up(&mut self, query: Query) -> Option<Need> {
        let host = self.host.as_ref()?.domain().to_owned();
        let jid = BareJid::new(&query.username, &host).ok();
        let State::Login(login) = &mut self.state else { return None };
        login.trail.names(&query.username, jid.as_ref());
        let name = jid.as_ref().map_or_else(|| query.username.clone(), |jid| jid.to_string());
        login.query = Some((query, jid));
        Some(Need::Admit(name))
    }

    pub(super) fn login_prospect(&self) -> (Class, bool) {
        let State::Login(login) = &self.state else { return (Class::New, false) };
        let Some((query, jid)) = &login.query else { return (Class::New, false) };
        let account = jid.as_ref().and_then(|jid| self.core.loaded(jid.as_str()));
        let returns = account.as_ref().is_some_and(|account| self.core.may_return(account));
        let reads = jid.as_ref().is_some_and(|jid| self.core.is_cold(jid));
        // Any hash will do: the client is about to send its password.
        let derives = query.hash.is_none();
        (if returns { Class::Returning } else { Class::New }, reads || derives)
    }

    /// Whether the last attempt failed although it proved knowledge of the password, as for a disabled account.
    pub(super) fn take_proven(&mut self) -> bool {
        match &mut self.state {
            State::Login(login) => std::mem::take(&mut login.proven),
            State::Bound(_) | State::Closed => false,
        }
    }

    pub(super) fn login_put_off(&mut self) -> Option<Need> {
        if let State::Login(login) = &self.state {
            login.trail.put_off();
        }
        self.say_failure(SaslError::TemporaryAuthFailure);
        None
    }

    pub(super) fn login_admitted(&mut self, now: Timestamp, may: bool) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        if !may {
            login.trail.because("too many failed before");
            return self.refuse(now, SaslError::TemporaryAuthFailure);
        }
        match login.query.as_ref().and_then(|(_, jid)| jid.clone()) {
            Some(jid) if self.core.is_cold(&jid) => Some(Need::Load(jid)),
            _ => self.login_loaded(now, Ok(())),
        }
    }

    pub(super) fn login_loaded(&mut self, now: Timestamp, found: Result<(), ()>) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        let (query, jid) = login.query.take()?;
        if found.is_err() {
            login.trail.because("the account cannot be read");
            return self.refuse(now, SaslError::TemporaryAuthFailure);
        }
        let account = jid.as_ref().and_then(|jid| self.core.loaded(jid.as_str()));
        login.held.clone_from(&account);
        match &account {
            None => login.trail.because("no such account"),
            Some(account) if account.lock().disabled => login.trail.because("the account is disabled"),
            Some(account) if query.hash.is_some_and(|hash| !self.core.has_keys(account, hash)) => {
                login.trail.because("the account has no keys for this mechanism");
            }
            Some(_) => {}
        }
        login.revocations = account.as_ref().map_or(0, |account| self.core.revocations(account));
        let address = jid.map_or_else(|| query.username.clone(), |jid| jid.to_string());
        let credentials = self.core.credentials(self.host.as_ref()?, account.as_ref(), &address, query.hash);
        let step = match login.exchange.as_mut()?.account(Account { address, credentials }) {
            // The password is known only here: missing keys can be derived from it.
            Step::NeedDerivation(check) => {
                let (wanted, policy) = account.map(|account| self.core.keys_to_make(&account)).unwrap_or_default();
                let salted = wanted.into_iter().map(|hash| {
                    let mut salt = [0; SALT_BYTES];
                    self.core.fill_random(&mut salt);
                    (hash, salt)
                });
                Step::NeedDerivation(check.making(salted.collect(), policy.iterations))
            }
            step => step,
        };
        self.step(now, step)
    }

    pub(super) fn login_derived(&mut self, now: Timestamp, mut verdict: Verdict) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        let renewal = verdict.take_renewal();
        let step = login.exchange.as_mut()?.verdict(verdict);
        if let Step::Success(authenticated) = &step
            && let Some(renewal) = renewal
            && let Some(lock) = self.core.loaded(authenticated.account())
        {
            self.core.renew_credentials(now, &lock, &renewal);
        }
        self.step(now, step)
    }

    /// The identity of the session is set here and nowhere else.
    fn authenticated(&mut self, now: Timestamp, authenticated: &Authenticated) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        let Some(account) = self.core.loaded(authenticated.account()) else {
            return self.refuse(now, SaslError::TemporaryAuthFailure);
        };
        // The proven password may be that of a deleted account, or may have been replaced.
        let same = login.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &account));
        if !same || self.core.revocations(&account) != login.revocations {
            login.trail.because("the login was revoked while it was under way");
            return self.refuse(now, SaslError::NotAuthorized);
        }
        login.trail.succeeded(authenticated.account(), authenticated.mechanism());
        login.account = Some(account);
        login.held = None;
        login.exchange = None;
        login.attempts = 0;
        login.sent = 0;
        self.core.counts.one(Count::of_login(authenticated.mechanism()));
        self.say(
            &el("success", ns::SASL).text(authenticated.data().map_or_else(String::new, |d| encode_payload(Some(d)))),
        );
        self.restart();
        None
    }

    /// §6.5
    fn say_failure(&mut self, error: SaslError) {
        let State::Login(login) = &mut self.state else { return };
        login.exchange = None;
        login.query = None;
        login.held = None;
        self.core.counts.one(Count::of_failure(error));
        self.say(&el("failure", ns::SASL).child(el(error.element(), ns::SASL)));
    }

    fn refuse(&mut self, now: Timestamp, error: SaslError) -> Option<Need> {
        if let State::Login(login) = &mut self.state {
            login.trail.failed(error);
        }
        self.say_failure(error);
        self.count_try(now)
    }

    /// A request was refused. Too many refusals end the stream.
    fn count_try(&mut self, now: Timestamp) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        login.attempts += 1;
        let attempts = login.attempts;
        // RFC 6120 §6.4.5: limits guessing.
        (attempts >= self.settings.max_attempts).then(|| {
            let error = StreamCondition::PolicyViolation;
            self.fail(now, StreamError::from(error).with_text("too many failed attempts"))
        })
    }

    /// §7: the only IQ before there is a session.
    fn wants_session(&mut self, now: Timestamp, element: &Element, read: usize) -> Option<Need> {
        let stanza = match Stanza::from_element(element, &self.context, read) {
            Ok(stanza) => stanza,
            Err(_) => return Some(self.fail(now, StreamCondition::InvalidXml.into())),
        };
        let binds = stanza.type_() == Type::Set && stanza.has(ns::BIND, "bind");
        let (true, State::Login(login)) = (binds, &mut self.state) else {
            // §7.1: everything else waits until a resource is bound.
            return Some(self.fail(now, StreamCondition::NotAuthorized.into()));
        };
        login.binding = Some(Box::new(stanza));
        Some(Need::Bind)
    }

    /// §7.6, or an error after which the client may retry (§7.7.2.1).
    pub(super) fn bind(&mut self, now: Timestamp, may: bool) -> Option<Need> {
        let State::Login(login) = &mut self.state else { return None };
        let stanza = *login.binding.take()?;
        if !may {
            let error = StanzaError::resource_constraint();
            self.say_stanza(&stanza.from(None).to(None).error(&error));
            return None;
        }
        let lock = login.account.clone()?;
        let bind = stanza.get(ns::BIND, "bind")?;
        let wanted = bind.find(ns::BIND, "resource").map(Element::content);
        let mut answer = Stanza::new(Kind::Iq, Type::Result);
        answer.head.id.clone_from(&stanza.head.id);
        let carrier = Carrier {
            wake: self.wake.clone(),
            order: login.order,
            revocations: login.revocations,
            peer: login.trail.peer(),
        };
        match self.core.bind(now, &lock, wanted.as_deref(), carrier) {
            Ok((session, epoch)) => {
                let jid = el("jid", ns::BIND).text(session.jid.as_str());
                let answer = answer.child(el("bind", ns::BIND).child(jid));
                self.say_stanza(&answer);
                self.state = State::Bound(Bound { lock, session, epoch, later: None, closing: false, resuming: None });
                self.widen();
                None
            }
            Err(error) => {
                let error = match error {
                    BindError::Revoked => return Some(self.fail(now, revoked())),
                    BindError::TooMany => StanzaError::resource_constraint(),
                    BindError::BadResource => StanzaError::bad_request("this cannot be a resource"),
                };
                self.say_stanza(&stanza.from(None).to(None).error(&error));
                self.count_try(now)
            }
        }
    }

    /// XEP-0198 §5.
    fn resume(&mut self, now: Timestamp, element: &Element) -> Option<Need> {
        let State::Login(login) = &self.state else { return None };
        let lock = login.account.clone()?;
        let h = element.get("h").and_then(|h| h.parse().ok());
        let (Some(h), Some(token)) = (h, element.get("previd")) else {
            self.say(&el("failed", ns::SM).child(el("bad-request", ns::STANZA_ERROR)));
            return self.count_try(now);
        };
        let carrier = Carrier {
            wake: self.wake.clone(),
            order: login.order,
            revocations: login.revocations,
            peer: login.trail.peer(),
        };
        match self.core.resume(now, &lock, token, h, carrier) {
            Ok((session, epoch)) => {
                self.state =
                    State::Bound(Bound { lock, session, epoch, later: None, closing: false, resuming: Some(h) });
                self.widen();
                None
            }
            Err(error) => {
                let failed = el("failed", ns::SM).attr_opt("h", error.h);
                self.say(&failed.child(el("item-not-found", ns::STANZA_ERROR)));
                self.count_try(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_wiped_also_where_something_came_behind_it() {
        for behind in ["", "<r/>", "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><iq"] {
            let mut input = BytesMut::from(format!("<auth>secret</auth>{behind}").as_bytes());
            let frame = input.split_to(19).freeze();
            assert!(wipe(frame, &mut input), "{behind}");
            assert_eq!(input, behind);
        }
    }

    #[test]
    fn a_frame_that_somebody_else_holds_stays() {
        let frame = Bytes::from(b"<auth>secret</auth>".to_vec());
        assert!(!wipe(frame.clone(), &mut BytesMut::new()));
        assert_eq!(frame, "<auth>secret</auth>");
    }
}
