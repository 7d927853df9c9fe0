//! What is counted, watched and measured: metrics, traces, free disk space, clocks.

pub mod clock;
pub mod counts;
pub mod inspect;
pub(crate) mod profiles;
pub mod reserve;
pub mod trace;
