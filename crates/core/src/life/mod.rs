//! Where accounts and sessions begin, continue and end: login, resumption, restart, removal, periodic work.

pub mod beat;
pub mod bind;
mod detach;
pub(crate) mod end;
pub mod establish;
pub mod join;
pub mod load;
mod nonza;
mod profiles;
pub(crate) mod removal;
pub mod resume;
pub mod revive;
pub mod sweep;
pub(crate) mod switched_off;
pub(crate) mod trim;
pub mod users;
