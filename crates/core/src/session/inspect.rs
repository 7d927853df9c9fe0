//! What a stream holds, counted: for tests, which check what must hold between the counts.

use crate::session::peer::Facts;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::ns;

use crate::session::stream::Stream;

impl Stream {
    pub(crate) fn report(&self) -> StreamReport {
        let outs = self.held.iter().map(|held| &held.out).chain(&self.unacked).chain(self.deferred.iter());
        StreamReport {
            queued: self.queue.len(),
            held: self.held.len(),
            unacked: self.unacked.len(),
            deferred: self.deferred.len(),
            had: self.had.len(),
            weight: self.weight,
            weighed: self.queue.weighed() + outs.map(|out| out.weighed()).sum::<usize>(),
            attached: self.wake.is_some(),
            reading: self.reading.is_some(),
            unsettled: self.ledger.entered() - self.ledger.handled(),
            h: self.ledger.h(),
            ahead_of_disk: self.ledger.ahead_of_disk(),
            owes_ack: self.owes_ack.is_some(),
            resumable: self.is_resumable(),
        }
    }
}

/// What is on a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// stanzas and other elements that wait to be written
    pub queued: usize,
    /// stanzas that are held back for an inactive client
    pub held: usize,
    /// stanzas that were sent and not acknowledged; without stream management: not written to the socket
    pub unacked: usize,
    /// stanzas that wait until the log is read
    pub deferred: usize,
    /// entries that are not to be read again
    pub had: usize,
    /// what it counts all of this to weigh, in bytes
    pub weight: usize,
    /// what all of this weighs
    pub weighed: usize,
    /// a connection carries it
    pub attached: bool,
    /// it reads the log
    pub reading: bool,
    /// stanzas of its client that are not settled
    pub unsettled: u64,
    /// the count that would be said now (XEP-0198 §4)
    pub h: u32,
    /// more is handled than is stored
    pub ahead_of_disk: bool,
    /// an `<r/>` of the client is not answered
    pub owes_ack: bool,
    /// it can be resumed
    pub resumable: bool,
}

impl Stream {
    /// What an operator is told of it.
    pub fn facts(&self) -> Facts {
        let presence = self.presence.as_ref();
        Facts {
            since: Timestamp::from_millis(self.since),
            detached: self.detached,
            peer: self.peer,
            client: presence.and_then(|p| p.get(ns::CAPS, "c")?.get("node").map(str::to_owned)),
            show: presence.and_then(|p| Some(p.get(ns::CLIENT, "show")?.content())),
            resumable: self.is_resumable(),
        }
    }
}
