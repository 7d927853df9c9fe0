//! Starts a kernel ([`boot`]) and everything that drives it: the writer thread, the task that reports commits, the periodic tasks.

use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, mpsc};
use vorpal_core::store::{Backend, Probe};
use vorpal_store::pulse::Slowest;
use vorpal_store::readers as store_readers;
use vorpal_store::writer::Done;

use crate::boot::{Kernel, Setup, Surroundings, boot};
use crate::drive::{self, BEAT, RoomWatch, SWEEP_STEP, TICK};
use crate::ending::Ending;
use crate::readers::Readers;
use crate::{Runtime, Waker, now};

/// Maximum number of simultaneous reads.
const READERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// Maximum number of these for queries of clients. The others are left for loading accounts.
const QUESTIONS: usize = 3;

/// Maximum number of accounts loaded at once for stanzas that no connection waits for. They share the readers with loads for
/// connections, in turn.
const LOADS: usize = 4;

/// Starts the kernel on a store. The writer thread and the timers run until the queue is closed.
///
/// # Errors
/// The store cannot be read, a new store cannot be written to, or a thread cannot be started.
pub fn start(backend: Box<dyn Backend>, setup: Setup) -> Result<Arc<Runtime>> {
    let began = Instant::now();
    let wake = Arc::new(Waker::default());
    let random = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system has random numbers");
    let surroundings = Surroundings { now: now(), random: Box::new(random), loader: wake.clone() };
    let Kernel { core, queue, writer, .. } = boot(backend, setup, surroundings)?;
    let probe = writer.probe();
    let readers = store_readers::Readers::open(READERS, || writer.reader()).context("opening the store for reading")?;

    let (tell, mut told) = mpsc::unbounded_channel::<Vec<Done>>();
    let closing = queue.clone();
    let ending = Ending::default();
    let (running, weather) = (ending.of("the store's writer"), core.clone());
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
        // Dropped when the thread ends, for whatever reason.
        let _running = running;
        writer.run(
            now,
            |done| {
                // Without a receiver commits are useless.
                if tell.send(done).is_err() {
                    closing.close();
                }
            },
            |error| {
                if let Some(times) = weather.conditions.idle.met(now(), 1) {
                    tracing::warn!(%error, times, "background work of the store failed");
                }
            },
        );
    })?;
    // Each commit wakes this task from the writer's thread; it wakes the connections, from a thread that runs them.
    let completing = core.clone();
    let running = ending.of("the task that reports commits");
    let teller = tokio::spawn(async move {
        while let Some(done) = told.recv().await {
            drive::report(&completing, now(), done);
        }
        // The writer has ended regularly.
        running.done();
    });

    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runtime = Arc::new(Runtime {
        core,
        queue,
        readers: Readers::new(readers, READERS.get(), QUESTIONS),
        derivations: Semaphore::new(crate::MIN_DERIVATIONS.max(cores / 2)),
        slow_reads: Slowest::default(),
        ending: ending.clone(),
        writer: parking_lot::Mutex::new(Some((thread, teller))),
    });
    let ticking = Arc::downgrade(&runtime);
    let running = ending.of("the task for periodic work");
    tokio::spawn(async move {
        let _running = running;
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let Some(runtime) = ticking.upgrade() else { return };
            drive::beat(&runtime.core, now(), began.elapsed());
        }
    });
    if let Some(probe) = probe {
        let watching = Arc::downgrade(&runtime);
        let running = ending.of("the task that checks the free disk space");
        tokio::spawn(async move {
            let _running = running;
            watch_room(probe, watching).await;
        });
    }
    let running = ending.of("the task that sweeps accounts");
    let sweeping = Arc::downgrade(&runtime);
    tokio::spawn(async move {
        let _running = running;
        sweep(sweeping).await;
    });
    let loading = Arc::downgrade(&runtime);
    let running = ending.of("the task that loads accounts");
    tokio::spawn(async move {
        let _running = running;
        load_spilled(wake, loading).await;
    });
    Ok(runtime)
}

/// Runs the sweep in a loop. Ends when the runtime is dropped.
async fn sweep(runtime: Weak<Runtime>) {
    let mut pause = TICK;
    loop {
        tokio::time::sleep(pause).await;
        let Some(runtime) = runtime.upgrade() else { return };
        if !drive::may_sweep(&runtime.queue) {
            pause = SWEEP_STEP;
            continue;
        }
        let core = runtime.core.clone();
        let step = runtime.readers.read(move |reader| core.sweep(now(), reader)).await;
        pause = drive::pause_after(&runtime.core, now(), step);
    }
}

/// Loads accounts for stanzas that no connection waits for: a few at a time, so that a slow one does not block the others. Ends when
/// the runtime is dropped.
async fn load_spilled(wake: Arc<Waker>, runtime: Weak<Runtime>) {
    let free = Arc::new(Semaphore::new(LOADS));
    loop {
        wake.0.notified().await;
        loop {
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let Some(runtime) = runtime.upgrade() else { return };
            let Some(cold) = runtime.core.spilled() else { break };
            tokio::spawn(async move {
                let _permit = permit;
                let loaded = runtime.load(cold.account.clone()).await;
                drive::run_cold(&runtime.core, now(), cold, loaded);
            });
        }
    }
}

/// Checks the free disk space at intervals. A slow disk does not block anything else.
async fn watch_room(probe: Probe, runtime: Weak<Runtime>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watch = RoomWatch::default();
    loop {
        ticks.tick().await;
        let asked = probe.clone();
        let room = tokio::task::spawn_blocking(move || asked()).await;
        let Some(runtime) = runtime.upgrade() else { return };
        if let Ok(room) = room {
            watch.saw(&runtime.core, room);
        }
    }
}
