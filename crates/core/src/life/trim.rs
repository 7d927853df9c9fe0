//! Trimming: deletes entries that every session has taken and no archive keeps. All accounts are trimmed at about the same time, so
//! that a page of the log is written once for all of them, and in small pieces, so that commits are not delayed for long.

use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::cursor::PIECE;
use crate::owner::words::{Say, Words};
use crate::session::Session;
use crate::store::{EntryId, Write, flags};

/// Maximum number of entries of one account that one batch deletes: a piece, plus the rest of a failed attempt before it.
const TRIM: u32 = 2 * PIECE;

/// Interval of trimming rounds, unless an account has many entries to delete.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Number of entries deleted per second; more if many accounts wait, so that a round ends.
pub(crate) const TRIM_RATE: u32 = 8_192;

/// For every this many waiting accounts, the rate is increased by once [`TRIM_RATE`].
const ACCOUNTS: usize = 1_024;

/// Minimum cost of an account, in entries: each batch has a fixed cost.
const LEAST: u32 = 8;

impl Core {
    /// Schedules the account for the next round if it has deletable entries.
    pub(crate) fn wants_trim(&self, at: &mut Locked<'_>) {
        let cursor = at.account.log.cursor();
        if at.account.log.loose && cursor > at.account.log.trimmed && !at.account.log.to_trim {
            at.account.log.to_trim = true;
            self.trims.lock().next.push(at.lock.clone());
        }
        if at.account.log.to_trim && at.account.log.is_pressing(cursor) {
            self.trims.lock().due = Duration::ZERO;
        }
    }
}

impl Turn<'_> {
    /// Deletes about `budget` entries, if a round is due or running.
    pub(crate) fn trim(&mut self, budget: u32) {
        let steady = self.core.steady();
        let turns = {
            let mut trims = self.core.trims.lock();
            if trims.due <= steady {
                trims.due = steady + TRIM_EVERY;
                let next = std::mem::take(&mut trims.next);
                trims.now.extend(next);
            }
            trims.now.len()
        };
        let mut left = u64::from(budget) * (1 + turns / ACCOUNTS) as u64;
        for _ in 0..turns {
            let Some(lock) = self.core.trims.lock().now.pop_front() else { return };
            let deleted = self.trim_piece(&lock);
            left = left.saturating_sub(u64::from(deleted.max(LEAST)));
            if left == 0 {
                return;
            }
        }
    }

    /// Deletes a piece of one account. Returns about how many entries that are.
    fn trim_piece(&mut self, lock: &AccountRef) -> u32 {
        let mut account = lock.lock();
        account.log.to_trim = false;
        if account.deleted {
            return 0;
        }
        let horizon = account.horizon();
        let needed = |session: &Arc<Session>| {
            let stream = session.stream();
            if stream.is_resumable() { stream.cursor() } else { stream.floor(horizon).saturating_sub(1) }
        };
        let floor = account.sessions.iter().map(needed).min().unwrap_or(EntryId::MAX).min(account.log.cursor());
        if floor <= account.log.trimmed {
            return 0;
        }
        let (end, count) = account.log.next_piece(floor);
        let from = std::mem::replace(&mut account.log.trimmed, end);
        account.log.loose = end < account.log.last;
        if end < floor {
            account.log.to_trim = true;
            self.core.trims.lock().now.push_back(lock.clone());
        }
        let (owner, before) = (account.owner, end + 1);
        let trim = Write::LogTrim { owner, after: from, before, keep: flags::ARCHIVED, limit: TRIM };
        let words = Words::of_says([Say::Trimmed { from }]);
        self.finish_one(&mut Locked::new(lock, &mut account), words, None, vec![trim]);
        count
    }
}
