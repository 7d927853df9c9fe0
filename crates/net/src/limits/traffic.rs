//! The traffic budget of the clients of one account.
//!
//! The budget belongs to the account and not to the connection: neither a second connection nor a new one brings a new burst.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::Throttle;

/// The budget of one account, for its connections.
pub type Meter = Arc<Mutex<Throttle>>;

/// The budgets of all accounts that have a connection, or that disconnected before their budget was full again.
///
/// Limits: one entry of about 150 bytes for each connected account, and for each that disconnected so recently that its burst is not
/// restored; twice as many until the next sweep, which does not run below 1,024 entries.
#[derive(Default)]
pub struct Traffic(Mutex<Meters>);

#[derive(Default)]
struct Meters {
    meters: HashMap<Box<str>, Meter>,
    sweep_at: usize,
}

/// Up to this many are kept without asking whether they are still needed.
const FEW: usize = 1_024;

impl Traffic {
    /// The budget of an account: a sustained rate of `per_second` bytes and a burst of `burst`. An existing one keeps its debt.
    pub fn of(&self, now: Duration, account: &str, per_second: NonZeroU32, burst: u32) -> Meter {
        let mut known = self.0.lock();
        if let Some(meter) = known.meters.get(account) {
            meter.lock().set(per_second, burst);
            return meter.clone();
        }
        if known.meters.len() >= known.sweep_at {
            known.meters.retain(|_, meter| Arc::strong_count(meter) > 1 || meter.lock().owes(now));
            known.sweep_at = FEW.max(known.meters.len() * 2);
        }
        let meter = Meter::new(Mutex::new(Throttle::new(per_second, burst)));
        known.meters.insert(account.into(), meter.clone());
        meter
    }

    /// Number of budgets.
    pub fn entries(&self) -> usize {
        self.0.lock().meters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");

    #[test]
    fn the_connections_of_an_account_share_its_budget_also_one_after_the_other() {
        let traffic = Traffic::default();
        let now = Duration::from_secs(100);
        let (one, two) = (traffic.of(now, "romeo@x", RATE, 5_000), traffic.of(now, "romeo@x", RATE, 5_000));
        assert_eq!(one.lock().take(now, 3_000), Duration::ZERO);
        assert_eq!(two.lock().take(now, 2_000), Duration::ZERO);
        assert_eq!(one.lock().take(now, 1_000), Duration::from_secs(1));
        drop((one, two));
        let again = traffic.of(now, "romeo@x", RATE, 5_000);
        assert_eq!(again.lock().take(now, 1_000), Duration::from_secs(2), "a new connection is no new burst");
        assert_eq!(traffic.of(now, "juliet@x", RATE, 5_000).lock().take(now, 5_000), Duration::ZERO);
    }

    #[test]
    fn a_changed_limit_holds_for_who_is_there_and_forgives_nothing() {
        let traffic = Traffic::default();
        let meter = traffic.of(Duration::ZERO, "romeo@x", RATE, 5_000);
        assert_eq!(meter.lock().take(Duration::ZERO, 5_000), Duration::ZERO);
        let faster = traffic.of(Duration::ZERO, "romeo@x", NonZeroU32::new(10_000).expect("not zero"), 5_000);
        assert!(!faster.lock().take(Duration::ZERO, 1_000).is_zero());
    }

    #[test]
    fn accounts_that_owe_nothing_and_are_gone_are_forgotten() {
        let traffic = Traffic::default();
        let held = traffic.of(Duration::ZERO, "held", RATE, 5_000);
        for n in 0..100_000 {
            let now = Duration::from_millis(n);
            let meter = traffic.of(now, &format!("user{n}"), RATE, 5_000);
            meter.lock().take(now, 1_000);
        }
        assert!(traffic.entries() <= 2 * (1_000 + FEW), "{}", traffic.entries());
        assert!(Arc::ptr_eq(&held, &traffic.of(Duration::from_secs(200), "held", RATE, 5_000)));
    }
}
