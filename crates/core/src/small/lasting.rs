//! Conditions that last, such as a full disk: however often they are met, the log has a line at their beginning, one in a while with
//! their number, and one when they are over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vorpal_proto::datetime::Timestamp;

/// The shortest time between two lines about one condition.
const QUIET: Duration = Duration::from_secs(60);

/// A condition. Its time is the caller's.
#[derive(Debug, Default)]
pub struct Lasting {
    /// asked without the lock: what goes well costs no more than that
    begun: AtomicBool,
    met: Mutex<Met>,
}

/// Number of times that a condition was met.
#[derive(Debug, Default)]
struct Met {
    told: Option<Timestamp>,
    since: u64,
    all: u64,
}

impl Lasting {
    /// The condition is met so many times. If a line is due: how often it was met since the last one, these included.
    pub fn met(&self, now: Timestamp, times: u64) -> Option<u64> {
        let mut met = self.met.lock();
        self.begun.store(true, Ordering::Relaxed);
        met.since = met.since.saturating_add(times);
        met.all = met.all.saturating_add(times);
        if met.told.is_some_and(|told| now.since(told) < QUIET) {
            return None;
        }
        met.told = Some(now);
        Some(std::mem::take(&mut met.since))
    }

    /// It is over, if it had begun: how often it was met in all.
    pub fn over(&self) -> Option<u64> {
        if !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        let mut met = self.met.lock();
        self.begun.store(false, Ordering::Relaxed);
        let all = std::mem::take(&mut *met).all;
        (all > 0).then_some(all)
    }
}

/// The conditions that a server may be in.
#[derive(Debug, Default)]
pub struct Conditions {
    /// commits are not written: counted in batches
    pub commits: Lasting,
    /// questions cannot be answered from the store
    pub questions: Lasting,
    /// accounts cannot be read
    pub accounts: Lasting,
    /// accounts cannot be looked after
    pub sweeps: Lasting,
    /// what can wait cannot be done
    pub idle: Lasting,
    /// subscription requests are dropped: too many wait
    pub requests: Lasting,
    /// stanzas go in circles
    pub circles: Lasting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_has_a_line_at_its_beginning_in_a_while_and_at_its_end() {
        let condition = Lasting::default();
        assert_eq!(condition.over(), None, "it has not begun");
        let start = Timestamp::from_millis(1_000_000);
        assert_eq!(condition.met(start, 1), Some(1));
        for second in 1..60 {
            assert_eq!(condition.met(start.plus(Duration::from_secs(second)), 2), None);
        }
        assert_eq!(condition.met(start.plus(QUIET), 1), Some(119));
        assert_eq!(condition.met(start.plus(QUIET), 1), None);
        assert_eq!(condition.over(), Some(121));
        assert_eq!(condition.over(), None, "it is told once");
        // It begins again with a line, also within the minute.
        assert_eq!(condition.met(start.plus(QUIET), 1), Some(1));
    }
}
