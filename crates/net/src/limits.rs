//! Limits for one network before authentication.
//!
//! Limits simultaneous connections, new connections and failed logins per network (an IPv4 address, or the /64 of an IPv6 address,
//! which is the least that one customer gets), and the number of connections that have not logged in. Some customers get a /56 or
//! a /48, so those are counted as well: a /56 may use four times, and a /48 sixteen times as much as a /64 ([`Network::levels`]).
//!
//! If too many clients log in at once, further connections wait in a waiting room ([`Room`]). It admits those first whose network
//! has the fewest logins under way; of equals, those whose network has logged in before.
//!
//! Pure: the clock is an argument, the time since any fixed moment, which never goes back. The caller closes the sockets.
//!
//! Limits: all of [`Settings`]; `MAX_NETWORKS` and `MAX_WIDE_NETWORKS` buckets, `MAX_KNOWN` networks, and those of
//! [`Logins`], [`Lines`] and [`Room`]
//! Not:    networks wider than a /48; somebody who owns many of them is bound by the total limits only

mod bucket;
mod gate;
mod lines;
mod logins;
mod network;
mod room;
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
pub use gate::{Admitted, Entered, Gate, Guard, Trial, Try};
pub use lines::{LeftOut, Line, Lines};
pub use logins::{Attempt, Logins, Mark, Pending};
pub use network::Network;
pub use room::{Room, WaitId};
pub use throttle::Throttle;
pub use traffic::{Meter, Traffic};
pub use turns::{Arrivals, Asked, Class, LONGEST, Turns, UnderWay};

use bucket::{Buckets, Levels};
use network::score;

/// Maximum number of networks (IPv4 addresses and /64s) without a connection whose connection rate is remembered, with about 50 bytes
/// each.
const MAX_NETWORKS: usize = 32_768;
/// The same for /56s, and for /48s.
const MAX_WIDE_NETWORKS: usize = 8_192;
/// Maximum number of networks remembered for a successful login, with about 50 bytes each.
const MAX_KNOWN: usize = 65_536;

/// A waiting connection replaces one of a network that has at least this many times as many connections under way as its own
/// network would have, once that one has had [`Settings::unequal_grace`].
const UNEQUAL: usize = 4;

/// When a connection is to be dropped, a network with an earlier successful login counts with this fraction of its connections.
const KNOWN_SHARE: usize = 4;

/// The operator's settings. `None` for a rate means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Maximum number of simultaneous connections, logged in or not. Bounds the memory of [`Limits`] itself.
    pub connections: usize,
    /// Maximum number of simultaneous connections from one network. Many users may be behind one address.
    pub connections_per_network: usize,
    /// Rate of new connections from one network.
    pub new_connections: Option<Rate>,
    /// Maximum total number of connections that have not logged in; 0 counts as 1.
    pub half_open: usize,
    /// Maximum number of connections of one network that have not logged in; 0 counts as 1.
    pub half_open_per_network: usize,
    /// Minimum time that a connection has for logging in before it may be dropped because of the total: the next connection waits
    /// for that long.
    pub grace: Duration,
    /// The same for a connection of a network that has far more of them than the network of the next one.
    pub unequal_grace: Duration,
    /// Maximum number of connections in the waiting room. Each takes a socket and about 500 bytes.
    pub waiting: usize,
    /// Rate of failed logins from one network. Attempts under way count until they succeed. An attempt that exceeds the burst only
    /// because of them may be made a little later ([`Try::Later`]).
    pub failed_logins: Option<Rate>,
    /// Rate of failed logins from one network to one account; the same wrong password counts once.
    pub failed_logins_to_account: Option<Rate>,
    /// Rate of failed logins to one account from everywhere. Beyond it every attempt is delayed, except from networks that logged in
    /// to it before.
    pub failed_logins_anywhere: Option<Rate>,
    /// Maximum delay of an attempt because of failures at its account.
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
            // After a restart all clients behind one address reconnect at once.
            new_connections: rate(500, 120),
            half_open: 1_000,
            half_open_per_network: 30,
            // Some round trips of a distant client, plus the time for its password.
            grace: Duration::from_secs(2),
            unequal_grace: Duration::from_millis(500),
            waiting: 1_024,
            failed_logins: rate(60, 20),
            failed_logins_to_account: rate(10, 5),
            failed_logins_anywhere: rate(100, 30),
            longest_delay: Duration::from_secs(5),
        }
    }
}

/// The number of a connection in the order of arrival; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The permit of one connection. It must be returned to [`Limits::closed`]; [`Guard`] does that automatically.
#[derive(Debug)]
#[must_use = "the connection is counted until it is given back"]
pub struct Ticket {
    id: ConnectionId,
    network: Network,
    logged_in: bool,
    /// The connection waits for the server, not the server for the connection.
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

/// Whether a connection is admitted.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// It may.
    Accepted(Ticket),
    /// It is, and this other connection, which never logged in, must be closed. It is no longer counted.
    AcceptedDropping(Ticket, ConnectionId),
    /// It waits until [`Limits::let_in`] returns its number: too many clients are logging in, and all have just arrived. The other one,
    /// if any, was removed from the waiting room and must be closed.
    Waits(WaitId, Option<WaitId>),
    /// Not now: the waiting room is full too, with connections from different networks. It is not counted, and may ask again in a
    /// moment.
    Later,
    /// It must be closed without sending anything.
    Refused(Refusal),
}

/// Why a connection is refused.
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
    /// [`Settings::waiting`], and others of the network wait.
    #[error("too many connections wait, and others of the network are among them")]
    Crowded,
}

/// The connections of a server, counted. See [`Gate`] for the same behind a lock, with guards.
#[derive(Debug)]
pub struct Limits {
    settings: Settings,
    last: u64,
    total: usize,
    /// Connections that have not logged in.
    strangers: usize,
    /// Networks with a connection, and the wider networks around them.
    networks: BTreeMap<Network, Presence>,
    /// Connections that have not logged in, the oldest of a network first, with the time since which they could log in: listed once
    /// for each network that they belong to.
    half_open: BTreeMap<(Network, ConnectionId), HalfOpen>,
    /// Networks that have such connections: the one with most of them for its size last, and of equals the one with the oldest.
    busiest: BTreeSet<Rank>,
    arrivals: Levels<Network>,
    /// Networks with a successful login.
    known: Buckets<Network>,
    room: Room,
    /// Waiting connections that must be closed: their network reached its limit meanwhile.
    in_vain: Vec<WaitId>,
}

/// A connection that has not logged in.
#[derive(Clone, Copy, Debug)]
struct HalfOpen {
    since: Duration,
    /// its own network, where it is listed for a wider one
    home: Network,
}

/// The place of a network among the busiest.
type Rank = (usize, Reverse<ConnectionId>, Network);

/// The connections of one network.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    connections: usize,
    half_open: usize,
    rank: Option<Rank>,
}

/// Which connection is dropped for a new one.
enum Victim {
    /// None.
    Nobody,
    /// The oldest of the network itself, which has too many.
    Own(Network, ConnectionId),
    /// One of all connections, because of the total limit.
    Busiest(Rank),
}

impl Limits {
    /// Without connections.
    pub fn new(settings: Settings) -> Limits {
        Limits {
            settings,
            last: 0,
            total: 0,
            strangers: 0,
            networks: BTreeMap::new(),
            half_open: BTreeMap::new(),
            busiest: BTreeSet::new(),
            arrivals: Levels::new(MAX_NETWORKS, MAX_WIDE_NETWORKS),
            known: Buckets::new(MAX_KNOWN),
            room: Room::default(),
            in_vain: Vec::new(),
        }
    }

    /// Applies new settings. Existing connections stay, even if they exceed the new limits: the numbers fall as connections close.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// A connection arrives. Refused connections do not count against the rate.
    pub fn admit(&mut self, now: Duration, address: IpAddr) -> Admission {
        let network = Network::from(address);
        if let Some(refusal) = self.refusal(network) {
            return Admission::Refused(refusal);
        }
        let victim = self.victim(network);
        let waits = match victim {
            Victim::Nobody => !self.room.is_empty(),
            Victim::Own(..) => false,
            Victim::Busiest(rank) => !self.room.is_empty() || !self.may_drop(now, network, rank),
        };
        let place = if waits {
            self.room.place(network, self.is_known(network), self.settings.waiting)
        } else {
            room::Place::Free
        };
        match place {
            room::Place::Crowded => return Admission::Refused(Refusal::Crowded),
            room::Place::Full => return Admission::Later,
            room::Place::Free | room::Place::Of(_) => {}
        }
        if let Some(rate) = self.settings.new_connections
            && !self.arrivals.take(now, network, rate)
        {
            return Admission::Refused(Refusal::TooFast);
        }
        if waits {
            let known = self.is_known(network);
            let gone = if let room::Place::Of(other) = place { self.room.leave(other).then_some(other) } else { None };
            return Admission::Waits(self.room.enter(now, network, known), gone);
        }
        match self.enter(now, network, victim) {
            (ticket, Some(dropped)) => Admission::AcceptedDropping(ticket, dropped),
            (ticket, None) => Admission::Accepted(ticket),
        }
    }

    /// The next waiting connection, if it is admitted now, and the one it replaces. Must be called again until there is none.
    pub fn let_in(&mut self, now: Duration) -> Option<(WaitId, Ticket, Option<ConnectionId>)> {
        if !self.may_have_room(now) {
            return None;
        }
        let (id, network) = loop {
            let (id, network) = self.room.next(|network| self.crowd(network))?;
            if self.refusal(network).is_none() {
                break (id, network);
            }
            self.room.leave(id);
            self.in_vain.push(id);
        };
        let victim = self.victim(network);
        if let Victim::Busiest(rank) = victim
            && !self.may_drop(now, network, rank)
        {
            return None;
        }
        self.room.leave(id);
        let (ticket, dropped) = self.enter(now, network, victim);
        Some((id, ticket, dropped))
    }

    /// Connections that have waited for longer than [`LONGEST`], or cannot be admitted any more: they must be closed.
    pub fn tired(&mut self, now: Duration) -> Vec<WaitId> {
        let mut tired = std::mem::take(&mut self.in_vain);
        tired.extend(self.room.tired(now));
        tired
    }

    /// Number of connections in the waiting room.
    pub fn waiting(&self) -> usize {
        self.room.len()
    }

    fn enter(&mut self, now: Duration, network: Network, victim: Victim) -> (Ticket, Option<ConnectionId>) {
        let dropped = match victim {
            Victim::Nobody => None,
            Victim::Own(_, id) | Victim::Busiest((_, Reverse(id), _)) => Some(id),
        };
        if let Victim::Own(of, id) | Victim::Busiest((_, Reverse(id), of)) = victim {
            let home = self.half_open.get(&(of, id)).map_or(of, |listed| listed.home);
            self.drop_half_open(home, id);
        }
        self.last += 1;
        let ticket = Ticket { id: ConnectionId(self.last), network, logged_in: false, waits: false };
        self.total += 1;
        self.change(network, |here| here.connections += 1);
        self.begin(now, &ticket);
        (ticket, dropped)
    }

    /// The connection has logged in. `false`: it was dropped before, is not counted, and must be closed.
    #[must_use]
    pub fn logged_in(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.logged_in {
            return true;
        }
        ticket.logged_in = self.end(ticket.network, ticket.id);
        if ticket.logged_in {
            self.known.touch(ticket.network);
        }
        ticket.logged_in
    }

    /// The connection waits in a queue of the server: it is not dropped for others meanwhile. `false`: it was already dropped.
    #[must_use]
    pub fn waits(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.logged_in || ticket.waits {
            return true;
        }
        ticket.waits = self.end(ticket.network, ticket.id);
        ticket.waits
    }

    /// Its turn has come: it continues logging in.
    pub fn goes_on(&mut self, now: Duration, ticket: &mut Ticket) {
        if std::mem::take(&mut ticket.waits) {
            self.begin(now, ticket);
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

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.total
    }

    /// Those of them that have not logged in, and do not wait for the server.
    pub fn half_open(&self) -> usize {
        self.strangers
    }

    /// Number of entries in memory for existing and waiting connections, and for the rates; at most seven per allowed connection
    /// (three with IPv4), one for each waiting connection, `MAX_NETWORKS` and twice `MAX_WIDE_NETWORKS`.
    pub fn entries(&self) -> usize {
        self.networks.len() + self.half_open.len() + self.busiest.len() + self.arrivals.len() + self.room.len()
    }

    /// Whether there was a successful login from there before.
    fn is_known(&self, network: Network) -> bool {
        self.known.contains(network)
    }

    /// Connections that have not logged in are dropped for new ones rather than keep those out.
    fn refusal(&self, network: Network) -> Option<Refusal> {
        if self.total >= self.settings.connections && self.strangers == 0 {
            return Some(Refusal::Full);
        }
        let full = network.levels().any(|(level, size)| {
            let here = self.networks.get(&level).copied().unwrap_or_default();
            here.connections >= self.settings.connections_per_network.saturating_mul(size) && here.half_open == 0
        });
        full.then_some(Refusal::NetworkFull)
    }

    /// Which connection is dropped for a new one: the oldest half-open connection of a network that has too many or, if the total is
    /// exceeded, of the network that has most. A flood from one network displaces only itself.
    fn victim(&self, network: Network) -> Victim {
        let Settings { connections, connections_per_network, half_open, half_open_per_network, .. } = self.settings;
        for (level, size) in network.levels() {
            let here = self.networks.get(&level).copied().unwrap_or_default();
            let full = here.half_open >= half_open_per_network.saturating_mul(size)
                || here.connections >= connections_per_network.saturating_mul(size);
            if let Some((_, Reverse(oldest), _)) = here.rank.filter(|_| full) {
                return Victim::Own(level, oldest);
            }
        }
        if self.strangers < half_open && self.total < connections {
            return Victim::Nobody;
        }
        self.busiest.last().map_or(Victim::Nobody, |rank| Victim::Busiest(*rank))
    }

    /// Whether the oldest connection of the busiest network has had its time. The time is shorter if the new one's network has far
    /// fewer connections, except for networks with an earlier login.
    fn may_drop(&self, now: Duration, network: Network, (busy, Reverse(id), of): Rank) -> bool {
        let Some(HalfOpen { since, home }) = self.half_open.get(&(of, id)).copied() else { return true };
        let unequal = busy >= UNEQUAL * self.crowd(network);
        let spared = self.is_known(home) && !self.is_known(network);
        let grace =
            if unequal && !spared { self.settings.unequal_grace.min(self.settings.grace) } else { self.settings.grace };
        now.saturating_sub(since) >= grace
    }

    /// Whether any connection might be admitted: a cheap check before finding out which.
    fn may_have_room(&self, now: Duration) -> bool {
        if self.room.is_empty() {
            return false;
        }
        let Settings { connections, half_open, grace, unequal_grace, .. } = self.settings;
        let Some((_, Reverse(id), of)) = self.busiest.last() else { return true };
        let old = |listed: &HalfOpen| now.saturating_sub(listed.since) >= grace.min(unequal_grace);
        self.strangers < half_open && self.total < connections || self.half_open.get(&(*of, *id)).is_none_or(old)
    }

    /// How crowded a network would be with one more connection, relative to its size.
    fn crowd(&self, network: Network) -> usize {
        let of = |(level, size)| score(self.networks.get(&level).map_or(0, |here| here.half_open) + 1, size);
        network.levels().map(of).max().unwrap_or_default()
    }

    fn begin(&mut self, now: Duration, ticket: &Ticket) {
        for (level, _) in ticket.network.levels() {
            self.half_open.insert((level, ticket.id), HalfOpen { since: now, home: ticket.network });
        }
        self.strangers += 1;
        self.change(ticket.network, |here| here.half_open += 1);
    }

    /// Whether it was half open until now.
    fn end(&mut self, network: Network, id: ConnectionId) -> bool {
        if !self.half_open.contains_key(&(network, id)) {
            return false;
        }
        for (level, _) in network.levels() {
            self.half_open.remove(&(level, id));
        }
        self.strangers -= 1;
        self.change(network, |here| here.half_open -= 1);
        true
    }

    fn drop_half_open(&mut self, network: Network, id: ConnectionId) {
        if self.end(network, id) {
            self.total -= 1;
            self.change(network, |here| here.connections -= 1);
        }
    }

    /// Updates the numbers of a network and of those around it after a change of `half_open`, and updates `busiest`.
    fn change(&mut self, network: Network, change: impl Fn(&mut Presence)) {
        for (level, size) in network.levels() {
            let share = if self.known.contains(level) { KNOWN_SHARE } else { 1 };
            let here = self.networks.entry(level).or_default();
            if let Some(rank) = here.rank.take() {
                self.busiest.remove(&rank);
            }
            change(here);
            let mut oldest = self.half_open.range((level, ConnectionId(0))..=(level, ConnectionId(u64::MAX)));
            if let Some(((_, id), _)) = oldest.next() {
                let rank = (score(here.half_open, size) / share, Reverse(*id), level);
                here.rank = Some(rank);
                self.busiest.insert(rank);
            }
            if here.connections == 0 {
                self.networks.remove(&level);
            }
        }
    }
}
