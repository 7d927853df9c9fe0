//! What is in memory, counted: for tests, and for who examines a server. Nothing here changes anything.

use crate::owner::contacts;
use crate::watch::inspect::MAX_COUNTED;

use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::owner::account::AccountRef;
use crate::owner::words::Waiting;
use crate::store::load::Load;
use crate::store::{self, EntrySize, LogQuery, Reader};
use crate::watch::inspect::{AccountReport, Holdings, SessionReport};

impl Core {
    /// What the account has. Reads the part of its log that was not taken yet, a page at a time, without the account's lock.
    ///
    /// # Errors
    /// Those of the store.
    pub fn holdings(&self, lock: &AccountRef, reader: &mut dyn Reader) -> store::Result<Holdings> {
        const PAGE: usize = 1_024;
        let (owner, cursor, mut holdings) = {
            let account = lock.lock();
            let holdings = Holdings {
                contacts: contacts::count(&self.tables, &account),
                archive_bytes: account.log.archived,
                waiting_bytes: account.log.waiting_bytes(),
                hashes: account.states.rows(self.tables.credentials).keys().cloned().collect(),
                ..Holdings::default()
            };
            (account.owner, account.log.cursor(), holdings)
        };
        holdings.created = reader.owner(owner)?.map(|row| Timestamp::from_millis(row.created));
        let mut after = cursor;
        while holdings.waiting < MAX_COUNTED {
            let sizes = reader.log_sizes(owner, LogQuery { after, limit: PAGE, ..LogQuery::default() })?;
            let account = lock.lock();
            let open = |size: &&EntrySize| Load::of_size(size).received && account.log.is_open(size.id);
            holdings.waiting += sizes.iter().filter(open).count();
            match sizes.last() {
                Some(last) if sizes.len() == PAGE => after = last.id,
                _ => break,
            }
        }
        Ok(holdings)
    }

    /// What an account holds now.
    pub fn report(&self, lock: &AccountRef) -> AccountReport {
        let account = lock.lock();
        let session = |session: &std::sync::Arc<crate::session::Session>| SessionReport {
            id: session.id,
            jid: session.jid.clone(),
            priority: session.priority(),
            stream: session.stream().report(),
        };
        let (held, open) = account.log.counts();
        AccountReport {
            jid: account.jid.to_string(),
            waiting: account.waiting.len(),
            unsaid: account.waiting.iter().map(Waiting::unsaid).sum(),
            cursor: account.log.cursor(),
            last: account.log.last,
            held,
            open,
            missed: account.log.missed,
            dirty: account.dirty,
            sessions: account.sessions.iter().map(session).collect(),
        }
    }

    /// Whether somebody who logs in to this account may have a session to go back to.
    pub fn may_return(&self, lock: &AccountRef) -> bool {
        lock.lock().sessions.iter().any(|session| session.stream().is_resumable())
    }

    /// Batches whose outcome is not known yet.
    pub fn in_flight(&self) -> usize {
        self.flights.lock().len()
    }
}
