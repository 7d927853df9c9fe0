//! What is older than the host keeps goes (XEP-0313 §3.2): the oldest first, so that no gap comes to be, and nothing that
//! nobody has had yet.

use std::time::Duration;

use vorpal_core::store::{self, LogQuery};
use vorpal_core::sweep::SweepCx;

/// So many entries of one account go at a time.
const BATCH: u32 = 512;

/// One account's turn.
pub(super) fn expire(cx: &mut SweepCx<'_>, keep: Duration) -> store::Result<()> {
    let before = cx.now.minus(keep).as_millis() * 1000;
    let before = before.min(cx.floor.saturating_add(1));
    let limit = BATCH as usize;
    let old = LogQuery { before, limit, ..LogQuery::default() };
    match cx.reader.log_count(cx.account.owner, old)? {
        0 => return Ok(()),
        count if count == limit => cx.again(),
        _ => {}
    }
    cx.trim(before, BATCH);
    Ok(())
}
