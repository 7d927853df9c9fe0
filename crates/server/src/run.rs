//! The story of a start: configuration, lock, store, modules, sessions that were there before, listeners.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use vorpal_config::{Config, FilePath, LogFormat, LogLevel};
use vorpal_core::host::Host;
use vorpal_core::module::Module;
use vorpal_core::registry::Registry;
use vorpal_core::server::core_names;
use vorpal_net::c2s::{self, Shared};
use vorpal_net::limits::Gate;
use vorpal_net::tls::{Certificate, Policy, TlsHosts, TlsVersion};
use vorpal_proto::error::StreamCondition;
use vorpal_proto::jid::BareJid;
use vorpal_proto::parse::Limits;
use vorpal_runtime::{Backing, Runtime, Setup, now, start};
use vorpal_store::sqlite::{Durability, Options, Sqlite};

use crate::control;

/// How long a stopping server waits for what it has promised.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is up, but for its listeners.
pub struct Server {
    /// the kernel and what drives it
    pub runtime: Arc<Runtime>,
    /// what it was started with
    pub config: Config,
    /// where its data are
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
        let data = under(&config, &config.data);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data)
            .with_context(|| format!("the data directory {} cannot be made", data.display()))?;
        let durability = match config.durability {
            vorpal_config::Durability::Power => Durability::Power,
            vorpal_config::Durability::Crash => Durability::Crash,
        };
        let backend = Sqlite::open(&data, Options { durability, ..Options::default() })
            .with_context(|| format!("the store in {} cannot be opened", data.display()))?;
        let names = core_names();
        let mut hosts = Vec::new();
        for host in &config.hosts {
            let domain = BareJid::of_domain(host.name.as_str()).context("a host's name")?;
            let sections: Vec<_> = config.modules_of(host.name.as_str()).collect();
            let enabled = modules.iter().filter(|m| sections.iter().any(|(name, _)| *name == m.name)).copied();
            let section = |name: &str| sections.iter().find(|(n, _)| *n == name).map(|(_, section)| section.table());
            let registry =
                Registry::build(enabled, names.clone(), section).with_context(|| format!("the modules of {domain}"))?;
            hosts.push(Arc::new(Host::new(&domain, registry)));
        }
        let runtime = start(Backing { backend: Box::new(backend) }, Setup { names, hosts })?;
        Ok(Server { runtime, config, data, modules })
    }

    /// Waits until everything that was promised is written, and closes the store. Sessions that can be resumed are left as
    /// they are, without an end of their streams; all others are told.
    pub async fn close(self) {
        let core = &self.runtime.core;
        for lock in core.all_loaded() {
            let sessions = lock.lock().sessions.clone();
            for session in sessions.iter().filter(|session| !session.stream().is_resumable()) {
                core.close(now(), &lock, session, Some(StreamCondition::SystemShutdown.into()));
            }
        }
        core.tick(now());
        self.runtime.drained(PATIENCE).await;
        self.runtime.stop(PATIENCE).await;
    }
}

fn under(config: &Config, path: &FilePath) -> PathBuf {
    path.under(&config.base).to_path_buf()
}

/// Serves until the process is told to stop.
///
/// # Errors
/// In the operator's words.
pub async fn serve(config: Config, modules: &'static [&'static Module]) -> Result<()> {
    let began = Instant::now();
    log(&config);
    let server = Server::open(config, modules)?;
    let config = &server.config;
    let shared = Arc::new(Shared {
        runtime: server.runtime.clone(),
        settings: Arc::new(c2s::Settings {
            max_before_login: config.limits.login_bytes.get().as_len(),
            max_stanza: config.limits.stanza_size.get().as_len(),
            allow_plaintext: false,
            passthrough: config.xml.passthrough,
            limits: Limits::default(),
        }),
        tls: Arc::new(tls(config, &server.data)?),
        gate: Gate::new(crate::limits::gate(&config.limits)),
        traffic: crate::limits::traffic(&config.limits),
        time_to_log_in: config.limits.login_time.get().as_duration(),
        began,
    });
    for (addresses, direct_tls) in [(&config.listen.c2s, false), (&config.listen.c2s_tls, true)] {
        for address in addresses {
            let listener = listen(address.0)?;
            let Some(listener) = listener else { continue };
            tracing::info!(address = %address.0, direct_tls, "listening for clients");
            tokio::spawn(c2s::listen(shared.clone(), listener, direct_tls));
        }
    }
    let socket = under(config, &config.listen.admin);
    control::listen(&socket, server.runtime.clone())?;
    let hosts: Vec<_> = config.hosts.iter().map(|host| host.name.as_str()).collect();
    tracing::info!(?hosts, durability = ?config.durability, ready_after = ?began.elapsed(), "ready");
    stopped().await?;
    tracing::info!("stopping");
    let _ = std::fs::remove_file(&socket);
    server.close().await;
    Ok(())
}

/// An address of IPv6 on a machine without it is passed over.
fn listen(address: std::net::SocketAddr) -> Result<Option<TcpListener>> {
    let socket = match address {
        std::net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        std::net::SocketAddr::V6(_) => match tokio::net::TcpSocket::new_v6() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%address, %error, "not listening: no IPv6 here");
                return Ok(None);
            }
        },
    };
    socket.set_reuseaddr(true)?;
    if let Err(error) = socket.bind(address) {
        if error.kind() == std::io::ErrorKind::AddrNotAvailable && address.is_ipv6() {
            tracing::warn!(%address, %error, "not listening: no such address here");
            return Ok(None);
        }
        return Err(error).with_context(|| format!("cannot listen on {address}"));
    }
    Ok(Some(socket.listen(1024).with_context(|| format!("cannot listen on {address}"))?))
}

async fn stopped() -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// The certificates: those of the configuration, else one of our own for each host.
fn tls(config: &Config, data: &Path) -> Result<TlsHosts> {
    let folder = data.join("tls");
    let mut certificates = Vec::new();
    for host in &config.hosts {
        let name = host.name.as_str();
        let certificate = match &host.certificate {
            Some(files) => Certificate::load(name, &under(config, &files.chain), &under(config, &files.key))?,
            None => Certificate::self_signed(name, &folder, now())?,
        };
        for warning in certificate.warnings(now()) {
            tracing::warn!(host = name, %warning, "certificate");
        }
        if certificate.is_self_signed() {
            tracing::info!(host = name, folder = %folder.display(), "a certificate of our own: clients must be told to trust it");
        }
        certificates.push(certificate);
    }
    let min = match config.tls.min_version {
        vorpal_config::TlsVersion::V12 => TlsVersion::Tls12,
        vorpal_config::TlsVersion::V13 => TlsVersion::Tls13,
    };
    Ok(TlsHosts::new(certificates, Policy { min })?)
}

fn log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = match config.log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Only the owner of the data may give orders.
pub(crate) fn protect(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}
