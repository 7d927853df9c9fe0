//! The kernel of the server: hosts, accounts, sessions, routing.
//!
//! Sans-io: nothing here waits, reads a clock or opens a socket. Time, randomness and ids are arguments.

pub mod delivery;
pub mod subscription;
