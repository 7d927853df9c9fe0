//! The kernel: what every host, account and session hangs on. It does no I/O and asks no clock.

pub mod accounts;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard, RwLock};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::Stanza;

use crate::commit::Flight;
use crate::commit::checkpoint::Checkpoints;
use crate::core::accounts::Accounts;
use crate::life::resume::Ended;
use crate::life::revive::{DirectedKey, SessionRow};
use crate::life::trim::Trims;
use crate::module::effects::Judge;
use crate::module::host::{Host, Serves};
use crate::module::registry::Names;
use crate::owner::account::{Account, AccountRef};
use crate::owner::company::Company;
use crate::owner::cursor::Cursor;
use crate::owner::roster::{RosterItem, RosterMeta};
use crate::owner::state::{Cell, Map, TableKind};
use crate::route::cold::Spilled;
use crate::route::presence::Fan;
use crate::session::{Flag, Session, SessionId, Stream, Wake};
use crate::small::deadlines::Deadlines;
use crate::small::lasting::Conditions;
use crate::store::{BatchId, Journal, MapId};
use crate::watch::clock::Clock;
use crate::watch::counts::Counts;
use crate::watch::reserve::Reserve;
use crate::watch::trace::Traces;

/// Maximum number of accounts kept in memory without a session.
pub const MAX_IDLE_ACCOUNTS: usize = 10_000;

/// Maximum length of a chain of stanzas each of which was caused by the one before.
pub(crate) const MAX_HOPS: u8 = 8;

/// Number of stanzas that were caused by others and are gathered before they go on. What one account says at once is gathered whole.
pub(crate) const MAX_GATHERED: usize = 1_024;

/// The limits of an account, on all hosts. The operator sets the first four; the others are constant except in tests. Whatever
/// exceeds a new limit already stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// maximum number of sessions, including those without a connection
    pub sessions: usize,
    /// maximum number of contacts in the roster
    pub contacts: usize,
    /// maximum size of the roster in bytes, as written to a client
    pub roster_bytes: usize,
    /// maximum size in bytes of the messages that wait for the account
    pub offline_bytes: u64,
    /// maximum size in bytes of what waits for one session
    pub queued: usize,
    /// maximum number of stanzas held back for an inactive client
    pub held: usize,
    /// number of log entries read at a time
    pub page: usize,
    /// maximum number of accounts kept in memory without a session
    pub idle_accounts: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            sessions: crate::owner::account::MAX_SESSIONS,
            contacts: crate::owner::roster::MAX_CONTACTS,
            roster_bytes: crate::owner::roster::MAX_ROSTER_BYTES,
            offline_bytes: crate::route::quota::MAX_OFFLINE_BYTES,
            queued: crate::session::MAX_QUEUED_BYTES,
            held: crate::session::MAX_HELD,
            page: crate::life::join::PAGE,
            idle_accounts: MAX_IDLE_ACCOUNTS,
        }
    }
}

/// A stanza that goes on by itself: no session waits for it.
#[derive(Debug)]
pub(crate) struct Work {
    pub stanza: Stanza,
    pub hops: u8,
    pub mode: Mode,
}

/// How much of a stanza's way is behind it.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// the sender's side is dealt with: only the receiver's follows
    Onward,
    /// it was planned for a session that ended: it goes to another, or into the log, and no phase runs twice. With the
    /// time at which that session was given it: XEP-0198 §4 wants what a client did not acknowledge to arrive with a
    /// delay of then, also where it arrives at once at another session. Without a time no session has had it: it was
    /// planned for one that had gone when it came, and moves on as live delivery.
    Again(Option<Timestamp>),
    /// the end of a subscription, to a contact that its sender blocks: the state changes there, and nothing is delivered
    Silent,
    /// `unsubscribed` answers a probe
    ProbeRefused,
    /// presence to a bare address: the sender's gate judges each session there
    EachSession,
    /// presence that a contact gets as its subscriber: nobody gets it whose roster knows nothing of that. With `each` the sender's
    /// gate judges each session
    Subscriber { each: bool },
    /// presence to a bare address, for the sessions there that this one names
    To(Judge),
    /// presence to a session whose bare address is told as well: for one that this does not reach
    Unreached,
    /// presence to whoever is to have it, by what holds when their turn comes
    Fan(Arc<Fan>),
}

/// What is to be done when no lock is held any more.
#[derive(Default)]
pub(crate) struct Todo {
    pub work: VecDeque<Work>,
    /// sessions that reached their bound
    pub lagging: Vec<(AccountRef, SessionId)>,
    /// sessions whose next stanza waits until all of this is done, and the number of the stanza it waits for
    pub said: Vec<(Arc<Session>, u64)>,
    /// sessions that just became available
    pub arrivals: Vec<Arrival>,
    /// some of the work is for many: it goes on before anything else is committed
    pub fans: bool,
}

/// A session that wants to know who is there.
pub(crate) struct Arrival {
    pub lock: AccountRef,
    pub session: Arc<Session>,
    /// it was there before the server was: it may believe somebody here who is not
    pub back: bool,
}

impl Todo {
    /// The stanza of this number is settled: the session goes on, at once or when what it says to many is said.
    pub fn deal_with(&mut self, session: &Arc<Session>, stream: &mut Stream, n: u64) {
        if stream.barrier == Some(n) && stream.fans {
            self.said.push((session.clone(), n));
        } else {
            stream.dealt_with(n);
        }
    }

    pub(crate) fn route(&mut self, stanza: Stanza, hops: u8) {
        self.work.push_back(Work { stanza, hops, mode: Mode::Onward });
    }
}

/// The tables that the core itself keeps for an account.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub roster: Map<BareJid, RosterItem>,
    pub roster_meta: Cell<RosterMeta>,
    pub sessions: Map<u64, SessionRow>,
    pub ended: Map<String, Ended>,
    pub directed: Map<DirectedKey, bool>,
    pub cursor: Cell<Cursor>,
    pub credentials: Map<CredentialKey, String>,
    pub last_activity: Cell<crate::route::presence::LastActivity>,
    pub company: Cell<Company>,
    /// of the store itself, by host: how many accounts have each profile
    pub profiles: Map<String, BTreeMap<String, u64>>,
}

/// The reverse key of all stored sessions.
pub(crate) const STORED_SESSION: &str = "session";

/// The name of a hash, as the key of a row of credentials.
pub(crate) type CredentialKey = String;

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
    pub(crate) sweeping: Mutex<crate::life::sweep::Progress>,
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
    pub(crate) fn epoch_of(&self, owner: crate::store::Owner) -> u64 {
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
    pub fn last_activity(&self, account: &Account) -> Option<crate::route::presence::LastActivity> {
        account.states.get(self.tables.last_activity).cloned()
    }

    /// The flag of sessions that asked for the roster (RFC 6121 §2.2).
    pub fn interested(&self) -> Flag {
        self.interested
    }
}
