//! Warnings of `vorpal config check`: settings that are valid but probably not intended.

use std::net::SocketAddr;

use serde::Deserialize;
use vorpal_config::{Bytes, Config, Measure, Module, Scalar};
use vorpal_runtime::now;

use crate::sockets::{self, Key};
use crate::{Program, certificates, files};

/// The module that keeps the archive, and the key that bounds it.
const ARCHIVE: (&str, &str) = ("mam", "max_bytes");

/// The warnings, one line each.
pub(crate) fn of(config: &Config, program: Program) -> Vec<String> {
    let mut warnings = variables(config);
    warnings.extend(files::exposed(&config.data).or_else(|| files::unmakeable(&config.data)));
    warnings.extend(of_certificates(config));
    warnings.extend(listeners(config));
    let limits = &config.limits;
    let (one, all) = (limits.connections.get(), limits.connections_total.get());
    if one > all {
        warnings.push(format!(
            "limits.connections ({one}) is more than limits.connections_total ({all}): {one} connections are accepted in all"
        ));
    }
    warnings.extend(archives(config, program));
    warnings
}

/// Environment variables that look like those of keys but are not: one with a suggestion gets a line of its own, all others share
/// one line.
pub(crate) fn variables(config: &Config) -> Vec<String> {
    let mut others = Vec::new();
    let mut warnings = Vec::new();
    for variable in &config.unknown_variables {
        let name = &variable.name;
        match &variable.meant {
            Some(meant) => {
                warnings
                    .push(format!("the variable {name} belongs to no key and has no effect; did you mean {meant}?"));
            }
            None => others.push(name.as_str()),
        }
    }
    if !others.is_empty() {
        warnings.push(format!("variables that belong to no key and have no effect: {}", others.join(", ")));
    }
    warnings
}

fn of_certificates(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for host in &config.hosts {
        // A certificate that cannot be loaded is already an error.
        let Some(Ok(certificate)) = certificates::given(host) else { continue };
        let warned = certificate.warnings(now()).into_iter().filter(|warning| !warning.is_fatal());
        warnings.extend(warned.map(|warning| warning.to_string()));
        if certificate.is_self_signed() {
            warnings.push(format!(
                "the certificate of {} is self-signed: {}",
                host.name.as_str(),
                certificates::TO_TRUST
            ));
        }
    }
    // Hosts that share a certificate share the warnings about its files.
    let mut told = std::collections::BTreeSet::new();
    warnings.retain(|warning| told.insert(warning.clone()));
    warnings
}

fn listeners(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let all: Vec<(Key, SocketAddr)> = Key::ALL
        .into_iter()
        .flat_map(|key| key.addresses(config).into_iter().map(move |address| (key, address)))
        .collect();
    for (at, (key, address)) in all.iter().enumerate() {
        let same = |(_, other): &&(Key, SocketAddr)| {
            address.port() != 0 && (sockets::covers(*address, *other) || sockets::covers(*other, *address))
        };
        for (other_key, other) in all.iter().skip(at + 1).filter(same) {
            warnings.push(format!(
                "listen.{} has {address} and listen.{} has {other}: only one of them can be opened",
                key.name(),
                other_key.name()
            ));
        }
    }
    let listen = &config.listen;
    if listen.c2s_plain_proxy && listen.c2s_plain.is_empty() {
        warnings.push("listen.c2s_plain_proxy has no effect: listen.c2s_plain is empty".into());
    }
    for (_, address) in all.iter().filter(|(key, address)| *key == Key::Metrics && !address.ip().is_loopback()) {
        warnings.push(format!(
            "listen.metrics has {address}: anybody who can reach it sees the server's metrics; use a loopback address, or \
             restrict it with a firewall"
        ));
    }
    warnings
}

/// Waiting messages are never deleted from the archive: an archive limit below `offline_bytes` could stay exceeded.
fn archives(config: &Config, program: Program) -> Vec<String> {
    #[derive(Deserialize)]
    struct Archive {
        #[serde(default)]
        max_bytes: Option<Bytes>,
    }
    let offline = config.limits.offline_bytes.get();
    let mut warnings = Vec::new();
    for host in &config.hosts {
        let name = host.name.as_str();
        let Some((_, section)) = config.modules_of(name).find(|(module, _)| *module == ARCHIVE.0) else { continue };
        let given = section.read::<Archive>().ok().and_then(|archive| archive.max_bytes);
        let Some(most) = given.or_else(|| unless_given(&program.known())) else { continue };
        if offline.base() > most.base() {
            warnings.push(format!(
                "limits.offline_bytes ({offline}) is more than modules.mam.max_bytes of {name} ({most}): messages that wait for a \
                 client fill the archive, and none of them can be deleted from it"
            ));
        }
    }
    warnings
}

/// The default of the archive's bound, as its table has it: a size in quotes.
fn unless_given(modules: &[Module]) -> Option<Bytes> {
    let keys = modules.iter().find(|module| module.name() == ARCHIVE.0)?.table()?.keys;
    let text = (keys.iter().find(|key| key.name == ARCHIVE.1)?.default)()?;
    Bytes::from_text(text.trim_matches('"')).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn warned(text: &str) -> Vec<String> {
        let program = Program::VORPAL;
        let config = Config::read(Path::new("v.toml"), text.into(), [], &program.known()).expect("a configuration");
        of(&config, program)
    }

    fn one(text: &str, part: &str) {
        let warnings = warned(text);
        assert!(matches!(warnings.as_slice(), [warning] if warning.contains(part)), "{text}: {warnings:?}");
    }

    #[test]
    fn what_is_hardly_meant_is_told_and_nothing_else() {
        assert_eq!(warned(""), Vec::<String>::new());
        assert_eq!(warned("hosts = [\"a.example\", \"b.example\"]"), Vec::<String>::new());
        one(
            "[listen]\nc2s = [\"127.0.0.1:5222\"]\nc2s_tls = [\"0.0.0.0:5222\"]",
            "listen.c2s has 127.0.0.1:5222 and listen.c2s_tls has",
        );
        one("[listen]\nc2s = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "only one of them can be opened");
        one("[listen]\nc2s_plain_proxy = true", "listen.c2s_plain_proxy has no effect");
        one("[listen]\nmetrics = [\"0.0.0.0:5281\"]", "listen.metrics has 0.0.0.0:5281");
        one(
            "[limits]\nconnections_total = 500",
            "limits.connections (1000) is more than limits.connections_total (500)",
        );
        one(
            "[modules.mam]\nmax_bytes = \"16 MiB\"",
            "(32 MiB) is more than modules.mam.max_bytes of localhost (16 MiB)",
        );
        one("[limits]\noffline_bytes = \"1 GiB\"", "of localhost (512 MiB)");
        assert_eq!(warned("[modules.mam]\nmax_bytes = \"16 MiB\"\nenabled = false"), Vec::<String>::new());
        // Both are possible at once: `[::]` is IPv6 only, and port 0 is any free port.
        let both = "[listen]\nc2s = [\"0.0.0.0:1\", \"[::]:1\"]\nc2s_tls = [\"127.0.0.1:0\", \"127.0.0.1:0\"]";
        assert_eq!(warned(both), Vec::<String>::new());
    }
}
