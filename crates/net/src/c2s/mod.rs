//! Clients (RFC 6120): one connection from its first byte to its last.
//!
//! [`Connection`] is a state machine without a socket: bytes in, bytes out, and what it needs next. [`Driver`] is the order in which
//! its owner serves it. The owner is a task with a socket, or the simulator.

mod audit;
mod bound;
mod connection;
mod driver;
mod io;
mod listen;
mod negotiate;
mod rush;
mod task;
mod trying;
mod vanished;

pub use audit::Audit;
pub use connection::{Connection, Need, Settings};
pub use driver::{Driver, Turn};
pub use listen::{Entrance, Hall, listen};
pub use rush::{QueueLengths, Rush, Scale};
pub use task::{Shared, Terms};
