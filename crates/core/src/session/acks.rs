//! What a session owes its client: acknowledgements (XEP-0198 §4), and errors for stanzas whose batch failed (`commit/debt.rs`).

use std::time::Duration;

use crate::session::debt::Debt;
use crate::session::ledger::{Ledger, Pending, Settled};
use crate::session::stream::Stream;
use crate::store::EntryId;

impl Stream {
    /// The numbers of what the client has sent.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A stanza is safe; and `stored`, if a committed row says so.
    pub(crate) fn settle(&mut self, settled: Settled, stored: bool) {
        let n = settled.0;
        self.ledger.settle(settled);
        if stored && self.is_resumable() {
            self.ledger.stored(n);
        }
    }

    /// A stanza was not processed, and counts as never read: its client will send it again.
    pub(crate) fn take_back(&mut self, pending: Pending) {
        let n = pending.0;
        self.ledger.take_back(pending);
        self.dealt_with(n);
    }

    /// A committed row says how far the session is handled. Nobody waits for it.
    pub(crate) fn row_noted(&mut self, handled: u64) {
        self.ledger.stored(handled);
    }

    /// The row that an acknowledgement or a resumption waits for is on its way to the store.
    pub(crate) fn row_begun(&mut self) {
        self.storing = true;
    }

    /// That row is committed.
    pub(crate) fn row_stored(&mut self, handled: u64) {
        self.ledger.stored(handled);
        self.storing = false;
        self.refused = false;
        self.wake();
    }

    /// The batch that has the session's row may be refused: no other row of it is submitted until that is known.
    pub(crate) fn set_conditional(&mut self, conditional: bool) {
        self.conditional = conditional;
    }

    /// Whether a batch on its way has the session's row and may be refused.
    pub(crate) fn is_conditional(&self) -> bool {
        self.conditional
    }

    /// The batch that had the session's row was refused, and nothing was built on it: the row is as if it had never been submitted.
    pub(crate) fn row_was_refused(&mut self) {
        self.forget_progress();
        self.rows_failed();
    }

    /// The row of progress is due, even if it says what it said before.
    pub(crate) fn forget_progress(&mut self) {
        self.progress = (u64::MAX, 0);
    }

    /// Whether that row is on its way.
    pub(crate) fn is_storing(&self) -> bool {
        self.storing
    }

    /// Whether that row could not be written.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the row of progress would say something new.
    pub(crate) fn is_row_due(&mut self, handled: u64) -> bool {
        (self.ledger.row(handled), self.cursor) != self.progress
    }

    /// The client asks how far its stanzas are handled.
    pub(crate) fn owe_ack(&mut self) {
        self.owes_ack = Some(self.ledger.entered());
    }

    /// Whether the client has asked, and has no answer yet.
    pub(crate) fn owes_ack(&self) -> bool {
        self.owes_ack.is_some()
    }

    /// Writes `<a/>` if it is owed, and everything before the question is handled and stored. Gives the number that has to be stored
    /// first, if that is all it waits for.
    pub(crate) fn try_ack(&mut self) -> Option<u64> {
        let upto = self.owes_ack?;
        if self.ledger.handled() < upto || self.storing {
            return None;
        }
        if !self.ledger.ahead_of_disk() {
            self.write_ack();
            return None;
        }
        if self.conditional {
            // Its outcome is followed by this once more.
            return None;
        }
        Some(self.ledger.handled())
    }

    /// Whether the client has asked for stream management: what it sends is promised.
    pub fn is_managed(&self) -> bool {
        self.managed
    }

    /// Stream management begins; with a token the session can be resumed, for `keep` milliseconds without a connection. The client has
    /// every entry up to `cursor`. Gives the number of stanzas that were read before.
    pub(crate) fn manage(&mut self, token: Option<String>, keep: u64, cursor: EntryId) -> u64 {
        self.managed = true;
        self.resumable = token.is_some();
        self.keep = if self.resumable { keep } else { 0 };
        self.token = token;
        self.ledger.begin(self.resumable);
        self.cursor = cursor;
        self.ledger.entered()
    }

    /// The secret by which it is resumed.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// For how long it is kept without a connection, in milliseconds.
    pub(crate) fn keep(&self) -> u64 {
        self.keep
    }

    /// Since when it has no connection, in steady time.
    pub(crate) fn detached_since(&self) -> Option<Duration> {
        self.detached
    }

    /// Whether it has no connection, and its account has received more than `most` bytes since it was lost.
    pub(crate) fn is_behind(&self, received: u64, most: u64) -> bool {
        self.detached.is_some() && received.saturating_sub(self.received_before) > most
    }

    /// The client is known to have every entry up to here that was meant for the session.
    pub(crate) fn cursor(&self) -> EntryId {
        self.cursor
    }

    /// The cursor as it may be stored now. `horizon`: the id below which all is committed.
    pub(crate) fn cursor_at(&self, horizon: EntryId) -> EntryId {
        self.cursor.max(self.floor(horizon).saturating_sub(1))
    }

    /// Moves the cursor to where it may be.
    pub(crate) fn advance_cursor(&mut self, horizon: EntryId) {
        self.cursor = self.cursor_at(horizon);
    }

    /// Number of debts: stanzas whose batch failed, and whose errors are not stored yet.
    pub(crate) fn debts(&self) -> usize {
        self.debts.len()
    }

    /// Adds debts, in the order of their numbers.
    pub(crate) fn owe(&mut self, debts: impl IntoIterator<Item = Debt>) {
        self.debts.extend(debts);
    }

    /// Takes the debts: they are about to be written.
    pub(crate) fn take_debts(&mut self) -> Vec<Debt> {
        std::mem::take(&mut self.debts)
    }
}
