//! Rate limits, in eight bytes each and with bounded memory.
//!
//! A bucket is stored as the time at which it will be full again (the generic cell rate algorithm): with a burst of B and a period
//! of T per event, an event is admitted if that time is at most (B − 1)·T ahead, and moves it by T. It uses integers only,
//! nothing has to be refilled, and a full bucket carries no information and can be dropped.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use super::Network;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: u64,
    period: u64,
}

impl Rate {
    /// A burst of `burst` events, and a sustained rate of `per_minute`.
    pub const fn per_minute(burst: NonZeroU32, per_minute: NonZeroU32) -> Rate {
        Rate { burst: burst.get() as u64, period: (60_000_000_000u64).div_ceil(per_minute.get() as u64) }
    }

    /// A burst of `burst` events, and a sustained rate of as many in each `period`.
    pub fn each(burst: NonZeroU32, period: Duration) -> Rate {
        let (burst, period) = (u64::from(burst.get()), u64::try_from(period.as_nanos()).unwrap_or(u64::MAX));
        Rate { burst, period: period.div_ceil(burst) }
    }

    /// The rate multiplied by a factor.
    pub(super) fn times(self, factor: usize) -> Rate {
        let factor = u64::try_from(factor).unwrap_or(u64::MAX).max(1);
        Rate { burst: self.burst.saturating_mul(factor), period: self.period.div_ceil(factor) }
    }

    /// How far in the future the time of being full may be for one more event to fit, in nanoseconds.
    fn room(self) -> u64 {
        (self.burst - 1).saturating_mul(self.period)
    }
}

/// Nanoseconds of the clock at which a bucket is full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(u64);

impl Bucket {
    /// Takes one event out, or returns how long to wait until there is one.
    pub(super) fn take(&mut self, now: Duration, rate: Rate) -> Result<(), Duration> {
        match self.wait(now, rate) {
            Duration::ZERO => {
                self.0 = self.0.max(nanos(now)).saturating_add(rate.period);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes one event out even if there is none, but goes no deeper into debt than `most`. Returns how long the event should
    /// wait.
    pub(super) fn borrow(&mut self, now: Duration, rate: Rate, most: Duration) -> Duration {
        let wait = self.wait(now, rate).min(most);
        let deepest = nanos(now).saturating_add(rate.room()).saturating_add(nanos(most)).saturating_add(rate.period);
        self.0 = self.0.max(nanos(now)).saturating_add(rate.period).min(deepest);
        wait
    }

    /// Puts back an event that turned out not to count.
    pub(super) fn put_back(&mut self, rate: Rate) {
        self.0 = self.0.saturating_sub(rate.period);
    }

    /// How long until one more event fits.
    pub(super) fn wait(self, now: Duration, rate: Rate) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(nanos(now).saturating_add(rate.room())))
    }
}

/// Buckets by key, at most `bound` of them: the least recently used are evicted first.
///
/// Two generations: a bucket that is used moves to the young one, and when that is full the old one is dropped as a whole. So a
/// bucket survives at least half the bound of other keys, at the cost of one move, and no flood of keys can grow the map.
/// Eviction resets a counter; an attacker with enough addresses to force it could have used those addresses instead.
#[derive(Debug)]
pub(super) struct Buckets<K, V = Bucket> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    generation: usize,
}

impl<K: Ord + Copy, V: Copy + Default> Buckets<K, V> {
    pub(super) fn new(bound: usize) -> Buckets<K, V> {
        Buckets { young: BTreeMap::new(), old: BTreeMap::new(), generation: (bound / 2).max(1) }
    }

    /// Maximum number of buckets.
    #[cfg(test)]
    pub(super) fn bound(&self) -> usize {
        self.generation * 2
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// The bucket of a key, without marking it as used.
    pub(super) fn peek(&self, key: K) -> V {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or_default()
    }

    /// Whether there is a bucket for a key.
    pub(super) fn contains(&self, key: K) -> bool {
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    /// The bucket of a key, created if there is none.
    pub(super) fn touch(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.generation {
            let old = std::mem::take(&mut self.young);
            let oldest = std::mem::replace(&mut self.old, old);
            if let Some(bucket) = oldest.get(&key) {
                self.old.insert(key, *bucket);
            }
        }
        let kept = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| kept.unwrap_or_default())
    }

    /// Removes the bucket of a key.
    pub(super) fn forget(&mut self, key: K) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

/// A key with wider keys around it: the network of a pair, and the networks around that.
pub(super) trait Wider: Ord + Copy {
    /// The key and the wider ones around it, each with the factor of its rate; three at most.
    fn wider(self) -> impl Iterator<Item = (Self, usize)>;
}

impl Wider for Network {
    fn wider(self) -> impl Iterator<Item = (Network, usize)> {
        self.levels()
    }
}

/// Buckets of networks, of /56s and of /48s, in separate maps: a flood of small networks does not evict the wide ones.
#[derive(Debug)]
pub(super) struct Levels<K>([Buckets<K>; 3]);

impl<K: Wider> Levels<K> {
    /// Empty, with a maximum for the first map, and one for each of the others.
    pub(super) fn new(bound: usize, wide: usize) -> Levels<K> {
        Levels([Buckets::new(bound), Buckets::new(wide), Buckets::new(wide)])
    }

    /// Takes an event out of the key's bucket and of those around it, or out of none and returns `false`.
    pub(super) fn take(&mut self, now: Duration, key: K, rate: Rate) -> bool {
        let free = self.wait(now, key, rate).is_zero();
        if free {
            for (buckets, (key, size)) in self.0.iter_mut().zip(key.wider()) {
                let _ = buckets.touch(key).take(now, rate.times(size));
            }
        }
        free
    }

    /// How long until one more event fits.
    pub(super) fn wait(&self, now: Duration, key: K, rate: Rate) -> Duration {
        self.waits(now, key, rate).map(|(_, wait)| wait).max().unwrap_or_default()
    }

    /// The same for each level.
    pub(super) fn waits(&self, now: Duration, key: K, rate: Rate) -> impl Iterator<Item = (K, Duration)> {
        let levels = self.0.iter().zip(key.wider());
        levels.map(move |(buckets, (key, size))| (key, buckets.peek(key).wait(now, rate.times(size))))
    }

    /// Puts back an event that turned out not to count.
    pub(super) fn put_back(&mut self, key: K, rate: Rate) {
        for (buckets, (key, size)) in self.0.iter_mut().zip(key.wider()) {
            buckets.touch(key).put_back(rate.times(size));
        }
    }

    /// Removes the key's bucket; the wider ones only get back one event.
    pub(super) fn forget(&mut self, key: K, rate: Rate) {
        for (buckets, (key, size)) in self.0.iter_mut().zip(key.wider()) {
            if size == 1 {
                buckets.forget(key);
            } else {
                buckets.touch(key).put_back(rate.times(size));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Buckets::len).sum()
    }
}

/// Nanoseconds saturate after 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
