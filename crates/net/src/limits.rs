//! What one network may do before it has shown who it is.
//!
//! Connections at once, new connections and failed logins per network (an IPv4 address, or the /64 of an IPv6 address, which is
//! what one customer gets), and how many connections may be there without having logged in.
//!
//! Pure: the clock is an argument, the time since any fixed moment, never going back. The caller closes the sockets.
//!
//! Limits: all of [`Settings`], and `MAX_NETWORKS`, `MAX_PAIRS` and `MAX_ACCOUNTS` remembered buckets
//! Not:    networks wider than a /64; who owns many is held by the limits "in all" only

mod bucket;
mod gate;
mod logins;
#[cfg(test)]
mod tests;
mod throttle;
mod traffic;
mod turns;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU32,
    time::Duration,
};

pub use bucket::Rate;
pub use gate::{Entered, Gate, Guard, Trial, Try};
pub use logins::{Attempt, Logins, Pending};
pub use throttle::Throttle;
pub use traffic::{Meter, Traffic};
pub use turns::{Arrivals, Asked, Class, LONGEST, Turns, UnderWay};

use bucket::Buckets;

/// How many networks without a connection are remembered, with about 50 bytes each.
const MAX_NETWORKS: usize = 32_768;

/// What an operator sets. `None` for a rate means that it is not limited.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at once, logged in or not. Bounds the memory of [`Limits`] itself.
    pub connections: usize,
    /// Connections at once from one network. Many users may be behind one address.
    pub connections_per_network: usize,
    /// New connections from one network.
    pub new_connections: Option<Rate>,
    /// Connections that have not logged in, in all; 0 counts as 1.
    pub half_open: usize,
    /// Connections of one network that have not logged in; 0 counts as 1.
    pub half_open_per_network: usize,
    /// So long a connection has to log in before it may be dropped because there are too many in all: the next one waits for
    /// that, in the queue of the system.
    pub grace: Duration,
    /// Failed logins from one network. Attempts under way count until they succeed: what is beyond the burst by them alone
    /// may come a little later ([`Try::Later`]).
    pub failed_logins: Option<Rate>,
    /// Failed logins from one network to one account.
    pub failed_logins_to_account: Option<Rate>,
    /// Failed logins to one account from everywhere; beyond it every attempt waits.
    pub failed_logins_anywhere: Option<Rate>,
    /// The longest that an attempt is made to wait for the sake of its account.
    pub longest_delay: Duration,
}

const fn rate(burst: u32, per_minute: u32) -> Option<Rate> {
    match (NonZeroU32::new(burst), NonZeroU32::new(per_minute)) {
        (Some(burst), Some(per_minute)) => Some(Rate::per_minute(burst, per_minute)),
        _ => None,
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections: 50_000,
            connections_per_network: 500,
            // After a restart everybody behind one address comes back at once.
            new_connections: rate(500, 120),
            half_open: 1_000,
            half_open_per_network: 30,
            // Some round trips of a distant client, and the time its password takes.
            grace: Duration::from_secs(2),
            failed_logins: rate(60, 20),
            failed_logins_to_account: rate(10, 5),
            failed_logins_anywhere: rate(100, 30),
            longest_delay: Duration::from_secs(5),
        }
    }
}

/// Who is counted together: an IPv4 address, or 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A single address, whether it came as IPv4 or as IPv4 mapped into IPv6.
    V4(u32),
    /// A /64.
    V6(u64),
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

/// The number of a connection in the order of arrival; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// The right of one connection to be there. To be given back to [`Limits::closed`]; [`Guard`] does that by itself.
#[derive(Debug)]
#[must_use = "the connection is counted until it is given back"]
pub struct Ticket {
    id: ConnectionId,
    network: Network,
    logged_in: bool,
    /// It waits for the server, not the server for it.
    waits: bool,
}

impl Ticket {
    /// The connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Where it came from.
    pub fn network(&self) -> Network {
        self.network
    }
}

/// Whether a connection may come in.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// It may.
    Accepted(Ticket),
    /// It may, and this other connection, which never logged in, has to be closed. It is no longer counted.
    AcceptedDropping(Ticket, ConnectionId),
    /// Not now: too many log in, all of whom have just come. It is not counted, and may ask again in a moment.
    Later,
    /// It has to be closed without a word.
    Refused(Refusal),
}

/// Why a connection may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// [`Settings::connections`], all of them logged in.
    #[error("the server has as many connections as it may")]
    Full,
    /// [`Settings::connections_per_network`], all of them logged in.
    #[error("the network has as many connections as it may")]
    NetworkFull,
    /// [`Settings::new_connections`].
    #[error("the network opens connections too fast")]
    TooFast,
}

/// The connections of a server, counted. See [`Gate`] for the same behind a lock, with guards.
#[derive(Debug)]
pub struct Limits {
    settings: Settings,
    last: u64,
    total: usize,
    /// Networks that have a connection.
    networks: BTreeMap<Network, Presence>,
    /// Connections that have not logged in, the oldest of a network first, and since when they could have.
    half_open: BTreeMap<(Network, ConnectionId), Duration>,
    /// Networks that have such connections: the one with most of them last, and of equals the one with the oldest.
    busiest: BTreeSet<(usize, Reverse<ConnectionId>, Network)>,
    arrivals: Buckets<Network>,
}

/// The connections of one network.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    connections: usize,
    half_open: usize,
    oldest: Option<ConnectionId>,
}

impl Limits {
    /// Nobody is there.
    pub fn new(settings: Settings) -> Limits {
        Limits {
            settings,
            last: 0,
            total: 0,
            networks: BTreeMap::new(),
            half_open: BTreeMap::new(),
            busiest: BTreeSet::new(),
            arrivals: Buckets::new(MAX_NETWORKS),
        }
    }

    /// Takes over new settings. Who is there stays, also if that is more than is allowed now: numbers fall as connections
    /// close.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// A connection arrives. What is refused does not count against the rate.
    pub fn admit(&mut self, now: Duration, address: IpAddr) -> Admission {
        let network = Network::from(address);
        let here = self.networks.get(&network).copied().unwrap_or_default();
        // Who has not logged in makes room for others rather than keep them out.
        if self.total >= self.settings.connections && self.half_open.is_empty() {
            return Admission::Refused(Refusal::Full);
        }
        if here.connections >= self.settings.connections_per_network && here.half_open == 0 {
            return Admission::Refused(Refusal::NetworkFull);
        }
        let victim = self.victim(network, here);
        if let Some((network, id, true)) = victim
            && self.half_open.get(&(network, id)).is_some_and(|since| now.saturating_sub(*since) < self.settings.grace)
        {
            return Admission::Later;
        }
        if let Some(rate) = self.settings.new_connections
            && self.arrivals.touch(network).take(now, rate).is_err()
        {
            return Admission::Refused(Refusal::TooFast);
        }
        let dropped = victim.map(|(network, id, _)| {
            self.drop_half_open(network, id);
            id
        });
        self.last += 1;
        let ticket = Ticket { id: ConnectionId(self.last), network, logged_in: false, waits: false };
        self.total += 1;
        self.half_open.insert((network, ticket.id), now);
        self.change(network, |here| {
            here.connections += 1;
            here.half_open += 1;
        });
        match dropped {
            Some(id) => Admission::AcceptedDropping(ticket, id),
            None => Admission::Accepted(ticket),
        }
    }

    /// The connection has logged in. `false`: it had been dropped before, is not counted, and has to be closed.
    #[must_use]
    pub fn logged_in(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.logged_in {
            return true;
        }
        ticket.logged_in = self.half_open.remove(&(ticket.network, ticket.id)).is_some();
        if ticket.logged_in {
            self.change(ticket.network, |here| here.half_open -= 1);
        }
        ticket.logged_in
    }

    /// The connection waits in a queue of the server's: it is not dropped for others meanwhile. `false`: it had been dropped.
    #[must_use]
    pub fn waits(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.logged_in || ticket.waits {
            return true;
        }
        ticket.waits = self.half_open.remove(&(ticket.network, ticket.id)).is_some();
        if ticket.waits {
            self.change(ticket.network, |here| here.half_open -= 1);
        }
        ticket.waits
    }

    /// Its turn has come: it goes on logging in.
    pub fn goes_on(&mut self, now: Duration, ticket: &mut Ticket) {
        if std::mem::take(&mut ticket.waits) {
            self.half_open.insert((ticket.network, ticket.id), now);
            self.change(ticket.network, |here| here.half_open += 1);
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, ticket: Ticket) {
        if ticket.logged_in || ticket.waits {
            self.total -= 1;
            self.change(ticket.network, |here| here.connections -= 1);
        } else {
            self.drop_half_open(ticket.network, ticket.id);
        }
    }

    /// Connections that are there.
    pub fn connections(&self) -> usize {
        self.total
    }

    /// Those of them that have not logged in, and do not wait for the server.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Entries held in memory; at most three per connection allowed, and `MAX_NETWORKS`.
    pub fn entries(&self) -> usize {
        self.networks.len() + self.half_open.len() + self.busiest.len() + self.arrivals.len()
    }

    /// Who goes if another comes: the oldest half-open connection of a network that has too many or, if there are too many in
    /// all (`true`), of the network that has most: a flood from one network pushes out itself and nobody else.
    fn victim(&self, network: Network, here: Presence) -> Option<(Network, ConnectionId, bool)> {
        let Settings { connections, connections_per_network, half_open, half_open_per_network, .. } = self.settings;
        if here.half_open >= half_open_per_network || here.connections >= connections_per_network {
            return Some((network, here.oldest?, false));
        }
        if self.half_open.len() < half_open && self.total < connections {
            return None;
        }
        let (_, Reverse(oldest), busiest) = *self.busiest.last()?;
        Some((busiest, oldest, true))
    }

    fn drop_half_open(&mut self, network: Network, id: ConnectionId) {
        if self.half_open.remove(&(network, id)).is_some() {
            self.total -= 1;
            self.change(network, |here| {
                here.connections -= 1;
                here.half_open -= 1;
            });
        }
    }

    /// Changes the numbers of a network after `half_open` was changed, and keeps `busiest` in step.
    fn change(&mut self, network: Network, change: impl FnOnce(&mut Presence)) {
        let here = self.networks.entry(network).or_default();
        if let Some(oldest) = here.oldest {
            self.busiest.remove(&(here.half_open, Reverse(oldest), network));
        }
        change(here);
        here.oldest = self
            .half_open
            .range((network, ConnectionId(0))..=(network, ConnectionId(u64::MAX)))
            .next()
            .map(|((_, id), _)| *id);
        if let Some(oldest) = here.oldest {
            self.busiest.insert((here.half_open, Reverse(oldest), network));
        }
        if here.connections == 0 {
            self.networks.remove(&network);
        }
    }
}
