//! What the specifications decide, without state: which session gets a message, what becomes of a subscription, what carries a promise.

pub mod delay;
pub mod delivery;
pub mod promise;
pub(crate) mod state;
pub mod subscription;
