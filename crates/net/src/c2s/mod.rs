//! Clients (RFC 6120): one connection from its first byte to its last.
//!
//! [`Connection`] is a state machine without a socket: bytes in, bytes out, and what it needs next. The task around it, or the
//! simulator, does the rest.

mod audit;
mod bound;
mod connection;
mod io;
mod listen;
mod negotiate;
mod rush;
mod task;
mod trying;
mod vanished;

pub use audit::Audit;
pub use connection::{Connection, Need, Settings};
pub use listen::{Entrance, Hall, listen};
pub use rush::{Rush, Scale, Waiting};
pub use task::{Shared, Terms};
