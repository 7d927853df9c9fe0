//! Guessing passwords: how often, and without locking out the owner.

use std::{net::IpAddr, time::Duration};

use sha2::{Digest, Sha256};

use super::{Network, Settings, bucket::Buckets};

/// How many networks are remembered for their failed logins.
const MAX_NETWORKS: usize = 32_768;
/// How many pairs of a network and an account.
const MAX_PAIRS: usize = 65_536;
/// How many accounts.
const MAX_ACCOUNTS: usize = 32_768;

/// 128 bits of the hash of a name: names are as long as the peer likes, and what is unknown counts like what exists.
type AccountKey = [u8; 16];

/// Failed logins by network, by network and account, and by account.
///
/// The first two refuse. An account as such is never refused, or anybody could lock out its owner: there an attempt is only
/// delayed, by no more than [`Settings::longest_delay`].
#[derive(Debug)]
pub struct Logins {
    networks: Buckets<Network>,
    pairs: Buckets<(Network, AccountKey)>,
    accounts: Buckets<AccountKey>,
    settings: Settings,
}

/// Whether a password may be tried. To be given back to [`Logins::succeeded`] if it was right.
#[derive(Debug)]
#[must_use]
pub enum Attempt {
    /// After this time; it counts as failed until it is said to have succeeded.
    After(Duration, Pending),
    /// Not before this time. The peer should hear that the failure is temporary, whatever its password.
    Refused(Duration),
}

/// An attempt that counts as failed.
#[derive(Debug)]
pub struct Pending {
    network: Network,
    account: AccountKey,
}

impl Logins {
    /// Nobody has failed.
    pub fn new(settings: Settings) -> Logins {
        Logins {
            networks: Buckets::new(MAX_NETWORKS),
            pairs: Buckets::new(MAX_PAIRS),
            accounts: Buckets::new(MAX_ACCOUNTS),
            settings,
        }
    }

    /// Takes over new settings.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Asks before a password is looked at. `account` is the bare address after enforcement, so that all spellings of a name
    /// are one; whether there is such an account must not matter.
    pub fn attempt(&mut self, now: Duration, address: IpAddr, account: &str) -> Attempt {
        let pending = Pending { network: Network::from(address), account: key(account) };
        let pair = (pending.network, pending.account);
        let Settings { failed_logins, failed_logins_to_account, failed_logins_anywhere, longest_delay, .. } =
            self.settings;
        // First look at both, then take from both: what is refused must cost nothing.
        let wait = self.wait(now, pair);
        if wait > Duration::ZERO {
            return Attempt::Refused(wait);
        }
        if let Some(rate) = failed_logins {
            let _ = self.networks.touch(pending.network).take(now, rate);
        }
        if let Some(rate) = failed_logins_to_account {
            let _ = self.pairs.touch(pair).take(now, rate);
        }
        let delay = failed_logins_anywhere
            .map(|rate| self.accounts.touch(pending.account).borrow(now, rate, longest_delay))
            .unwrap_or_default();
        Attempt::After(delay, pending)
    }

    /// Whether it is by this account that an attempt of this network would be refused now.
    pub fn refuses_account(&self, now: Duration, address: IpAddr, account: &str) -> bool {
        let pair = (Network::from(address), key(account));
        self.settings.failed_logins_to_account.is_some_and(|rate| !self.pairs.peek(pair).wait(now, rate).is_zero())
    }

    /// Whether an attempt would be refused now. Costs nothing: for whoever has to wait before he may try.
    pub fn refuses(&self, now: Duration, address: IpAddr, account: &str) -> bool {
        self.wait(now, (Network::from(address), key(account))) > Duration::ZERO
    }

    fn wait(&self, now: Duration, pair: (Network, AccountKey)) -> Duration {
        let waits = [
            self.settings.failed_logins.map(|rate| self.networks.peek(pair.0).wait(now, rate)),
            self.settings.failed_logins_to_account.map(|rate| self.pairs.peek(pair).wait(now, rate)),
        ];
        waits.into_iter().flatten().max().unwrap_or_default()
    }

    /// The password was right: the attempt does not count, and what the network failed at this account before is forgiven.
    pub fn succeeded(&mut self, attempt: Pending) {
        if let Some(rate) = self.settings.failed_logins {
            self.networks.touch(attempt.network).put_back(rate);
        }
        if let Some(rate) = self.settings.failed_logins_anywhere {
            self.accounts.touch(attempt.account).put_back(rate);
        }
        self.pairs.forget((attempt.network, attempt.account));
    }

    /// Entries held in memory: at most `MAX_NETWORKS`, `MAX_PAIRS` and `MAX_ACCOUNTS`.
    pub fn entries(&self) -> usize {
        self.networks.len() + self.pairs.len() + self.accounts.len()
    }
}

fn key(account: &str) -> AccountKey {
    let mut key = AccountKey::default();
    key.iter_mut().zip(Sha256::digest(account)).for_each(|(to, from)| *to = from);
    key
}
