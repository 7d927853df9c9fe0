//! Containers that know nothing of XMPP.

pub(crate) mod deadlines;
pub mod lasting;
pub(crate) mod lists;
pub mod rows;
