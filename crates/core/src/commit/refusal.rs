//! Batches with conditions: a module asks that a row be as it expects, or takes from a count, and the store refuses the whole batch if that
//! cannot be. See docs/decisions/0016.
//!
//! A refusal concerns its batch alone: the stanza is settled with the handler's error, and nobody else's is touched. That holds
//! because nothing is built on such a batch before its outcome is known:
//!
//! - It carries no message, and no debts of its session: they are written before it.
//! - The session's next stanza waits for the outcome, as behind every IQ that writes (`barrier`).
//! - It has the row that says how far the session is handled, and while it is on its way no other row of the session is submitted. One that
//!   says more would claim what may be refused; one that says less would undo, behind a commit, what the client has been told.
//!
//! If the batch changes loaded rows as well, others may be built on those: then a refusal counts as a failure for them (`debt.rs`).
//!
//! Invariant: a row that says a stanza is handled is committed with, or after, the outcome of that stanza.

use vorpal_proto::error::StanzaError;

use crate::commit::Part;
use crate::owner::account::Account;
use crate::owner::words::{Failure, Waiting, Words};
use crate::store::{BatchId, Write};

/// Moves the cold writes of all parts into the batch's, which must be at its beginning. True if the batch has conditions. Their errors stay
/// with the part whose stanza is settled.
pub(crate) fn gather(parts: &mut [Part<'_>], writes: &mut Vec<Write>) -> bool {
    let mut all = Vec::new();
    for cold in parts.iter_mut().filter_map(|part| part.words.cold.take()) {
        all.extend(cold.refusals.into_iter().map(|(at, error)| (writes.len() + at, error)));
        writes.extend(cold.writes);
    }
    if all.is_empty() {
        return false;
    }
    let settling = parts.iter().position(|part| part.words.settles.is_some()).unwrap_or(0);
    if let Some(part) = parts.get_mut(settling) {
        debug_assert!(part.words.debts.is_empty(), "debts are written before");
        part.words.cold.get_or_insert_default().refusals = all;
    }
    true
}

impl Words {
    /// What the sender is told if the batch comes to nothing.
    pub(crate) fn told(&self, failure: Failure) -> StanzaError {
        let own = match (failure, &self.cold) {
            (Failure::Refused { write, .. }, Some(cold)) => cold.refusals.iter().find(|(at, _)| *at == write),
            _ => None,
        };
        own.map_or_else(|| failure.told(), |(_, error)| error.clone())
    }

    /// The outcome of the batch is known: rows of its session may be submitted again. Whether it had conditions.
    pub(crate) fn decided(&mut self) -> bool {
        let conditional = self.cold.take().is_some();
        if let (true, Some(session)) = (conditional, &self.of) {
            session.stream().set_conditional(false);
        }
        conditional
    }
}

impl Waiting {
    /// Its batch has conditions.
    fn is_conditional(&self) -> bool {
        self.words.cold.is_some()
    }
}

impl Account {
    /// Whether what was submitted behind this batch counts on it: on values that it changes, or on a number that it settles.
    pub(super) fn is_built_on(&self, id: BatchId) -> bool {
        let counts = |waiting: &Waiting| waiting.settles() && !waiting.is_conditional();
        let settles = self.waiting.iter().any(|waiting| waiting.batch == Some(id) && counts(waiting));
        settles || self.states.is_changed_by(id)
    }
}
