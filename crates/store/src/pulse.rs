//! The state of the writer: whether a commit is running and since when, the result of the last one, and the slowest ones.

#![expect(clippy::disallowed_methods, reason = "how long a commit takes")]

use crate::shape::{Outcome, StoreError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Number of slowest ones remembered.
const SLOWEST: usize = 8;

/// How long they are remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// The few slowest operations of the last minute.
#[derive(Debug)]
pub struct Slowest<T>(Mutex<Vec<Slow<T>>>);

/// A slow operation.
#[derive(Clone, Debug)]
pub struct Slow<T> {
    /// when it ended
    pub at: Instant,
    /// how long it took
    pub took: Duration,
    /// what it was
    pub what: T,
}

impl<T> Default for Slowest<T> {
    fn default() -> Slowest<T> {
        Slowest(Mutex::default())
    }
}

impl<T: Clone> Slowest<T> {
    /// Records a finished operation. `what` is called only if it is among the slowest.
    pub fn note(&self, at: Instant, took: Duration, what: impl FnOnce() -> T) {
        let mut all = self.lock();
        all.retain(|slow| at.saturating_duration_since(slow.at) < MEMORY);
        if all.len() >= SLOWEST {
            let Some(least) = all.iter().enumerate().min_by_key(|(_, slow)| slow.took) else { return };
            if least.1.took >= took {
                return;
            }
            let at = least.0;
            all.swap_remove(at);
        }
        all.push(Slow { at, took, what: what() });
    }

    /// The slowest of the last minute, the slowest first.
    pub fn list(&self, now: Instant) -> Vec<Slow<T>> {
        let mut all: Vec<_> = self.lock().clone();
        all.retain(|slow| now.saturating_duration_since(slow.at) < MEMORY);
        all.sort_by_key(|slow| std::cmp::Reverse(slow.took));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slow<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// microseconds from the origin to the begin of the commit that is under way, plus one; 0 between commits
    busy: AtomicU64,
    failing: Mutex<Option<StoreError>>,
    /// the slowest commits, with their batches and bytes
    pub slowest: Slowest<(usize, usize)>,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            origin: Instant::now(),
            busy: AtomicU64::new(0),
            failing: Mutex::default(),
            slowest: Slowest::default(),
        }
    }
}

impl Pulse {
    /// How long the current commit has been running; `None` between commits.
    pub fn committing_for(&self) -> Option<Duration> {
        let since = self.busy.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.origin.elapsed().saturating_sub(Duration::from_micros(since)))
    }

    /// Why the last commit failed, if it did: none of its batches was written, because of the store.
    pub fn failing(&self) -> Option<StoreError> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin(&self) -> Instant {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.origin).as_micros();
        self.busy.store(u64::try_from(since).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
        now
    }

    pub(crate) fn end(&self, began: Instant, outcomes: &[Outcome], bytes: usize) -> Duration {
        let now = Instant::now();
        self.busy.store(0, Ordering::Relaxed);
        let took = now.saturating_duration_since(began);
        self.slowest.note(now, took, || (outcomes.len(), bytes));
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        // Stale and refused batches say nothing about the disk.
        let weather = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Failed(error) if !matches!(error, StoreError::Stale | StoreError::Bug(_)) => Some(error.clone()),
            _ => None,
        });
        if outcomes.iter().any(Outcome::is_committed) {
            *failing = None;
        } else if weather.is_some() {
            *failing = weather;
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_kept_for_a_minute_and_a_bound_of_them() {
        let slowest = Slowest::default();
        let start = Instant::now();
        for millis in 1..=20 {
            slowest.note(start, Duration::from_millis(millis), || millis);
        }
        let kept = |now| slowest.list(now).into_iter().map(|slow| slow.what).collect::<Vec<_>>();
        assert_eq!(kept(start), (13..=20).rev().collect::<Vec<_>>());
        slowest.note(start + MEMORY, Duration::from_millis(2), || 2);
        assert_eq!(kept(start + MEMORY), [2]);
    }

    #[test]
    fn a_commit_that_wrote_nothing_fails_until_one_writes_something() {
        let pulse = Pulse::default();
        assert_eq!(pulse.committing_for(), None);
        let began = pulse.begin();
        assert!(pulse.committing_for().is_some());
        pulse.end(began, &[Outcome::Failed(StoreError::Full), Outcome::Failed(StoreError::Stale)], 1);
        assert_eq!(pulse.committing_for(), None);
        assert!(matches!(pulse.failing(), Some(StoreError::Full)));
        pulse.end(pulse.begin(), &[Outcome::Failed(StoreError::Stale)], 1);
        assert!(pulse.failing().is_some(), "nothing was written since");
        pulse.end(pulse.begin(), &[Outcome::Committed, Outcome::Failed(StoreError::Full)], 1);
        assert!(pulse.failing().is_none());
    }
}
