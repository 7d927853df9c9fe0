//! Expiry: deletes messages that are older than the host keeps, or that exceed the size of an archive (XEP-0313 §3.2). The oldest go
//! first, so that no gap appears; messages that no session has taken yet are kept.

use std::time::Duration;

use vorpal_core::module::sweep::SweepCx;
use vorpal_core::store::{self, LogQuery, flags, id_at};

/// Number of entries of one account deleted at a time.
const BATCH: u32 = 512;

/// Visits one account.
pub(super) fn expire(cx: &mut SweepCx<'_>, keep: Duration) -> store::Result<()> {
    let before = id_at(cx.now.minus(keep));
    let before = before.min(cx.floor.saturating_add(1));
    let limit = BATCH as usize;
    let old = LogQuery { before, limit, ..LogQuery::default() };
    let count = cx.reader.log_count(cx.account.owner, old)?;
    if count == limit {
        cx.again();
    }
    if count > 0 {
        cx.trim(before, u32::try_from(count).unwrap_or(BATCH));
    }
    Ok(())
}

/// The fraction of the maximum that is freed when an archive is full: a sixteenth, so that it is not full again at once.
const FREED: u64 = 16;

/// Number of pieces of a full archive deleted in a step, so that a step does not block the writer.
const PIECES: usize = 1;

/// Visits one account: deletes the oldest entries of an archive that exceeds its maximum.
pub(super) fn shrink(cx: &mut SweepCx<'_>, most: u64) -> store::Result<()> {
    let taken = cx.archived_bytes()?;
    if taken <= most {
        return Ok(());
    }
    let excess = taken - (most - most / FREED);
    let (mut after, mut freed) = (0, 0);
    for _ in 0..PIECES {
        let before = cx.floor.saturating_add(1);
        let query = LogQuery { after, before, flags: flags::ARCHIVED, limit: BATCH as usize, ..LogQuery::default() };
        let sizes = cx.reader.log_sizes(cx.account.owner, query)?;
        let mut piece = 0;
        for size in &sizes {
            if freed >= excess {
                break;
            }
            freed += size.bytes;
            after = size.id;
            piece += 1;
        }
        if piece == 0 {
            break;
        }
        // Entries that no archive keeps lie in between and count as well.
        cx.trim(after.saturating_add(1), BATCH);
        if piece < BATCH as usize {
            break;
        }
    }
    tracing::debug!(account = cx.account.name, taken, freed, "the archive is full: its oldest entries are deleted");
    if freed > 0 {
        // After their deletion the archive is measured again.
        cx.again();
    }
    Ok(())
}
