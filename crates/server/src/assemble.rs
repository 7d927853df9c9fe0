//! What the kernel gets from the configuration: hosts with their modules, stored keys, limits. The start, a reload and the commands
//! that check a configuration share it, and so do tests that want what production runs.

use std::sync::Arc;

use anyhow::{Context, Error, anyhow};
use vorpal_config::{Config, Measure};
use vorpal_core::bounds::Bounds;
use vorpal_core::core::core_names;
use vorpal_core::module::Module;
use vorpal_core::module::host::{Host, KeyPolicy};
use vorpal_core::module::registry::{Names, Registry};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{Hash, Iterations};
use vorpal_runtime::Setup;

use crate::{Program, certificates};

/// What a kernel with this configuration is started with. `place` is where the data are, for messages to the operator.
///
/// # Errors
/// The modules of a host cannot be set up.
pub fn kernel(config: &Config, modules: &'static [&'static Module], place: Option<String>) -> anyhow::Result<Setup> {
    let names = core_names();
    let registries = registries(config, modules, &names)
        .map_err(|errors| errors.into_iter().next().unwrap_or_else(|| anyhow!("no host")))?;
    let hosts = registries.into_iter().map(|(domain, registry)| Arc::new(Host::new(&domain, registry)));
    let hosts: Vec<Arc<Host>> = hosts.collect();
    set_key_policies(config, &hosts);
    Ok(Setup { names, hosts, bounds: bounds(config), reserve: reserve(config), place })
}

/// The modules of each host, set up with its configuration.
///
/// # Errors
/// Of every host whose modules cannot be set up, one.
pub(crate) fn registries(
    config: &Config,
    modules: &'static [&'static Module],
    names: &Arc<Names>,
) -> Result<Vec<(BareJid, Registry)>, Vec<Error>> {
    let (mut built, mut errors) = (Vec::new(), Vec::new());
    for host in &config.hosts {
        let name = host.name.as_str();
        let build = || {
            let domain = BareJid::of_domain(name)?;
            let sections: Vec<_> = config.modules_of(name).collect();
            let enabled = modules.iter().filter(|m| sections.iter().any(|(name, _)| *name == m.name)).copied();
            let section = |name: &str| sections.iter().find(|(n, _)| *n == name).map(|(_, section)| section.table());
            anyhow::Ok((domain, Registry::build(enabled, names.clone(), section)?))
        };
        match build().with_context(|| format!("the modules of {name}")) {
            Ok(host) => built.push(host),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors) }
}

/// The disk space reserve, in bytes.
pub(crate) fn reserve(config: &Config) -> u64 {
    config.storage.reserve.get().get()
}

/// The limits of one account.
pub(crate) fn bounds(config: &Config) -> Bounds {
    let sessions = config.limits.sessions.get() as usize;
    let contacts = config.limits.roster_entries.get() as usize;
    let roster_bytes = config.limits.roster_bytes.get().as_len();
    let offline_bytes = config.limits.offline_bytes.get().base();
    Bounds { sessions, contacts, roster_bytes, offline_bytes, ..Bounds::default() }
}

/// Tells the hosts which keys of passwords to store.
pub(crate) fn set_key_policies<'a>(config: &Config, hosts: impl IntoIterator<Item = &'a Arc<Host>>) {
    for host in hosts {
        if let Some(configured) = config.hosts.iter().find(|one| one.name.as_str() == host.domain()) {
            host.set_key_policy(key_policy(config, configured));
        }
    }
}

/// Keys are stored for the mechanisms of the host, and for stronger hashes that `login.mechanisms` names: a host that offers
/// fewer for a while, as after an import, collects the keys that it needs to offer them again.
fn key_policy(config: &Config, host: &vorpal_config::Host) -> KeyPolicy {
    let hashes_of = |mechanisms: &[vorpal_config::Mechanism]| -> Vec<Hash> {
        Hash::ALL.into_iter().filter(|hash| mechanisms.iter().any(|m| m.as_str() == hash.scheme())).collect()
    };
    let (offered, general) = (hashes_of(&host.mechanisms), hashes_of(&config.login.mechanisms));
    let stronger = |hash: &Hash| general.contains(hash) && offered.iter().all(|offered| offered < hash);
    let mut hashes: Vec<Hash> = Hash::ALL.into_iter().filter(|hash| offered.contains(hash) || stronger(hash)).collect();
    if hashes.is_empty() {
        hashes.push(Hash::Sha512);
    }
    KeyPolicy { hashes, iterations: Iterations::new(config.login.iterations.get()).unwrap_or(Iterations::DEFAULT) }
}

/// Errors of a configuration beyond its text: certificates that cannot be used, and conflicting modules. The names
/// that its modules use are registered in `names`.
pub(crate) fn check(config: &Config, program: Program, names: &Arc<Names>) -> Vec<Error> {
    let mut errors = certificates::check(config);
    errors.extend(registries(config, program.modules, names).err().into_iter().flatten());
    errors
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn policy(text: &str) -> KeyPolicy {
        let config = Config::read(Path::new("v.toml"), text.into(), [], &[]).expect("a configuration");
        key_policy(&config, config.hosts.first().expect("a host"))
    }

    #[test]
    fn keys_are_kept_for_what_a_host_offers_and_for_what_is_stronger_and_general() {
        use Hash::{Sha1, Sha256, Sha512};
        assert_eq!(policy(""), KeyPolicy { hashes: vec![Sha512, Sha256, Sha1], iterations: Iterations::DEFAULT });
        let general = |mechanisms: &str| policy(&format!("[login]\nmechanisms = [{mechanisms}]\n")).hashes;
        assert_eq!(general("\"SCRAM-SHA-512\""), [Sha512]);
        assert_eq!(general("\"SCRAM-SHA-1\", \"PLAIN\""), [Sha1]);
        assert_eq!(general("\"PLAIN\""), [Sha512], "something has to be kept");
        let own = |mechanisms: &str, general: &str| {
            let login = format!("[login]\nmechanisms = [{general}]\niterations = 70000\n");
            policy(&format!("{login}[host.\"a.example\"]\nmechanisms = [{mechanisms}]\n"))
        };
        let safe = "\"SCRAM-SHA-512\", \"SCRAM-SHA-256\"";
        assert_eq!(own("\"SCRAM-SHA-1\", \"PLAIN\"", safe).hashes, [Sha512, Sha256, Sha1]);
        assert_eq!(own("\"PLAIN\"", safe).hashes, [Sha512, Sha256]);
        assert_eq!(own("\"SCRAM-SHA-256\"", "\"SCRAM-SHA-1\"").hashes, [Sha256]);
        assert_eq!(own("\"SCRAM-SHA-512\"", safe).hashes, [Sha512]);
        assert_eq!(own("\"PLAIN\"", safe).iterations.count(), 70_000);
    }
}
