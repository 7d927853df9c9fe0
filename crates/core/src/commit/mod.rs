//! Writes first, then words: how the effects of a stretch become a batch, and what happens when it is committed.
//!
//! What an account has to say waits in its queue behind everything that was submitted before; an empty queue means
//! direct. A completion marks what is committed and says everything up to the first that is not. [`Settled`](crate::session::ledger::Settled) is minted
//! here and nowhere else.
//!
//! Invariant: nothing is said before the writes it speaks of are committed, and each owner speaks in the order of its
//! submissions.

mod ack;
pub(crate) mod checkpoint;
mod complete;
pub(crate) mod debt;
mod give;
mod refusal;
mod say;
pub(crate) mod submit;

use crate::core::turn::{Locked, Turn};
use crate::owner::words::{Done, Draft, Part, Waiting};
use crate::small::lists::push_one;
use crate::store::Write;

impl Turn<'_> {
    /// Ends a stretch: hands the writes over, if there are any, and says what may be said now. The accounts' staged
    /// changes are part of it.
    pub(crate) fn finish(&mut self, parts: &mut [Part<'_>], draft: Option<Draft>, extra: Vec<Write>) {
        let mut writes = extra;
        let unwritten =
            |p: &Part<'_>| p.account.states.is_staged() || p.words.cold.is_some() || !p.words.debts.is_empty();
        let writing = draft.is_some() || !writes.is_empty() || parts.iter().any(unwritten);
        let doomed = parts.iter().filter(|p| p.words.settles.is_some()).find_map(|p| p.account.doomed);
        let (batch, outcome) = match doomed {
            _ if !writing => (None, Some(Done::Committed)),
            // What an earlier batch of the session takes with it must not be passed by this one.
            Some((_, failure)) => {
                for part in parts.iter_mut() {
                    part.account.states.discard();
                    part.words.cold = None;
                }
                (None, Some(Done::Failed(failure)))
            }
            None => (Some(self.submit(parts, draft, &mut writes)), None),
        };
        if let (Some(given), true) = (batch, self.core.is_traced()) {
            for part in parts.iter() {
                self.core.step_submitted(self.now, part.account, given, part.words.settles.as_ref().map(|n| n.0));
            }
        }
        for part in parts {
            let (batch, entry) = batch.map_or((None, None), |(id, entry)| (Some(id), entry));
            match outcome {
                Some(done) if part.account.waiting.is_empty() => {
                    self.say(&mut Locked::new(part.lock, part.account), (batch, entry), &mut part.words, done);
                }
                _ => {
                    let words = std::mem::take(&mut part.words);
                    push_one(&mut part.account.waiting, Waiting { batch, entry, outcome, words });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
