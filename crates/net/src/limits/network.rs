//! Networks: the addresses that are counted together.

use std::fmt;
use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or 64 bits of an IPv6 address, or one of the wider networks around those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A single address, whether it came as IPv4 or as IPv4 mapped into IPv6.
    V4(u32),
    /// A /64: the network of a home or a phone.
    V6(u64),
    /// A /56, by its first 56 bits: the network of some homes and of some hosting customers.
    Wide56(u64),
    /// A /48, by its first 48 bits: the network of an office or a tunnel user.
    Wide48(u64),
}

/// How many times as much as a /64 a /48 may use. All sizes divide it.
const LARGEST: usize = 16;

impl Network {
    /// The network, and the wider ones around it, each with the factor of what it may use.
    pub fn levels(self) -> impl Iterator<Item = (Network, usize)> {
        let wider = match self {
            Network::V6(bits) => [Some((Network::Wide56(bits >> 8), 4)), Some((Network::Wide48(bits >> 16), LARGEST))],
            _ => [None, None],
        };
        once((self, 1)).chain(wider.into_iter().flatten())
    }
}

/// A count scaled by the size of its network, for comparison with others: for a /48 a sixteenth counts.
pub(super) fn score(count: usize, size: usize) -> usize {
    count.saturating_mul(LARGEST) / size
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Network::V6([a, b, c, d].into_iter().fold(0, |bits, part| bits << 16 | u64::from(part)))
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bits, length) = match *self {
            Network::V4(bits) => return Ipv4Addr::from_bits(bits).fmt(f),
            Network::V6(bits) => (bits, 64),
            Network::Wide56(bits) => (bits << 8, 56),
            Network::Wide48(bits) => (bits << 16, 48),
        };
        write!(f, "{}/{length}", Ipv6Addr::from_bits(u128::from(bits) << 64))
    }
}
