//! The limits of an account and of a session. Those that the operator sets are only defaults here.

/// Maximum number of accounts kept in memory without a session.
pub const MAX_IDLE_ACCOUNTS: usize = 10_000;

/// The limits of an account, on all hosts. The operator sets the first four; the others are constant except in tests. Whatever
/// exceeds a new limit already stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// maximum number of sessions, including those without a connection
    pub sessions: usize,
    /// maximum number of contacts in the roster
    pub contacts: usize,
    /// maximum size of the roster in bytes, as written to a client
    pub roster_bytes: usize,
    /// maximum size in bytes of the messages that wait for the account
    pub offline_bytes: u64,
    /// maximum size in bytes of what waits for one session
    pub queued: usize,
    /// maximum number of stanzas held back for an inactive client
    pub held: usize,
    /// number of log entries read at a time
    pub page: usize,
    /// maximum number of accounts kept in memory without a session
    pub idle_accounts: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            sessions: MAX_SESSIONS,
            contacts: MAX_CONTACTS,
            roster_bytes: MAX_ROSTER_BYTES,
            offline_bytes: MAX_OFFLINE_BYTES,
            queued: MAX_QUEUED_BYTES,
            held: MAX_HELD,
            page: PAGE,
            idle_accounts: MAX_IDLE_ACCOUNTS,
        }
    }
}

/// Maximum number of sessions of an account, unless the operator sets another.
pub const MAX_SESSIONS: usize = 50;

/// Maximum number of contacts of an account, unless the operator sets another.
pub const MAX_CONTACTS: usize = 5_000;

/// Maximum size of a roster in bytes, unless the operator says otherwise: that of all its items as they are written to a
/// client. This is what one short question makes the server answer, and about what it keeps in memory.
pub const MAX_ROSTER_BYTES: usize = 1 << 20;

/// Default quota of waiting messages of an account, in bytes: a hundred thousand text messages.
pub const MAX_OFFLINE_BYTES: u64 = 32 << 20;

/// Maximum memory of what waits for one session, written or not; one answer alone may take more. Beyond it, what the log holds is
/// left to the log, of presence the newest is told later, and an IQ is refused.
pub const MAX_QUEUED_BYTES: usize = 512 * 1024;

/// Maximum number of stanzas held back for an inactive client; then all are sent.
pub const MAX_HELD: usize = 256;

/// Number of entries read from the log at a time.
pub const PAGE: usize = 64;
