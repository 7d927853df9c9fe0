//! A virtual host: a domain with its own modules and configuration.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
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
    ///
    /// Who reads it writes to no memory that others read: each stanza asks for it.
    pub fn registry(&self) -> impl Deref<Target = Arc<Registry>> + use<> {
        self.registry.load()
    }

    /// Swaps the modules: at a reload, for the next stanza.
    pub fn set_registry(&self, registry: Registry) {
        self.registry.store(Arc::new(registry));
    }
}
