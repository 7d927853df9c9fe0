//! Who takes part in what, on one host: the modules' registrations in the order of phases and of their list.

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use vorpal_proto::element::Element;
use vorpal_proto::error::StanzaError;
use vorpal_proto::ns::Ns;
use vorpal_proto::stanza::{Kind, Stanza};

use crate::module::hook::{
    Dir, FeatureMaker, Flow, FormMaker, IqHandler, MessageCx, MessageHandler, NonzaHandler, OpenAccount,
    OutboundHandler, SessionCx, SessionHandler, WithholdHandler,
};
use crate::module::sweep::SweepHandler;
use crate::module::{At, Module, Phase, Result, Section, Setup, SetupError, Stage, Xep};
use crate::owner::cold::ColdKind;
use crate::owner::state::{TableKind, UNBOUND};
use crate::session::Out;
use crate::session::guard::Guard;
use crate::session::guard::{Outgoing, Verdict};
use crate::session::{Flag, Slot};
use crate::store::{self, Loading, MapId, StoreError};

/// The child of an IQ that somebody answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IqKey {
    at: At,
    set: bool,
    ns: u16,
    name: &'static str,
}

impl IqKey {
    pub(crate) fn new(at: At, set: bool, ns: Ns, name: &'static str) -> IqKey {
        IqKey { at, set, ns: ns.id(), name }
    }
}

/// Names that are numbers: flags, slots and tables. One list for the whole process; it only grows.
#[derive(Default)]
pub struct Names {
    flags: Mutex<Vec<&'static str>>,
    slots: Mutex<Vec<&'static str>>,
    /// shared with the accounts
    pub(crate) tables: Mutex<Arc<Vec<TableKind>>>,
    /// maps and collections of blobs that are not loaded with their owners
    cold: Mutex<Vec<ColdKind>>,
}

const MAX_FLAGS: usize = 64;

fn number(list: &mut Vec<&'static str>, name: &'static str) -> usize {
    list.iter().position(|n| *n == name).unwrap_or_else(|| {
        list.push(name);
        list.len() - 1
    })
}

impl Names {
    pub(crate) fn flag(&self, name: &'static str) -> Option<Flag> {
        let at = number(&mut self.flags.lock(), name);
        (at < MAX_FLAGS).then_some(Flag(at as u8))
    }

    /// The names of the flags that are set: as they are stored, since numbers may change from one start to the next.
    pub(crate) fn flag_names(&self, bits: u64) -> Vec<String> {
        let flags = self.flags.lock();
        flags.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, name)| (*name).into()).collect()
    }

    /// The bits of the flags of these names; a name that nobody asks for any more has none.
    pub(crate) fn flag_bits(&self, names: &[String]) -> u64 {
        let flags = self.flags.lock();
        flags
            .iter()
            .enumerate()
            .filter(|(_, name)| names.iter().any(|n| n == *name))
            .fold(0, |bits, (at, _)| bits | 1 << at)
    }

    pub(crate) fn slot<T>(&self, name: &'static str) -> Slot<T> {
        Slot { at: number(&mut self.slots.lock(), name), value: std::marker::PhantomData }
    }

    pub(crate) fn table(&self, kind: TableKind) -> usize {
        let mut tables = self.tables.lock();
        tables.iter().position(|t| t.name == kind.name).unwrap_or_else(|| {
            Arc::make_mut(&mut tables).push(kind);
            tables.len() - 1
        })
    }

    /// What is written to an account that has rows of this table is judged by them.
    pub(crate) fn guard(&self, at: usize) {
        let mut tables = self.tables.lock();
        if !tables[at].guards {
            Arc::make_mut(&mut tables)[at].guards = true;
        }
    }

    /// A copy to try a configuration on: what is registered there reaches nobody.
    pub fn trial(&self) -> Names {
        Names {
            flags: Mutex::new(self.flags.lock().clone()),
            slots: Mutex::new(self.slots.lock().clone()),
            tables: Mutex::new(self.tables.lock().clone()),
            cold: Mutex::new(self.cold.lock().clone()),
        }
    }

    /// The tables that the store has not been asked for: whoever registered them can only be there after a restart.
    pub fn unbound(&self) -> Vec<&'static str> {
        let tables = self.tables.lock();
        let cold = self.cold.lock();
        let loaded = tables.iter().map(|table| (table.map, table.name));
        let all = loaded.chain(cold.iter().map(|cold| (cold.map, cold.name)));
        all.filter(|(map, _)| *map == UNBOUND).map(|(_, name)| name).collect()
    }

    /// Asks the store for the numbers of all tables that have none yet.
    ///
    /// # Errors
    /// The store's; also if a table was loaded with its owners when it was first made and is not now, or the other way round.
    pub fn bind(&self, mut number: impl FnMut(&str, Loading) -> store::Result<MapId>) -> store::Result<()> {
        let mut number = |name: &str, loading: Loading| match number(name, loading)? {
            map if map.loading() == loading => Ok(map),
            _ => Err(StoreError::Bug("a table is loaded in another way than when it was made")),
        };
        for table in Arc::make_mut(&mut self.tables.lock()).iter_mut().filter(|t| t.map == UNBOUND) {
            table.map = number(table.name, Loading::WithOwner)?;
        }
        for cold in self.cold.lock().iter_mut().filter(|cold| cold.map == UNBOUND) {
            cold.map = number(cold.name, Loading::Cold)?;
        }
        Ok(())
    }

    /// The place of a table that is not loaded with its owners. Nothing if the name stands for another one.
    pub(crate) fn cold(&self, name: &'static str, types: TypeId) -> Option<usize> {
        if self.tables.lock().iter().any(|table| table.name == name) {
            return None;
        }
        let mut cold = self.cold.lock();
        match cold.iter().position(|kind| kind.name == name) {
            Some(at) => (cold[at].types == types).then_some(at),
            None => {
                cold.push(ColdKind { name, types, map: UNBOUND });
                Some(cold.len() - 1)
            }
        }
    }

    /// Whether the name stands for a table that is not loaded with its owners.
    pub(crate) fn is_cold(&self, name: &str) -> bool {
        self.cold.lock().iter().any(|kind| kind.name == name)
    }

    /// The number that the store gave a table that is not loaded with its owners.
    pub(crate) fn cold_id(&self, at: usize) -> MapId {
        self.cold.lock()[at].map
    }

    /// Where the table is that the store knows by this number; nothing if no module asks for it any more.
    pub(crate) fn table_at(&self, map: MapId) -> Option<usize> {
        self.tables.lock().iter().position(|t| t.map == map)
    }

    /// The number that the store gave a table.
    pub(crate) fn map_id(&self, at: usize) -> MapId {
        self.tables.lock()[at].map
    }
}

/// Module, name of the element, handler.
type ByName<T> = Vec<(&'static str, &'static str, T)>;

/// Module and handler, in order.
type List<T> = Vec<(&'static str, T)>;

/// Everything that is registered on one host.
pub struct Registry {
    pub(crate) names: Arc<Names>,
    pub(crate) modules: Vec<&'static Module>,
    pub(crate) features: Vec<&'static str>,
    pub(crate) account_features: Vec<&'static str>,
    pub(crate) message: [List<MessageHandler>; Phase::COUNT],
    /// phases in which somebody takes part on the sender's side of a message
    pub(crate) message_sent: [bool; Phase::COUNT],
    pub(crate) presence: [List<MessageHandler>; Phase::COUNT],
    pub(crate) iq_gate: List<MessageHandler>,
    pub(crate) outbound: List<OutboundHandler>,
    pub(crate) withholds: List<WithholdHandler>,
    pub(crate) on_bind: List<SessionHandler>,
    pub(crate) on_resume: List<SessionHandler>,
    pub(crate) on_revive: List<SessionHandler>,
    pub(crate) on_close: List<SessionHandler>,
    pub(crate) on_switched_off: List<SessionHandler>,
    pub(crate) stream_features: Vec<(&'static str, Stage, FeatureMaker)>,
    pub(crate) forms: Vec<FormMaker>,
    pub(crate) sweeps: List<SweepHandler>,
    iq: HashMap<(At, bool, u16), ByName<IqHandler>>,
    nonza: HashMap<u16, ByName<NonzaHandler>>,
    /// what modules took that have been switched off since the start, and nobody takes now
    formerly: HashSet<(u16, &'static str)>,
    error: Option<SetupError>,
}

impl Registry {
    /// Sets up the modules of one host, in this order. `section` gives a module's configuration.
    pub fn build(
        modules: impl IntoIterator<Item = &'static Module>,
        names: Arc<Names>,
        section: impl Fn(&str) -> Option<Section>,
    ) -> Result<Registry> {
        let mut registry = Registry {
            names,
            modules: Vec::new(),
            features: Vec::new(),
            account_features: Vec::new(),
            message: Default::default(),
            message_sent: Default::default(),
            presence: Default::default(),
            iq_gate: Vec::new(),
            outbound: Vec::new(),
            withholds: Vec::new(),
            on_bind: Vec::new(),
            on_resume: Vec::new(),
            on_revive: Vec::new(),
            on_close: Vec::new(),
            on_switched_off: Vec::new(),
            stream_features: Vec::new(),
            forms: Vec::new(),
            sweeps: Vec::new(),
            iq: HashMap::new(),
            nonza: HashMap::new(),
            formerly: HashSet::new(),
            error: None,
        };
        for module in modules {
            let section = section(module.name);
            (module.setup)(&mut Setup { module, registry: &mut registry, section: section.as_ref() })?;
            if let Some(error) = registry.error.take() {
                return Err(error);
            }
            registry.modules.push(module);
        }
        registry.features.sort_unstable();
        registry.features.dedup();
        registry.account_features.sort_unstable();
        registry.account_features.dedup();
        Ok(registry)
    }

    /// The first thing at fault is what the setup of the host fails with.
    pub(crate) fn refuse(&mut self, error: SetupError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn add_iq(&mut self, module: &'static str, key: IqKey, handler: IqHandler) {
        let list = self.iq.entry((key.at, key.set, key.ns)).or_default();
        if let Some((other, ..)) = list.iter().find(|(_, name, _)| *name == key.name) {
            let what = format!("iq {} <{}/> at {:?}", if key.set { "set" } else { "get" }, key.name, key.at);
            self.error.get_or_insert(SetupError::Taken { module, other, what });
            return;
        }
        list.push((module, key.name, handler));
    }

    pub(crate) fn add_nonza(&mut self, module: &'static str, ns: Ns, name: &'static str, handler: NonzaHandler) {
        let list = self.nonza.entry(ns.id()).or_default();
        if let Some((other, ..)) = list.iter().find(|(_, n, _)| *n == name) {
            self.error.get_or_insert(SetupError::Taken { module, other, what: format!("<{name}/>") });
            return;
        }
        list.push((module, name, handler));
    }

    /// Who answers this child there.
    pub(crate) fn iq(&self, at: At, set: bool, ns: u16, name: &str) -> Option<(&'static str, &IqHandler)> {
        let list = self.iq.get(&(at, set, ns))?;
        list.iter().find(|(_, n, _)| *n == name).map(|(module, _, handler)| (*module, handler))
    }

    pub(crate) fn nonza(&self, ns: u16, name: &str) -> Option<(&'static str, &NonzaHandler)> {
        let list = self.nonza.get(&ns)?;
        list.iter().find(|(_, n, _)| *n == name).map(|(module, _, handler)| (*module, handler))
    }

    /// This registry takes the place of another on a host.
    pub(crate) fn succeed(&mut self, before: &Registry) {
        let taken = before.nonza.iter().flat_map(|(ns, list)| {
            let key = |(_, name, _): &(&'static str, &'static str, NonzaHandler)| (*ns, *name);
            list.iter().map(key)
        });
        let known: HashSet<_> = taken.chain(before.formerly.iter().copied()).collect();
        self.formerly = known.into_iter().filter(|(ns, name)| self.nonza(*ns, name).is_none()).collect();
    }

    /// Whether a module took this element that is switched off now.
    pub(crate) fn took_formerly(&self, ns: u16, name: &str) -> bool {
        self.formerly.iter().any(|known| *known == (ns, name))
    }

    /// The handlers that sessions are told by that a module is gone: of the modules that the registry after this one does not have.
    pub(crate) fn farewells<'a>(
        &'a self,
        after: &'a Registry,
    ) -> impl Iterator<Item = &'a (&'static str, SessionHandler)> + Clone {
        let stays = |name: &str| after.modules.iter().any(|module| module.name == name);
        self.on_switched_off.iter().filter(move |(module, _)| !stays(module))
    }

    /// The handlers of one phase for stanzas of this kind.
    pub(crate) fn handlers(&self, phase: Phase, kind: Kind) -> &[(&'static str, MessageHandler)] {
        match kind {
            Kind::Message => &self.message[phase as usize],
            Kind::Presence => &self.presence[phase as usize],
            Kind::Iq => &self.iq_gate,
        }
    }

    /// Whether there are handlers of one phase for stanzas of this kind, on this side.
    pub(crate) fn handles(&self, phase: Phase, kind: Kind, dir: Dir) -> bool {
        let skips = kind == Kind::Message && dir == Dir::Sent && !self.message_sent[phase as usize];
        !skips && !self.handlers(phase, kind).is_empty()
    }

    /// Runs the handlers of one phase. The first that does not say Next decides, and its module is named; `None` if all do. A panic is
    /// decided by the phase. What a handler that panics has asked for is dropped.
    pub(crate) fn run(
        &self,
        list: &[(&'static str, MessageHandler)],
        phase: Phase,
        cx: &mut MessageCx<'_>,
        stanza: &mut Stanza,
    ) -> Option<(Flow, &'static str)> {
        for (module, handler) in list {
            let mark = cx.fx.mark();
            let flow = catch_unwind(AssertUnwindSafe(|| handler(cx, stanza)));
            match flow {
                Ok(Flow::Next) => {}
                Ok(flow) => {
                    let (decision, reason) = flow.decision();
                    let (phase, side, account) = (phase.name(), cx.dir.name(), &cx.account.jid);
                    tracing::debug!(module, phase, side, %account, decision, reason, "stanza stopped");
                    return Some((flow, module));
                }
                Err(_) => {
                    tracing::error!(module, phase = phase.name(), "a handler panicked");
                    cx.fx.undo_since(&mark);
                    if phase != Phase::Copy {
                        return Some((Flow::Bounce("panic", StanzaError::internal_server_error()), module));
                    }
                }
            }
        }
        None
    }

    /// Whether a stanza may be written to the session now. The first that does not say Send decides.
    pub(crate) fn judge(&self, cx: &Outgoing<'_>, stanza: &mut Stanza) -> Verdict {
        for (module, handler) in &self.outbound {
            match catch_unwind(AssertUnwindSafe(|| handler(cx, stanza))) {
                Ok(Verdict::Send) => {}
                Ok(verdict) => return verdict,
                Err(_) => tracing::error!(module, "an outbound handler panicked"),
            }
        }
        Verdict::Send
    }

    /// Whether a stanza is not to be written to a session of the account: if one says so. A handler that panics closes the gate.
    pub(crate) fn withholds(&self, account: OpenAccount<'_>, stanza: &Stanza) -> bool {
        self.withholds.iter().any(|(module, handler)| {
            catch_unwind(AssertUnwindSafe(|| handler(account, stanza))).unwrap_or_else(|_| {
                tracing::error!(module, "a handler of what is withheld panicked");
                true
            })
        })
    }

    pub(crate) fn session_event(list: &[(&'static str, SessionHandler)], cx: &mut SessionCx<'_>) {
        for (module, handler) in list {
            let mark = cx.fx.mark();
            if catch_unwind(AssertUnwindSafe(|| handler(cx))).is_err() {
                cx.fx.undo_since(&mark);
                tracing::error!(module, "a session handler panicked");
            }
        }
    }

    /// The stream features that modules offer at this stage.
    pub fn stream_features(&self, stage: Stage) -> impl Iterator<Item = Element> {
        self.stream_features.iter().filter(move |(_, s, _)| *s == stage).map(|(.., make)| make(self))
    }

    /// The features of disco#info at the host.
    pub fn features(&self) -> &[&'static str] {
        &self.features
    }

    /// The data forms of disco#info at the host (XEP-0128).
    pub fn forms(&self) -> impl Iterator<Item = Element> {
        self.forms.iter().map(|make| make())
    }

    /// The features of disco#info at an account.
    pub fn account_features(&self) -> &[&'static str] {
        &self.account_features
    }

    /// The modules that are set up, in order, with what they implement.
    pub fn modules(&self) -> impl Iterator<Item = (&'static str, &'static [Xep])> {
        self.modules.iter().map(|m| (m.name, m.xeps))
    }

    /// Every hook that is taken, in the order in which a stanza meets them, with the modules in the order in which they
    /// run: what `vorpal flow` prints.
    pub fn flow(&self) -> Vec<(String, Vec<&'static str>)> {
        fn names<T>(list: &[(&'static str, T)]) -> Vec<&'static str> {
            list.iter().map(|(module, _)| *module).collect()
        }
        let mut rows = Vec::new();
        for (kind, phases) in [("message", &self.message), ("presence", &self.presence)] {
            rows.extend(
                Phase::ALL.iter().zip(phases).map(|(phase, list)| (format!("{kind}/{}", phase.name()), names(list))),
            );
        }
        rows.push(("iq/Gate".into(), names(&self.iq_gate)));
        rows.push(("outbound".into(), names(&self.outbound)));
        rows.push(("withheld".into(), names(&self.withholds)));
        rows.push(("bind".into(), names(&self.on_bind)));
        rows.push(("resume".into(), names(&self.on_resume)));
        rows.push(("revive".into(), names(&self.on_revive)));
        rows.push(("close".into(), names(&self.on_close)));
        rows.push(("switched off".into(), names(&self.on_switched_off)));
        rows.push(("each account".into(), names(&self.sweeps)));
        for stage in Stage::ALL {
            let made = self.stream_features.iter().filter(|(_, s, _)| *s == stage);
            rows.push((format!("stream features when {stage:?}"), made.map(|(module, ..)| *module).collect()));
        }
        rows.retain(|(_, modules)| !modules.is_empty());
        rows.iter_mut().for_each(|(_, modules)| modules.dedup());
        let mut nonzas: Vec<_> = self
            .nonza
            .iter()
            .flat_map(|(ns, list)| {
                let ns = known(*ns);
                list.iter().map(move |(module, name, _)| (format!("nonza <{name} xmlns='{ns}'/>"), vec![*module]))
            })
            .collect();
        nonzas.sort();
        rows.extend(nonzas);
        let mut answers: Vec<_> = self
            .iq
            .iter()
            .flat_map(|((at, set, ns), list)| {
                let (kind, ns) = (if *set { "set" } else { "get" }, known(*ns));
                list.iter().map(move |(module, name, _)| {
                    (format!("iq {kind} <{name} xmlns='{ns}'/> at {at:?}"), vec![*module])
                })
            })
            .collect();
        answers.sort();
        rows.extend(answers);
        rows
    }

    /// What a module takes part in, of the rows of [`Registry::flow`].
    pub fn hooks_of(&self, module: &str) -> Vec<String> {
        self.flow().into_iter().filter(|(_, modules)| modules.contains(&module)).map(|(hook, _)| hook).collect()
    }
}

/// The namespace of this number; a question mark for one that the table does not list.
fn known(ns: u16) -> &'static str {
    Ns::known(ns).map_or("?", Ns::as_str)
}

/// Of an account that is locked.
pub(crate) struct Guarded<'a> {
    pub registry: &'a Registry,
    pub account: OpenAccount<'a>,
    /// what was withheld: tell [`Turn::withheld`](crate::core::turn::Turn::withheld)
    pub withheld: &'a mut Vec<Out>,
}

impl Guard for Guarded<'_> {
    fn judge(&mut self, to: &Outgoing<'_>, stanza: &mut Stanza) -> Verdict {
        self.registry.judge(to, stanza)
    }

    fn withholds(&mut self, stanza: &Stanza) -> bool {
        self.registry.withholds(self.account, stanza)
    }

    fn keep(&mut self, out: Out) {
        self.withheld.push(out);
    }
}

/// Of an account that keeps no list.
pub(crate) struct Unguarded<'a>(pub &'a Registry);

impl Guard for Unguarded<'_> {
    fn judge(&mut self, to: &Outgoing<'_>, stanza: &mut Stanza) -> Verdict {
        self.0.judge(to, stanza)
    }

    fn withholds(&mut self, _: &Stanza) -> bool {
        false
    }

    fn keep(&mut self, _: Out) {}
}
