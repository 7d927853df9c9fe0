//! An account: its sessions, what modules keep for it, and where its log stands.
//!
//! The state is behind one lock. Whoever needs two accounts takes both at once, in the order of their addresses in
//! memory, for one synchronous stretch; see `lock_pair`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use vorpal_proto::jid::BareJid;

use crate::module::host::Host;
use crate::owner::cursor::LogState;
use crate::owner::plan::Targets;
use crate::owner::stanza_id::IdKey;
use crate::owner::state::States;
use crate::owner::words::{Failure, Waiting};
use crate::session::{Session, SessionId};
use crate::store::{BatchId, EntryId, Owner};

/// An account that is loaded.
pub struct AccountLock {
    /// its address
    pub jid: BareJid,
    /// its number in the store
    pub owner: Owner,
    /// as [`Account::leaving`], without the lock
    leaving: AtomicBool,
    /// when it was used last, in ticks; see `accounts.rs`
    used: AtomicU32,
    state: Mutex<Account>,
}

/// Shared by everybody who works with it.
pub type AccountRef = Arc<AccountLock>;

/// What the lock holds.
pub struct Account {
    /// its address
    pub jid: BareJid,
    /// its number in the store
    pub owner: Owner,
    /// its host
    pub host: Arc<Host>,
    /// may not log in: so it is stored, or is to be. That it may again counts from when it is stored.
    pub disabled: bool,
    /// what is stored of that
    pub(crate) stored_disabled: bool,
    /// is being removed: for everybody as if it did not exist. Set by [`AccountLock::set_leaving`].
    pub(crate) leaving: bool,
    /// its deletion is submitted: nothing is written of it any more
    pub(crate) deleted: bool,
    /// its sessions, attached or detached, in the order they came
    pub sessions: SmallVec<[Arc<Session>; 2]>,
    /// what modules keep
    pub states: States,
    /// the key of the ids of its archive
    pub(crate) ids: IdKey,
    /// what waits for a commit, and what came behind it
    pub(crate) waiting: VecDeque<Waiting>,
    /// where the log stands
    pub(crate) log: LogState,
    /// has something that should be written within a second
    pub(crate) dirty: bool,
    /// a batch came to nothing: so will everything that was submitted up to this one, and what its sessions send until
    /// then is not submitted at all
    pub(crate) doomed: Option<(BatchId, Failure)>,
    /// a batch came to nothing, and others were on their way behind it
    pub(crate) troubled: bool,
    /// rows of its sessions may differ from what is stored: they are written anew
    pub(crate) unsaved: bool,
    /// how often the logins of before were revoked: the account was disabled or deleted, or its sessions were ended with a
    /// new password. Who proved the old one, and has no session yet, gets none.
    pub(crate) revocations: u32,
    /// what it keeps of requests, if that was counted
    pub(crate) requests: Option<Box<crate::owner::roster::Requests>>,
    /// which of its sessions cannot be resumed, and are there, has changed since that was written: with the resources of those
    /// that went
    pub(crate) company: Option<Vec<String>>,
    /// sessions that ended, and whose rows could not be deleted yet
    pub(crate) gone: Vec<SessionId>,
}

impl AccountLock {
    pub(crate) fn new(state: Account) -> AccountRef {
        Arc::new(AccountLock {
            jid: state.jid.clone(),
            owner: state.owner,
            leaving: AtomicBool::new(false),
            used: AtomicU32::new(0),
            state: Mutex::new(state),
        })
    }

    /// It is used at this tick.
    pub(crate) fn use_at(&self, tick: u32) {
        if self.used() != tick {
            self.used.store(tick, Ordering::Relaxed);
        }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn set_leaving(&self, account: &mut Account, leaving: bool) {
        account.leaving = leaving;
        self.leaving.store(leaving, Ordering::Release);
    }

    /// Whether it is being removed. Who has locked it asks [`Account::leaving`]: it may have begun meanwhile.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The state, locked for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Account> {
        self.state.lock()
    }

    /// The state, if nobody has it locked.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Account>> {
        self.state.try_lock()
    }
}

/// Locks one or two accounts. One that is given twice is locked once, as the first. The second is let go of again if it is
/// being removed: who looked it up looked too early, and there is none.
pub(crate) fn lock_pair<'a>(
    a: Option<&'a AccountRef>,
    b: Option<&'a AccountRef>,
) -> (Option<MutexGuard<'a, Account>>, Option<MutexGuard<'a, Account>>) {
    let (a, b) = lock_both(a, b);
    (a, b.filter(|b| !b.leaving))
}

/// As [`lock_pair`], also if the second is being removed.
pub(crate) fn lock_both<'a>(
    a: Option<&'a AccountRef>,
    b: Option<&'a AccountRef>,
) -> (Option<MutexGuard<'a, Account>>, Option<MutexGuard<'a, Account>>) {
    match (a, b) {
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => (Some(a.lock()), None),
        (Some(a), Some(b)) if Arc::as_ptr(a) < Arc::as_ptr(b) => {
            let first = a.lock();
            (Some(first), Some(b.lock()))
        }
        (Some(a), Some(b)) => {
            let first = b.lock();
            (Some(a.lock()), Some(first))
        }
        (a, b) => (a.map(|a| a.lock()), b.map(|b| b.lock())),
    }
}

impl Account {
    /// What its archive takes in bytes, with what is submitted. Never less, but for what was being committed when it was measured.
    pub fn archived_bytes(&self) -> u64 {
        self.log.archived
    }

    /// What waits for it and nobody has taken, in bytes.
    pub fn waiting_bytes(&self) -> u64 {
        self.log.waiting_bytes()
    }

    /// The session with this number.
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.iter().find(|s| s.id == id)
    }

    /// The session with this resource.
    pub fn by_resource(&self, resource: &str) -> Option<&Arc<Session>> {
        self.sessions.iter().find(|s| s.jid.resource() == Some(resource))
    }

    /// Sessions that are available, with any priority.
    pub fn available(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.iter().filter(|s| s.is_available())
    }

    /// The sessions of the highest priority that is not negative (RFC 6121 §8.5.2.1.1).
    pub(crate) fn most_available(&self, excluded: &[SessionId]) -> Targets {
        let fit = |s: &&Arc<Session>| !excluded.contains(&s.id);
        let best = self.sessions.iter().filter(fit).filter_map(|s| s.priority()).filter(|p| *p >= 0).max();
        let Some(best) = best else { return Targets::new() };
        self.sessions.iter().filter(fit).filter(|s| s.priority() == Some(best)).map(|s| s.id).collect()
    }

    /// All sessions of a priority that is not negative.
    pub(crate) fn non_negative(&self, excluded: &[SessionId]) -> Targets {
        let fit = |s: &&Arc<Session>| !excluded.contains(&s.id) && s.priority().is_some_and(|p| p >= 0);
        self.sessions.iter().filter(fit).map(|s| s.id).collect()
    }

    /// The newest batch of it that is not back yet.
    pub(crate) fn last_in_flight(&self) -> Option<BatchId> {
        self.waiting.iter().rev().find_map(Waiting::in_flight)
    }

    /// Whether it is on its way to the disk that it is disabled.
    pub(crate) fn is_being_disabled(&self) -> bool {
        self.waiting.iter().any(Waiting::disables)
    }

    /// Whether a new password that ends its sessions is on its way to the disk.
    pub(crate) fn is_being_revoked(&self) -> bool {
        self.waiting.iter().any(Waiting::revokes)
    }

    /// Whether something that a session sent is on its way to the disk.
    pub(crate) fn has_in_flight(&self, session: &Session) -> bool {
        self.waiting.iter().any(|waiting| waiting.in_flight().is_some() && waiting.is_of(session))
    }

    /// An entry was not written: whoever holds it holds something that is not in the log.
    pub(crate) fn never_was(&mut self, entry: EntryId) {
        self.log.take(entry);
        for session in &self.sessions {
            session.stream().not_logged(entry);
        }
    }

    /// Below this id nothing waits for its commit: so far the log may be read. Ids ascend along the queue.
    pub(crate) fn horizon(&self) -> EntryId {
        self.waiting.iter().find_map(Waiting::first_entry).unwrap_or(self.log.written + 1)
    }
}
