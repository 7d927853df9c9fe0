//! What a seed likes: how many accounts and hosts, which faults, which manners, which bounds.

use vorpal_core::server::Bounds;

use crate::random::Random;

/// What may go wrong in a run, and how often things happen. Weights are relative to each other.
#[derive(Clone, Debug)]
pub struct Taste {
    /// so many hosts
    pub hosts: usize,
    /// so many accounts
    pub accounts: usize,
    /// so many clients for each
    pub clients: usize,
    /// the server is killed, between commits and at them
    pub crashes: bool,
    /// a power failure may take the latest commits: nothing is promised then, but what is left must be in order
    pub forgets: bool,
    /// the disk refuses: everything for a while, or single batches
    pub failures: bool,
    /// the disk is slow: commits wait
    pub stalls: bool,
    /// bytes are held back, connections go without a word, clients stop reading
    pub network: bool,
    /// accounts and logs are read later than asked for
    pub slow_reads: bool,
    /// rosters and subscriptions change
    pub rosters: bool,
    /// accounts block each other
    pub blocking: bool,
    /// clients ask for carbons
    pub carbons: bool,
    /// sessions expire: they ask to be kept for some seconds only
    pub short: bool,
    /// each session takes a new resource
    pub fresh: bool,
    /// clients lose track: they resend carelessly, forget their sessions, do not acknowledge
    pub careless: bool,
    /// one in so many sessions has stream management... of 4
    pub managed: usize,
    /// how often everything comes to rest after a step: one in so many
    pub calm: usize,
    /// the operator disables, removes and makes accounts, and gives them new passwords
    pub operator: bool,
    /// the bounds are tiny
    pub tiny: bool,
    /// what an account may have
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
            // Of these seeds none is among those that are always played.
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
