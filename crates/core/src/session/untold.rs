//! What a session has not been told yet since it became available. Whoever tells it is `route/untold.rs`.

use std::collections::VecDeque;

use vorpal_proto::jid::BareJid;
use vorpal_proto::jid::Jid;

use crate::session::flags::SessionId;

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
