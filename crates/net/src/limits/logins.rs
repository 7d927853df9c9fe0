//! Limits for guessing passwords, without locking out the owner of the account.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::bucket::{Buckets, Levels, Wider};
use super::{Network, Settings};

/// Maximum number of networks (IPv4 addresses and /64s) whose failed logins are remembered, with about 50 bytes each.
const MAX_NETWORKS: usize = 32_768;
/// The same for /56s, and for /48s.
const MAX_WIDE_NETWORKS: usize = 8_192;
/// Maximum number of pairs of a network and an account, with about 70 bytes each.
const MAX_PAIRS: usize = 65_536;
/// Maximum number of pairs of a /56 and an account, and of a /48 and an account.
const MAX_WIDE_PAIRS: usize = 16_384;
/// Maximum number of accounts, with about 60 bytes each.
const MAX_ACCOUNTS: usize = 32_768;
/// Maximum number of pairs of a network and an account that are remembered for a successful login, with about 70 bytes each.
const MAX_KNOWN: usize = 65_536;

/// Maximum number of pairs of a network and an account whose refused passwords are remembered, with about 150 bytes each.
const MAX_GUESSED: usize = 16_384;
/// Number of refused passwords remembered for each pair.
const GUESSES: usize = 4;

/// Maximum number of simultaneous login attempts at one account from networks that never logged in to it.
const MAX_UNDER_WAY: usize = 16;
/// How long an attempt counts as under way: a client that requests a challenge and then stays silent must not lock out the owner.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// 128 bits of the hash of a name: names may be long, and unknown names are counted like existing ones.
type AccountKey = [u8; 16];

/// The fingerprint of a refused password: see [`vorpal_proto::sasl::PasswordCheck::marks`].
pub type Mark = [u8; 16];

/// The last refused passwords, the newest first.
type Guesses = [Option<Mark>; GUESSES];

/// A network and an account.
type Pair = (Network, AccountKey);

impl Wider for Pair {
    fn wider(self) -> impl Iterator<Item = (Pair, usize)> {
        self.0.levels().map(move |(level, size)| ((level, self.1), size))
    }
}

/// Failed logins by network, by network and account, and by account.
///
/// The first two counters refuse attempts. The counter of an account never does, or anybody could lock out its owner: it only delays
/// attempts, by no more than [`Settings::longest_delay`], and lets them wait while many others are under way. It does neither for
/// networks with an earlier login to the account.
///
/// The same wrong password again is not a new guess and does not count: a device with an old password must not lock out others in
/// its network. This works for PLAIN only. SCRAM proofs of two attempts with the same wrong password have nothing in common: each is
/// made with another nonce, and only somebody with the keys of that password could undo it.
///
/// The first counter ignores attempts from this machine: they come through a proxy or a tunnel, and thus from anybody.
#[derive(Debug)]
pub struct Logins {
    networks: Levels<Network>,
    pairs: Levels<Pair>,
    accounts: Buckets<AccountKey>,
    known: Buckets<Pair>,
    guesses: Buckets<Pair, Guesses>,
    last: u64,
    /// Attempts by account, the oldest first; at most [`MAX_UNDER_WAY`] of each, and no account without any.
    under_way: BTreeMap<AccountKey, VecDeque<(u64, Duration)>>,
    settings: Settings,
}

/// Whether a password may be tried. Must be returned to [`Logins::succeeded`] or [`Logins::failed`].
#[derive(Debug)]
#[must_use]
pub enum Attempt {
    /// After this delay; it counts as failed until it is reported to have succeeded.
    After(Duration, Pending),
    /// Not before other attempts at the same account have ended.
    Busy,
    /// Not before this time. The peer should hear that the failure is temporary, whatever its password.
    Refused(Duration),
}

/// An attempt that counts as failed.
#[derive(Debug)]
pub struct Pending {
    network: Network,
    account: AccountKey,
    /// it counts against its network
    counts: bool,
    /// its number among those under way, if it is counted there
    number: Option<u64>,
}

impl Logins {
    /// Without failures.
    pub fn new(settings: Settings) -> Logins {
        Logins {
            networks: Levels::new(MAX_NETWORKS, MAX_WIDE_NETWORKS),
            pairs: Levels::new(MAX_PAIRS, MAX_WIDE_PAIRS),
            accounts: Buckets::new(MAX_ACCOUNTS),
            known: Buckets::new(MAX_KNOWN),
            guesses: Buckets::new(MAX_GUESSED),
            last: 0,
            under_way: BTreeMap::new(),
            settings,
        }
    }

    /// Applies new settings.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Must be called before a password is checked. `account` is the bare address after enforcement, so that all spellings of a
    /// name are one; whether the account exists must not matter.
    pub fn attempt(&mut self, now: Duration, address: IpAddr, account: &str) -> Attempt {
        let pair = (Network::from(address), key(account));
        let counts = !is_of_everybody(address);
        let Settings { failed_logins, failed_logins_to_account, failed_logins_anywhere, longest_delay, .. } =
            self.settings;
        // First check all counters, then charge all: a refused attempt must not be charged.
        let wait = self.wait(now, address, pair);
        if wait > Duration::ZERO {
            return Attempt::Refused(wait);
        }
        let known = self.known.contains(pair);
        if !known && self.is_busy(now, pair.1) {
            return Attempt::Busy;
        }
        if let Some(rate) = failed_logins.filter(|_| counts) {
            self.networks.take(now, pair.0, rate);
        }
        if let Some(rate) = failed_logins_to_account {
            self.pairs.take(now, pair, rate);
        }
        let delay = failed_logins_anywhere
            .map(|rate| self.accounts.touch(pair.1).borrow(now, rate, longest_delay))
            .unwrap_or_default();
        self.last += 1;
        let number = (!known).then_some(self.last);
        if let Some(number) = number {
            self.under_way.entry(pair.1).or_default().push_back((number, now));
        }
        let delay = if known { Duration::ZERO } else { delay };
        Attempt::After(delay, Pending { network: pair.0, account: pair.1, counts, number })
    }

    /// Whether the maximum number of attempts at the account is under way.
    fn is_busy(&mut self, now: Duration, account: AccountKey) -> bool {
        let Some(attempts) = self.under_way.get_mut(&account) else { return false };
        while attempts.front().is_some_and(|(_, since)| now.saturating_sub(*since) >= UNDER_WAY) {
            attempts.pop_front();
        }
        attempts.len() >= MAX_UNDER_WAY
    }

    /// Whether this account's counter would refuse an attempt from this network now.
    pub fn refuses_account(&self, now: Duration, address: IpAddr, account: &str) -> bool {
        let pair = (Network::from(address), key(account));
        self.settings.failed_logins_to_account.is_some_and(|rate| !self.pairs.wait(now, pair, rate).is_zero())
    }

    /// The networks whose counters would refuse an attempt from this address now: its own, and those around it.
    pub fn refusing(&self, now: Duration, address: IpAddr) -> impl Iterator<Item = Network> {
        let rate = self.settings.failed_logins.filter(|_| !is_of_everybody(address));
        let waits = rate.map(|rate| self.networks.waits(now, address.into(), rate));
        waits.into_iter().flatten().filter(|(_, wait)| !wait.is_zero()).map(|(network, _)| network)
    }

    /// Whether an attempt would be refused now. Charges nothing: for clients that wait before an attempt.
    pub fn refuses(&self, now: Duration, address: IpAddr, account: &str) -> bool {
        self.wait(now, address, (Network::from(address), key(account))) > Duration::ZERO
    }

    fn wait(&self, now: Duration, address: IpAddr, pair: Pair) -> Duration {
        let of_network = self.settings.failed_logins.filter(|_| !is_of_everybody(address));
        let waits = [
            of_network.map(|rate| self.networks.wait(now, pair.0, rate)),
            self.settings.failed_logins_to_account.map(|rate| self.pairs.wait(now, pair, rate)),
        ];
        waits.into_iter().flatten().max().unwrap_or_default()
    }

    /// The password was correct: the attempt does not count, and the network's earlier failures at this account are forgotten.
    pub fn succeeded(&mut self, attempt: Pending) {
        let pair = (attempt.network, attempt.account);
        self.put_back(&attempt);
        if let Some(rate) = self.settings.failed_logins_to_account {
            self.pairs.forget(pair, rate);
        }
        self.known.touch(pair);
        self.failed(attempt);
    }

    /// The attempt failed and was not a guess: the same wrong password was tried before, or the password is correct and the account
    /// disabled. It does not count.
    pub fn no_guess(&mut self, attempt: Pending) {
        self.put_back(&attempt);
        if let Some(rate) = self.settings.failed_logins_to_account {
            self.pairs.put_back((attempt.network, attempt.account), rate);
        }
        self.failed(attempt);
    }

    fn put_back(&mut self, attempt: &Pending) {
        if let Some(rate) = self.settings.failed_logins.filter(|_| attempt.counts) {
            self.networks.put_back(attempt.network, rate);
        }
        if let Some(rate) = self.settings.failed_logins_anywhere {
            self.accounts.touch(attempt.account).put_back(rate);
        }
    }

    /// Whether this is one of the last passwords that let nobody in, tried from the same network at the same account.
    pub fn was_refused(&self, attempt: &Pending, password: &Mark) -> bool {
        self.guesses.peek((attempt.network, attempt.account)).contains(&Some(*password))
    }

    /// This password lets nobody in: it is wrong, or the account is disabled.
    pub fn is_refused(&mut self, attempt: &Pending, password: Mark) {
        let guesses = self.guesses.touch((attempt.network, attempt.account));
        guesses.rotate_right(1);
        guesses[0] = Some(password);
    }

    /// The attempt is over, and counts.
    pub fn failed(&mut self, attempt: Pending) {
        let Some(attempts) = self.under_way.get_mut(&attempt.account) else { return };
        attempts.retain(|(number, _)| Some(*number) != attempt.number);
        if attempts.is_empty() {
            self.under_way.remove(&attempt.account);
        }
    }

    /// Number of entries in memory: at most `MAX_NETWORKS`, `MAX_PAIRS`, twice `MAX_WIDE_NETWORKS` and `MAX_WIDE_PAIRS`, `MAX_ACCOUNTS`,
    /// `MAX_KNOWN`, `MAX_GUESSED`, and one for each attempt under way.
    pub fn entries(&self) -> usize {
        let guesses = self.known.len() + self.guesses.len();
        self.networks.len() + self.pairs.len() + self.accounts.len() + guesses + self.under_way.len()
    }
}

/// An address of this machine is that of a proxy or a tunnel, behind which anybody may be.
fn is_of_everybody(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn key(account: &str) -> AccountKey {
    let mut key = AccountKey::default();
    key.iter_mut().zip(Sha256::digest(account)).for_each(|(to, from)| *to = from);
    key
}
