//! The kernel: what every host, account and session hangs on. It does no I/O and asks no clock.

pub mod accounts;
pub(crate) mod checkpoints;
pub(crate) mod due;
pub(crate) mod flights;
mod inspect;
pub mod spilled;
pub(crate) mod turn;
pub mod watched;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard, RwLock};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::bounds::Bounds;
use crate::core::accounts::Accounts;
use crate::core::checkpoints::Checkpoints;
use crate::core::due::Trims;
use crate::core::flights::Flight;
use crate::core::spilled::Spilled;
use crate::module::facade::Kernel;
use crate::module::host::{Host, Serves};
use crate::module::registry::Names;
use crate::owner::account::{Account, AccountRef};
use crate::owner::state::{Map, TableKind};
use crate::owner::tables::{STORED_SESSION, Tables};
use crate::session::deadlines::Deadlines;
use crate::session::row::SessionRow;
use crate::session::{Flag, Session, Stream, Wake};
use crate::small::lasting::Conditions;
use crate::store::{BatchId, Journal, MapId, Owner};
use crate::watch::clock::Clock;
use crate::watch::counts::Counts;
use crate::watch::reserve::Reserve;
use crate::watch::trace::Traces;

/// Maximum length of a chain of stanzas each of which was caused by the one before.
pub(crate) const MAX_HOPS: u8 = 8;

/// Number of stanzas that were caused by others and are gathered before they go on. What one account says at once is gathered whole.
pub(crate) const MAX_GATHERED: usize = 1_024;

/// Fills bytes that nobody can guess.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// See the module's text.
pub struct Core {
    hosts: ArcSwap<HashMap<Box<str>, Arc<Host>, RandomState>>,
    pub(crate) accounts: Accounts,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) flights: Mutex<HashMap<BatchId, Flight, RandomState>>,
    /// the names of flags, slots and tables
    pub names: Arc<Names>,
    pub(crate) tables: Tables,
    pub(crate) progress: MapId,
    pub(crate) checkpoints: Checkpoints,
    interested: Flag,
    bounds: RwLock<Bounds>,
    /// of these, what each message is measured by
    offline_bytes: AtomicU64,
    connections: AtomicU64,
    /// from which fake salts are made: the same at each start
    pub(crate) secret: [u8; 32],
    /// accounts that have put something off, each with the beat at which it did
    pub(crate) dirty: Mutex<VecDeque<(u64, AccountRef)>>,
    pub(crate) beats: AtomicU64,
    pub(crate) trims: Mutex<Trims>,
    pub(crate) clock: Clock,
    pub(crate) deadlines: Deadlines,
    pub(crate) sweeping: Mutex<crate::core::due::Progress>,
    /// accounts that are to be looked after with the next tick: of those that are loaded
    pub(crate) urgent: Mutex<BTreeSet<BareJid>>,
    pub(crate) spilled: Spilled,
    loader: Mutex<Option<Arc<dyn Wake>>>,
    random: Mutex<Random>,
    /// what is counted
    pub counts: Arc<Counts>,
    /// free space, and whether there is too little for new promises
    pub reserve: Reserve,
    /// what lasts and would fill the log
    pub conditions: Conditions,
    place: OnceLock<String>,
    pub(crate) traces: Traces,
    /// this run of the server, among all there were
    run: u64,
    /// when the server started
    pub started: Timestamp,
}

impl Kernel for Core {
    fn started(&self) -> Timestamp {
        self.started
    }
    fn bounds(&self) -> Bounds {
        self.bounds()
    }
    fn random_id(&self) -> String {
        self.random_id()
    }
    fn interested(&self) -> Flag {
        self.interested
    }
    fn tables(&self) -> &Tables {
        &self.tables
    }
    fn epoch_of(&self, owner: Owner) -> u64 {
        self.epoch_of(owner)
    }
}

/// The core's own tables, registered before any module's.
pub fn core_names() -> Arc<Names> {
    let names = Names::default();
    Tables::new(&names);
    let _ = names.flag("interested");
    Arc::new(names)
}

impl Tables {
    fn new(names: &Names) -> Tables {
        fn map<K: crate::owner::state::Key, V: crate::owner::state::Value>(
            names: &Names,
            name: &'static str,
        ) -> Map<K, V> {
            Map { at: names.table(TableKind::of::<K, V>(name)), rows: std::marker::PhantomData }
        }
        Tables {
            roster: map(names, "roster"),
            roster_meta: map(names, "roster_meta"),
            sessions: {
                let kind = TableKind { reverse: Some(STORED_SESSION), ..TableKind::of::<u64, SessionRow>("session") };
                Map { at: names.table(kind), rows: std::marker::PhantomData }
            },
            ended: map(names, "ended_session"),
            directed: map(names, "directed_presence"),
            company: map(names, "company"),
            cursor: map(names, "cursor"),
            credentials: map(names, "credentials"),
            last_activity: map(names, "last_activity"),
            profiles: map(names, "key_profiles"),
        }
    }
}

impl Core {
    /// A kernel without hosts. `names` must be bound to the store; `progress` is the store's number for the map of that
    /// name. `secret` is the store's own, never told and never changed. `random` fills bytes from a source that nobody can guess (in the simulator: from the seed).
    pub fn new(
        journal: Arc<dyn Journal>,
        names: Arc<Names>,
        progress: MapId,
        secret: [u8; 32],
        random: Random,
        now: Timestamp,
    ) -> Core {
        let tables = Tables::new(&names);
        let interested = names.flag("interested").expect("the first flag of all");
        let (mut random, mut run) = (random, [0; 8]);
        random(&mut run);
        Core {
            hosts: ArcSwap::default(),
            accounts: Accounts::default(),
            journal,
            flights: Mutex::default(),
            names,
            tables,
            progress,
            checkpoints: Checkpoints::default(),
            interested,
            bounds: RwLock::default(),
            offline_bytes: AtomicU64::new(Bounds::default().offline_bytes),
            connections: AtomicU64::new(1),
            secret,
            dirty: Mutex::default(),
            beats: AtomicU64::new(0),
            trims: Mutex::default(),
            clock: Clock::default(),
            deadlines: Deadlines::default(),
            sweeping: Mutex::default(),
            urgent: Mutex::default(),
            spilled: Spilled::default(),
            loader: Mutex::default(),
            random: Mutex::new(random),
            counts: Arc::default(),
            reserve: Reserve::default(),
            conditions: Conditions::default(),
            place: OnceLock::new(),
            traces: Traces::default(),
            run: u64::from_be_bytes(run),
            started: now,
        }
    }

    /// Says where the data are, in the operator's words: the directory and its file system. Once.
    pub fn set_place(&self, place: String) {
        let _ = self.place.set(place);
    }

    /// Where the data are; none if nobody said.
    pub(crate) fn place(&self) -> Option<&str> {
        self.place.get().map(String::as_str)
    }

    /// What an account calls its numbers that this run gives: told to clients, and the same for no other account or run.
    pub(crate) fn epoch_of(&self, owner: Owner) -> u64 {
        // SplitMix64: each step can be undone, so that no two accounts have the same.
        let mut mixed = self.run.wrapping_add(owner.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The number of a connection that begins to log in: higher than that of any before.
    pub fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Swaps the hosts, all at once.
    pub fn set_hosts(&self, hosts: impl IntoIterator<Item = Arc<Host>>) {
        let map = hosts.into_iter().map(|host| (host.domain().into(), host)).collect();
        self.hosts.store(Arc::new(map));
    }

    /// What one account may have.
    pub fn bounds(&self) -> Bounds {
        *self.bounds.read()
    }

    /// Sets what one account may have, from now on.
    pub fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.write() = bounds;
        self.offline_bytes.store(bounds.offline_bytes, Ordering::Relaxed);
    }

    /// What may wait for one account, in bytes.
    pub(crate) fn offline_bytes(&self) -> u64 {
        self.offline_bytes.load(Ordering::Relaxed)
    }

    /// The host of this domain.
    pub fn host(&self, domain: &str) -> Option<Arc<Host>> {
        self.hosts.load().get(domain).cloned()
    }

    /// What we have this domain for, if it is ours.
    pub(crate) fn serves(&self, domain: &str) -> Option<Serves> {
        self.hosts.load().get(domain).map(|host| host.serves)
    }

    /// All hosts, by domain.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        let mut all: Vec<_> = self.hosts.load().values().cloned().collect();
        all.sort_by(|a, b| a.domain().cmp(b.domain()));
        all
    }

    /// Who is woken when an account must be loaded that no session waits for; see [`Core::spilled`].
    pub fn set_loader(&self, loader: Arc<dyn Wake>) {
        *self.loader.lock() = Some(loader);
    }

    pub(crate) fn wake_loader(&self) {
        if let Some(loader) = self.loader.lock().as_ref() {
            loader.wake();
        }
    }

    /// Fills bytes that nobody can guess.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        (self.random.lock())(bytes);
    }

    /// A new id of 128 unguessable bits, in letters and digits.
    pub fn random_id(&self) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bytes = [0; 26];
        self.fill_random(&mut bytes);
        bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect()
    }

    /// What is on the stream of a session, locked for a moment. By way of the kernel, which handlers of modules do not have: they
    /// run while streams are locked (see `facade.rs`).
    pub fn stream<'a>(&self, session: &'a Session) -> MutexGuard<'a, Stream> {
        session.stream()
    }

    /// When the account was last here, if it ever was.
    pub fn last_activity(&self, account: &Account) -> Option<crate::owner::tables::LastActivity> {
        account.states.get(self.tables.last_activity).cloned()
    }

    /// The flag of sessions that asked for the roster (RFC 6121 §2.2).
    pub fn interested(&self) -> Flag {
        self.interested
    }
}
