//! The start: configuration, lock, store, modules, restored sessions, listeners.

#![expect(clippy::disallowed_methods, reason = "the program starts its listeners and ends within its patience")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};
use vorpal_config::Config;
use vorpal_core::module::Module;
use vorpal_core::store::{Backend, StoreError};
use vorpal_core::watch::counts::Count;
use vorpal_net::c2s::{self, Entrance, Shared};
use vorpal_net::limits::{Gate, Traffic};
use vorpal_net::tls::TlsHosts;
use vorpal_proto::error::StreamCondition;
use vorpal_runtime::{Runtime, now, start};
use vorpal_store::sqlite::{DATABASE_FILE, Durability, Options, Sqlite};

use crate::gauges::Gauges;
use crate::notify::Notify;
use crate::reload::{self, Reload};
use crate::sockets::{Key, Sockets};
use crate::{Program, assemble, certificates, control, descriptors, files, log, metrics, place, terms, warnings};

/// How long a stopping server waits for promised writes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, without its listeners.
pub struct Server {
    /// the kernel and its driver
    pub runtime: Arc<Runtime>,
    /// the configuration it was started with
    pub config: Config,
    /// its data directory
    pub data: PathBuf,
    /// the modules it was built with
    pub modules: &'static [&'static Module],
}

impl Server {
    /// Opens the store and brings the kernel up. Fails if another process has the store.
    ///
    /// # Errors
    /// In the operator's words.
    pub fn open(config: Config, modules: &'static [&'static Module]) -> Result<Server> {
        let data = &config.data;
        files::claim(data)?;
        let durability = match config.durability {
            vorpal_config::Durability::Power => Durability::Power,
            vorpal_config::Durability::Crash => Durability::Crash,
        };
        let backend =
            Sqlite::open(data, Options { durability, ..Options::default() }).map_err(|error| unopened(error, data))?;
        Server::on(Box::new(backend), config, modules)
    }

    /// Starts the kernel on an open store.
    ///
    /// # Errors
    /// In the operator's words.
    pub fn on(backend: Box<dyn Backend>, config: Config, modules: &'static [&'static Module]) -> Result<Server> {
        let data = config.data.to_path_buf();
        let runtime = start(backend, assemble::kernel(&config, modules, Some(place::of(&data)))?)?;
        Ok(Server { runtime, config, data, modules })
    }

    /// Waits until everything that was promised is written, and closes the store. Sessions that can be resumed are kept, and
    /// their streams are not closed; all other streams are closed with `system-shutdown`.
    pub async fn close(self) {
        let core = &self.runtime.core;
        for lock in core.all_loaded() {
            let sessions = lock.lock().sessions.clone();
            for session in sessions.iter().filter(|session| !core.stream(session).is_resumable()) {
                core.close(now(), &lock, session, Some(StreamCondition::SystemShutdown.into()));
            }
        }
        core.suspend(now());
        self.runtime.drained(PATIENCE).await;
        // Stanzas that were settled by that.
        core.tick(now());
        self.runtime.drained(PATIENCE).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while core.commit_checkpoints(now()) && tokio::time::Instant::now() < end {
            self.runtime.drained(PATIENCE).await;
        }
        self.runtime.stop(PATIENCE).await;
    }
}

/// Why the store cannot be opened, and what to do.
fn unopened(error: StoreError, path: &Path) -> Error {
    let (database, data) = (path.join(DATABASE_FILE), path.display());
    match &error {
        StoreError::Locked { pid, .. } => anyhow!(
            "the store {data} is locked by pid {pid}: a server is already using it, or is still stopping. Stop that one and \
             try again, or set `data` to another directory for this one"
        ),
        StoreError::Full => {
            anyhow!("the store {data} cannot be opened: {error}; free some space on the disk of {data}")
        }
        StoreError::Broken { .. } if !has_header(&database) => anyhow!(
            "{} is not a Vorpal database: restore a backup of the whole directory, or set `data` to another directory",
            database.display()
        ),
        StoreError::Broken { source, .. } => {
            anyhow!(
                "the database {} is damaged ({source}): restore a backup of the whole directory",
                database.display()
            )
        }
        _ => match files::refused(path) {
            Some(refused) => anyhow!("the store {data} cannot be opened: {refused}"),
            None => Error::new(error).context(format!("the store {data} cannot be opened")),
        },
    }
}

/// Whether a file begins as each database of SQLite does.
fn has_header(database: &Path) -> bool {
    let mut begin = [0; 16];
    File::open(database).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == *b"SQLite format 3\0"
}

/// Serves until the process is told to stop. `path` is the configuration file, which is read again at a reload.
///
/// # Errors
/// In the operator's words. Also when an essential part of the server has ended: the rest would make promises that it cannot keep.
pub async fn serve(config: Config, path: Option<PathBuf>, program: Program) -> Result<()> {
    let began = Instant::now();
    let level = log::begin(&config.log);
    serve_with(|config| Server::open(config, program.modules), config, path, program, (began, level)).await
}

/// The same on an open store: for a program with a store of its own, and for tests with a failing one.
///
/// # Errors
/// Those of [`serve`].
pub async fn serve_on(
    backend: Box<dyn Backend>,
    config: Config,
    path: Option<PathBuf>,
    program: Program,
) -> Result<()> {
    let began = Instant::now();
    let level = log::begin(&config.log);
    serve_with(|config| Server::on(backend, config, program.modules), config, path, program, (began, level)).await
}

async fn serve_with(
    open: impl FnOnce(Config) -> Result<Server>,
    config: Config,
    path: Option<PathBuf>,
    program: Program,
    (began, level): (Instant, log::Level),
) -> Result<()> {
    let notify = Arc::new(Notify::from_env());
    warnings::variables(&config).iter().for_each(|warning| tracing::warn!("{warning}"));
    descriptors::raise();
    let server = open(config)?;
    let config = &server.config;
    let certificates = certificates::load(config, &server.data)?;
    certificates::log(&certificates, config);
    let shared = Arc::new(Shared {
        runtime: server.runtime.clone(),
        terms: RwLock::new(terms::terms(config)),
        tls: Arc::new(TlsHosts::new(certificates, terms::policy(config))?),
        gate: Gate::new(terms::gate(config)),
        hall: c2s::Hall::default(),
        audit: c2s::Audit::default(),
        traffic: Traffic::default(),
        rush: c2s::Rush::before(&server.runtime),
        began,
    });
    let gauges = Arc::new(Gauges::new(shared.clone(), server.data.clone()));
    let mut sockets = Sockets::take(config)?;
    let mut listening = tokio::task::JoinSet::new();
    let entrances =
        [(Key::C2s, Entrance::Starttls), (Key::C2sTls, Entrance::DirectTls), (Key::C2sPlain, Entrance::Plain)];
    for (key, entrance) in entrances {
        for (address, listener) in sockets.listeners(key, config)? {
            tracing::info!(%address, key = key.name(), "listening for clients");
            gauges.listens(key.name(), address);
            let proxied = entrance == Entrance::Plain && config.listen.c2s_plain_proxy;
            listening.spawn(c2s::listen(shared.clone(), listener, entrance, proxied));
        }
    }
    count_panics(&server.runtime);
    for (address, listener) in sockets.listeners(Key::Metrics, config)? {
        gauges.listens(Key::Metrics.name(), address);
        if address.ip().is_loopback() {
            tracing::info!(%address, "listening for monitoring");
        } else {
            tracing::warn!(%address, "listening for monitoring: anybody who can reach this address sees the server's metrics");
        }
        listening.spawn(vorpal_net::http::listen(listener, metrics::router(gauges.clone())));
    }
    let socket = config.admin.to_path_buf();
    // The same file at each reload and in each line of the log.
    let path = path.map(std::path::absolute).transpose().context("the working directory")?;
    let reload = Reload::new(shared, server.data.clone(), config.clone(), path, program, level, notify.clone());
    let reload = Arc::new(reload);
    tokio::spawn(reload::watch_certificates(reload.clone()));
    control::listen(&socket, server.runtime.clone(), reload.clone(), gauges)?;
    let hosts = config.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
    let ready_after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (data, configuration) = (server.data.display(), reload.file().map(Path::display));
    tracing::info!(
        hosts,
        %data,
        configuration = configuration.map(tracing::field::display),
        durability = config.durability.as_str(),
        ready_after_ms,
        "ready"
    );
    notify.ready(&reload.status());
    if let Some(interval) = notify.watchdog() {
        tokio::spawn(tell_alive(notify.clone(), interval));
    }
    let ended = tokio::select! {
        told = stopped(&reload) => told.map(|()| None)?,
        what = server.runtime.broken() => Some(what),
        Some(_) = listening.join_next() => Some("a listener"),
    };
    if let Some(what) = ended {
        tracing::error!(
            "{what} has ended because of a bug: the log has a panic above, please report it. Nothing more can be \
             acknowledged, so the server exits and must be started again; a service manager does that by itself. Everything \
             acknowledged is stored"
        );
        notify.stopping(&format!("{what} has ended because of a bug"));
        let _ = std::fs::remove_file(&socket);
        bail!("{what} has ended");
    }
    tracing::info!("stopping");
    notify.stopping("writing what was promised");
    listening.shutdown().await;
    let _ = std::fs::remove_file(&socket);
    server.close().await;
    Ok(())
}

/// Notifies the service manager's watchdog at intervals that tasks are still being run.
async fn tell_alive(notify: Arc<Notify>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify.alive();
    }
}

/// Counts panics. They are caught where they can do no harm.
fn count_panics(runtime: &Runtime) {
    let counts = runtime.core.counts.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        counts.one(Count::Panics);
        before(panic);
    }));
}

/// Waits for the signal to stop; SIGHUP reads the configuration again.
async fn stopped(reload: &Arc<Reload>) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            biased;
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hangup.recv() => drop(reload.apply().await),
        }
    }
}
