//! The taste of a seed: number of accounts and hosts, faults, client behaviour, limits.

use vorpal_core::bounds::Bounds;

use crate::random::Random;

/// The possible faults of a run, and how often events happen. Weights are relative to each other.
#[derive(Clone, Debug)]
pub struct Taste {
    /// number of hosts
    pub hosts: usize,
    /// number of accounts
    pub accounts: usize,
    /// number of clients of each
    pub clients: usize,
    /// the server is killed, between commits and at them
    pub crashes: bool,
    /// a power failure may lose the latest commits: promises are not checked then, but the rest must be consistent
    pub forgets: bool,
    /// the disk refuses: everything for a while, or single batches
    pub failures: bool,
    /// the disk is slow: commits are delayed
    pub stalls: bool,
    /// bytes are delayed, connections vanish, clients stop reading
    pub network: bool,
    /// accounts and logs are read later than requested
    pub slow_reads: bool,
    /// rosters and subscriptions change
    pub rosters: bool,
    /// accounts block each other
    pub blocking: bool,
    /// clients enable carbons
    pub carbons: bool,
    /// sessions expire: they request a resumption time of some seconds only
    pub short: bool,
    /// each session uses a new resource
    pub fresh: bool,
    /// clients misbehave: they resend incorrectly, forget their sessions, do not acknowledge
    pub careless: bool,
    /// one in so many sessions has stream management... of 4
    pub managed: usize,
    /// how often the world settles after a step: once in this many
    pub calm: usize,
    /// the operator disables, removes and makes accounts, and gives them new passwords
    pub operator: bool,
    /// the limits are tiny
    pub tiny: bool,
    /// the limits of an account
    pub bounds: Bounds,
}

impl Taste {
    /// The taste of a seed.
    pub fn of(seed: u64) -> Taste {
        let mut random = Random::new(seed ^ 0x7A57_E000);
        let r = &mut random;
        let crashes = !r.one_in(3);
        let tiny = r.one_in(4);
        let bounds = Bounds {
            idle_accounts: if r.one_in(2) { 0 } else { 1_000 },
            page: if tiny || r.one_in(3) { 1 + r.below(4) } else { Bounds::default().page },
            queued: if tiny { 1_500 + r.below(6_000) } else { Bounds::default().queued },
            held: if r.one_in(3) { 1 + r.below(3) } else { Bounds::default().held },
            sessions: if r.one_in(4) { 3 } else { Bounds::default().sessions },
            // None of these seeds is among those that are always run.
            offline_bytes: match seed % 16 {
                2 => 1_000 + seed % 3_000,
                7 => 4_000 + seed % 20_000,
                _ => Bounds::default().offline_bytes,
            },
            ..Bounds::default()
        };
        Taste {
            hosts: 1 + usize::from(r.one_in(3)),
            accounts: 2 + r.below(3),
            clients: 1 + r.below(3),
            crashes,
            forgets: crashes && r.one_in(12),
            failures: r.one_in(4),
            stalls: !r.one_in(3),
            network: !r.one_in(3),
            slow_reads: r.one_in(2),
            rosters: r.one_in(3),
            blocking: r.one_in(6),
            carbons: r.one_in(2),
            short: r.one_in(3),
            fresh: !r.one_in(4),
            careless: r.one_in(2),
            managed: [2, 3, 4, 4][r.below(4)],
            calm: [1, 2, 3, 8, 30][r.below(5)],
            operator: r.one_in(2),
            tiny,
            bounds,
        }
    }
}
