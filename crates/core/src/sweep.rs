//! Looking after every account, whether somebody uses it or not: a few with each tick, all of them about once an hour.

use std::time::Duration;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::cursor::Cursor;
use crate::host::Modules;
use crate::server::Core;
use crate::store::{self, Batch, EntryId, Kind, OwnerRow, Reader, Write};

/// So many accounts are looked at with one tick.
pub const ACCOUNTS: usize = 16;

/// So long nothing is looked at when all were.
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
    again: bool,
}

impl SweepCx<'_> {
    /// Lets go of the oldest entries below an id, at most so many. Those that are not taken yet stay.
    pub fn trim(&mut self, before: EntryId, limit: u32) {
        let before = before.min(self.floor.saturating_add(1));
        self.writes.push(Write::LogTrim { owner: self.account.owner, after: 0, before, keep: 0, limit });
    }

    /// What the account's archive takes in bytes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn archived_bytes(&mut self) -> store::Result<u64> {
        self.reader.log_archived(self.account.owner)
    }

    /// There is more to do here: the account is looked at once more with the next tick.
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
    /// in steady time
    rests_until: Duration,
}

impl Core {
    /// Looks after the next few accounts. To be called with each tick, where waiting for the disk is allowed; by one at a
    /// time.
    ///
    /// # Errors
    /// The store cannot be read; the same accounts are tried again.
    pub fn sweep(&self, now: Timestamp, reader: &mut dyn Reader) -> store::Result<()> {
        self.load_profiles(reader)?;
        self.sweep_urgent(now, reader)?;
        let (host, past) = {
            let mut progress = self.sweeping.lock();
            if progress.rests_until > self.steady() {
                return Ok(());
            }
            let hosts = self.hosts();
            while hosts.get(progress.host).is_some_and(|host| host.registry().sweeps.is_empty()) {
                *progress = Progress { host: progress.host + 1, ..Progress::default() };
            }
            let Some(host) = hosts.get(progress.host) else {
                *progress = Progress { rests_until: self.steady() + REST, ..Progress::default() };
                return Ok(());
            };
            (host.clone(), progress.past.clone())
        };
        let registry = host.registry();
        let accounts = reader.owners(Kind::Account, host.domain(), past.as_deref(), ACCOUNTS)?;
        let all = accounts.len() < ACCOUNTS;
        let (mut done, mut finished) = (past, true);
        for account in accounts {
            if self.sweep_one(now, &account, &registry, reader)? {
                finished = false;
                break;
            }
            done = Some(account.name);
        }
        let mut progress = self.sweeping.lock();
        match all && finished {
            true => *progress = Progress { host: progress.host + 1, ..Progress::default() },
            false => progress.past = done,
        }
        Ok(())
    }

    /// The account is looked after with the next tick.
    #[cold]
    pub(crate) fn look_after(&self, jid: BareJid) {
        self.urgent.lock().insert(jid);
    }

    /// Those that asked for it, a few with each tick. What is in memory of their archives is measured anew.
    fn sweep_urgent(&self, now: Timestamp, reader: &mut dyn Reader) -> store::Result<()> {
        let due: Vec<BareJid> = self.urgent.lock().iter().take(ACCOUNTS).cloned().collect();
        for jid in due {
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
            let again = self.sweep_one(now, &row, &registry, reader)?;
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
        reader: &mut dyn Reader,
    ) -> store::Result<bool> {
        let floor = self.floor(account, reader)?;
        let mut cx = SweepCx { account, floor, reader, now: self.believed(now), writes: Vec::new(), again: false };
        for (_, handler) in &registry.sweeps {
            handler(&mut cx)?;
        }
        let SweepCx { writes, again, .. } = cx;
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
