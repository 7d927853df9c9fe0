//! How fast a stream is read.

use std::{num::NonZeroU32, time::Duration};

use super::bucket::nanos;

/// Bytes per second of one reader, with a burst.
///
/// The reader tells what it has read and waits as long as it is told before it hands the bytes on: then what is handed on never
/// exceeds the burst and the rate times the time that passed.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    rate: u64,
    /// Nanoseconds which the burst takes at the rate.
    burst: u64,
    /// When everything taken so far will have been paid, in nanoseconds of the clock.
    paid: u64,
}

impl Throttle {
    /// `burst` bytes at once, and `per_second` in the long run.
    pub fn new(per_second: NonZeroU32, burst: u32) -> Throttle {
        let rate = u64::from(per_second.get());
        // Rounded down, as the cost of bytes is rounded up: in doubt too little passes.
        Throttle { rate, burst: u64::from(burst) * SECOND / rate, paid: 0 }
    }

    /// Other numbers from here on. What was taken is paid as it was agreed.
    pub fn set(&mut self, per_second: NonZeroU32, burst: u32) {
        *self = Throttle { paid: self.paid, ..Throttle::new(per_second, burst) };
    }

    /// Whether less than the whole burst is there.
    pub fn owes(&self, now: Duration) -> bool {
        self.paid > nanos(now)
    }

    /// Counts `bytes` that were read at `now`; they may be handed on, and more be read, after the answer has passed.
    ///
    /// A single read larger than the burst is not refused, it waits for longer.
    pub fn take(&mut self, now: Duration, bytes: usize) -> Duration {
        let cost = (bytes as u128 * u128::from(SECOND)).div_ceil(u128::from(self.rate));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let now = nanos(now);
        self.paid = self.paid.max(now).saturating_add(cost);
        Duration::from_nanos(self.paid.saturating_sub(now.saturating_add(self.burst)))
    }
}

const SECOND: u64 = 1_000_000_000;
