//! How much a session takes: the bounds of its queue, and what becomes of what does not fit.

use vorpal_proto::stanza::Kind;

use crate::rules::state::is_state;
use crate::session::out::{OUT_BYTES, Out, Role};
use crate::session::stream::{Pushed, Stream};
use crate::store::EntryId;

impl Stream {
    /// Whether there is a connection that is given what comes, and its queue takes a stanza of this weight.
    pub(crate) fn takes(&self, weight: usize) -> bool {
        self.is_live() && self.weight + OUT_BYTES + weight <= self.max_queued + self.largest
    }

    /// Whether the bound allows for one stanza more. One answer that does not fit is taken all the same: that with a long roster
    /// may be larger than the bound itself. It does not count against what follows as long as it is held.
    pub(super) fn has_room_for(&mut self, out: &Out) -> bool {
        if self.weight + out.weight <= self.max_queued + self.largest {
            return true;
        }
        let taken = self.largest == 0 && out.stanza.kind() == Kind::Iq && out.role == Role::Extra;
        if taken {
            self.largest = out.weight;
        }
        taken
    }

    /// A stanza is gone: acknowledged, or written and nobody's to hold.
    pub(super) fn unweigh(&mut self, out: &Out) {
        self.weight -= out.weight;
        if out.weight == self.largest {
            self.largest = 0;
        }
    }

    /// What does not fit. Of presence the sender is remembered, and the client is told when it has read what it has.
    pub(super) fn overflows(&mut self, out: &Out) -> Pushed {
        if !is_state(&out.stanza) {
            return Pushed::Full;
        }
        if let Some(from) = &out.stanza.head.from {
            self.stale.insert(from);
        }
        Pushed::Left
    }

    /// What is not in the log waits until the log was read up to the entry that it follows. Of presence the newest of each sender
    /// is enough.
    pub(super) fn defer(&mut self, after: EntryId, mut out: Out) -> Pushed {
        if is_state(&out.stanza)
            && let Some(gone) = self.deferred.take_older(&out.stanza)
        {
            self.unweigh(&gone);
        }
        out.weigh();
        if !self.has_room_for(&out) {
            return self.overflows(&out);
        }
        self.weight += out.weight;
        self.deferred.push(after, out);
        Pushed::Queued
    }

    /// Whether a connection is there, and little waits to be written to it or acknowledged. What waits behind the log does not
    /// keep it from being read.
    pub(crate) fn has_room(&self) -> bool {
        self.wake.is_some() && self.weight.saturating_sub(self.deferred.weight()) < self.max_queued / 4
    }

    /// Whether there is something that it has not been told, and little waits before that.
    pub(crate) fn may_be_told(&self) -> bool {
        let any = self.untold.is_some() || !self.stale.is_empty();
        any && self.wake.is_some() && self.weight < self.max_queued / 4
    }

    /// Whether so much waits to be written that a client that does not read must not be read from either: what it asks for
    /// would only make it more.
    pub(super) fn is_crowded(&self) -> bool {
        self.queue.weight() > self.max_queued / PAUSE_PART
    }
}

/// A client is not read from while more than this part of what a session may hold waits to be written to it, counted as memory.
pub(crate) const PAUSE_PART: usize = 2;
