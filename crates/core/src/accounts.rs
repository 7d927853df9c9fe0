//! Which accounts are in memory: how they get there, and when they are let go of.
//!
//! An account is read when something needs it, and stays as long as somebody uses it. What was read counts only if no account
//! of the same shard came to be, went, or was let go of meanwhile: else it is read again, as it may be older than what is
//! stored by now.
//!
//! A name without an account is treated as one with an account that nobody uses: it is looked for in the same way, and remembered
//! for as long. So the time that an answer takes does not tell which of the two it is. (It tells how much is stored of an account,
//! once, when it is read, and whether somebody has used it lately.)

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::{BareJid, Jid};

use crate::account::{Account, AccountLock, AccountRef};
use crate::checkpoint;
use crate::cursor::{Load, LogState};
use crate::server::{Core, STORED_SESSION};
use crate::stanza_id::IdKey;
use crate::state::States;
use crate::store::{self, Kind, Reader, StoreError};

/// Maximum number of rows that are read with an account. One that has more cannot be loaded.
pub const MAX_ROWS: usize = 200_000;

/// Number of shards. More than cores, so that two of them rarely meet.
const SHARDS: usize = 64;

/// Maximum number of names remembered as those of no account, in each shard, until the next [`Core::evict`]. From then on they are
/// as many as there may be idle accounts, these included.
const MAX_ABSENT: usize = 1_024;

/// When accounts are let go of, so many of a hundred that may stay idle stay.
const KEPT_PERCENT: usize = 90;

/// Number of loaded accounts up to which the idle ones are counted with each tick; of more with each sixteenth, or if too many
/// are loaded even if as many are in use as before.
const FEW: usize = 10_000;

/// What an account is to the server at this moment.
pub(crate) enum Lookup {
    Here(AccountRef),
    Absent,
    Cold,
}

/// All accounts that are in memory.
pub(crate) struct Accounts {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// how often the core was asked to let go of idle accounts: by this, use is dated
    ticks: AtomicU32,
    /// how many accounts were in use when they were counted last
    busy: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    loaded: HashMap<BareJid, AccountRef, RandomState>,
    /// names of no account, and when they were asked for
    absent: HashMap<BareJid, u32, RandomState>,
    /// changes when what was read before may not be what is stored
    generation: u64,
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
    fn shard(&self, jid: &str) -> MutexGuard<'_, Shard> {
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

    /// Whether the store has to be asked for an account, or whether there is one. Not if that was done lately.
    pub fn is_cold(&self, jid: &BareJid) -> bool {
        matches!(self.lookup(jid.as_jid()), Lookup::Cold)
    }

    /// The account, if it is loaded and is not being removed.
    pub fn loaded(&self, bare: &str) -> Option<AccountRef> {
        self.accounts.shard(bare).loaded.get(bare).filter(|account| !account.is_leaving()).cloned()
    }

    /// Whether it is known that there is no account of this name, or none any more.
    pub(crate) fn is_absent(&self, jid: &BareJid) -> bool {
        let shard = self.accounts.shard(jid.as_str());
        shard.loaded.get(jid).map_or_else(|| shard.absent.contains_key(jid), |account| account.is_leaving())
    }

    /// All accounts that are loaded.
    pub fn all_loaded(&self) -> Vec<AccountRef> {
        let shards = self.accounts.shards.iter();
        shards.flat_map(|shard| shard.lock().loaded.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Reads an account, so that what waits for it can go on. None if there is none of this name, or it is being removed.
    /// To be called where waiting is allowed; whoever loads the same account meanwhile gets the same one.
    ///
    /// # Errors
    /// The store cannot be read, or the account has more than [`MAX_ROWS`] rows.
    pub fn load(&self, reader: &mut dyn Reader, jid: &BareJid) -> store::Result<Option<AccountRef>> {
        loop {
            let generation = {
                let shard = self.accounts.shard(jid.as_str());
                if let Some(account) = shard.loaded.get(jid) {
                    return Ok(Some(account).filter(|account| !account.is_leaving()).cloned());
                }
                if shard.absent.contains_key(jid) {
                    return Ok(None);
                }
                shard.generation
            };
            let read = self.read_account(reader, jid)?;
            let mut shard = self.accounts.shard(jid.as_str());
            if shard.generation != generation {
                continue;
            }
            if let Some(account) = shard.loaded.get(jid) {
                return Ok(Some(account).filter(|account| !account.is_leaving()).cloned());
            }
            let Some(account) = read else {
                if shard.absent.len() >= MAX_ABSENT {
                    shard.absent.clear();
                }
                shard.absent.insert(jid.clone(), self.accounts.ticks.load(Ordering::Relaxed));
                return Ok(None);
            };
            let deadlines: Vec<_> =
                account.sessions.iter().filter_map(|s| s.stream().deadline().map(|d| (d, s.id))).collect();
            let forgotten = !account.gone.is_empty();
            let account = AccountLock::new(account);
            account.use_at(self.accounts.ticks.load(Ordering::Relaxed));
            shard.loaded.insert(jid.clone(), account.clone());
            drop(shard);
            if forgotten {
                self.mark_dirty(&account, &mut account.lock());
            }
            deadlines.into_iter().for_each(|(at, id)| self.deadlines.set(jid, id, at));
            return Ok(Some(account));
        }
    }

    fn read_account(&self, reader: &mut dyn Reader, jid: &BareJid) -> store::Result<Option<Account>> {
        let found = match (self.host(jid.domain()), jid.local()) {
            (Some(host), Some(local)) => reader.find(Kind::Account, jid.domain(), local)?.map(|row| (host, row)),
            _ => None,
        };
        let Some((host, row)) = found else {
            look_for_nothing(reader)?;
            return Ok(None);
        };
        let mut account = Account {
            jid: jid.clone(),
            owner: row.owner,
            host,
            disabled: row.disabled,
            stored_disabled: row.disabled,
            leaving: false,
            deleted: false,
            sessions: SmallVec::new(),
            states: States::new(self.names.tables.lock().clone()),
            ids: IdKey::new(&self.secret, row.owner),
            waiting: VecDeque::new(),
            log: LogState::default(),
            dirty: false,
            doomed: None,
            troubled: false,
            unsaved: false,
            revocations: 0,
            requests: None,
            gone: Vec::new(),
        };
        let rows = reader.load(row.owner, MAX_ROWS + 1)?;
        if rows.len() > MAX_ROWS {
            // With a part of them it would be another account: one without a block list, perhaps.
            let source =
                Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!("{jid} has too many rows")));
            return Err(StoreError::Io { doing: "loading an account", source });
        }
        for row in rows {
            if let Some(at) = self.names.table_at(row.map)
                && !account.states.load(at, &row.key, &row.row.value)
            {
                tracing::error!(account = %jid, table = at, "a stored row cannot be read and is left alone");
            }
        }
        let mut progress = Vec::new();
        for id in account.states.rows(self.tables.sessions).keys() {
            let mut row = |key: &[u8]| Ok(reader.map_get(self.progress, store::STORE, key)?.map(|row| row.value));
            progress.push((*id, row(&id.to_be_bytes())?, row(&checkpoint::key(*id))?));
        }
        let newest =
            reader.log_range(row.owner, store::LogQuery { newest_first: true, limit: 1, ..Default::default() })?;
        let cursor = account.states.get(self.tables.cursor).copied().unwrap_or_default();
        account.log = LogState::restored(newest.first().map_or(0, |entry| entry.id), cursor);
        measure_loose(&mut account, reader)?;
        self.measure_waiting(&mut account, reader)?;
        account.log.archived = reader.log_archived(row.owner)?;
        crate::revive::restore(self, &mut account, &progress);
        Ok(Some(account))
    }

    /// What nobody has taken, and by whom it was sent: from the log. Beyond what may wait it is not counted further.
    fn measure_waiting(&self, account: &mut Account, reader: &mut dyn Reader) -> store::Result<()> {
        const PAGE: usize = 1_024;
        let mut after = account.log.cursor();
        while account.log.has_open() && account.log.waiting_bytes() <= self.offline_bytes() {
            let query = store::LogQuery { after, limit: PAGE, ..Default::default() };
            let sizes = reader.log_sizes(account.owner, query)?;
            for (id, load) in sizes.iter().map(|size| (size.id, Load::of_size(size))).filter(|(_, load)| load.received)
            {
                account.log.add_unknown(id, load);
            }
            match sizes.last() {
                Some(last) if sizes.len() == PAGE => after = last.id,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Loads every account that has a session which can be resumed: before anybody connects, so that nobody sees them go. What
    /// it submits must be committed before anybody connects.
    pub fn load_sessions(&self, now: Timestamp, reader: &mut dyn Reader) -> store::Result<usize> {
        const PAGE: usize = 256;
        let map = self.names.map_id(self.tables.sessions.at);
        self.begin_run(now, reader)?;
        let mut past: Option<(store::Owner, bytes::Bytes)> = None;
        let mut count = 0;
        loop {
            let from = past.as_ref().map(|(owner, key)| (*owner, key.as_ref()));
            let rows = reader.map_reverse(map, STORED_SESSION.as_bytes(), from, PAGE)?;
            let Some(last) = rows.last() else { return Ok(count) };
            past = Some((last.owner, last.key.clone()));
            for row in rows {
                count += 1;
                let Some(owner) = reader.owner(row.owner)? else { continue };
                if let Ok(jid) = BareJid::new(&owner.name, &owner.host) {
                    self.load(reader, &jid)?;
                }
            }
        }
    }

    /// An account came to be, or went: what is known of the name is forgotten.
    pub(crate) fn forget(&self, jid: &BareJid) {
        let mut shard = self.accounts.shard(jid.as_str());
        shard.generation += 1;
        shard.absent.remove(jid);
        shard.loaded.remove(jid);
    }

    /// Lets go of accounts that nobody uses, if there are too many: of those that were not used for the longest time.
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

/// What is asked for an account, asked for none: so that it takes as long to find that there is none.
fn look_for_nothing(reader: &mut dyn Reader) -> store::Result<()> {
    const NOBODY: store::Owner = i64::MAX as store::Owner;
    reader.load(NOBODY, 1)?;
    let newest = store::LogQuery { newest_first: true, limit: 1, ..Default::default() };
    reader.log_range(NOBODY, newest)?;
    reader.log_sizes(NOBODY, store::LogQuery { limit: 1, ..Default::default() })?;
    reader.log_archived(NOBODY)?;
    Ok(())
}

/// What no archive keeps below the cursor, and was not let go of before the server stopped: so that it is in pieces.
fn measure_loose(account: &mut Account, reader: &mut dyn Reader) -> store::Result<()> {
    const PAGE: usize = 1_024;
    // What is beyond waits until the account is loaded once more.
    const PAGES: usize = 64;
    let (mut after, before) = (account.log.trimmed, account.log.cursor() + 1);
    for _ in 0..PAGES {
        if after + 1 >= before {
            return Ok(());
        }
        let query = store::LogQuery { after, before, limit: PAGE, ..Default::default() };
        let sizes = reader.log_sizes(account.owner, query)?;
        let loose = sizes.iter().filter(|size| size.flags & store::flags::ARCHIVED == 0);
        loose.for_each(|size| account.log.note_loose(size.id));
        match sizes.last() {
            Some(last) if sizes.len() == PAGE => after = last.id,
            _ => return Ok(()),
        }
    }
    account.log.unmeasured = Some(after);
    Ok(())
}

/// Whether nobody uses an account. To be called with its shard locked: then nobody can begin to.
fn is_idle(account: &AccountRef) -> bool {
    if Arc::strong_count(account) > 1 || account.is_leaving() {
        return false;
    }
    let state = account.lock();
    state.sessions.is_empty() && state.waiting.is_empty() && !state.dirty
}
