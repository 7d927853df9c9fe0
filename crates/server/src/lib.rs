//! The server as one program: how it starts, and its commands.

pub mod cli;
pub mod control;
mod limits;
mod run;

pub use run::{Server, serve};
