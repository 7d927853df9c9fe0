//! Starts a kernel on an open store: names, the store's secret, limits, hosts, the sessions of the previous run.
//!
//! The real start ([`crate::start()`]) and the test world share this code and that of [`crate::drive`], so that tests run on what
//! production runs on. Nothing here spawns, sleeps or asks for the time: the driver passes the time and a source of random bytes,
//! and steps the writer afterwards. It is in this crate and not below, because only here are the kernel and the writer both known;
//! the test world depends on this crate anyway, through `vorpal-net`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_core::bounds::Bounds;
use vorpal_core::core::{Core, Random};
use vorpal_core::module::host::Host;
use vorpal_core::module::registry::Names;
use vorpal_core::session::Wake;
use vorpal_core::store::{Backend, Batch, Loading, MapId, Outcome, Reader, Row, STORE, StoreError, Write};
use vorpal_proto::datetime::Timestamp;
use vorpal_store::writer::{Queue, Step, Writer};

/// Length of the store's secret, in bytes.
const SECRET: usize = 32;

/// What to start, from the configuration.
pub struct Setup {
    /// the names that the modules of all hosts were set up with
    pub names: Arc<Names>,
    /// the hosts
    pub hosts: Vec<Arc<Host>>,
    /// the limits of each account
    pub bounds: Bounds,
    /// the disk space reserve, in bytes: with less free space no new promises are made
    pub reserve: u64,
    /// the data directory and its file system, for messages to the operator
    pub place: Option<String>,
}

/// What a kernel gets from its driver.
pub struct Surroundings {
    /// the time of day
    pub now: Timestamp,
    /// fills bytes from a source that nobody can guess
    pub random: Random,
    /// woken when an account must be loaded that no session waits for: see [`Core::spilled`]
    pub loader: Arc<dyn Wake>,
}

/// A kernel that was started and that nothing drives yet.
pub struct Kernel {
    /// the kernel
    pub core: Arc<Core>,
    /// the queue in front of the store
    pub queue: Queue,
    /// the writer behind the queue; the driver steps or runs it
    pub writer: Writer,
    /// a reader of the store
    pub reader: Box<dyn Reader>,
    /// number of sessions of the previous run that wait to be resumed
    pub restored: usize,
}

/// The kernel could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct BootError {
    /// what failed
    doing: &'static str,
    source: StoreError,
}

impl BootError {
    /// Whether a test made the store crash: the simulated process is dead, and the next one may start.
    pub fn is_crash(&self) -> bool {
        matches!(self.source, StoreError::Crashed)
    }

    fn doing(doing: &'static str) -> impl FnOnce(StoreError) -> BootError {
        move |source| BootError { doing, source }
    }
}

/// Starts a kernel on a store. The limits and hosts are set before the sessions of the previous run are restored. The number of
/// this run is committed before anybody can connect; if that commit fails, the kernel starts nevertheless.
///
/// # Errors
/// The store cannot be read, or a new store cannot be written to.
pub fn boot(backend: Box<dyn Backend>, setup: Setup, surroundings: Surroundings) -> Result<Kernel, BootError> {
    let Surroundings { now, mut random, loader } = surroundings;
    let (queue, mut writer) = Writer::new(backend);
    let tables = BootError::doing;
    setup.names.bind(|name, loading| writer.map(name, loading)).map_err(tables("opening the store's tables"))?;
    let progress = writer.map("progress", Loading::Cold).map_err(tables("opening the store's tables"))?;
    let server = writer.map("server", Loading::Cold).map_err(tables("opening the store's tables"))?;
    let mut reader = writer.reader().map_err(BootError::doing("opening the store for reading"))?;
    let secret = match read_secret(server, reader.as_mut()).map_err(BootError::doing("reading the store's secret"))? {
        Some(secret) => secret,
        None => {
            let mut secret = [0; SECRET];
            random(&mut secret);
            let written = write_secret(server, secret, now, &queue, &mut writer);
            written.map_err(BootError::doing("writing the store's secret"))?;
            secret
        }
    };
    let core = Core::new(Arc::new(queue.clone()), setup.names, progress, secret, random, now);
    core.set_hosts(setup.hosts);
    core.set_bounds(setup.bounds);
    core.reserve.set_least(setup.reserve);
    if let Some(place) = setup.place {
        core.set_place(place);
    }
    core.set_loader(loader);
    writer.count_in(core.counts.clone());
    core.tell_time(now, Duration::ZERO);
    core.tell_newest(now, queue.next_id() - 1);
    let restored = core.load_sessions(now, reader.as_mut()).map_err(BootError::doing("restoring sessions"))?;
    core.load_profiles(reader.as_mut()).map_err(BootError::doing("reading the key profiles of the hosts"))?;
    // The number of this run must be stored before anything is sent.
    if let Err(error) = commit(&mut writer) {
        if matches!(error, StoreError::Crashed) {
            return Err(BootError { doing: "writing the number of this run", source: error });
        }
        tracing::warn!(%error, "the store cannot be written to");
    }
    if restored > 0 {
        tracing::info!(sessions = restored, "sessions restored: they wait to be resumed");
    }
    let core = Arc::new(core);
    let checkpoints_of = core.clone();
    writer.set_extra_writes(Box::new(move || checkpoints_of.checkpoints()));
    Ok(Kernel { core, queue, writer, reader, restored })
}

/// The secret of a store that has one.
fn read_secret(server: MapId, reader: &mut dyn Reader) -> Result<Option<[u8; SECRET]>, StoreError> {
    let row = reader.map_get(server, STORE, b"secret")?;
    Ok(row.and_then(|row| row.value.as_ref().try_into().ok()))
}

/// Commits the secret of a new store.
fn write_secret(
    server: MapId,
    secret: [u8; SECRET],
    now: Timestamp,
    queue: &Queue,
    writer: &mut Writer,
) -> Result<(), StoreError> {
    let row = Row::from(Bytes::copy_from_slice(&secret));
    let writes = vec![Write::Put { map: server, owner: STORE, key: Bytes::from_static(b"secret"), row: Some(row) }];
    queue.submit(now, Batch { owners: SmallVec::new(), writes, ..Batch::default() })?;
    commit(writer)
}

/// Commits what is in the queue. A commit that a test delays is still in the queue, in front of everything submitted later.
fn commit(writer: &mut Writer) -> Result<(), StoreError> {
    match writer.step() {
        Step::Committed(done) => {
            let failed = done.into_iter().find_map(|done| match done.outcome {
                Outcome::Committed => None,
                Outcome::Refused { .. } => Some(StoreError::Bug("a batch without a condition was refused")),
                Outcome::Failed(error) => Some(error),
            });
            failed.map_or(Ok(()), Err)
        }
        Step::Empty | Step::Stalled => Ok(()),
        Step::Crashed => Err(StoreError::Crashed),
    }
}

#[cfg(test)]
mod tests;
