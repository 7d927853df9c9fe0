//! A connection, as a session knows it.

use std::sync::Arc;

use crate::session::peer::Peer;

/// Woken when there is something to do for a connection. Never blocks.
pub trait Wake: Send + Sync {
    /// There is something to write, to read again, or to close.
    fn wake(&self);
}

/// A connection, for the session that it is to carry.
#[derive(Clone)]
pub struct Carrier {
    /// woken when there is something to do
    pub wake: Arc<dyn Wake>,
    /// its number among all connections: [`crate::core::Core::next_connection`]
    pub order: u64,
    /// what [`crate::core::Core::revocations`] said when its client's password was looked up
    pub revocations: u32,
    /// where its client is
    pub peer: Peer,
}
