//! A virtual host: a domain with its own modules and configuration.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use vorpal_proto::jid::{BareJid, Jid};

use crate::registry::Registry;

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
}

impl Host {
    /// A host of accounts, with its modules.
    pub fn new(domain: &BareJid, registry: Registry) -> Host {
        Host::serving(Serves::Accounts, domain, registry)
    }

    /// A host with its modules.
    pub fn serving(serves: Serves, domain: &BareJid, registry: Registry) -> Host {
        Host { jid: domain.as_jid().clone(), serves, registry: ArcSwap::from_pointee(registry) }
    }

    /// Its domain.
    pub fn domain(&self) -> &str {
        self.jid.as_str()
    }

    /// The modules as they are now. A stanza keeps what it began with.
    pub fn registry(&self) -> Modules {
        self.registry.load()
    }

    /// Swaps the modules: at a reload, for the next stanza.
    pub fn set_registry(&self, registry: Registry) {
        self.registry.store(Arc::new(registry));
    }
}
