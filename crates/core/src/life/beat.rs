//! What is due, little by little: rows that carry no promise and were put off, sessions that nobody came back to, entries to
//! delete.
//!
//! How far sessions and logs have come is written about a second after it changed. Each account's rows are few, and many accounts
//! have some: they ride together in batches of [`RIDERS`], and the batches are spread over the second, so that nobody's message
//! waits behind all of them. A batch of many riders has no owner: it fails alone, and what was in it is written again. It must not
//! be passed by a row of one of its sessions that was submitted after its rows were made. So its accounts stay locked until it is
//! submitted, each by a try that does not wait; one that has something on its way to the disk does not ride.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;

use crate::commit::submit::put_rows;
use crate::core::Core;
use crate::core::flights::{Flight, Rider};
use crate::core::turn::{Locked, Turn};
use crate::life::trim::TRIM_RATE;
use crate::owner::account::{Account, AccountRef};
use crate::owner::words::Say;
use crate::session::{Closing, Session};
use crate::store::{Batch, Write};

/// Number of calls of [`Core::beat`] per second.
pub const BEATS: u32 = 20;

/// Maximum number of accounts whose rows ride in one batch, and that are locked for it.
pub const RIDERS: usize = 64;

/// At least so many accounts have their rows written in a beat, if as many are due.
const LEAST: usize = 64;

/// At least one of so many accounts that wait has its rows written in a beat: more than one of [`BEATS`], so that those that
/// changed at once are through within half a second.
const SHARE: usize = 10;

/// A rider before the batch is submitted.
struct Boarding<'a> {
    lock: &'a AccountRef,
    account: MutexGuard<'a, Account>,
    handled: SmallVec<[(Arc<Session>, u64); 2]>,
}

impl Core {
    /// Something of the account is to be written within about a second.
    pub(crate) fn mark_dirty(&self, at: &mut Locked<'_>) {
        if !at.account.dirty {
            at.account.dirty = true;
            self.dirty.lock().push_back((self.beats.load(Ordering::Relaxed), at.lock.clone()));
        }
    }

    /// Does a part of what is due. To be called [`BEATS`] times a second, after [`Core::tell_time`].
    pub fn beat(&self, now: Timestamp) {
        let beat = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        self.turn(now, |turn| {
            let due: Vec<AccountRef> = {
                let mut dirty = self.dirty.lock();
                let most = LEAST.max(dirty.len() / SHARE);
                let since = |(at, _): &(u64, AccountRef)| at + u64::from(BEATS) <= beat;
                let count = dirty.iter().take(most).take_while(|first| since(first)).count();
                dirty.drain(..count).map(|(_, lock)| lock).collect()
            };
            turn.save(&due);
            turn.trim(TRIM_RATE / BEATS);
            turn.run_todo();
            if beat.is_multiple_of(u64::from(BEATS)) {
                turn.end_overdue();
                self.save_profiles(now);
                self.commit_checkpoints(now);
                self.evict();
            }
        })
    }

    /// Does all that is due within a second at once. To be called after [`Core::tell_time`], when the server stops or where time is
    /// virtual.
    pub fn tick(&self, now: Timestamp) {
        self.turn(now, |turn| {
            turn.end_overdue();
            let due: Vec<AccountRef> =
                std::mem::take(&mut *self.dirty.lock()).into_iter().map(|(_, lock)| lock).collect();
            turn.save(&due);
            self.save_profiles(now);
            turn.trim(TRIM_RATE);
            turn.run_todo();
            self.commit_checkpoints(now);
            self.evict();
        })
    }

    /// Number of sessions without a connection: each ends at some time, if nobody comes back to it.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }
}

impl Turn<'_> {
    /// Ends sessions that nobody came back to.
    fn end_overdue(&mut self) {
        let steady = self.core.steady();
        while let Some((jid, id)) = self.core.deadlines.pop(steady) {
            let Some(lock) = self.core.loaded(jid.as_str()) else { continue };
            let mut account = lock.lock();
            let Some(session) = account.session(id).cloned() else { continue };
            let over = session.stream().deadline().is_some_and(|at| at <= steady);
            if over {
                self.end(&mut Locked::new(&lock, &mut account), &session, Closing::Normal);
            }
            drop(account);
            self.run_if_full();
        }
        self.run_todo();
    }

    /// Writes what these accounts have put off.
    fn save(&mut self, due: &[AccountRef]) {
        for some in due.chunks(RIDERS) {
            let mut alone: Vec<&AccountRef> = Vec::new();
            let mut writes = Vec::new();
            let mut riders: Vec<Boarding<'_>> = Vec::new();
            for lock in some {
                match lock.try_lock().filter(|account| account.may_ride()) {
                    Some(account) => riders.push(self.board(lock, account, &mut writes)),
                    None => alone.push(lock),
                }
            }
            self.submit_riders(&mut riders, writes);
            for mut rider in riders {
                self.look_at(&mut Locked::new(rider.lock, &mut rider.account));
            }
            for lock in alone {
                let mut account = lock.lock();
                account.dirty = false;
                // A row would be there for ever.
                if account.deleted {
                    continue;
                }
                self.pay(&mut Locked::new(lock, &mut account));
                self.save_company(&mut account);
                let (words, writes) = self.core.cursors(&mut Locked::new(lock, &mut account));
                self.finish_one(&mut Locked::new(lock, &mut account), words, None, writes);
                self.look_at(&mut Locked::new(lock, &mut account));
            }
            self.run_if_full();
        }
    }

    fn board<'a>(
        &self,
        lock: &'a AccountRef,
        mut account: MutexGuard<'a, Account>,
        writes: &mut Vec<Write>,
    ) -> Boarding<'a> {
        account.dirty = false;
        self.save_company(&mut account);
        let (words, own) = self.core.cursors(&mut Locked::new(lock, &mut account));
        writes.extend(own);
        let handled = words.says.into_iter().filter_map(|say| match say {
            Say::Noted { session, handled } => Some((session, handled)),
            _ => None,
        });
        Boarding { lock, account, handled: handled.collect() }
    }

    fn submit_riders(&self, riders: &mut [Boarding<'_>], mut writes: Vec<Write>) {
        let unwritten = |rider: &Boarding<'_>| rider.account.states.is_staged() || !rider.handled.is_empty();
        let flight: Vec<Rider> = riders
            .iter_mut()
            .filter(|rider| unwritten(rider))
            .map(|rider| Rider { lock: rider.lock.clone(), handled: std::mem::take(&mut rider.handled) })
            .collect();
        if flight.is_empty() {
            return;
        }
        let mut flight = Some(flight);
        let open = self.core.journal.submit(self.now, &mut |ids| {
            let id = ids.batch();
            riders.iter_mut().for_each(|rider| put_rows(&mut rider.account, id, &mut writes));
            if let Some(flight) = flight.take() {
                self.core.flights.lock().insert(id, Flight::Riders(flight));
            }
            Batch { id, now: self.now.as_millis(), writes: std::mem::take(&mut writes), ..Batch::default() }
        });
        if !open {
            riders.iter_mut().for_each(|rider| rider.account.states.discard());
        }
    }

    /// What else an account is looked at for.
    fn look_at(&mut self, at: &mut Locked<'_>) {
        self.end_far_behind(at);
        for session in at.account.sessions.clone() {
            self.answer_ack(at, &session);
            let due = {
                let mut stream = session.stream();
                stream.ask();
                stream.wake();
                stream.falls_due_at_last()
            };
            if due {
                self.core.checkpoint_is_due(at.lock, &session);
            }
        }
    }
}

impl Account {
    /// Whether what it has put off may be written together with that of others: nothing that differs from it is on its way to the
    /// disk, and all of it is as stored but for what has changed since.
    fn may_ride(&self) -> bool {
        let owes = |session: &Arc<Session>| session.stream().debts() > 0;
        self.waiting.is_empty()
            && self.doomed.is_none()
            && !self.unsaved
            && !self.leaving
            && self.gone.is_empty()
            && !self.states.is_staged()
            && !self.sessions.iter().any(owes)
    }
}
