//! A session that can be resumed, as it is stored.

use serde::Deserialize;
use serde::Serialize;

use crate::store::EntryId;

/// A session that can be resumed, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// its resource
    pub resource: String,
    /// the secret by which it is resumed
    pub token: String,
    /// when stream management was enabled, in milliseconds since 1970
    #[serde(default)]
    pub since: u64,
    /// for how long it is kept without a connection, in milliseconds
    pub keep: u64,
    /// its priority, if it is available
    pub priority: Option<i8>,
    /// its last presence
    pub presence: Option<String>,
    /// entries from here on were given live
    pub joined: EntryId,
    /// the names of its flags
    pub flags: Vec<String>,
    /// the version of the roster that its client has, if it asked for the roster
    #[serde(default)]
    pub roster: u64,
}
