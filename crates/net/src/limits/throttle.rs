//! Rate limit for reading a stream.

use std::{num::NonZeroU32, time::Duration};

use super::bucket::nanos;

/// Bytes per second of one reader, with a burst.
///
/// The reader reports what it has read and waits for the returned time before it passes the bytes on. The bytes passed on then never
/// exceed the burst plus the rate times the elapsed time.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    rate: u64,
    /// Nanoseconds which the burst takes at the rate.
    burst: u64,
    /// When everything taken so far will have been paid, in nanoseconds of the clock.
    paid: u64,
}

impl Throttle {
    /// A burst of `burst` bytes, and a sustained rate of `per_second`.
    pub fn new(per_second: NonZeroU32, burst: u32) -> Throttle {
        let rate = u64::from(per_second.get());
        // Rounded down, while the cost of bytes is rounded up: rather too few bytes pass than too many.
        Throttle { rate, burst: u64::from(burst) * SECOND / rate, paid: 0 }
    }

    /// Applies new numbers. Bytes already taken are paid at the old rate.
    pub fn set(&mut self, per_second: NonZeroU32, burst: u32) {
        *self = Throttle { paid: self.paid, ..Throttle::new(per_second, burst) };
    }

    /// Whether less than the whole burst is available.
    pub fn owes(&self, now: Duration) -> bool {
        self.paid > nanos(now)
    }

    /// Counts `bytes` that were read at `now`. They may be passed on, and more be read, after the returned time.
    ///
    /// A single read larger than the burst is not refused but waits longer.
    pub fn take(&mut self, now: Duration, bytes: usize) -> Duration {
        let cost = (bytes as u128 * u128::from(SECOND)).div_ceil(u128::from(self.rate));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let now = nanos(now);
        self.paid = self.paid.max(now).saturating_add(cost);
        Duration::from_nanos(self.paid.saturating_sub(now.saturating_add(self.burst)))
    }
}

const SECOND: u64 = 1_000_000_000;
