//! What a handler may ask of the whole server while locks are held.
//!
//! Handlers run under the lock of one or two accounts, those of the life of a session also under that of its stream. Almost
//! everything that [`Core`](crate::core::Core) can do takes such a lock: called from there, it would wait for itself, or for somebody who waits for it.
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
//! fn waits_for_ever(to: &vorpal_core::session::guard::Outgoing<'_>) -> bool {
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

use crate::owner::contacts;
use std::borrow::Cow;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::bounds::Bounds;
use crate::owner::account::Account;
use crate::owner::roster::{RosterItem, RosterMeta};
use crate::owner::tables::{LastActivity, Tables};
use crate::session::Flag;
use crate::small::rows::Rows;
use crate::store::Owner;

/// What the kernel answers without a lock of an account or a session.
pub(crate) trait Kernel: Send + Sync {
    /// When the server started.
    fn started(&self) -> Timestamp;
    /// The limits of an account.
    fn bounds(&self) -> Bounds;
    /// A new id of 128 unguessable bits.
    fn random_id(&self) -> String;
    /// The flag of sessions that have requested the roster.
    fn interested(&self) -> Flag;
    /// The kernel's own tables.
    fn tables(&self) -> &Tables;
    /// What an account calls the roster versions that this run gives.
    fn epoch_of(&self, owner: Owner) -> u64;
}

/// The server, as a handler sees it. See the module's text.
#[derive(Clone, Copy)]
pub struct Server<'a>(pub(crate) &'a dyn Kernel);

impl<'a> Server<'a> {
    /// When the server started.
    pub fn started(self) -> Timestamp {
        self.0.started()
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
        account.states.get(self.0.tables().last_activity).cloned()
    }

    /// The newest state of a contact, also of one that is not in the roster.
    pub fn contact(self, account: &Account, contact: &BareJid) -> RosterItem {
        contacts::newest(self.0.tables(), account, contact)
    }

    /// Number of rows of the roster, removed contacts included.
    pub fn contacts(self, account: &Account) -> usize {
        contacts::count(self.0.tables(), account)
    }

    /// Whether the roster has room for an item in the place of the stored one.
    pub fn has_room_for(self, account: &Account, contact: &BareJid, item: &RosterItem) -> bool {
        contacts::has_room(self.0.tables(), account, contact, item, self.0.bounds().roster_bytes)
    }

    /// The newest roster with its version, so that its version can be told: an old one begins an epoch first.
    pub fn roster<'b>(self, account: &'b mut Account) -> (RosterMeta, Cow<'b, Rows<BareJid, RosterItem>>) {
        contacts::begin_epoch(self.0.tables(), account, self.0.epoch_of(account.owner));
        contacts::newest_all(self.0.tables(), account)
    }
}
