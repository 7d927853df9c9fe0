//! Starts a kernel: tables and modules first, then the restored sessions, then the writer and the periodic tasks.

use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{Semaphore, mpsc};
use vorpal_core::core::Core;
use vorpal_core::life::beat::BEATS;
use vorpal_core::life::sweep::STEPS;
use vorpal_core::module::host::Host;
use vorpal_core::module::registry::Names;
use vorpal_core::store::{Backend, Batch, Loading, Probe, Reader, Row, STORE, Write};
use vorpal_store::readers as store_readers;
use vorpal_store::writer::{Done, Queue, Step, Writer};

use vorpal_store::pulse::Slowest;

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

/// With more batches than this in the queue the sweep pauses: the disk is busy.
const SWEEP_YIELDS: usize = 64;

/// Interval of periodic work.
const TICK: Duration = Duration::from_secs(1);

/// An open store.
pub struct Backing {
    /// the store
    pub backend: Box<dyn Backend>,
}

/// What to start.
pub struct Setup {
    /// the names that the modules of all hosts were set up with
    pub names: Arc<Names>,
    /// the hosts
    pub hosts: Vec<Arc<Host>>,
}

/// Starts the kernel on a store. The writer thread and the timers run until the queue is closed.
///
/// # Errors
/// The store cannot be read, or a thread cannot be started.
pub fn start(backing: Backing, setup: Setup) -> Result<Arc<Runtime>> {
    let (queue, mut writer) = Writer::new(backing.backend);
    setup.names.bind(|name, loading| writer.map(name, loading)).context("the store's tables")?;
    let progress = writer.map("progress", Loading::Cold).context("the store's tables")?;
    let secret = secret(&queue, &mut writer).context("the store's secret")?;
    let random = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system has random numbers");
    let core = Core::new(Arc::new(queue.clone()), setup.names, progress, secret, Box::new(random), now());
    core.set_hosts(setup.hosts);
    writer.count_in(core.counts.clone());
    let probe = writer.probe();
    core.tell_newest(now(), queue.next_id() - 1);
    let began = Instant::now();
    let core = Arc::new(core);

    let readers = store_readers::Readers::open(READERS, || writer.reader()).context("opening the store for reading")?;
    let restored = readers.ask(|reader| core.load_sessions(now(), reader)).context("bringing sessions back")?;
    readers.ask(|reader| core.load_profiles(reader)).context("reading what accounts look like")?;
    // The number of this run must be stored before anything is sent.
    if !matches!(writer.step(), Step::Committed(done) if done.iter().all(|d| d.outcome.is_committed())) {
        tracing::warn!("the store cannot be written to");
    }
    let checkpoints_of = core.clone();
    writer.set_extra_writes(Box::new(move || checkpoints_of.checkpoints()));
    if restored > 0 {
        tracing::info!(sessions = restored, "sessions restored: they wait to be resumed");
    }

    let (tell, mut told) = mpsc::unbounded_channel();
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
            let done: Vec<Done> = done;
            completing.complete(now(), done.into_iter().map(|d| (d.id, d.outcome)));
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
        let mut beats = tokio::time::interval(TICK / BEATS);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let Some(runtime) = ticking.upgrade() else { return };
            runtime.core.tell_time(now(), began.elapsed());
            runtime.core.beat(now());
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
    let wake = Arc::new(Waker::default());
    runtime.core.set_loader(wake.clone());
    let loading = Arc::downgrade(&runtime);
    let running = ending.of("the task that loads accounts");
    tokio::spawn(async move {
        let _running = running;
        load_spilled(wake, loading).await;
    });
    Ok(runtime)
}

/// Runs the sweep in a loop. Writes of sessions have priority: while more than a few of them wait, the sweep pauses. Ends when the
/// runtime is dropped.
async fn sweep(runtime: Weak<Runtime>) {
    let mut pause = TICK;
    loop {
        tokio::time::sleep(pause).await;
        let Some(runtime) = runtime.upgrade() else { return };
        if runtime.queue.backlog().batches > SWEEP_YIELDS {
            pause = TICK / STEPS;
            continue;
        }
        let core = runtime.core.clone();
        pause = match runtime.readers.read(move |reader| core.sweep(now(), reader)).await {
            Ok(true) => TICK / STEPS,
            Ok(false) => TICK,
            Err(error) => {
                if let Some(times) = runtime.core.conditions.sweeps.met(now(), 1) {
                    tracing::error!(%error, times, "the sweep of accounts failed");
                }
                TICK
            }
        };
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
                // The account is held while its stanzas are processed, so that it is not evicted before.
                match runtime.load(cold.account.clone()).await {
                    Ok(_account) => runtime.core.run(now(), cold),
                    Err(error) => {
                        if let Some(times) = runtime.core.conditions.accounts.met(now(), 1) {
                            tracing::error!(%error, times, account = %cold.account, "accounts cannot be read");
                        }
                        runtime.core.abandon(now(), cold);
                    }
                }
            });
        }
    }
}

/// Checks the free disk space at intervals. A slow disk does not block anything else.
async fn watch_room(probe: Probe, runtime: Weak<Runtime>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        let asked = probe.clone();
        let room = tokio::task::spawn_blocking(move || asked()).await;
        let Some(runtime) = runtime.upgrade() else { return };
        match room {
            Ok(Ok(room)) => {
                runtime.core.observe_room(room);
                told = false;
            }
            Ok(Err(error)) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(%error, "the free space of the disk cannot be determined");
            }
            _ => {}
        }
    }
}

/// The store's secret, created with the store.
fn secret(queue: &Queue, writer: &mut Writer) -> Result<[u8; 32]> {
    let map = writer.map("server", Loading::Cold)?;
    let mut reader: Box<dyn Reader> = writer.reader()?;
    if let Some(row) = reader.map_get(map, STORE, b"secret")?
        && let Ok(secret) = row.value.as_ref().try_into()
    {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| anyhow::anyhow!("{e}"))?;
    let row = Row::from(Bytes::copy_from_slice(&secret));
    let writes = vec![Write::Put { map, owner: STORE, key: Bytes::from_static(b"secret"), row: Some(row) }];
    queue.submit(now(), Batch { owners: SmallVec::new(), writes, ..Batch::default() })?;
    match writer.step() {
        Step::Committed(done) if done.iter().all(|d| d.outcome.is_committed()) => Ok(secret),
        _ => anyhow::bail!("the secret could not be written"),
    }
}
