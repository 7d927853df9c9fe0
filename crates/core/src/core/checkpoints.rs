//! Sessions whose checkpoints are due (`commit/checkpoint.rs`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::owner::account::AccountRef;
use crate::session::Session;
use crate::session::checkpoint::Runs;

/// Sessions, each with its account.
pub(crate) type Due = Vec<(AccountRef, Arc<Session>)>;

/// Sessions whose rows are due, and in which run the server is.
#[derive(Default)]
pub(crate) struct Checkpoints {
    pub due: Mutex<Due>,
    /// room for those that are being written
    pub taken: Mutex<Due>,
    pub runs: Runs,
}
