//! How many lines a failed login may leave in the log: enough for whoever bans addresses, too few to fill a disk.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::bucket::{Bucket, Buckets};
use super::{Network, Rate};

/// Lines for one network: ten at once, and ten a minute.
const OF_NETWORK: (u32, u32) = (10, 10);
/// Lines in all: a thousand at once, and ten a second.
const IN_ALL: (u32, u32) = (1_000, 600);
/// How many networks are remembered for their lines, with about 50 bytes each.
const MAX_NETWORKS: usize = 8_192;
/// Of how many networks it is known how many lines were left out; the others are counted together.
const MAX_COUNTED: usize = 256;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is written.
    Write,
    /// It is counted; `true`: it is the first since [`Lines::left_out`] was asked.
    Count(bool),
}

/// What was not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// by network
    pub networks: BTreeMap<Network, u64>,
    /// of all other networks
    pub others: u64,
}

/// Lines by network, and in all.
#[derive(Debug)]
pub struct Lines {
    networks: Buckets<Network>,
    all: Bucket,
    left_out: LeftOut,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { networks: Buckets::new(MAX_NETWORKS), all: Bucket::default(), left_out: LeftOut::default() }
    }
}

impl Lines {
    /// Something happened at this address that is worth a line.
    pub fn line(&mut self, now: Duration, address: IpAddr) -> Line {
        let network = Network::from(address);
        let (here, all) = (rate(OF_NETWORK), rate(IN_ALL));
        if self.all.wait(now, all).is_zero() && self.networks.touch(network).take(now, here).is_ok() {
            let _ = self.all.take(now, all);
            return Line::Write;
        }
        let first = self.left_out == LeftOut::default();
        if self.left_out.networks.len() < MAX_COUNTED || self.left_out.networks.contains_key(&network) {
            *self.left_out.networks.entry(network).or_default() += 1;
        } else {
            self.left_out.others += 1;
        }
        Line::Count(first)
    }

    /// What was not written since this was asked.
    pub fn left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }
}

fn rate((burst, per_minute): (u32, u32)) -> Rate {
    let some = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Rate::per_minute(some(burst), some(per_minute))
}
