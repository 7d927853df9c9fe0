//! The cache of accounts: how accounts are loaded, and when they are evicted.
//!
//! An account is loaded when something needs it, and stays as long as it is in use. Data that was read is used only if no account of
//! the same shard was created, removed or evicted meanwhile; otherwise it may be stale and is read again.
//!
//! A name without an account is treated like an unused account: it is looked up in the same way, and cached for as long. So response
//! times do not reveal which of the two it is. (They reveal how much is stored for an account, once, when it is loaded, and whether it
//! was used recently.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};
use vorpal_proto::jid::{BareJid, Jid};

use crate::core::Core;
use crate::owner::account::AccountRef;

/// Number of shards. More than cores, so that two of them rarely meet.
const SHARDS: usize = 64;

/// When accounts are evicted, this percentage of the maximum number of idle ones stays.
const KEPT_PERCENT: usize = 90;

/// Number of loaded accounts up to which the idle ones are counted with each tick; of more with each sixteenth, or if too many
/// are loaded even if as many are in use as before.
const FEW: usize = 10_000;

/// The result of looking up an account.
pub(crate) enum Lookup {
    Here(AccountRef),
    Absent,
    Cold,
}

/// All accounts that are in memory.
pub(crate) struct Accounts {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// number of eviction ticks so far: the unit in which use is dated
    pub ticks: AtomicU32,
    /// number of accounts in use at the last count
    busy: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) loaded: HashMap<BareJid, AccountRef, RandomState>,
    /// names without an account, and when they were looked up
    pub(crate) absent: HashMap<BareJid, u32, RandomState>,
    /// changes when data read before may be stale
    pub(crate) generation: u64,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            ticks: AtomicU32::new(0),
            busy: AtomicUsize::new(0),
        }
    }
}

impl Accounts {
    #[inline]
    pub(crate) fn shard(&self, jid: &str) -> MutexGuard<'_, Shard> {
        use std::hash::BuildHasher;
        self.shards[self.hasher.hash_one(jid) as usize % SHARDS].lock()
    }
}

impl Core {
    pub(crate) fn lookup(&self, jid: &Jid) -> Lookup {
        let bare = jid.bare_str();
        let tick = self.accounts.ticks.load(Ordering::Relaxed);
        let mut shard = self.accounts.shard(bare);
        if let Some(account) = shard.loaded.get(bare) {
            if account.is_leaving() {
                return Lookup::Absent;
            }
            account.use_at(tick);
            return Lookup::Here(account.clone());
        }
        match shard.absent.get_mut(bare) {
            Some(used) => {
                *used = tick;
                Lookup::Absent
            }
            None => Lookup::Cold,
        }
    }

    /// Whether an account has to be looked up in the store: it is neither loaded nor known to be missing.
    pub fn is_cold(&self, jid: &BareJid) -> bool {
        matches!(self.lookup(jid.as_jid()), Lookup::Cold)
    }

    /// The account, if it is loaded and is not being removed.
    pub fn loaded(&self, bare: &str) -> Option<AccountRef> {
        self.accounts.shard(bare).loaded.get(bare).filter(|account| !account.is_leaving()).cloned()
    }

    /// The account, if it is loaded, also if it is being removed.
    pub(crate) fn in_memory(&self, bare: &BareJid) -> Option<AccountRef> {
        self.accounts.shard(bare.as_str()).loaded.get(bare).cloned()
    }

    /// Whether it is known that the account does not exist, or no longer exists.
    pub(crate) fn is_absent(&self, jid: &BareJid) -> bool {
        let shard = self.accounts.shard(jid.as_str());
        shard.loaded.get(jid).map_or_else(|| shard.absent.contains_key(jid), |account| account.is_leaving())
    }

    /// All accounts that are loaded.
    pub fn all_loaded(&self) -> Vec<AccountRef> {
        let shards = self.accounts.shards.iter();
        shards.flat_map(|shard| shard.lock().loaded.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// An account was created or removed: drops the cached state of the name.
    pub(crate) fn forget(&self, jid: &BareJid) {
        let mut shard = self.accounts.shard(jid.as_str());
        shard.generation += 1;
        shard.absent.remove(jid);
        shard.loaded.remove(jid);
    }

    /// Evicts idle accounts if there are too many, the least recently used first.
    pub(crate) fn evict(&self) {
        let Accounts { shards, ticks, busy, .. } = &self.accounts;
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        let most = self.bounds().idle_accounts;
        let known = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.loaded.len() + shard.absent.len()
        };
        let all: usize = shards.iter().map(known).sum();
        let counts_anyway = all <= FEW || tick.is_multiple_of(16);
        if all <= most || (!counts_anyway && all <= most + busy.load(Ordering::Relaxed)) {
            return;
        }
        let idle: Vec<(u32, BareJid)> = shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock();
                let idle = shard.loaded.values().filter(|account| is_idle(account));
                let idle = idle.map(|account| (account.used(), &account.jid));
                let absent = shard.absent.iter().map(|(jid, used)| (*used, jid));
                idle.chain(absent).map(|(used, jid)| (tick.wrapping_sub(used), jid.clone())).collect::<Vec<_>>()
            })
            .collect();
        busy.store(all - idle.len(), Ordering::Relaxed);
        if idle.len() <= most {
            return;
        }
        let mut oldest = idle;
        oldest.sort_unstable_by(|a, b| b.cmp(a));
        oldest.truncate(oldest.len() - most * KEPT_PERCENT / 100);
        for (_, jid) in oldest {
            let mut shard = self.accounts.shard(jid.as_str());
            shard.absent.remove(&jid);
            if shard.loaded.get(&jid).is_some_and(is_idle) {
                shard.loaded.remove(&jid);
                shard.generation += 1;
            }
        }
    }
}

/// Whether an account is idle. Must be called with its shard locked, so that it cannot become used meanwhile.
fn is_idle(account: &AccountRef) -> bool {
    if Arc::strong_count(account) > 1 || account.is_leaving() {
        return false;
    }
    let state = account.lock();
    state.sessions.is_empty() && state.waiting.is_empty() && !state.dirty
}
