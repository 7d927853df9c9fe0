//! A debt: the error that the server owes a session for a stanza whose batch failed. Whoever writes it is `commit/debt.rs`.

use std::sync::Arc;

use vorpal_proto::stanza::Stanza;

use crate::session::out::Out;
use crate::session::out::Shared;
use crate::store::EntryId;
use crate::store::load::Load;

/// A stanza whose batch failed.
#[derive(Debug)]
pub(crate) struct Debt {
    /// its number
    pub n: u64,
    /// the error that was sent to its sender, and its shared state in the session's queue
    pub error: Option<(Stanza, Arc<Shared>)>,
    /// the id of the error in the log
    pub entry: Option<EntryId>,
    /// how much the error takes there
    pub load: Load,
}

impl Debt {
    /// Whether this queued stanza is its error.
    pub(crate) fn is_held_as(&self, out: &Out) -> bool {
        self.error.as_ref().is_some_and(|(_, shared)| out.is_of(shared))
    }
}
