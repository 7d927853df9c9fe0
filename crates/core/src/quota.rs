//! What may wait for an account: bytes that nobody has taken yet, of all senders and of one.
//!
//! The bytes are in memory with the account, counted as entries are submitted and taken, and read from the log when the
//! account is loaded. So nothing is written for them, and they are right after a crash. What was promised before, and errors that are
//! owed, go on and are counted.
//!
//! What may wait is the operator's ([`crate::server::Bounds::offline_bytes`]). Of it one sender may take a part, so that none fills
//! it for others; and those whom the user does not know are refused when it is half full.

use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::Stanza;

use crate::account::Account;
use crate::counts::Count;
use crate::cursor::Load;
use crate::message::End;
use crate::roster;
use crate::server::Core;

/// Maximum of what waits for an account, in bytes, unless the operator says otherwise: a hundred thousand messages of text.
pub const MAX_OFFLINE_BYTES: u64 = 32 << 20;

/// The part of it that a contact may take: a half.
pub const CONTACT_SHARE: u64 = 2;

/// The part of it that anybody else may take: a quarter.
pub const STRANGER_SHARE: u64 = 4;

/// Those whom the user does not have in the roster may fill this part of it together: a half. The rest is for contacts.
pub const STRANGERS_PART: u64 = 2;

/// Below this part of the maximum nothing needs to be looked at: no share is smaller.
const UNQUESTIONED: u64 = STRANGER_SHARE;

impl Core {
    /// A message that the receiver has no room for is refused: a new one, and one that a session held and nobody took. One that cannot be answered is dropped: it is an error
    /// that came too late for anybody to act on, and without a bound it could be sent without end.
    pub(crate) fn within_quota(&self, end: End, received: Option<&Account>, stanza: &Stanza) -> End {
        let End::Goes(goes) = &end else { return end };
        let (Some(draft), Some(account)) = (&goes.draft, received) else { return end };
        let Some(side) = draft.sides.iter().flatten().find(|side| side.owner == account.owner) else { return end };
        let most = self.offline_bytes();
        let bytes = side.size(draft.body.len());
        if account.log.waiting_bytes() + bytes <= most / UNQUESTIONED {
            return end;
        }
        let Some(reason) = self.crowded(account, Load::of(side, draft.body.len()), &side.peer, most) else {
            return end;
        };
        tracing::debug!(account = %account.jid, reason, "message refused: over quota");
        self.counts.one(Count::OverQuota);
        if stanza.is_answerable() {
            // XEP-0160 §2: the answer for a queue that is full.
            End::Error(StanzaError::service_unavailable().with_text(reason))
        } else {
            End::Silence
        }
    }

    /// Why what waits for the account may not grow by this.
    #[cold]
    fn crowded(&self, account: &Account, load: Load, peer: &str, most: u64) -> Option<&'static str> {
        let bytes = u64::from(load.bytes);
        let all = account.log.waiting_bytes() + bytes;
        if all > most {
            return Some("too much waits for the receiver already");
        }
        let known = roster::lists(self.tables.roster, account, peer);
        if !known && all > most / STRANGERS_PART {
            return Some("too much waits for the receiver already");
        }
        let share = most / if known { CONTACT_SHARE } else { STRANGER_SHARE };
        // To oneself there is no share.
        let own = peer == account.jid.as_str();
        (!own && account.log.waiting_of(load.from) + bytes > share)
            .then_some("too much of yours waits for the receiver already")
    }
}
