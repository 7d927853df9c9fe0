//! The tables that the kernel itself keeps for an owner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vorpal_proto::jid::{BareJid, Jid};

use crate::owner::cursor::Cursor;
use crate::owner::roster::{RosterItem, RosterMeta};
use crate::owner::state::{Cell, Key, Map};
use crate::session::SessionId;
use crate::session::row::SessionRow;

/// The tables that the core itself keeps for an account.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub roster: Map<BareJid, RosterItem>,
    pub roster_meta: Cell<RosterMeta>,
    pub sessions: Map<u64, SessionRow>,
    pub ended: Map<String, Ended>,
    pub directed: Map<DirectedKey, bool>,
    pub cursor: Cell<Cursor>,
    pub credentials: Map<CredentialKey, String>,
    pub last_activity: Cell<crate::owner::tables::LastActivity>,
    pub company: Cell<Company>,
    /// of the store itself, by host: how many accounts have each profile
    pub profiles: Map<String, BTreeMap<String, u64>>,
}

/// The reverse key of all stored sessions.
pub(crate) const STORED_SESSION: &str = "session";

/// The name of a hash, as the key of a row of credentials.
pub(crate) type CredentialKey = String;

/// A session has sent presence to an address directly (RFC 6121 §4.6): one row each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirectedKey(pub SessionId, pub Jid);

impl Key for DirectedKey {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.0.to_be_bytes(), self.1.as_str().as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<DirectedKey> {
        let (id, jid) = bytes.split_first_chunk::<8>()?;
        Some(DirectedKey(SessionId::from_be_bytes(*id), Jid::from_bytes(jid)?))
    }
}

/// What is remembered of a session that ended without its client, by its token (XEP-0198 §5): so that the client, however late
/// it comes, learns what was handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// how many of its stanzas were handled
    pub h: u32,
    /// when it ended, in milliseconds since 1970
    pub at: u64,
}

/// When somebody was last here, and with which words (XEP-0012 §4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastActivity {
    /// in milliseconds since 1970
    pub time: u64,
    /// the `<status/>` of the last unavailable presence
    #[serde(default)]
    pub status: String,
}

/// Resources of an account whose sessions cannot be resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Company {
    /// each with when it went, in milliseconds since 1970, if it went while the server was running
    pub each: BTreeMap<String, Option<u64>>,
}
