//! A reload: the configuration is read again, and all of it takes effect, or none.
//!
//! What can fail is done first, and changes nothing: reading, certificates, the modules of every host. What follows
//! cannot fail. Connections that are there go on, with the limits they came with.

#![expect(clippy::disallowed_methods, reason = "a task looks at the certificates")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, anyhow};
use parking_lot::Mutex;
use vorpal_config::{Change, Config};
use vorpal_core::module::host::Host;
use vorpal_core::module::registry::Names;
use vorpal_net::c2s::Shared;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_runtime::now;

use crate::log::Level;
use crate::notify::Notify;
use crate::{Program, assemble, certificates, terms};

/// How often a running server checks its certificates.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(24 * 3600);

/// How often it checks whether that is due: the clock of a suspended machine may have jumped.
const CERTIFICATE_TICK: Duration = Duration::from_secs(600);

/// What a reload works on.
pub struct Reload {
    shared: Arc<Shared>,
    data: PathBuf,
    path: Option<PathBuf>,
    program: Program,
    level: Level,
    notify: Arc<Notify>,
    current: Mutex<Current>,
}

/// The result of a reload.
#[derive(Debug)]
pub struct Applied {
    /// the keys that have another value
    pub changes: Vec<Change>,
    /// the certificates that are new or were replaced: "certificate of chat.example until 2027-02-27"
    pub certificates: Vec<String>,
}

struct Current {
    /// the configuration in effect: for a key that needs a restart, its old value
    config: Config,
    /// hosts that were served before, so that a host that returns is the same one that its accounts refer to
    hosts: HashMap<BareJid, Arc<Host>>,
}

impl Reload {
    pub(crate) fn new(
        shared: Arc<Shared>,
        data: PathBuf,
        config: Config,
        path: Option<PathBuf>,
        program: Program,
        level: Level,
        notify: Arc<Notify>,
    ) -> Reload {
        let hosts = shared.runtime.core.hosts().into_iter().map(|host| (host.jid.bare(), host)).collect();
        let current = Mutex::new(Current { config, hosts });
        Reload { shared, data, path, program, level, notify, current }
    }

    /// The file that is read again; none, if there was none at the start.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads the configuration again and applies it. Returns what changed, or all errors, and logs the same. Cancel-safe: the
    /// reload runs to its end.
    ///
    /// # Errors
    /// The new configuration cannot be used; the old one stays in effect.
    pub async fn apply(self: &Arc<Reload>) -> Result<Applied, Vec<String>> {
        let this = self.clone();
        let outcome = tokio::task::spawn_blocking(move || this.told_swap()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(vec!["the reload task did not finish: this is a bug".into()]));
        match &outcome {
            Err(errors) => {
                errors.iter().for_each(|error| tracing::error!(%error, "the configuration cannot be used"));
                tracing::error!("nothing was reloaded");
            }
            Ok(Applied { changes, certificates }) => {
                for change in changes {
                    let (key, from, to) = (&change.key, change.from.as_deref(), change.to.as_deref());
                    if change.needs_restart {
                        tracing::warn!(key, from, to, "needs a restart");
                    } else {
                        tracing::info!(key, from, to, "changed");
                    }
                }
                certificates.iter().for_each(|certificate| tracing::info!("new: {certificate}"));
                tracing::info!("reloaded");
            }
        }
        outcome
    }

    /// The hosts that are served, as a status text for the service manager.
    pub(crate) fn status(&self) -> String {
        let hosts: Vec<_> = self.shared.runtime.core.hosts().iter().map(|host| host.domain().to_owned()).collect();
        format!("serving {}", hosts.join(", "))
    }

    /// Notifies the service manager of the reload and of its end, whatever the result.
    fn told_swap(&self) -> Result<Applied, Vec<String>> {
        self.notify.reloading();
        let outcome = self.swap();
        let status = match &outcome {
            Ok(_) => self.status(),
            Err(errors) => {
                let first = errors.first().map_or("", String::as_str);
                format!("{}; the last reload was refused: {first}", self.status())
            }
        };
        self.notify.ready(&status);
        outcome
    }

    /// The certificates that are served, a row each, with what a reload would find in their files. Blocks on files.
    pub(crate) fn certificates(&self) -> Vec<serde_json::Value> {
        let config = self.current.lock().config.clone();
        let served = self.shared.tls.all();
        served.iter().map(|host| certificates::row_of_served(host.certificate(), &config)).collect()
    }

    /// Renews the server's own certificates that are about to expire, and logs warnings about others. Blocks on files.
    pub(crate) fn look_after_certificates(&self, now: Timestamp) {
        let current = self.current.lock();
        certificates::look_after(&current.config, &self.data, &self.shared.tls, now);
    }

    fn swap(&self) -> Result<Applied, Vec<String>> {
        let mut current = self.current.lock();
        let new = self
            .program
            .read(self.path.as_deref())
            .map_err(|errors| errors.iter().map(|e| e.to_string()).collect::<Vec<_>>())?;
        let core = &self.shared.runtime.core;
        // Tried on a copy: a module that cannot be set up leaves no trace.
        let trial = Arc::new(core.names.trial());
        let mut wrong = assemble::check(&new, self.program, &trial);
        wrong.extend(new_tables(&trial));
        if !wrong.is_empty() {
            return Err(told(&wrong));
        }
        let config = current.config.reloaded(new.clone());
        let certificates = certificates::load(&config, &self.data).map_err(|error| told(&[error]))?;
        let served = self.shared.tls.all();
        let refused = certificates::refused(&certificates, &served);
        if !refused.is_empty() {
            return Err(told(&refused));
        }
        let new_certificates = certificates::changed(&certificates, &served);
        certificates::log(&certificates, &config);
        let registries =
            assemble::registries(&config, self.program.modules, &core.names).map_err(|errors| told(&errors))?;
        self.shared.tls.reload(certificates, terms::policy(&config)).map_err(|error| told(&[error.into()]))?;

        // From here on nothing can fail.
        let before = core.hosts();
        let hosts: Vec<Arc<Host>> = registries
            .into_iter()
            .map(|(domain, registry)| match current.hosts.get(&domain) {
                Some(host) => {
                    core.set_registry(now(), host, registry);
                    host.clone()
                }
                None => {
                    let host = Arc::new(Host::new(&domain, registry));
                    current.hosts.insert(domain, host.clone());
                    host
                }
            })
            .collect();
        assemble::set_key_policies(&config, &hosts);
        core.set_hosts(hosts);
        for gone in before.iter().filter(|host| core.host(host.domain()).is_none()) {
            self.end_sessions(gone);
        }
        *self.shared.terms.write() = terms::terms(&config);
        core.set_bounds(assemble::bounds(&config));
        core.reserve.set_least(assemble::reserve(&config));
        self.shared.gate.set(terms::gate(&config));
        self.level.set(config.log.level);
        let changes = current.config.diff(&new);
        current.config = config;
        Ok(Applied { changes, certificates: new_certificates })
    }

    /// Ends all sessions of hosts that are no longer served.
    fn end_sessions(&self, host: &Host) {
        let core = &self.shared.runtime.core;
        for account in core.all_loaded().into_iter().filter(|account| account.jid.domain() == host.domain()) {
            let sessions: Vec<_> = account.lock().sessions.iter().map(|session| session.jid.clone()).collect();
            for jid in sessions {
                core.kick(now(), &account, jid.resource().unwrap_or_default(), "this host is no longer served");
            }
        }
    }
}

/// Checks the certificates once a day until the process ends: renews the server's own, and logs warnings about others that expire.
pub(crate) async fn watch_certificates(reload: Arc<Reload>) {
    let mut last = now();
    loop {
        tokio::time::sleep(CERTIFICATE_TICK).await;
        if now().since(last) < CERTIFICATE_CHECK {
            continue;
        }
        last = now();
        let reload = reload.clone();
        // It blocks on files.
        let _ = tokio::task::spawn_blocking(move || reload.look_after_certificates(now())).await;
    }
}

/// An error for each table of a module that the store does not have: tables are created at the start only.
fn new_tables(names: &Names) -> impl Iterator<Item = Error> {
    names.unbound().into_iter().map(|table| {
        anyhow!("a module that keeps `{table}` was off when the server started: it takes a restart to switch it on")
    })
}

fn told(errors: &[Error]) -> Vec<String> {
    errors.iter().map(|error| format!("{error:#}")).collect()
}
