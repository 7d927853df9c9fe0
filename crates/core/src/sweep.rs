//! Looking after every account, whether somebody uses it or not: a few with each step, all of them about once an hour.
//!
//! A step reads [`ACCOUNTS`] accounts and deletes about [`ENTRIES`] entries, whichever comes first; the runtime goes on with the next
//! one as long as there is work, and lets commits of sessions go first. With [`STEPS`] steps in a second an hour is enough for a
//! million accounts, and for deleting more than a server is sent.

use std::time::Duration;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::cursor::Cursor;
use crate::host::Modules;
use crate::server::Core;
use crate::store::{self, Batch, EntryId, Kind, OwnerRow, Reader, Write};

/// Maximum number of accounts that are looked at in a step.
pub const ACCOUNTS: usize = 16;

/// Number of entries whose deletion ends a step.
pub const ENTRIES: u32 = 512;

/// Maximum number of steps in a second.
pub const STEPS: u32 = 20;

/// How long after one round over all accounts has begun the next one begins, at the earliest.
pub const REST: Duration = Duration::from_secs(3600);

/// What a handler of [`crate::module::Setup::each_account`] gets: one account, and the store to read it from.
pub struct SweepCx<'a> {
    /// the account
    pub account: &'a OwnerRow,
    /// everything of its log up to here was taken, by every session that needs it
    pub floor: EntryId,
    /// answers what is asked
    pub reader: &'a mut dyn Reader,
    /// the time by which something may be old: see `clock.rs`
    pub now: Timestamp,
    writes: Vec<Write>,
    entries: u32,
    again: bool,
}

impl SweepCx<'_> {
    /// Lets go of the oldest entries below an id, at most so many. Those that are not taken yet stay.
    pub fn trim(&mut self, before: EntryId, limit: u32) {
        let before = before.min(self.floor.saturating_add(1));
        self.entries = self.entries.saturating_add(limit);
        self.writes.push(Write::LogTrim { owner: self.account.owner, after: 0, before, keep: 0, limit });
    }

    /// What the account's archive takes in bytes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn archived_bytes(&mut self) -> store::Result<u64> {
        self.reader.log_archived(self.account.owner)
    }

    /// There is more to do here: the account is looked at once more in the next step.
    pub fn again(&mut self) {
        self.again = true;
    }
}

pub(crate) type SweepHandler = Box<dyn Fn(&mut SweepCx<'_>) -> store::Result<()> + Send + Sync>;

/// How far it is.
#[derive(Default)]
pub(crate) struct Progress {
    host: usize,
    past: Option<Box<str>>,
    /// when this round began, in steady time
    began: Option<Duration>,
    /// when the next one begins, if this one is over
    rests_until: Option<Duration>,
}

/// What a step has left to do.
struct Step {
    entries: u32,
}

impl Step {
    fn is_over(&self) -> bool {
        self.entries >= ENTRIES
    }
}

impl Progress {
    fn next_host(&self) -> Progress {
        Progress { host: self.host + 1, began: self.began, ..Progress::default() }
    }
}

impl Core {
    /// Looks after the next few accounts. To be called where waiting for the disk is allowed, by one at a time. Gives whether there
    /// is more to do now.
    ///
    /// # Errors
    /// The store cannot be read; the same accounts are tried again.
    pub fn sweep(&self, now: Timestamp, reader: &mut dyn Reader) -> store::Result<bool> {
        self.load_profiles(reader)?;
        let mut step = Step { entries: 0 };
        self.sweep_urgent(now, &mut step, reader)?;
        if step.is_over() {
            return Ok(true);
        }
        let (host, past) = {
            let mut progress = self.sweeping.lock();
            match progress.rests_until {
                Some(until) if until > self.steady() => return Ok(!self.urgent.lock().is_empty()),
                Some(_) => *progress = Progress::default(),
                None => {}
            }
            let began = *progress.began.get_or_insert(self.steady());
            let hosts = self.hosts();
            while hosts.get(progress.host).is_some_and(|host| host.registry().sweeps.is_empty()) {
                *progress = progress.next_host();
            }
            let Some(host) = hosts.get(progress.host) else {
                progress.rests_until = Some(began + REST);
                return Ok(began + REST <= self.steady() || !self.urgent.lock().is_empty());
            };
            (host.clone(), progress.past.clone())
        };
        let registry = host.registry();
        let accounts = reader.owners(Kind::Account, host.domain(), past.as_deref(), ACCOUNTS)?;
        let all = accounts.len() < ACCOUNTS;
        let (mut done, mut finished) = (past, true);
        for account in accounts {
            if step.is_over() || self.sweep_one(now, &account, &registry, &mut step, reader)? {
                finished = false;
                break;
            }
            done = Some(account.name);
        }
        let mut progress = self.sweeping.lock();
        match all && finished {
            true => *progress = progress.next_host(),
            false => progress.past = done,
        }
        Ok(true)
    }

    /// The account is looked after in the next step.
    #[cold]
    pub(crate) fn look_after(&self, jid: BareJid) {
        self.urgent.lock().insert(jid);
    }

    /// Those that asked for it, a few in each step. What is in memory of their archives is measured anew.
    fn sweep_urgent(&self, now: Timestamp, step: &mut Step, reader: &mut dyn Reader) -> store::Result<()> {
        let due: Vec<BareJid> = self.urgent.lock().iter().take(ACCOUNTS).cloned().collect();
        for jid in due {
            if step.is_over() {
                break;
            }
            let Some(lock) = self.loaded(jid.as_str()) else {
                self.urgent.lock().remove(jid.as_str());
                continue;
            };
            let (owner, registry, charged) = {
                let account = lock.lock();
                let in_flight: u64 = account.waiting.iter().map(crate::commit::Waiting::charges).sum();
                (account.owner, account.host.registry(), account.log.charged - in_flight)
            };
            let Some(row) = reader.owner(owner)? else {
                self.urgent.lock().remove(jid.as_str());
                continue;
            };
            let stored = reader.log_archived(owner)?;
            let again = self.sweep_one(now, &row, &registry, step, reader)?;
            {
                // What was on its way meanwhile counts whether it was measured or not.
                let mut account = lock.lock();
                account.log.archived = stored + (account.log.charged - charged);
            }
            if !again {
                self.urgent.lock().remove(jid.as_str());
            }
        }
        Ok(())
    }

    /// One account's turn. Whether there is more to do.
    fn sweep_one(
        &self,
        now: Timestamp,
        account: &OwnerRow,
        registry: &Modules,
        step: &mut Step,
        reader: &mut dyn Reader,
    ) -> store::Result<bool> {
        let floor = self.floor(account, reader)?;
        let mut cx =
            SweepCx { account, floor, reader, now: self.believed(now), writes: Vec::new(), entries: 0, again: false };
        for (_, handler) in &registry.sweeps {
            handler(&mut cx)?;
        }
        let SweepCx { writes, entries, again, .. } = cx;
        step.entries += entries;
        if !writes.is_empty() {
            self.submit_alone(now, writes);
        }
        Ok(again)
    }

    /// Writes on which nothing that is in memory depends: if they fail they are made again some time.
    pub(crate) fn submit_alone(&self, now: Timestamp, writes: Vec<Write>) {
        let mut writes = Some(writes);
        self.journal.submit(now.as_millis() * 1000, &mut |ids| Batch {
            id: ids.batch(),
            now: now.as_millis(),
            writes: writes.take().unwrap_or_default(),
            ..Batch::default()
        });
    }

    /// Up to where an account's log was taken by all who need it.
    fn floor(&self, account: &OwnerRow, reader: &mut dyn Reader) -> store::Result<EntryId> {
        let jid = BareJid::new(&account.name, &account.host);
        if let Some(lock) = jid.ok().and_then(|jid| self.loaded(jid.as_str())) {
            let account = lock.lock();
            let horizon = account.horizon();
            let sessions = account.sessions.iter().map(|session| session.stream());
            // As they will be stored with the next tick: whoever only sends has stored none for long.
            let cursors = sessions
                .filter(|stream| stream.is_resumable())
                .map(|stream| stream.cursor.max(stream.floor(horizon).saturating_sub(1)));
            return Ok(cursors.fold(account.log.cursor(), EntryId::min));
        }
        // It has no session: those that can be resumed keep it loaded.
        let row = reader.map_get(self.names.map_id(self.tables.cursor.at), account.owner, &[])?;
        let cursor: Option<Cursor> = row.and_then(|row| serde_json::from_slice(&row.value).ok());
        Ok(cursor.map_or(0, |cursor| cursor.taken))
    }
}
