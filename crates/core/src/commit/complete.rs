//! Completion: what became of the batches of a commit, told to the owners in the order of their submissions.

use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::core::flights::{Flight, Rider};
use crate::core::turn::{Locked, Turn};
use crate::owner::words::{Done, Failure};
use crate::small::lists::give_back;
use crate::store::{BatchId, Outcome, StoreError};

impl Core {
    /// The results of a group of batches, in order. Called once per commit.
    pub fn complete(&self, now: Timestamp, results: impl IntoIterator<Item = (BatchId, Outcome)>) {
        self.turn(now, |turn| {
            let mut failed: Option<(StoreError, u64)> = None;
            let mut committed = false;
            for (id, outcome) in results {
                committed |= outcome.is_committed();
                if let Outcome::Failed(error) = &outcome {
                    failed.get_or_insert((error.clone(), 0)).1 += 1;
                }
                let Some(flight) = self.flights.lock().remove(&id) else { continue };
                let accounts = match flight {
                    Flight::Accounts(accounts) => accounts,
                    Flight::Created(jid, notice) => {
                        if outcome.is_committed() {
                            self.forget(&jid);
                        }
                        notice(outcome.is_committed());
                        continue;
                    }
                    Flight::Riders(riders) => {
                        self.riders_done(id, riders, outcome.is_committed());
                        continue;
                    }
                };
                let refused = matches!(outcome, Outcome::Refused { .. });
                // A refusal concerns this batch alone, unless others may have been built on it.
                let alone = refused && !accounts.iter().any(|lock| lock.lock().is_built_on(id));
                let done = match outcome {
                    Outcome::Committed => Done::Committed,
                    Outcome::Failed(StoreError::Full) => Done::Failed(Failure::Full),
                    // What it was built on failed before: for that reason, so does this.
                    Outcome::Failed(StoreError::Stale) => {
                        let cause = accounts.iter().find_map(|lock| lock.lock().doomed);
                        Done::Failed(cause.map_or(Failure::Broken, |(_, failure)| failure))
                    }
                    Outcome::Refused { write } => Done::Failed(Failure::Refused { write, alone }),
                    Outcome::Failed(_) => Done::Failed(Failure::Broken),
                };
                for lock in accounts {
                    let mut account = lock.lock();
                    account.rows_done(id, done == Done::Committed);
                    for waiting in account.waiting.iter_mut().filter(|w| w.batch == Some(id)) {
                        waiting.outcome = Some(done);
                    }
                    if let (Done::Failed(failure), false) = (done, alone) {
                        // What was pending of it is dropped, so that memory is again what is stored.
                        self.journal.reloaded(account.owner);
                        self.doom(&mut Locked::new(&lock, &mut account), failure.of_others());
                    } else if account.doomed.is_some_and(|(last, _)| last <= id) {
                        account.doomed = None;
                    }
                    turn.flush(&mut Locked::new(&lock, &mut account));
                    if account.troubled && account.last_in_flight().is_none() {
                        // Whoever resumes after a failure waits for this.
                        account.troubled = false;
                        account.sessions.iter().for_each(|session| session.stream().wake());
                    }
                    drop(account);
                    turn.run_if_full();
                }
            }
            match failed {
                Some((error, batches)) => {
                    if let Some(batches) = self.conditions.commits.met(now, batches) {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(
                            error,
                            batches,
                            place = self.place(),
                            "commits are not written: whatever has to be stored is refused until they are"
                        );
                    }
                }
                None if committed => {
                    if let Some(batches) = self.conditions.commits.over() {
                        tracing::info!(batches, place = self.place(), "commits are written again; batches had failed");
                    }
                }
                None => {}
            }
        })
    }
}

impl Turn<'_> {
    fn flush(&mut self, at: &mut Locked<'_>) {
        while let Some(done) = at.account.waiting.front().and_then(|w| w.outcome) {
            let Some(mut next) = at.account.waiting.pop_front() else { return };
            self.say(at, (next.batch, next.entry), &mut next.words, done);
        }
        give_back(&mut at.account.waiting);
    }
}

impl Core {
    /// Rows that rode together are stored, or have to be written again.
    pub(crate) fn riders_done(&self, id: crate::store::BatchId, riders: Vec<Rider>, committed: bool) {
        for Rider { lock, handled } in riders {
            let mut account = lock.lock();
            account.rows_done(id, committed);
            if committed {
                handled.into_iter().for_each(|(session, handled)| session.stream().row_noted(handled));
            } else {
                handled.iter().for_each(|(session, _)| session.stream().answers_failed());
                account.unsaved = true;
                account.log.stored = 0;
                self.mark_dirty(&mut Locked::new(&lock, &mut account));
            }
        }
    }
}
