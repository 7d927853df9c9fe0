//! What a session has not been told yet since it became available. Whoever tells it is `route/untold.rs`.

use std::collections::VecDeque;

use vorpal_proto::jid::{BareJid, Jid};

use crate::session::{SessionId, Stream};

/// Something that a session has not been told yet.
#[derive(Debug)]
pub(crate) enum Untold {
    /// a change of the roster that its client missed
    Change(BareJid),
    /// the presence of another session of the account
    Own(SessionId),
    /// the presence of a contact
    Contact {
        /// who
        jid: BareJid,
        /// the client may believe that the contact is there: if not, it is told
        back: bool,
    },
    /// the presence of one of a contact's sessions
    Session(BareJid, SessionId),
    /// the request of somebody who wants to be a contact
    Request(BareJid),
    /// the presence of somebody whose newest did not fit
    Stale(Jid),
}

/// What a session has not been told yet, in order.
pub(crate) type List = Option<Box<VecDeque<Untold>>>;

impl Stream {
    /// The next item, if little waits to be written. What waits behind the log counts as well.
    pub(crate) fn next_untold(&mut self) -> Option<Untold> {
        if !self.may_be_told() {
            return None;
        }
        if let Some(list) = &mut self.untold {
            let next = list.pop_front();
            if list.is_empty() {
                self.untold = None;
            }
            return next;
        }
        self.stale.pop().map(Untold::Stale)
    }
}
