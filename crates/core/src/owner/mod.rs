//! What has a number in the store and a lock: its states, its log, and what it waits to say.

pub mod account;
pub mod cold;
pub mod contacts;
pub(crate) mod cursor;
pub mod judge;
pub mod key;
pub mod log;
pub mod plan;
pub mod roster;
pub mod stanza_id;
pub mod state;
pub mod tables;
pub mod words;
