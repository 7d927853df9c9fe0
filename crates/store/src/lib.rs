//! Where everything durable is kept: four shapes (owners, maps, logs, blobs) on SQLite and in memory, and the writer with group
//! commit in front of them.
//!
//! - [`shape`] says what can be stored and asked; the interface of every backend
//! - [`memory`] keeps it in ordered maps, and can refuse, delay, crash and forget
//! - [`sqlite`] keeps it in a database file; [`lock`] keeps others from opening it
//! - [`readers`] lends readers to threads
//! - [`pulse`] tells how the writer is
//! - [`writer`] is the queue: what arrives while one commit runs is the next commit

pub mod lock;
pub mod memory;
pub mod pulse;
pub mod readers;
pub mod shape;
pub mod sqlite;
pub mod writer;

mod check;
#[cfg(test)]
mod conformance;
mod maps;
mod span;
#[cfg(test)]
mod testing;
