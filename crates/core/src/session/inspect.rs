//! What a stream holds, counted: for tests, which check what must hold between the counts.

use super::Stream;
use crate::watch::inspect::StreamReport;

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
