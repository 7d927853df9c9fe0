//! Where connections wait when too many log in: bounded, and fair to networks.
//!
//! Whoever waits is let in after those of networks that have less under way, not after everybody who came before: a flood waits behind
//! others, not before them. When the room is full, the network that has most in it gives up a place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::network::{Network, score};
use super::turns::LONGEST;

/// The number of a connection that waits, in the order of arrival; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(u64);

/// Whether there is a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is.
    Free,
    /// That of this one, which waits no longer.
    Of(WaitId),
    /// There is not, and others of the network wait.
    Crowded,
    /// There is not, and everybody there is from another network.
    Full,
}

/// Those who wait. Choosing one looks at all networks that wait: some ten microseconds if each is from another.
#[derive(Debug, Default)]
pub struct Room {
    last: u64,
    /// Where from, and since when.
    waiting: BTreeMap<WaitId, (Network, Duration)>,
    /// Those of each network.
    queues: BTreeMap<Network, Queue>,
    /// How many wait of each network and of the wider ones around it.
    counts: BTreeMap<Network, usize>,
}

/// Those of one network.
#[derive(Debug, Default)]
struct Queue {
    /// somebody had logged in from there before, when the newest came
    known: bool,
    ids: BTreeSet<WaitId>,
}

impl Room {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more of this network may wait, among so many.
    pub(super) fn place(&self, network: Network, known: bool, bound: usize) -> Place {
        if self.waiting.len() < bound {
            return Place::Free;
        }
        let ranks = self
            .queues
            .iter()
            .filter_map(|(network, queue)| Some((!queue.known, self.crowd(*network, 0), *queue.ids.last()?)));
        let Some((stranger, crowd, worst)) = ranks.max() else { return Place::Full };
        let own = self.crowd(network, 1);
        if known && stranger || (stranger || known) && crowd > own {
            Place::Of(worst)
        } else if self.queues.contains_key(&network) {
            Place::Crowded
        } else {
            Place::Full
        }
    }

    pub(super) fn enter(&mut self, now: Duration, network: Network, known: bool) -> WaitId {
        self.last += 1;
        let id = WaitId(self.last);
        self.waiting.insert(id, (network, now));
        let queue = self.queues.entry(network).or_default();
        queue.known = known;
        queue.ids.insert(id);
        for (level, _) in network.levels() {
            *self.counts.entry(level).or_default() += 1;
        }
        id
    }

    /// False if it was not there.
    pub(super) fn leave(&mut self, id: WaitId) -> bool {
        let Some((network, _)) = self.waiting.remove(&id) else { return false };
        if let Some(queue) = self.queues.get_mut(&network) {
            queue.ids.remove(&id);
            if queue.ids.is_empty() {
                self.queues.remove(&network);
            }
        }
        for (level, _) in network.levels() {
            if let Some(count) = self.counts.get_mut(&level) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&level);
                }
            }
        }
        true
    }

    /// Who goes first: the one whose network is least crowded; of equals the one whose network is known, and then the one that
    /// came first.
    pub(super) fn next(&self, crowd: impl Fn(Network) -> usize) -> Option<(WaitId, Network)> {
        let ranks = self
            .queues
            .iter()
            .filter_map(|(network, queue)| Some((crowd(*network), !queue.known, *queue.ids.first()?, *network)));
        ranks.min().map(|(_, _, id, network)| (id, network))
    }

    /// Lets go of those that have waited too long.
    pub(super) fn tired(&mut self, now: Duration) -> Vec<WaitId> {
        let old = self.waiting.iter().take_while(|(_, (_, since))| now.saturating_sub(*since) >= LONGEST);
        let old: Vec<WaitId> = old.map(|(id, _)| *id).collect();
        for id in &old {
            self.leave(*id);
        }
        old
    }

    fn crowd(&self, network: Network, more: usize) -> usize {
        let of = |(level, size)| score(self.counts.get(&level).copied().unwrap_or_default() + more, size);
        network.levels().map(of).max().unwrap_or_default()
    }
}
