//! A virtual host: a domain with its own modules and configuration.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard};
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::sasl::{Credentials, Hash, Iterations};

use crate::module::registry::Registry;
use crate::watch::profiles::Profiles;

/// What a domain that the server is responsible for is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Accounts: clients log in there.
    Accounts,
    /// Rooms (XEP-0045).
    Rooms,
    /// Whatever another program makes of it (XEP-0114).
    Component,
}

/// What is kept of the passwords of a host's accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The hashes for which keys are kept: those that clients may log in with. Keys of others are what a thief of the
    /// data attacks first.
    pub hashes: Vec<Hash>,
    /// The rounds of new keys.
    pub iterations: Iterations,
}

impl Default for KeyPolicy {
    fn default() -> KeyPolicy {
        KeyPolicy { hashes: Hash::ALL.to_vec(), iterations: Iterations::DEFAULT }
    }
}

impl KeyPolicy {
    /// Whether keys of this hash are kept.
    pub fn keeps(&self, hash: Hash) -> bool {
        self.hashes.contains(&hash)
    }

    /// What is kept of imported credentials: those of the wanted hashes. Without any of these all stay, so that a login
    /// with PLAIN can be checked, which makes those that are wanted.
    pub fn of_import(&self, credentials: Vec<Credentials>) -> Vec<Credentials> {
        let (wanted, others): (Vec<_>, Vec<_>) = credentials.into_iter().partition(|c| self.keeps(c.hash()));
        if wanted.is_empty() { others } else { wanted }
    }

    /// The hashes in the order in which PLAIN checks a password: of those that are kept, SHA-256 first, which costs the
    /// least without being weak; then whatever else may be stored.
    pub(crate) fn by_cost(&self) -> impl Iterator<Item = Hash> {
        const ORDER: [Hash; 3] = [Hash::Sha256, Hash::Sha512, Hash::Sha1];
        ORDER.into_iter().filter(|hash| self.keeps(*hash)).chain(ORDER.into_iter().filter(|hash| !self.keeps(*hash)))
    }
}

/// The modules of a host as they were when it was asked for them. Making it, and letting go of it, writes to no memory that other
/// threads read; a clone of the `Arc` in it does.
pub type Modules = Guard<Arc<Registry>>;

/// One of the domains that the server is responsible for.
pub struct Host {
    /// Its address.
    pub jid: Jid,
    /// What it is there for.
    pub serves: Serves,
    registry: ArcSwap<Registry>,
    keys: ArcSwap<KeyPolicy>,
    profiles: Mutex<Profiles>,
}

impl Host {
    /// A host of accounts, with its modules.
    pub fn new(domain: &BareJid, registry: Registry) -> Host {
        Host::serving(Serves::Accounts, domain, registry)
    }

    /// A host with its modules.
    pub fn serving(serves: Serves, domain: &BareJid, registry: Registry) -> Host {
        let (registry, keys) = (ArcSwap::from_pointee(registry), ArcSwap::default());
        Host { jid: domain.as_jid().clone(), serves, registry, keys, profiles: Mutex::default() }
    }

    /// Its domain.
    pub fn domain(&self) -> &str {
        self.jid.as_str()
    }

    /// The modules as they are now. A stanza keeps what it began with.
    pub fn registry(&self) -> Modules {
        self.registry.load()
    }

    /// What its accounts show of their keys.
    pub(crate) fn profiles(&self) -> MutexGuard<'_, Profiles> {
        self.profiles.lock()
    }

    /// What is kept of passwords.
    pub fn key_policy(&self) -> Arc<KeyPolicy> {
        self.keys.load_full()
    }

    /// Sets what is kept of passwords. What is stored changes at the next login with PLAIN and the next new password.
    pub fn set_key_policy(&self, policy: KeyPolicy) {
        self.keys.store(Arc::new(policy));
    }

    /// Swaps the modules for the next stanza. Gives those of before. See [`crate::core::Core::set_registry`].
    pub(crate) fn set_registry(&self, mut registry: Registry) -> Arc<Registry> {
        registry.succeed(&self.registry.load());
        self.registry.swap(Arc::new(registry))
    }
}
