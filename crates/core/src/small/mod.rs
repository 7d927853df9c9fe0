//! Containers that know nothing of XMPP.

pub mod lasting;
pub(crate) mod lists;
pub mod rows;
