//! The limits of the configuration, in the words of the sockets.

use std::num::NonZeroU32;

use vorpal_config::{Bytes, Limits, Measure, Period, Rate};
use vorpal_net::limits;

/// What one network may do.
pub(crate) fn gate(config: &Limits) -> limits::Settings {
    let own = limits::Settings::default();
    let connections = config.connections.get() as usize;
    limits::Settings {
        connections_per_network: connections,
        connections: own.connections.max(connections),
        new_connections: per_minute(config.connection_rate),
        // As many may be logging in at once as may come in a quarter of a minute.
        half_open_per_network: own.half_open_per_network.max(burst(config.connection_rate) / 4),
        failed_logins: per_minute(config.login_failures),
        ..own
    }
}

/// How fast one client is read: bytes in a second, and at once.
pub(crate) fn traffic(config: &Limits) -> (NonZeroU32, u32) {
    let second = |rate: Rate<Bytes>| {
        let millis = rate.per().period().as_millis().max(1);
        rate.amount().base().saturating_mul(1000) / millis
    };
    let rate = u32::try_from(second(config.traffic)).unwrap_or(u32::MAX);
    let burst = u32::try_from(config.traffic_burst.get().base()).unwrap_or(u32::MAX);
    (NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN), burst)
}

/// What may come at once is what may come in a minute, or, of a slower rate, its whole amount.
fn burst(rate: Rate<u32>) -> usize {
    in_a_minute(rate).max(u64::from(rate.amount())) as usize
}

fn in_a_minute(rate: Rate<u32>) -> u64 {
    let minute = Period::from_secs(60).as_millis();
    u64::from(rate.amount()).saturating_mul(minute) / rate.per().period().as_millis().max(1)
}

fn per_minute(rate: Rate<u32>) -> Option<limits::Rate> {
    let per_minute = u32::try_from(in_a_minute(rate).max(1)).unwrap_or(u32::MAX);
    let burst = u32::try_from(burst(rate).max(1)).unwrap_or(u32::MAX);
    Some(limits::Rate::per_minute(NonZeroU32::new(burst)?, NonZeroU32::new(per_minute)?))
}
