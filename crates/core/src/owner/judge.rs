//! Judges: who of an address's sessions something is for.

use std::sync::Arc;

use vorpal_proto::jid::Jid;

/// From whom presence that was sent directly is taken back (RFC 6121 §4.6, XEP-0191 §3.3).
#[derive(Clone, Debug)]
pub struct Withdrawal {
    /// the addresses, bare or full, that are not to see it any more
    pub from: Judge,
    /// the bare addresses of which some sessions are not to see it any more: those whose full addresses `from` names
    pub from_some_of: Judge,
}

/// Says of the full address of a session whether something is for it.
#[derive(Clone)]
pub struct Judge(pub(crate) Arc<dyn Fn(&Jid) -> bool + Send + Sync>);

impl Judge {
    /// One that asks this.
    pub fn new(judge: impl Fn(&Jid) -> bool + Send + Sync + 'static) -> Judge {
        Judge(Arc::new(judge))
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judge")
    }
}
