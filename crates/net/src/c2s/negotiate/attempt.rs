//! One attempt to log in, from the client's first message to its success or failure, whatever the mechanism.

use std::sync::Arc;

use vorpal_core::core::Core;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::watch::counts::Count;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{self, Exchange, Query, Refusal, SALT_BYTES, SaslError, Verdict};
use zeroize::Zeroizing;

use super::authenticated::Authenticated;
use super::sasl::{self as words, Opened, Request};
use super::{Negotiation, NegotiationCx, NegotiationStep};
use crate::c2s::Need;
use crate::limits::Class;

/// The protocol in which an attempt is spoken.
#[derive(Clone, Copy)]
pub(super) enum Dialect {
    /// RFC 6120 §6
    Sasl,
}

/// The client has chosen a mechanism, and not said who it is.
pub(in crate::c2s) struct Begun {
    pub(super) exchange: Exchange,
    pub(super) dialect: Dialect,
}

/// The client has said who it wants to be. The driver says whether it may try, then reads the account.
pub(in crate::c2s) struct Named {
    exchange: Exchange,
    dialect: Dialect,
    query: Query,
    /// the address of the account; `None` if the name cannot be one
    jid: Option<BareJid>,
}

/// The client proves that it knows the account's password.
pub(in crate::c2s) struct Proving {
    exchange: Exchange,
    dialect: Dialect,
    claimed: Claimed,
}

/// The account that a client claims, as it was when its keys were looked up. It stays loaded until the attempt has ended.
struct Claimed {
    account: Option<AccountRef>,
    /// see [`Core::revocations`]
    revocations: u32,
}

impl From<Begun> for Negotiation {
    fn from(stage: Begun) -> Negotiation {
        Negotiation::Begun(stage)
    }
}

impl From<Named> for Negotiation {
    fn from(stage: Named) -> Negotiation {
        Negotiation::Named(stage)
    }
}

impl From<Proving> for Negotiation {
    fn from(stage: Proving) -> Negotiation {
        Negotiation::Proving(stage)
    }
}

impl Dialect {
    fn challenge(self, data: &[u8]) -> Element {
        match self {
            Dialect::Sasl => words::challenge(data),
        }
    }

    /// The login failed. `then` is the stage in which the client may try again.
    pub fn refuse(self, cx: &mut NegotiationCx<'_>, error: SaslError, then: impl Into<Negotiation>) -> NegotiationStep {
        cx.client.trail.failed(error);
        self.say_failure(cx, error);
        cx.refused(then)
    }

    fn say_failure(self, cx: &mut NegotiationCx<'_>, error: SaslError) {
        cx.core.counts.one(Count::of_failure(error));
        match self {
            Dialect::Sasl => cx.say(&words::failure(error)),
        }
    }

    /// The mechanism refuses the client's message.
    fn refuse_message(self, cx: &mut NegotiationCx<'_>, refusal: Refusal) -> NegotiationStep {
        // The attempt counts neither as failed nor as successful: old clients make one with each mechanism, and then another
        // without channel binding. `max_before_login` bounds them.
        if refusal == Refusal::DOWNGRADE {
            cx.client.trail.unheard(refusal.reason);
            self.say_failure(cx, refusal.condition);
            return NegotiationStep::Stay(Opened.into());
        }
        cx.client.trail.because(refusal.reason);
        cx.client.proven = refusal.condition == SaslError::AccountDisabled;
        self.refuse(cx, refusal.condition, Opened)
    }

    /// The mechanism asks for something that it has no reason to ask for now.
    fn refuse_step(self, cx: &mut NegotiationCx<'_>) -> NegotiationStep {
        cx.client.trail.because("the mechanism is out of step");
        self.refuse(cx, SaslError::TemporaryAuthFailure, Opened)
    }

    /// The client is logged in.
    fn succeed(self, cx: &mut NegotiationCx<'_>, stage: Authenticated, data: Option<&[u8]>) -> NegotiationStep {
        match self {
            Dialect::Sasl => {
                cx.say(&words::success(data));
                NegotiationStep::Restart(stage.into())
            }
        }
    }
}

impl Begun {
    pub fn on(self, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        match Request::of(element) {
            Some(Request::Response) => self.receive(cx, words::message(element)),
            // An attempt ends with whatever else the client says.
            Some(Request::Auth | Request::Abort) => Opened.on(cx, element),
            None => super::out_of_place(self, cx, element),
        }
    }

    /// A message of the mechanism.
    pub fn receive(
        mut self,
        cx: &mut NegotiationCx<'_>,
        message: Result<Option<Zeroizing<Vec<u8>>>, Refusal>,
    ) -> NegotiationStep {
        let Begun { exchange, dialect } = &mut self;
        match message.map(|data| exchange.receive(data.as_ref().map(|data| data.as_slice()))) {
            Ok(sasl::Step::Challenge(data)) => {
                cx.say(&dialect.challenge(&data));
                NegotiationStep::Stay(self.into())
            }
            Ok(sasl::Step::NeedCredentials(query)) => self.named(cx, query),
            Ok(sasl::Step::Failure(refusal)) | Err(refusal) => dialect.refuse_message(cx, refusal),
            Ok(sasl::Step::NeedDerivation(_) | sasl::Step::Success(_)) => dialect.refuse_step(cx),
        }
    }

    fn named(self, cx: &mut NegotiationCx<'_>, query: Query) -> NegotiationStep {
        let Begun { exchange, dialect } = self;
        // Without a host there is no login: the stream was refused.
        let Some(host) = cx.host else { return dialect.refuse_step(cx) };
        let jid = BareJid::new(&query.username, host.domain()).ok();
        cx.client.trail.names(&query.username, jid.as_ref());
        let name = jid.as_ref().map_or_else(|| query.username.clone(), |jid| jid.to_string());
        NegotiationStep::Ask(Named { exchange, dialect, query, jid }.into(), Need::Admit(name))
    }
}

impl Named {
    /// The client does not wait for the answer.
    pub fn on(self, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        match Request::of(element) {
            Some(_) => Opened.on(cx, element),
            None => super::out_of_place(self, cx, element),
        }
    }

    pub fn admitted(self, cx: &mut NegotiationCx<'_>, may: bool) -> NegotiationStep {
        if !may {
            cx.client.trail.because("too many failed before");
            return self.dialect.refuse(cx, SaslError::TemporaryAuthFailure, Opened);
        }
        match self.jid.clone().filter(|jid| cx.core.is_cold(jid)) {
            Some(jid) => NegotiationStep::Ask(self.into(), Need::Load(jid)),
            None => self.loaded(cx, Ok(())),
        }
    }

    pub fn put_off(self, cx: &mut NegotiationCx<'_>) -> NegotiationStep {
        cx.client.trail.put_off();
        self.dialect.say_failure(cx, SaslError::TemporaryAuthFailure);
        NegotiationStep::Stay(Opened.into())
    }

    /// See [`crate::c2s::Connection::prospect`].
    pub fn prospect(&self, core: &Core) -> (Class, bool) {
        let account = self.jid.as_ref().and_then(|jid| core.loaded(jid.as_str()));
        let returns = account.as_ref().is_some_and(|account| core.may_return(account));
        let reads = self.jid.as_ref().is_some_and(|jid| core.is_cold(jid));
        // Any hash will do: the client is about to send its password.
        let derives = self.query.hash.is_none();
        (if returns { Class::Returning } else { Class::New }, reads || derives)
    }

    pub fn loaded(self, cx: &mut NegotiationCx<'_>, found: Result<(), ()>) -> NegotiationStep {
        let Named { mut exchange, dialect, query, jid } = self;
        if found.is_err() {
            cx.client.trail.because("the account cannot be read");
            return dialect.refuse(cx, SaslError::TemporaryAuthFailure, Opened);
        }
        let Some(host) = cx.host else { return dialect.refuse_step(cx) };
        let account = jid.as_ref().and_then(|jid| cx.core.loaded(jid.as_str()));
        match &account {
            None => cx.client.trail.because("no such account"),
            Some(account) if account.lock().disabled => cx.client.trail.because("the account is disabled"),
            Some(account) if query.hash.is_some_and(|hash| !cx.core.has_keys(account, hash)) => {
                cx.client.trail.because("the account has no keys for this mechanism");
            }
            Some(_) => {}
        }
        let revocations = account.as_ref().map_or(0, |account| cx.core.revocations(account));
        let address = jid.map_or(query.username, |jid| jid.to_string());
        let credentials = cx.core.credentials(host, account.as_ref(), &address, query.hash);
        let step = exchange.account(sasl::Account { address, credentials });
        Proving { exchange, dialect, claimed: Claimed { account, revocations } }.follow(cx, step)
    }
}

impl Proving {
    pub fn on(mut self, cx: &mut NegotiationCx<'_>, element: &Element) -> NegotiationStep {
        match Request::of(element) {
            Some(Request::Response) => {
                let step = match words::message(element) {
                    Ok(data) => self.exchange.receive(data.as_ref().map(|data| data.as_slice())),
                    Err(refusal) => sasl::Step::Failure(refusal),
                };
                self.follow(cx, step)
            }
            Some(Request::Auth | Request::Abort) => Opened.on(cx, element),
            None => super::out_of_place(self, cx, element),
        }
    }

    pub fn derived(mut self, now: Timestamp, cx: &mut NegotiationCx<'_>, mut verdict: Verdict) -> NegotiationStep {
        let renewal = verdict.take_renewal();
        let step = self.exchange.verdict(verdict);
        if let sasl::Step::Success(authenticated) = &step
            && let Some(renewal) = renewal
            && let Some(lock) = cx.core.loaded(authenticated.account())
        {
            cx.core.renew_credentials(now, &lock, &renewal);
        }
        self.follow(cx, step)
    }

    fn follow(self, cx: &mut NegotiationCx<'_>, step: sasl::Step) -> NegotiationStep {
        match step {
            sasl::Step::Challenge(data) => {
                cx.say(&self.dialect.challenge(&data));
                NegotiationStep::Stay(self.into())
            }
            sasl::Step::NeedDerivation(check) => {
                // The password is known only here: missing keys can be derived from it.
                let account = self.claimed.account.as_ref();
                let (wanted, policy) = account.map(|account| cx.core.keys_to_make(account)).unwrap_or_default();
                let salted = wanted.into_iter().map(|hash| {
                    let mut salt = [0; SALT_BYTES];
                    cx.core.fill_random(&mut salt);
                    (hash, salt)
                });
                let check = check.making(salted.collect(), policy.iterations);
                NegotiationStep::Ask(self.into(), Need::Derive(Box::new(check)))
            }
            sasl::Step::Success(authenticated) => self.authenticated(cx, &authenticated),
            sasl::Step::Failure(refusal) => self.dialect.refuse_message(cx, refusal),
            sasl::Step::NeedCredentials(_) => self.dialect.refuse_step(cx),
        }
    }

    /// The identity of the session is set here and nowhere else.
    fn authenticated(self, cx: &mut NegotiationCx<'_>, proven: &sasl::Authenticated) -> NegotiationStep {
        let Proving { dialect, claimed: Claimed { account: claimed, revocations }, .. } = self;
        let Some(account) = cx.core.loaded(proven.account()) else {
            return dialect.refuse(cx, SaslError::TemporaryAuthFailure, Opened);
        };
        // The proven password may be that of a deleted account, or may have been replaced.
        let same = claimed.is_some_and(|claimed| Arc::ptr_eq(&claimed, &account));
        if !same || cx.core.revocations(&account) != revocations {
            cx.client.trail.because("the login was revoked while it was under way");
            return dialect.refuse(cx, SaslError::NotAuthorized, Opened);
        }
        cx.client.trail.succeeded(proven.account(), proven.mechanism());
        (cx.client.refused, cx.client.sent) = (0, 0);
        cx.core.counts.one(Count::of_login(proven.mechanism()));
        dialect.succeed(cx, Authenticated::new(account, revocations), proven.data())
    }
}
