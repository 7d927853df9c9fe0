//! What a handler may ask of the whole server while locks are held.
//!
//! Handlers run under the lock of one or two accounts, those of the life of a session also under that of its stream. Almost
//! everything that [`Core`] can do takes such a lock: called from there, it would wait for itself, or for somebody who waits for it.
//! So a handler has no `Core`. It has a [`Server`], which answers what modules ask and takes no lock of an account or a session;
//! the account itself is given to it by the handler, which holds it. A new question gets a method here when a module needs it.
//!
//! ```
//! fn contacts(cx: &mut vorpal_core::module::hook::IqCx<'_>) -> usize {
//!     let server = cx.server;
//!     cx.account().map_or(0, |account| server.contacts(account).min(server.bounds().contacts))
//! }
//! ```
//!
//! What would take a lock that is held is not there. Another account, or the own one once more:
//!
//! ```compile_fail,E0599
//! fn waits_for_ever(cx: &mut vorpal_core::module::hook::IqCx<'_>) -> usize {
//!     let server = cx.server;
//!     server.loaded("juliet@example.org").map_or(0, |account| account.lock().sessions.len())
//! }
//! ```
//!
//! The stream of a session, in each kind of handler:
//!
//! ```compile_fail,E0599
//! fn waits_for_ever(cx: &mut vorpal_core::module::hook::SessionCx<'_>) -> u32 {
//!     cx.session.epoch()
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn waits_for_ever(cx: &mut vorpal_core::module::hook::SessionCx<'_>, room: &vorpal_proto::jid::Jid) -> bool {
//!     cx.account.has_joined(room)
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn waits_for_ever(to: &vorpal_core::module::hook::Outgoing<'_>) -> bool {
//!     to.session.stream().managed
//! }
//! ```
//!
//! ```compile_fail,E0624
//! fn waits_for_ever(cx: &vorpal_core::module::hook::MessageCx<'_>) -> bool {
//!     let streams: Vec<_> = cx.account.sessions.iter().map(|session| session.stream()).collect();
//!     streams.iter().any(|stream| stream.managed) && cx.account.has_joined(cx.peer)
//! }
//! ```

use std::borrow::Cow;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::core::{Bounds, Core};
use crate::owner::account::Account;
use crate::owner::roster::{self, RosterItem, RosterMeta};
use crate::route::presence::LastActivity;
use crate::session::Flag;
use crate::small::rows::Rows;

/// The server, as a handler sees it. See the module's text.
#[derive(Clone, Copy)]
pub struct Server<'a>(pub(crate) &'a Core);

impl<'a> Server<'a> {
    /// When the server started.
    pub fn started(self) -> Timestamp {
        self.0.started
    }

    /// The limits of an account.
    pub fn bounds(self) -> Bounds {
        self.0.bounds()
    }

    /// A new id of 128 unguessable bits, in letters and digits.
    pub fn random_id(self) -> String {
        self.0.random_id()
    }

    /// The flag of sessions that have requested the roster (RFC 6121 §2.2).
    pub fn interested(self) -> Flag {
        self.0.interested()
    }

    /// When the account was last available, and with which status it went (XEP-0012 §4).
    pub fn last_activity(self, account: &Account) -> Option<LastActivity> {
        self.0.last_activity(account)
    }

    /// The newest state of a contact, also of one that is not in the roster.
    pub fn contact(self, account: &Account, contact: &BareJid) -> RosterItem {
        roster::newest(self.0, account, contact)
    }

    /// Number of rows of the roster, removed contacts included.
    pub fn contacts(self, account: &Account) -> usize {
        roster::count(self.0, account)
    }

    /// Whether the roster has room for an item in the place of the stored one.
    pub fn has_room_for(self, account: &Account, contact: &BareJid, item: &RosterItem) -> bool {
        roster::has_room(self.0, account, contact, item)
    }

    /// The newest roster with its version, so that its version can be told: an old one begins an epoch first.
    pub fn roster<'b>(self, account: &'b mut Account) -> (RosterMeta, Cow<'b, Rows<BareJid, RosterItem>>) {
        roster::begin_epoch(self.0, account);
        roster::newest_all(self.0, account)
    }
}
