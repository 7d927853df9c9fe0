//! The whole server in one thread under virtual time, without sockets and without a reactor.
//!
//! - [`world`] drives the kernel, its writer and the machines of its connections
//! - [`client`] is the other end of a connection: what a client keeps of its streams
//! - [`link`] is a connection, with the network in it
//! - [`scenario`] reads and plays transcripts (`tests/scenarios`)
//! - [`pattern`] compares what was received with what a transcript expects
//! - [`simulator`] plays at random, by a seed, and checks what always has to hold
//!
//! For tests only: what breaks panics, and says what.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

pub mod client;
pub mod disk;
pub mod link;
pub mod pattern;
pub mod random;
pub mod scenario;
pub mod simulator;
pub mod world;
