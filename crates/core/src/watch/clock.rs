//! Two clocks. Stanzas and entries are stamped with the time of day, which an operator or NTP may set forward or backward. The
//! *steady* time is how long the process has run: it only goes forward, and timeouts are measured by it.
//!
//! Deletion by age uses the time of day, and cannot be undone. So after the time of day jumps ahead, it is not trusted for deletion
//! until the server has run with it for [`DOUBT`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vorpal_proto::datetime::Timestamp;

/// A sudden difference between the two clocks that is larger than this is a step of the time of day.
pub const STEP: Duration = Duration::from_secs(60);

/// A server that starts later than this after its newest entry may have a wrong time of day.
pub const GAP: Duration = Duration::from_secs(24 * 3600);

/// How long the server runs with a time of day that jumped ahead before it deletes by that time.
pub const DOUBT: Duration = Duration::from_secs(24 * 3600);

/// See the module's text.
#[derive(Default)]
pub(crate) struct Clock {
    /// in milliseconds since the process began
    steady: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// the last reported values of both clocks
    told: Option<(Timestamp, Duration)>,
    /// by how much the time of day is ahead of the trusted time
    ahead: Duration,
    /// when the time of day will be trusted, in steady time
    believed_at: Duration,
}

/// A step of the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    Forward(Duration),
    Backward(Duration),
}

impl Clock {
    pub(crate) fn steady(&self) -> Duration {
        Duration::from_millis(self.steady.load(Ordering::Relaxed))
    }

    /// The time of day as it was told last.
    pub(crate) fn told(&self) -> Timestamp {
        self.state.lock().told.map_or(Timestamp::from_millis(0), |(now, _)| now)
    }

    pub(crate) fn tell(&self, now: Timestamp, steady: Duration) -> Option<Stepped> {
        self.steady.store(u64::try_from(steady.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut state = self.state.lock();
        let (before, then) = state.told.replace((now, steady))?;
        let expected = before.plus(steady.saturating_sub(then));
        if steady >= state.believed_at {
            state.ahead = Duration::ZERO;
        }
        let (forward, backward) = (now.since(expected), expected.since(now));
        if forward > STEP {
            state.ahead += forward;
            state.believed_at = steady + DOUBT;
            return Some(Stepped::Forward(forward));
        }
        if backward > STEP {
            state.ahead = state.ahead.saturating_sub(backward);
            return Some(Stepped::Backward(backward));
        }
        None
    }

    pub(crate) fn doubt(&self, now: Timestamp, newest: Timestamp) {
        let gap = now.since(newest);
        if gap > GAP {
            let mut state = self.state.lock();
            state.ahead = gap;
            state.believed_at = self.steady() + DOUBT;
        }
    }

    pub(crate) fn believed(&self, now: Timestamp) -> Timestamp {
        let state = self.state.lock();
        if self.steady() >= state.believed_at { now } else { now.minus(state.ahead) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn a_step_forward_is_believed_after_a_day() {
        let clock = Clock::default();
        assert_eq!(clock.tell(START, HOUR), None);
        assert_eq!(clock.tell(START.plus(HOUR), 2 * HOUR), None);
        let ahead = START.plus(HOUR).plus(YEAR);
        assert_eq!(clock.tell(ahead, 2 * HOUR), Some(Stepped::Forward(YEAR)));
        assert_eq!(clock.believed(ahead), START.plus(HOUR));
        let later = ahead.plus(DOUBT - HOUR);
        assert_eq!(clock.tell(later, HOUR + DOUBT), None);
        assert_eq!(clock.believed(later), START.plus(DOUBT));
        let believed = ahead.plus(DOUBT);
        assert_eq!(clock.tell(believed, 2 * HOUR + DOUBT), None);
        assert_eq!(clock.believed(believed), believed);
    }

    #[test]
    fn a_step_that_is_taken_back_leaves_no_doubt() {
        let clock = Clock::default();
        clock.tell(START, HOUR);
        clock.tell(START.plus(YEAR), HOUR);
        assert_eq!(clock.tell(START, HOUR), Some(Stepped::Backward(YEAR)));
        assert_eq!(clock.believed(START), START);
    }

    #[test]
    fn a_step_backward_is_believed_at_once() {
        let clock = Clock::default();
        clock.tell(START, HOUR);
        assert_eq!(clock.tell(START.minus(YEAR), HOUR), Some(Stepped::Backward(YEAR)));
        assert_eq!(clock.believed(START.minus(YEAR)), START.minus(YEAR));
    }

    #[test]
    fn slow_corrections_are_no_steps() {
        let clock = Clock::default();
        clock.tell(START, HOUR);
        assert_eq!(clock.tell(START.plus(2 * STEP), HOUR + STEP), None);
        assert_eq!(clock.believed(START.plus(2 * STEP)), START.plus(2 * STEP));
    }

    #[test]
    fn a_start_long_after_the_newest_entry_is_believed_after_a_day() {
        let clock = Clock::default();
        clock.doubt(START.plus(YEAR), START);
        assert_eq!(clock.believed(START.plus(YEAR)), START);
        clock.tell(START.plus(YEAR).plus(DOUBT), DOUBT);
        assert_eq!(clock.believed(START.plus(YEAR).plus(DOUBT)), START.plus(YEAR).plus(DOUBT));
        let clock = Clock::default();
        clock.doubt(START.plus(HOUR), START);
        assert_eq!(clock.believed(START.plus(HOUR)), START.plus(HOUR));
    }
}
