//! The waiting room for connections when too many are logging in: bounded, and fair to networks.
//!
//! Connections of networks with fewer logins under way are admitted first, not those that arrived first: a flood waits after others,
//! not before them. When the room is full, the network with the most waiting connections loses one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::network::{Network, score};
use super::turns::LONGEST;

/// The number of a connection that waits, in the order of arrival; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(u64);

/// Whether the room has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has.
    Free,
    /// It takes the place of this connection, which must be closed.
    Of(WaitId),
    /// It has none, and others of the network wait.
    Crowded,
    /// It has none, and all waiting connections are from other networks.
    Full,
}

/// The waiting connections. Choosing one examines all waiting networks: some ten microseconds if each connection is from another one.
#[derive(Debug, Default)]
pub struct Room {
    last: u64,
    /// The network, and the time of arrival.
    waiting: BTreeMap<WaitId, (Network, Duration)>,
    /// The waiting connections of each network.
    queues: BTreeMap<Network, Queue>,
    /// Number of waiting connections of each network and of the wider ones around it.
    counts: BTreeMap<Network, usize>,
}

/// The waiting connections of one network.
#[derive(Debug, Default)]
struct Queue {
    /// whether there had been a successful login from there when the newest arrived
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

    /// Whether one more connection of this network may wait, with a total limit.
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

    /// False if it was not waiting.
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

    /// The next connection to admit: the one whose network is least crowded; of equals, one whose network has logged in before, and
    /// then the one that arrived first.
    pub(super) fn next(&self, crowd: impl Fn(Network) -> usize) -> Option<(WaitId, Network)> {
        let ranks = self
            .queues
            .iter()
            .filter_map(|(network, queue)| Some((crowd(*network), !queue.known, *queue.ids.first()?, *network)));
        ranks.min().map(|(_, _, id, network)| (id, network))
    }

    /// Removes connections that have waited too long.
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
