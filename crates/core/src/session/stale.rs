//! Senders whose presence did not fit into the queue of a session.

use std::collections::BTreeSet;

use vorpal_proto::jid::Jid;

/// Maximum number of senders that are remembered because their presence did not fit.
const MAX_STALE: usize = 1_000;

/// Maximum size of their addresses, in bytes.
const MAX_STALE_BYTES: usize = 64 << 10;

/// Senders whose newest presence did not fit: the session is told of them again when it has room.
#[derive(Default)]
pub(crate) struct Stale(Option<Box<Senders>>);

#[derive(Default)]
struct Senders {
    each: BTreeSet<Jid>,
    bytes: usize,
}

impl Stale {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Remembers a sender, as long as there is room for it.
    pub fn insert(&mut self, from: &Jid) {
        let senders = self.0.get_or_insert_default();
        let bytes = senders.bytes + from.as_str().len();
        if senders.each.len() < MAX_STALE && bytes <= MAX_STALE_BYTES && senders.each.insert(from.clone()) {
            senders.bytes = bytes;
        }
    }

    pub fn pop(&mut self) -> Option<Jid> {
        let senders = self.0.as_mut()?;
        let from = senders.each.pop_first();
        senders.bytes -= from.as_ref().map_or(0, |from| from.as_str().len());
        if senders.each.is_empty() {
            self.0 = None;
        }
        from
    }

    /// Forgets a sender: what does not fit into an empty queue never will.
    pub fn remove(&mut self, from: &Jid) {
        if let Some(senders) = &mut self.0
            && senders.each.remove(from)
        {
            senders.bytes -= from.as_str().len();
            if senders.each.is_empty() {
                self.0 = None;
            }
        }
    }
}
