//! Rate limit for log lines about failed logins: enough for programs that ban addresses, too few to fill a disk.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::bucket::{Bucket, Buckets};
use super::{Network, Rate};

/// Lines for one network: a burst of ten, and ten a minute.
const OF_NETWORK: (u32, u32) = (10, 10);
/// Lines in total: a burst of a thousand, and ten a second.
const IN_ALL: (u32, u32) = (1_000, 600);
/// Maximum number of networks whose lines are counted, with about 50 bytes each.
const MAX_NETWORKS: usize = 8_192;
/// Maximum number of networks whose omitted lines are counted separately; the others are counted together.
const MAX_COUNTED: usize = 256;

/// The decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is written.
    Write,
    /// It is omitted and counted; `true`: it is the first since the last call of [`Lines::left_out`].
    Count(bool),
}

/// Numbers of omitted lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// by network
    pub networks: BTreeMap<Network, u64>,
    /// of all other networks
    pub others: u64,
}

/// Lines by network, and in total.
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
    /// An event at this address that should be logged.
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

    /// The numbers of omitted lines since the last call.
    pub fn left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }
}

fn rate((burst, per_minute): (u32, u32)) -> Rate {
    let some = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Rate::per_minute(some(burst), some(per_minute))
}
