//! What is in memory, counted: for tests, and for who examines a server. Nothing here changes anything.

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;

use crate::commit::Waiting;
use crate::core::Core;
use crate::owner::account::AccountRef;
use crate::owner::cursor::Load;
use crate::owner::roster;
use crate::session::SessionId;
use crate::store::{self, EntryId, EntrySize, LogQuery, Reader};

/// What an account holds.
#[derive(Clone, Debug)]
pub struct AccountReport {
    /// its bare address
    pub jid: String,
    /// what waits for commits, or behind what does
    pub waiting: usize,
    /// stanzas and other things that are to be said then
    pub unsaid: usize,
    /// everything up to here was taken by some session
    pub cursor: EntryId,
    /// the newest entry of its log
    pub last: EntryId,
    /// entries that sessions hold
    pub held: usize,
    /// entries that nobody has taken, as far as they are known one by one
    pub open: usize,
    /// nobody reads, or has read, what lies above the cursor
    pub missed: bool,
    /// has rows that are to be written within a second
    pub dirty: bool,
    /// its sessions
    pub sessions: Vec<SessionReport>,
}

/// What a session is and holds.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// its number
    pub id: SessionId,
    /// its address
    pub jid: Jid,
    /// its priority, if it is available
    pub priority: Option<i8>,
    /// what is on its stream
    pub stream: StreamReport,
}

/// What is on a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// stanzas and other elements that wait to be written
    pub queued: usize,
    /// stanzas that are held back for an inactive client
    pub held: usize,
    /// stanzas that were sent and not acknowledged; without stream management: not written to the socket
    pub unacked: usize,
    /// stanzas that wait until the log is read
    pub deferred: usize,
    /// entries that are not to be read again
    pub had: usize,
    /// what it counts all of this to weigh, in bytes
    pub weight: usize,
    /// what all of this weighs
    pub weighed: usize,
    /// a connection carries it
    pub attached: bool,
    /// it reads the log
    pub reading: bool,
    /// stanzas of its client that are not settled
    pub unsettled: u64,
    /// the count that would be said now (XEP-0198 §4)
    pub h: u32,
    /// more is handled than is stored
    pub ahead_of_disk: bool,
    /// an `<r/>` of the client is not answered
    pub owes_ack: bool,
    /// it can be resumed
    pub resumable: bool,
}

/// What an account has, as an operator is told.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// when it was created; none if it was deleted meanwhile
    pub created: Option<Timestamp>,
    /// entries of its roster
    pub contacts: usize,
    /// what its archive counts, in bytes
    pub archive_bytes: u64,
    /// messages that no client of it has taken yet; counted up to [`MAX_COUNTED`]
    pub waiting: usize,
    /// their bytes
    pub waiting_bytes: u64,
    /// the mechanisms for which it has keys
    pub hashes: Vec<String>,
}

/// Maximum number of waiting messages that are counted.
pub const MAX_COUNTED: usize = 100_000;

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
                contacts: roster::count(self, &account),
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
