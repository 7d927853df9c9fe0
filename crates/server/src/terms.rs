//! What the sockets get from the configuration: limits, TLS versions. What the kernel gets is in `assemble.rs`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use vorpal_config::{Config, Limits, Measure};
use vorpal_net::c2s::{Settings, Terms};
use vorpal_net::limits::{Rate, Settings as GateSettings};
use vorpal_net::tls::{Policy, TlsVersion};
use vorpal_proto::sasl::Mechanism;

use crate::descriptors;

/// The settings for new connections.
pub fn terms(config: &Config) -> Terms {
    let settings = |without_tls| Settings {
        max_attempts: config.limits.login_tries.get(),
        max_before_login: config.limits.login_bytes.get().as_len(),
        max_stanza: config.limits.stanza_size.get().as_len(),
        without_tls,
        plain_without_tls: config.login.plain_without_tls,
        mechanisms: mechanisms(config),
        passthrough: config.xml.passthrough,
        limits: vorpal_proto::parse::Limits::default(),
    };
    Terms {
        settings: Arc::new(settings(false)),
        settings_plain: Arc::new(settings(true)),
        time_to_log_in: config.limits.login_time.get().as_duration(),
        traffic: traffic(&config.limits),
        write_timeout: config.limits.write_timeout.get().as_duration(),
    }
}

/// SASL mechanisms, by host.
fn mechanisms(config: &Config) -> HashMap<String, Vec<Mechanism>> {
    let known = |m: &vorpal_config::Mechanism| Mechanism::from_name(m.as_str());
    let of_host = |host: &vorpal_config::Host| {
        (host.name.as_str().to_owned(), host.mechanisms.iter().filter_map(known).collect())
    };
    config.hosts.iter().map(of_host).collect()
}

/// The traffic budget of one account: bytes per second, and burst.
fn traffic(config: &Limits) -> (NonZeroU32, u32) {
    let millis = config.traffic.per().period().as_millis().max(1);
    let rate = config.traffic.amount().base().saturating_mul(1000) / millis;
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    let burst = u32::try_from(config.traffic_burst.get().base()).unwrap_or(u32::MAX);
    (NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN), burst)
}

/// The limits of one network.
pub(crate) fn gate(config: &Config) -> GateSettings {
    let rate = |rate: vorpal_config::Rate<u32>| {
        NonZeroU32::new(rate.amount()).map(|burst| Rate::each(burst, rate.per().period().as_duration()))
    };
    // As many at once as in two of its periods.
    let twice = |rate: vorpal_config::Rate<u32>| {
        NonZeroU32::new(rate.amount().saturating_mul(2))
            .map(|burst| Rate::each(burst, 2 * rate.per().period().as_duration()))
    };
    let own = GateSettings::default();
    let connections = config.limits.connections.get() as usize;
    let total = connections.max(config.limits.connections_total.get() as usize);
    let files = descriptors::for_connections();
    // Connections in the waiting room have descriptors as well.
    let waiting = own.waiting.min(files / 8);
    let fit = (files - waiting).max(1);
    if fit < total {
        let spare = descriptors::SPARE;
        tracing::warn!(
            connections = fit,
            wanted = total,
            spare,
            "fewer connections than limits.connections_total: the system allows no more file descriptors (LimitNOFILE)"
        );
    }
    GateSettings {
        connections: total.min(fit),
        waiting,
        connections_per_network: connections,
        half_open: config.limits.logging_in_total.get() as usize,
        // As many as may connect at once may log in at once: after a restart they do. The total stays the same.
        half_open_per_network: own.half_open_per_network.max(config.limits.connection_rate.amount() as usize),
        new_connections: rate(config.limits.connection_rate),
        failed_logins: rate(config.limits.login_failures),
        failed_logins_to_account: twice(config.limits.login_failures_account),
        ..own
    }
}

/// The TLS versions.
pub(crate) fn policy(config: &Config) -> Policy {
    let min = match config.tls.min_version {
        vorpal_config::TlsVersion::V12 => TlsVersion::Tls12,
        vorpal_config::TlsVersion::V13 => TlsVersion::Tls13,
    };
    Policy { min }
}
