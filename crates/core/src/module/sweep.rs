//! Periodic work of modules on an account (`life/sweep.rs`).

use vorpal_proto::datetime::Timestamp;

use crate::store::{self, EntryId, OwnerRow, Reader, Write};

/// The context of a handler of [`crate::module::Setup::each_account`]: one account, and a reader of the store.
pub struct SweepCx<'a> {
    /// the account
    pub account: &'a OwnerRow,
    /// everything in its log up to here was taken by every session that needs it
    pub floor: EntryId,
    /// reads the store
    pub reader: &'a mut dyn Reader,
    /// the time for deletion by age: see `clock.rs`
    pub now: Timestamp,
    pub(crate) writes: Vec<Write>,
    pub(crate) entries: u32,
    pub(crate) again: bool,
}

impl SweepCx<'_> {
    /// Deletes the oldest entries below an id, at most `limit` of them. Entries that are not taken yet stay.
    pub fn trim(&mut self, before: EntryId, limit: u32) {
        let before = before.min(self.floor.saturating_add(1));
        self.entries = self.entries.saturating_add(limit);
        self.writes.push(Write::LogTrim { owner: self.account.owner, after: 0, before, keep: 0, limit });
    }

    /// The size of the account's archive in bytes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn archived_bytes(&mut self) -> store::Result<u64> {
        self.reader.log_archived(self.account.owner)
    }

    /// There is more to do here: the account is visited again in the next step.
    pub fn again(&mut self) {
        self.again = true;
    }
}

pub(crate) type SweepHandler = Box<dyn Fn(&mut SweepCx<'_>) -> store::Result<()> + Send + Sync>;
