//! The quota of waiting messages of an account: bytes that no session has taken yet, of all senders and of each one.
//!
//! The bytes are counted in memory with the account, as entries are submitted and taken, and read from the log when the account is
//! loaded. So nothing is written for them, and they are correct after a crash. Messages that were promised before, and owed errors,
//! are accepted and counted.
//!
//! The operator sets the quota ([`crate::bounds::Bounds::offline_bytes`]). One sender may use a part of it, so that none fills it for
//! others; senders who are not contacts are refused when it is half full.

use crate::owner::contacts;
use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::Stanza;

use crate::core::Core;
use crate::owner::account::Account;
use crate::route::stretch::End;
use crate::store::load::Load;
use crate::watch::counts::Count;

/// The fraction of it that one contact may use: a half.
pub const CONTACT_SHARE: u64 = 2;

/// The fraction of it that any other sender may use: a quarter.
pub const STRANGER_SHARE: u64 = 4;

/// The fraction of it that senders who are not in the roster may use together: a half. The rest is for contacts.
pub const STRANGERS_PART: u64 = 2;

/// Below this fraction of the quota no check is needed: no share is smaller.
const UNQUESTIONED: u64 = STRANGER_SHARE;

impl Core {
    /// Refuses a message that exceeds the receiver's quota: a new one, or one that a session held and no session took. One that cannot
    /// be answered is dropped: it is an error that arrived too late for anybody to act on, and without a limit it could be sent
    /// endlessly.
    pub(crate) fn keep_within_quota(&self, end: &mut End, received: Option<&Account>, stanza: &Stanza) {
        let End::Goes(goes) = &*end else { return };
        let (Some(draft), Some(account)) = (&goes.draft, received) else { return };
        let Some(side) = draft.sides.iter().flatten().find(|side| side.owner == account.owner) else { return };
        let most = self.offline_bytes();
        let bytes = side.size(draft.body.len());
        if account.log.waiting_bytes() + bytes <= most / UNQUESTIONED {
            return;
        }
        let Some(reason) = self.crowded(account, Load::of(side, draft.body.len()), &side.peer, most) else { return };
        tracing::debug!(account = %account.jid, reason, "message refused: over quota");
        self.counts.one(Count::OverQuota);
        *end = if stanza.is_answerable() {
            // XEP-0160 §2: the answer when the queue is full.
            End::Error(StanzaError::service_unavailable().with_text(reason))
        } else {
            End::Silence
        };
    }

    /// Why the account's waiting messages may not grow by this; `None` if they may.
    #[cold]
    fn crowded(&self, account: &Account, load: Load, peer: &str, most: u64) -> Option<&'static str> {
        let bytes = u64::from(load.bytes);
        let all = account.log.waiting_bytes() + bytes;
        if all > most {
            return Some("too much waits for the receiver already");
        }
        let known = contacts::lists(self.tables.roster, account, peer);
        if !known && all > most / STRANGERS_PART {
            return Some("too much waits for the receiver already");
        }
        let share = most / if known { CONTACT_SHARE } else { STRANGER_SHARE };
        // Messages to oneself have no share.
        let own = peer == account.jid.as_str();
        (!own && account.log.waiting_of(load.from) + bytes > share)
            .then_some("too much of yours waits for the receiver already")
    }
}
