//! What a stream holds, counted: for tests, which check what must hold between the counts.

use super::{Item, Stream};
use crate::inspect::StreamReport;

impl Stream {
    pub(crate) fn report(&self) -> StreamReport {
        let queued: usize = self.queue.iter().map(Item::weight).sum();
        let outs = self.held.iter().map(|held| &held.out).chain(&self.unacked).chain(&self.deferred);
        StreamReport {
            queued: self.queue.len(),
            held: self.held.len(),
            unacked: self.unacked.len(),
            deferred: self.deferred.len(),
            had: self.had.len(),
            weight: self.weight,
            weighed: queued + outs.map(|out| out.stanza.weight()).sum::<usize>(),
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
