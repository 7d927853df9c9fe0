//! The whole server in one thread under virtual time, without sockets and without a reactor.
//!
//! - [`world`] drives the kernel, its writer and the state machines of its connections
//! - [`client`] is the other end of a connection: the client's state of its streams
//! - [`link`] is a connection, including the network
//! - [`scenario`] reads and runs transcripts (`tests/scenarios`)
//! - [`pattern`] compares received stanzas with those that a transcript expects
//! - [`simulator`] runs random worlds, determined by a seed, and checks invariants
//!
//! For tests only: failures panic with a message.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

pub mod client;
pub mod disk;
pub mod link;
pub mod pattern;
pub mod random;
pub mod scenario;
pub mod simulator;
pub mod world;
