//! What every driver of a kernel does, step by step: due work, reported commits, the sweep, loaded accounts, the free disk space.
//!
//! A driver decides on which thread and when. The real one ([`crate::start()`]) uses tasks and a thread, the test world one thread
//! and virtual time. Nothing here spawns, sleeps or asks for the time.

use std::time::Duration;

use vorpal_core::core::Core;
use vorpal_core::core::spilled::Cold;
use vorpal_core::life::beat::BEATS;
use vorpal_core::life::sweep::STEPS;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::store::{Reader, Room, StoreError};
use vorpal_proto::datetime::Timestamp;
use vorpal_store::writer::{Done, Queue};

/// Interval of the work that is done once a second: the sweep when it has nothing to do, the check of the free disk space.
pub const TICK: Duration = Duration::from_secs(1);

/// Interval of [`beat`].
pub const BEAT: Duration = Duration::from_millis(1_000 / BEATS as u64);

/// Pause between two steps of a sweep that has work.
pub const SWEEP_STEP: Duration = Duration::from_millis(1_000 / STEPS as u64);

/// With more batches than this in the queue the sweep pauses: the disk is busy.
const SWEEP_YIELDS: usize = 64;

/// Does what is due, every [`BEAT`]. `steady` is how long the process has run.
pub fn beat(core: &Core, now: Timestamp, steady: Duration) {
    core.tell_time(now, steady);
    core.beat(now);
}

/// Reports a commit of the writer to the kernel, which then sends what waited for it.
pub fn report(core: &Core, now: Timestamp, done: Vec<Done>) {
    core.complete(now, done.into_iter().map(|done| (done.id, done.outcome)));
}

/// Whether the sweep may make a step. Writes of sessions have priority: while more than a few of them wait, it pauses for
/// [`SWEEP_STEP`].
pub fn may_sweep(queue: &Queue) -> bool {
    queue.backlog().batches <= SWEEP_YIELDS
}

/// Makes a step of the sweep. Returns the pause before the next one.
pub fn sweep(core: &Core, now: Timestamp, reader: &mut dyn Reader) -> Duration {
    pause_after(core, now, core.sweep(now, reader))
}

/// The pause after a step of the sweep with this result. An error is logged, and the step is tried again after the pause.
pub fn pause_after(core: &Core, now: Timestamp, step: Result<bool, StoreError>) -> Duration {
    match step {
        Ok(true) => SWEEP_STEP,
        Ok(false) => TICK,
        Err(error) => {
            if let Some(times) = core.conditions.sweeps.met(now, 1) {
                tracing::error!(%error, times, "the sweep of accounts failed");
            }
            TICK
        }
    }
}

/// Continues with stanzas whose account was to be loaded, or answers them with an error if it cannot be read. `loaded` is held
/// meanwhile, so that the account is not evicted before.
pub fn run_cold(core: &Core, now: Timestamp, cold: Cold, loaded: Result<Option<AccountRef>, StoreError>) {
    match loaded {
        Ok(_account) => core.run(now, cold),
        Err(error) => {
            if let Some(times) = core.conditions.accounts.met(now, 1) {
                tracing::error!(%error, times, account = %cold.account, "accounts cannot be read");
            }
            core.abandon(now, cold);
        }
    }
}

/// The check of the free disk space, every [`TICK`].
#[derive(Debug, Default)]
pub struct RoomWatch {
    /// the last check failed, and that is logged
    failed: bool,
}

impl RoomWatch {
    /// Reports the result of a check to the kernel. Of consecutive failures the first is logged.
    pub fn saw(&mut self, core: &Core, room: Result<Room, StoreError>) {
        match room {
            Ok(room) => {
                core.observe_room(room);
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(%error, "the free space of the disk cannot be determined");
                }
            }
        }
    }
}
