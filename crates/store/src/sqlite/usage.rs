//! What the archives of the owners take, in bytes.
//!
//! The table `usage` has it for the entries up to one of each owner (`through`), the tail for those above. It moves on
//! when the index is filled, in the same transaction, and each archived entry below it that is let go of is taken off. So it is exact
//! after each commit and after a crash, and a commit that only appends has nothing to do for it.
//!
//! *Invariant:* the row of an owner and its part of the tail together are the sum over its archived entries.

use super::write::{Group, No};
use super::{int, uint};
use crate::shape::{EntryId, Owner};
use rusqlite::{Connection, OptionalExtension, params};

/// How many bytes of the first owner's archive the entry `l` takes.
pub(super) const ARCHIVED_A: &str = "CASE WHEN l.bits_a & 1 THEN 96 + octet_length(l.peer_a) + length(l.meta_a) \
                                     + coalesce(length(l.body_a), length(l.body)) ELSE 0 END";
/// How many bytes of the second owner's archive the entry `l` takes.
pub(super) const ARCHIVED_B: &str = "CASE WHEN l.bits_b & 1 THEN 96 + octet_length(l.peer_b) + length(l.meta_b) \
                                     + coalesce(length(l.body_b), length(l.body)) ELSE 0 END";

// The statements have the number.
const _: () = assert!(crate::shape::ENTRY_BYTES == 96);

/// An entry's size as the tail has it: no stanza is longer than that.
pub(super) fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Up to which entry an owner's row counts, and what.
pub(super) fn counted(sql: &Connection, owner: Owner) -> rusqlite::Result<(u64, EntryId)> {
    let found = sql
        .prepare_cached("SELECT archived, through FROM usage WHERE owner = ?1")?
        .query_row([int(owner)], |r| Ok((uint(r.get(0)?), uint(r.get(1)?))))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// What becomes of the row of an owner who has one, when it is inserted again with what is added.
pub(super) const ADD: &str = "ON CONFLICT (owner) DO UPDATE SET archived = archived + excluded.archived, \
                              through = max(through, excluded.through)";

impl Group<'_, '_> {
    /// An entry took `before` bytes of its owner's archive and takes `after` now. Where it is counted in the tail it is left to
    /// whoever changes the tail; then false.
    pub fn recount(&mut self, owner: Owner, id: EntryId, before: u64, after: u64) -> Result<bool, No> {
        if before == after {
            return Ok(true);
        }
        let statement = "UPDATE usage SET archived = archived - ?3 + ?4 WHERE owner = ?1 AND through >= ?2";
        let values = params![int(owner), int(id), int(before), int(after)];
        Ok(self.sql.prepare_cached(statement)?.execute(values)? > 0)
    }

    /// How many bytes of the owner's archive an entry takes.
    pub fn archived(&self, owner: Owner, id: EntryId) -> Result<u64, No> {
        let statement = format!(
            "SELECT CASE WHEN l.owner_a IS ?2 THEN {ARCHIVED_A} ELSE {ARCHIVED_B} END FROM log l \
             WHERE id = ?1 AND ?2 IN (owner_a, owner_b)"
        );
        let found = self.sql.prepare_cached(&statement)?.query_row([int(id), int(owner)], |r| r.get(0)).optional()?;
        Ok(found.map_or(0, uint))
    }
}
