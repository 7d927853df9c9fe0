//! The server as one program: how it starts, and its commands.

pub mod cli;
pub mod control;
mod log;
mod program;
mod reload;
mod run;
mod terms;

pub use program::Program;
pub use reload::Reload;
pub use run::{Server, serve};
