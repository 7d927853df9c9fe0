//! What has a number in the store and a lock: its states, its log, and what it waits to say.

pub mod account;
pub(crate) mod company;
pub(crate) mod cursor;
pub mod key;
pub mod log;
pub mod roster;
pub mod stanza_id;
pub mod state;
