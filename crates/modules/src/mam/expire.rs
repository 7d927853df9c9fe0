//! What is older than the host keeps goes, and what an archive has too much (XEP-0313 §3.2): the oldest first, so that no gap
//! comes to be, and nothing that nobody has had yet.

use std::time::Duration;

use vorpal_core::store::{self, LogQuery, flags};
use vorpal_core::sweep::SweepCx;

/// So many entries of one account go at a time.
const BATCH: u32 = 512;

/// One account's turn.
pub(super) fn expire(cx: &mut SweepCx<'_>, keep: Duration) -> store::Result<()> {
    let before = cx.now.minus(keep).as_millis() * 1000;
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

/// Of an archive that is full so much goes: a sixteenth of what it may take, so that it is not full again at once.
const FREED: u64 = 16;

/// Number of pieces of a full archive that go in a step: a step is not to hold up the writer.
const PIECES: usize = 1;

/// One account's turn: the oldest of an archive that takes more than it may.
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
        // What no archive keeps lies between them and counts.
        cx.trim(after.saturating_add(1), BATCH);
        if piece < BATCH as usize {
            break;
        }
    }
    tracing::debug!(account = cx.account.name, taken, freed, "the archive is full: its oldest entries are deleted");
    if freed > 0 {
        // When they have gone it is measured once more.
        cx.again();
    }
    Ok(())
}
