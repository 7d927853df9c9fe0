//! The kernel of the server: hosts, accounts, sessions, routing, hooks, effects.
//!
//! Sans-io: nothing here waits, reads a clock or opens a socket. Time, randomness and ids are arguments.

pub mod account;
pub mod accounts;
pub mod cold;
pub mod commit;
pub mod counts;
mod cursor;
mod debt;
pub mod delivery;
pub mod effects;
pub mod hook;
pub mod host;
pub mod inspect;
mod iq;
pub mod join;
pub mod ledger;
mod lists;
pub mod log;
mod message;
pub mod module;
pub mod plan;
pub mod presence;
mod profiles;
pub mod quota;
pub mod reading;
pub mod registry;
mod removal;
pub mod reserve;
pub mod resume;
pub mod revive;
pub mod roster;
pub mod route;
pub mod rows;
pub mod server;
pub mod session;
pub mod stanza_id;
pub mod state;
pub mod store;
mod subscribe;
pub mod subscription;
pub mod sweep;
pub mod trace;
mod untold;
pub mod users;
