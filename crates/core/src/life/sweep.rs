//! The sweep: periodic work on every account, loaded or not; a few accounts in each step, all of them about once an hour.
//!
//! A step visits [`ACCOUNTS`] accounts or deletes about [`ENTRIES`] entries, whichever comes first. The runtime continues with the next
//! step as long as there is work, and gives priority to commits of sessions. With [`STEPS`] steps a second, an hour is enough for a
//! million accounts, and deletion keeps up with incoming messages.

use crate::core::due::Progress;

use std::time::Duration;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::core::Core;
use crate::module::host::Modules;
use crate::module::sweep::SweepCx;
use crate::owner::cursor::Cursor;
use crate::store::{self, Batch, EntryId, Kind, OwnerRow, Reader, Write};

/// Maximum number of accounts visited in a step.
pub const ACCOUNTS: usize = 16;

/// Number of entries whose deletion ends a step.
pub const ENTRIES: u32 = 512;

/// Maximum number of steps in a second.
pub const STEPS: u32 = 20;

/// Minimum time between the starts of two rounds over all accounts.
pub const REST: Duration = Duration::from_secs(3600);

/// The work done in a step.
struct Step {
    entries: u32,
}

impl Step {
    fn is_over(&self) -> bool {
        self.entries >= ENTRIES
    }
}

impl Core {
    /// Runs one step. Must be called on a thread that may block, by one caller at a time. Returns whether there is more to do now.
    ///
    /// # Errors
    /// The store cannot be read; the same accounts are visited again.
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

    /// Schedules the account for the next step.
    #[cold]
    pub(crate) fn look_after(&self, jid: BareJid) {
        self.urgent.lock().insert(jid);
    }

    /// Visits scheduled accounts, a few in each step. The sizes of their archives in memory are measured again.
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
                let in_flight: u64 = account.waiting.iter().map(crate::owner::words::Waiting::charges).sum();
                (account.owner, account.host.registry(), account.log.charged - in_flight)
            };
            let Some(row) = reader.owner(owner)? else {
                self.urgent.lock().remove(jid.as_str());
                continue;
            };
            let stored = reader.log_archived(owner)?;
            let again = self.sweep_one(now, &row, &registry, step, reader)?;
            {
                // Entries in flight meanwhile are counted, whether they were measured or not.
                let mut account = lock.lock();
                account.log.archived = stored + (account.log.charged - charged);
            }
            if !again {
                self.urgent.lock().remove(jid.as_str());
            }
        }
        Ok(())
    }

    /// Visits one account. Returns whether there is more to do.
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

    /// Submits writes on which nothing in memory depends: if they fail, a later round repeats them.
    pub(crate) fn submit_alone(&self, now: Timestamp, writes: Vec<Write>) {
        let mut writes = Some(writes);
        self.journal.submit(now, &mut |ids| Batch {
            id: ids.batch(),
            now: now.as_millis(),
            writes: writes.take().unwrap_or_default(),
            ..Batch::default()
        });
    }

    /// The id up to which every session that needs it has taken an account's log.
    fn floor(&self, account: &OwnerRow, reader: &mut dyn Reader) -> store::Result<EntryId> {
        let jid = BareJid::new(&account.name, &account.host);
        if let Some(lock) = jid.ok().and_then(|jid| self.loaded(jid.as_str())) {
            let account = lock.lock();
            let horizon = account.horizon();
            let sessions = account.sessions.iter().map(|session| session.stream());
            // The values that the next tick will store: a session that only sends may not have stored any for long.
            let cursors = sessions.filter(|stream| stream.is_resumable()).map(|stream| stream.cursor_at(horizon));
            return Ok(cursors.fold(account.log.cursor(), EntryId::min));
        }
        // It has no session: resumable sessions keep an account loaded.
        let row = reader.map_get(self.names.map_id(self.tables.cursor.at), account.owner, &[])?;
        let cursor: Option<Cursor> = row.and_then(|row| serde_json::from_slice(&row.value).ok());
        Ok(cursor.map_or(0, |cursor| cursor.taken))
    }
}
