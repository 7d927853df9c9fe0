//! Batches whose outcome is not known yet.

use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::jid::BareJid;

use crate::owner::account::AccountRef;
use crate::owner::words::Notice;
use crate::session::Session;

/// Who hears what became of a batch.
pub(crate) enum Flight {
    Accounts(SmallVec<[AccountRef; 2]>),
    /// an account of this name is created
    Created(BareJid, Notice),
    /// rows of many accounts that carry no promise
    Riders(Vec<Rider>),
}

/// An account whose rows ride in a batch with those of others.
pub(crate) struct Rider {
    pub lock: AccountRef,
    /// how far its sessions are handled when that is stored
    pub handled: SmallVec<[(Arc<Session>, u64); 2]>,
}
