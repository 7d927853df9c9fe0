//! To whom a session has sent presence directly (RFC 6121 §4.6), and which of these addresses are not stored yet as they are.

use std::collections::BTreeSet;

use vorpal_proto::jid::Jid;

use crate::session::stream::Stream;

/// See the module's text.
#[derive(Default)]
pub(crate) struct Directed {
    to: BTreeSet<Jid>,
    changes: BTreeSet<Jid>,
}

impl Stream {
    /// The addresses to which presence was sent directly, and not taken back.
    pub(crate) fn directed(&self) -> &BTreeSet<Jid> {
        &self.directed.to
    }

    /// Presence was sent to this address. The row is written with the next tick, if the session can be resumed.
    pub(crate) fn add_directed(&mut self, to: &Jid) {
        if self.directed.to.insert(to.clone()) && self.is_resumable() {
            self.directed.changes.insert(to.clone());
        }
    }

    /// Presence was taken back from this address. True if its row is to be deleted.
    pub(crate) fn remove_directed(&mut self, to: &Jid) -> bool {
        let stored = self.directed.to.remove(to) && self.is_resumable();
        if stored {
            self.directed.changes.insert(to.clone());
        }
        stored
    }

    /// Takes all addresses: the session becomes unavailable.
    pub(crate) fn take_directed(&mut self) -> BTreeSet<Jid> {
        let to = std::mem::take(&mut self.directed.to);
        self.directed.changes.extend(to.iter().cloned());
        to
    }

    /// Takes the addresses whose rows may differ from what is stored.
    pub(crate) fn take_directed_changes(&mut self) -> BTreeSet<Jid> {
        std::mem::take(&mut self.directed.changes)
    }

    /// The addresses that were stored.
    pub(crate) fn restore_directed(&mut self, to: impl IntoIterator<Item = Jid>) {
        self.directed.to = to.into_iter().collect();
    }
}
