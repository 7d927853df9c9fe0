//! What is watched and measured, as the kernel uses it: the clocks, the disk, traces.

use crate::owner::account::Account;
use crate::watch::clock::Stepped;
use crate::watch::counts::Count;
use crate::watch::trace::Tracer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::core::Core;
use crate::session::Wake;
use crate::store::{BatchId, EntryId, Room, time_of};
use crate::watch::reserve::Change;
use crate::watch::trace::{MAX_TRACERS, Step};

impl Core {
    /// Reports the time of day and how long the process has run. Must be called before each [`Core::beat`] or [`Core::tick`]; it
    /// detects steps of the time of day.
    pub fn tell_time(&self, now: Timestamp, steady: Duration) {
        match self.clock.tell(now, steady) {
            Some(Stepped::Forward(by)) => tracing::warn!(
                seconds = by.as_secs(),
                "the clock was set forward: data that expired by the new time is deleted only after the server has run for a day"
            ),
            Some(Stepped::Backward(by)) => tracing::warn!(seconds = by.as_secs(), "the clock was set back"),
            None => {}
        }
    }

    /// The time of day, to about a second: for rare events in code that is not told the time.
    pub(crate) fn lately(&self) -> Timestamp {
        self.clock.told()
    }

    /// Reports the newest entry of the store when the server starts: a time of day that is far ahead of it is not trusted at once.
    pub fn tell_newest(&self, now: Timestamp, newest: EntryId) {
        if newest > 0 {
            self.clock.doubt(now, time_of(newest));
        }
    }

    /// How long the process has run, as last reported.
    pub fn steady(&self) -> Duration {
        self.clock.steady()
    }

    /// The trusted time of day, for deletion by age.
    pub(crate) fn believed(&self, now: Timestamp) -> Timestamp {
        self.clock.believed(now)
    }
}

impl Core {
    /// Processes an observation, and logs changes.
    pub fn observe_room(&self, room: Room) {
        let (free, reserve) = (room.free >> 20, self.reserve.least() >> 20);
        match self.reserve.observe(room) {
            None => {}
            Some(Change::Low) => {
                tracing::warn!(
                    free_mib = free,
                    reserve_mib = reserve,
                    place = self.place(),
                    "the disk of the data directory is filling up: below storage.reserve new messages are refused"
                );
            }
            Some(Change::Short) => {
                tracing::error!(
                    free_mib = free,
                    reserve_mib = reserve,
                    place = self.place(),
                    "the disk of the data directory is nearly full: whatever would have to be stored is refused until space is freed"
                );
            }
            Some(Change::Enough) => {
                tracing::info!(
                    free_mib = free,
                    reserve_mib = reserve,
                    place = self.place(),
                    "the disk of the data directory has room again: nothing is refused any more"
                );
            }
        }
    }

    /// Whether a change that only adds data must be refused, because the disk is nearly full or does not keep up. Counts the refusal
    /// if so.
    pub(crate) fn refuses_more(&self) -> bool {
        if self.reserve.is_short() {
            self.counts.one(Count::Reserved);
            return true;
        }
        let behind = self.journal.is_full();
        if behind {
            self.counts.one(Count::BehindDisk);
        }
        behind
    }
}

impl Core {
    /// Follows an account: `wake` is called when there is something to [`Trace::take`]. None if too many do.
    pub fn trace(self: &Arc<Core>, account: BareJid, wake: Arc<dyn Wake>) -> Option<Trace> {
        let tracer = Arc::new(Tracer { account, waiting: Mutex::default(), wake });
        let mut all = self.traces.all.write();
        if all.len() >= MAX_TRACERS {
            return None;
        }
        all.push(tracer.clone());
        self.traces.on.store(true, Ordering::Relaxed);
        Some(Trace { core: self.clone(), tracer })
    }

    /// Whether anybody follows anything: a relaxed load.
    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.traces.on.load(Ordering::Relaxed)
    }

    /// Tells those who follow the account. `make` runs only if there is somebody.
    #[inline]
    pub(crate) fn step(&self, now: Timestamp, account: &BareJid, make: impl FnOnce() -> Step) {
        if self.is_traced() {
            self.tell(now, account, make);
        }
    }

    #[cold]
    fn tell(&self, now: Timestamp, account: &BareJid, make: impl FnOnce() -> Step) {
        let all = self.traces.all.read();
        let mut those = all.iter().filter(|tracer| tracer.account == *account).peekable();
        if those.peek().is_none() {
            return;
        }
        let step = Step { at: now.as_millis(), ..make() };
        those.for_each(|tracer| tracer.push(step.clone()));
    }

    /// Tells that a batch was handed over.
    pub(crate) fn step_submitted(
        &self,
        now: Timestamp,
        account: &Account,
        given: (BatchId, Option<EntryId>),
        n: Option<u64>,
    ) {
        self.step(now, &account.jid, || {
            let (BatchId(batch), entry) = given;
            Step { batch: Some(batch), entry, n, ..Step::named("submitted") }
        });
    }
}

/// The right to follow an account, until it is dropped.
pub struct Trace {
    core: Arc<Core>,
    tracer: Arc<Tracer>,
}

impl Trace {
    /// What has happened since it was asked last, and how much of it was lost, in all.
    pub fn take(&self) -> (Vec<Step>, u64) {
        let mut waiting = self.tracer.waiting.lock();
        (waiting.steps.drain(..).collect(), waiting.lost)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let traces = &self.core.traces;
        let mut all = traces.all.write();
        all.retain(|tracer| !Arc::ptr_eq(tracer, &self.tracer));
        traces.on.store(!all.is_empty(), Ordering::Relaxed);
    }
}
