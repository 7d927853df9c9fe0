//! The kernel of the server: hosts, accounts, sessions, routing, hooks, effects.
//!
//! Sans-io: nothing here waits, reads a clock or opens a socket. Time, randomness and ids are arguments.
//!
//! Each folder is a floor of the house, and may use those below it; a test keeps it so (`crates/server/tests/tidy.rs`):
//!
//! `store, rules, bounds, small ← session ← owner ← module, watch ← core ← commit ← route ← life`

pub mod bounds;
pub mod commit;
pub mod core;
pub mod life;
pub mod module;
pub mod owner;
pub mod route;
pub mod rules;
pub mod session;
pub mod small;
pub mod store;
pub mod watch;
