//! What is in memory, counted: for tests, and for who examines a server. Nothing here changes anything.

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;

use crate::session::SessionId;
use crate::session::inspect::StreamReport;
use crate::store::EntryId;

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
