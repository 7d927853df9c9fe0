//! The shapes of what is stored are the core's: see [`vorpal_core::store`].

pub use vorpal_core::store::*;
