//! The tables of the RFCs, without state: which session gets a message, what becomes of a subscription.

pub mod delivery;
pub mod subscription;
