//! Loads accounts: reads what is stored of one, and brings its sessions back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::core::Core;
use crate::core::turn::Locked;
use crate::owner::account::{Account, AccountLock, AccountRef};
use crate::owner::cursor::LogState;
use crate::owner::stanza_id::IdKey;
use crate::owner::state::States;
use crate::owner::tables::STORED_SESSION;
use crate::store::load::Load;
use crate::store::{self, Kind, Reader, StoreError};

impl Core {
    /// Loads an account, so that work that waits for it can continue. `None` if it does not exist or is being removed.
    /// Must be called on a thread that may block. Concurrent loads of the same account return the same one.
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
                self.mark_dirty(&mut Locked::new(&account, &mut account.lock()));
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
            company: None,
            gone: Vec::new(),
        };
        let rows = reader.load(row.owner, MAX_ROWS + 1)?;
        if rows.len() > MAX_ROWS {
            // An account with only a part of its rows would be wrong: it might lack its block list.
            let source =
                Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!("{jid} has too many rows")));
            return Err(StoreError::Io { doing: "loading an account", source });
        }
        for row in rows {
            if let Some(at) = self.names.table_at(row.map)
                && !account.states.load(at, &row.key, &row.row.value)
            {
                tracing::error!(account = %jid, table = at, "a stored row cannot be decoded and is ignored");
            }
        }
        let mut progress = Vec::new();
        for id in account.states.rows(self.tables.sessions).keys() {
            progress.push(self.read_progress(*id, reader)?);
        }
        let newest =
            reader.log_range(row.owner, store::LogQuery { newest_first: true, limit: 1, ..Default::default() })?;
        let cursor = account.states.get(self.tables.cursor).copied().unwrap_or_default();
        account.log = LogState::restored(newest.first().map_or(0, |entry| entry.id), cursor);
        measure_loose(&mut account, reader)?;
        self.measure_waiting(&mut account, reader)?;
        account.log.archived = reader.log_archived(row.owner)?;
        crate::life::revive::restore(self, &mut account, progress);
        Ok(Some(account))
    }

    /// Reads from the log which entries no session has taken, and their senders. Counting stops at the limit of waiting bytes.
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

    /// Loads every account with a resumable session. Must be called before clients can connect, so that no contact sees the sessions
    /// go; what it submits must be committed before that, too.
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
}

/// Makes the same queries as for an account, for none: so that finding no account takes as long.
fn look_for_nothing(reader: &mut dyn Reader) -> store::Result<()> {
    const NOBODY: store::Owner = i64::MAX as store::Owner;
    reader.load(NOBODY, 1)?;
    let newest = store::LogQuery { newest_first: true, limit: 1, ..Default::default() };
    reader.log_range(NOBODY, newest)?;
    reader.log_sizes(NOBODY, store::LogQuery { limit: 1, ..Default::default() })?;
    reader.log_archived(NOBODY)?;
    Ok(())
}

/// Finds entries below the cursor that no archive keeps and that were not deleted before the server stopped, and divides them into
/// pieces.
fn measure_loose(account: &mut Account, reader: &mut dyn Reader) -> store::Result<()> {
    const PAGE: usize = 1_024;
    // Further entries wait until the account is loaded again.
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

/// Maximum number of rows that are read with an account. One that has more cannot be loaded.
pub const MAX_ROWS: usize = 200_000;

/// Maximum number of names without an account cached in each shard, until the next [`Core::evict`]. From then on they count towards the
/// limit of idle accounts.
const MAX_ABSENT: usize = 1_024;
