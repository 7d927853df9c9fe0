//! What a module is, and what it may register: a constant and a function.
//!
//! `setup` is the table of contents of a module: everything it takes part in stands there, and nothing else happens
//! there. It runs once for each host at start and at each reload. See [`crate::module::hook`] for what the handlers get and
//! may do.

pub mod effects;
pub mod facade;
pub mod hook;
pub mod host;
pub mod registry;
pub(crate) mod storage;
pub mod sweep;

use serde::de::DeserializeOwned;
use vorpal_proto::element::Element;
use vorpal_proto::error::StanzaError;
use vorpal_proto::ns::Ns;
use vorpal_proto::stanza::Stanza;

use crate::module::hook::{Dir, Flow, IqCx, IqHandler, MessageCx, OpenAccount, PresenceCx, SessionCx};
use crate::module::registry::{IqKey, Registry};
use crate::module::sweep::SweepCx;
use crate::owner::state::{Cell, Key, Map, TableKind, Value};
use crate::session::guard::{Outgoing, Verdict};
use crate::session::inquiries::{Answer, Said};
use crate::session::{Flag, Slot};
use crate::store;

/// A module: its name, what it implements, and how it takes part.
pub struct Module {
    /// The name: of its file, of its section of the configuration, of its fields in logs.
    pub name: &'static str,
    /// The extensions it implements, with the version of the text that was read.
    pub xeps: &'static [Xep],
    /// Registers everything.
    pub setup: fn(&mut Setup<'_>) -> Result,
}

/// An extension and the version of its text.
#[derive(Clone, Copy, Debug)]
pub struct Xep(pub u16, pub &'static str);

/// What `setup` returns.
pub type Result<T = ()> = std::result::Result<T, SetupError>;

/// Why a module could not be set up: the operator must act, or two modules are at odds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The module's section of the configuration.
    #[error("[modules.{module}]: {reason}")]
    Config {
        /// whose section
        module: &'static str,
        /// in the operator's words
        reason: String,
    },
    /// Two modules claim one thing.
    #[error("module {module} claims {what}, which {other} has")]
    Taken {
        /// the later one
        module: &'static str,
        /// the earlier one
        other: &'static str,
        /// what both want
        what: String,
    },
    /// A phase that this kind of stanza does not go through.
    #[error("module {0} wants presence in the phase {1:?}, which presence does not have")]
    NoSuchPhase(&'static str, Phase),
    /// A table that was asked for before, with other types or to be loaded otherwise.
    #[error("module {0} asks for the table {1}, which is of another kind")]
    OtherTable(&'static str, &'static str),
    /// More session flags than an atomic has bits.
    #[error("module {0} asks for a session flag, and all 64 are taken")]
    NoFlags(&'static str),
}

/// The stages through which a stanza goes on each side, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// May it pass, and to which sessions? May drop, bounce, exclude. A panic here bounces.
    Gate,
    /// Remove what the peer may not claim of us. A panic here bounces.
    Clean,
    /// Promise it: the log. The plan is known from here on. A panic here bounces.
    Record,
    /// Who else should see it. A panic here is logged, and the stanza goes on.
    Copy,
    /// Last edits for this receiver. A panic here bounces.
    Seal,
}

impl Phase {
    pub(crate) const COUNT: usize = 5;
    /// All phases in order.
    pub const ALL: [Phase; Phase::COUNT] = [Phase::Gate, Phase::Clean, Phase::Record, Phase::Copy, Phase::Seal];

    /// Its name, as `vorpal flow` and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Gate => "Gate",
            Phase::Clean => "Clean",
            Phase::Record => "Record",
            Phase::Copy => "Copy",
            Phase::Seal => "Seal",
        }
    }
}

/// Whom an IQ is for, and who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// To the server's own domain, from anybody.
    Host,
    /// To the asker's own account: its bare address, or no address at all.
    OwnAccount,
    /// To the bare address of an account, from a contact who may see its presence.
    Contacts,
    /// To the bare address of an account, from anybody.
    Anyone,
}

/// When a stream feature is offered (RFC 6120 §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// To a client that may log in and has not: under TLS, where that is required.
    Opened,
    /// To a client that is logged in and has no session.
    Authenticated,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 2] = [Stage::Opened, Stage::Authenticated];
}

/// A module's section of the configuration, not yet read.
pub type Section = toml::Table;

/// What `setup` works on.
pub struct Setup<'a> {
    pub(crate) module: &'static Module,
    pub(crate) registry: &'a mut Registry,
    pub(crate) section: Option<&'a Section>,
}

impl Setup<'_> {
    /// The module's configuration for this host. Unknown keys and values out of range are errors that name the place.
    pub fn config<T: DeserializeOwned + Default>(&self) -> Result<T> {
        let Some(section) = self.section else { return Ok(T::default()) };
        T::deserialize(section.clone())
            .map_err(|e| SetupError::Config { module: self.module.name, reason: e.to_string() })
    }

    /// A feature of the server, told by disco#info at the host (XEP-0030 §3).
    pub fn feature(&mut self, ns: Ns) {
        self.registry.features.push(ns.as_str());
    }

    /// A feature of every account, told by disco#info at its bare address.
    pub fn account_feature(&mut self, ns: Ns) {
        self.registry.account_features.push(ns.as_str());
    }

    /// A data form in the host's disco#info (XEP-0128). Its field `FORM_TYPE` is hidden, and no other form has its value.
    pub fn disco_form(&mut self, form: impl Fn() -> Element + Send + Sync + 'static) {
        self.registry.forms.push(Box::new(form));
    }

    /// Answers `<iq type='get'/>` with this child.
    pub fn iq_get(
        &mut self,
        at: At,
        ns: Ns,
        name: &'static str,
        answer: impl Fn(&mut IqCx<'_>, &Element) -> Answer + Send + Sync + 'static,
    ) {
        self.iq(IqKey::new(at, false, ns, name), IqHandler::Answers(Box::new(answer)));
    }

    /// Answers `<iq type='set'/>` with this child.
    pub fn iq_set(
        &mut self,
        at: At,
        ns: Ns,
        name: &'static str,
        answer: impl Fn(&mut IqCx<'_>, &Element) -> Answer + Send + Sync + 'static,
    ) {
        self.iq(IqKey::new(at, true, ns, name), IqHandler::Answers(Box::new(answer)));
    }

    /// Answers `<iq type='get'/>` with this child by reading the store: the handler says what is to be read, and how the
    /// answer is made of it; or it has the answer, as one of [`Setup::iq_get`]. A job changes nothing. See [`crate::route::reading`].
    pub fn iq_get_reading<S: Into<Said>>(
        &mut self,
        at: At,
        ns: Ns,
        name: &'static str,
        ask: impl Fn(&mut IqCx<'_>, &Element) -> std::result::Result<S, StanzaError> + Send + Sync + 'static,
    ) {
        let ask = move |cx: &mut IqCx<'_>, payload: &Element| ask(cx, payload).map(Into::into);
        self.iq(IqKey::new(at, false, ns, name), IqHandler::Reads(Box::new(ask)));
    }

    /// The same for `<iq type='set'/>`.
    pub fn iq_set_reading<S: Into<Said>>(
        &mut self,
        at: At,
        ns: Ns,
        name: &'static str,
        ask: impl Fn(&mut IqCx<'_>, &Element) -> std::result::Result<S, StanzaError> + Send + Sync + 'static,
    ) {
        let ask = move |cx: &mut IqCx<'_>, payload: &Element| ask(cx, payload).map(Into::into);
        self.iq(IqKey::new(at, true, ns, name), IqHandler::Reads(Box::new(ask)));
    }

    fn iq(&mut self, key: IqKey, answer: IqHandler) {
        let module = self.module.name;
        self.registry.add_iq(module, key, answer);
    }

    /// Takes part in every message, on the side of its sender and on that of its receiver.
    pub fn on_message(
        &mut self,
        phase: Phase,
        handler: impl Fn(&mut MessageCx<'_>, &mut Stanza) -> Flow + Send + Sync + 'static,
    ) {
        self.registry.message[phase as usize].push((self.module.name, Box::new(handler)));
        self.registry.message_sent[phase as usize] = true;
    }

    /// Takes part in every message on the side of its receiver only: nothing is called on that of its sender.
    pub fn on_received_message(
        &mut self,
        phase: Phase,
        handler: impl Fn(&mut MessageCx<'_>, &mut Stanza) -> Flow + Send + Sync + 'static,
    ) {
        let received = move |cx: &mut MessageCx<'_>, msg: &mut Stanza| match cx.dir {
            Dir::Sent => Flow::Next,
            Dir::Received => handler(cx, msg),
        };
        self.registry.message[phase as usize].push((self.module.name, Box::new(received)));
    }

    /// Takes part in every presence that changes no subscription, judged for each peer by itself. Presence is neither
    /// recorded nor copied: of those two phases there is none.
    pub fn on_presence(
        &mut self,
        phase: Phase,
        handler: impl Fn(&mut PresenceCx<'_>, &mut Stanza) -> Flow + Send + Sync + 'static,
    ) {
        if matches!(phase, Phase::Record | Phase::Copy) {
            self.registry.refuse(SetupError::NoSuchPhase(self.module.name, phase));
            return;
        }
        self.registry.presence[phase as usize].push((self.module.name, Box::new(handler)));
    }

    /// Judges every IQ that goes from or to an account: the phase is always [`Phase::Gate`].
    pub fn on_iq(&mut self, handler: impl Fn(&mut MessageCx<'_>, &mut Stanza) -> Flow + Send + Sync + 'static) {
        self.registry.iq_gate.push((self.module.name, Box::new(handler)));
    }

    /// Judges each stanza just before it gets its number on a session's stream: send, hold, or drop.
    pub fn on_outbound(&mut self, handler: impl Fn(&Outgoing<'_>, &mut Stanza) -> Verdict + Send + Sync + 'static) {
        self.registry.outbound.push((self.module.name, Box::new(handler)));
    }

    /// Says of each stanza that is about to be written to a session whether it is withheld: for good, as if the client had
    /// acknowledged it. Asked at the last moment, behind everything that waits and [`Setup::on_outbound`], and only where the
    /// account of the session has rows in this list.
    pub fn withholds<K: Key, V: Value>(
        &mut self,
        list: Map<K, V>,
        handler: impl Fn(OpenAccount<'_>, &Stanza) -> bool + Send + Sync + 'static,
    ) {
        self.registry.names.guard(list.at);
        self.registry.withholds.push((self.module.name, Box::new(handler)));
    }

    /// Takes a top-level element that is not a stanza, from a session. Before there is one, the negotiation takes all elements: a
    /// handler would have no session to work on.
    pub fn on_nonza(
        &mut self,
        ns: Ns,
        name: &'static str,
        handler: impl Fn(&mut SessionCx<'_>, &Element) + Send + Sync + 'static,
    ) {
        self.registry.add_nonza(self.module.name, ns, name, Box::new(handler));
    }

    /// A stream feature (RFC 6120 §4.3.2) offered at this stage.
    pub fn stream_feature(&mut self, stage: Stage, feature: impl Fn() -> Element + Send + Sync + 'static) {
        self.stream_feature_of_host(stage, move |_| feature());
    }

    /// The same, made of what is registered on the host when the stream begins.
    pub fn stream_feature_of_host(
        &mut self,
        stage: Stage,
        feature: impl Fn(&Registry) -> Element + Send + Sync + 'static,
    ) {
        self.registry.stream_features.push((self.module.name, stage, Box::new(feature)));
    }

    /// A session came to be (RFC 6120 §7).
    pub fn on_bind(&mut self, handler: impl Fn(&mut SessionCx<'_>) + Send + Sync + 'static) {
        self.registry.on_bind.push((self.module.name, Box::new(handler)));
    }

    /// A session has a new connection (XEP-0198 §5).
    pub fn on_resume(&mut self, handler: impl Fn(&mut SessionCx<'_>) + Send + Sync + 'static) {
        self.registry.on_resume.push((self.module.name, Box::new(handler)));
    }

    /// After `on_resume`, if the server was started anew since the client was here: what was on its way to it then is lost, but
    /// for messages. Whatever it does not ask for again is to be sent.
    pub fn on_revive(&mut self, handler: impl Fn(&mut SessionCx<'_>) + Send + Sync + 'static) {
        self.registry.on_revive.push((self.module.name, Box::new(handler)));
    }

    /// A session ended for good.
    pub fn on_close(&mut self, handler: impl Fn(&mut SessionCx<'_>) + Send + Sync + 'static) {
        self.registry.on_close.push((self.module.name, Box::new(handler)));
    }

    /// The module is switched off by a reload, and the session goes on. Whatever the module keeps from its client is to be sent.
    ///
    /// A session's client knows the features of its stream from the time when it began, and goes on to use them (RFC 6120
    /// §4.3.2). So what the module took with [`Setup::on_nonza`] is ignored from here on, and ends no stream.
    pub fn on_switched_off(&mut self, handler: impl Fn(&mut SessionCx<'_>) + Send + Sync + 'static) {
        self.registry.on_switched_off.push((self.module.name, Box::new(handler)));
    }

    /// Looks after each account of the host about once an hour, whether somebody uses it or not. Runs where waiting for the
    /// store is allowed; of one account only as much as is done in a moment, see [`SweepCx::again`].
    pub fn each_account(&mut self, handler: impl Fn(&mut SweepCx<'_>) -> store::Result<()> + Send + Sync + 'static) {
        self.registry.sweeps.push((self.module.name, Box::new(handler)));
    }

    /// One bit for each session, readable by everybody who holds it.
    pub fn session_flag(&mut self, name: &'static str) -> Result<Flag> {
        self.registry.names.flag(name).ok_or(SetupError::NoFlags(self.module.name))
    }

    /// A value for each session.
    pub fn session_slot<T: Default + Send + 'static>(&mut self, name: &'static str) -> Slot<T> {
        self.registry.names.slot(name)
    }

    /// A list for each account, one row per key.
    pub fn account_map<K: Key, V: Value>(&mut self, name: &'static str) -> Map<K, V> {
        if self.registry.names.is_cold(name) {
            self.registry.refuse(SetupError::OtherTable(self.module.name, name));
        }
        let at = self.registry.names.table(TableKind::of::<K, V>(name));
        Map { at, rows: std::marker::PhantomData }
    }

    /// A single value for each account.
    pub fn account_state<T: Value>(&mut self, name: &'static str) -> Cell<T> {
        self.account_map(name)
    }
}
