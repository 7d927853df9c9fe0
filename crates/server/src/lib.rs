//! The server as one program: how it starts, and its commands.

pub mod assemble;
mod audit;
mod certificates;
pub mod cli;
pub mod control;
mod descriptors;
mod files;
mod gauges;
mod holder;
mod log;
mod metrics;
mod notify;
pub mod orders;
mod place;
mod program;
mod reload;
mod run;
pub mod secret;
mod sockets;
mod terms;
mod warnings;

pub use gauges::Gauges;
pub use program::Program;
pub use reload::Reload;
pub use run::{Server, serve, serve_on};
pub use terms::terms;
