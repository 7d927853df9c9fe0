//! The state of the server at one moment: values that are not counted as events happen but computed on request.

#![expect(clippy::disallowed_methods, reason = "rates are counted by the clock")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use vorpal_core::session::SessionId;
use vorpal_core::store::StoreError;
use vorpal_core::watch::counts::{FAMILIES, Reading};
use vorpal_net::c2s::Shared;
use vorpal_net::tls::Certificate;
use vorpal_net::tls::Host;
use vorpal_runtime::{Runtime, now};
use vorpal_store::pulse::Slow;
use vorpal_store::sqlite::DATABASE_FILE;

use crate::certificates::seconds_left;

/// Maximum length of the lists of the largest.
const LIST: usize = 5;

/// A commit that has been running for this long means that the disk does not respond.
const STUCK: Duration = Duration::from_secs(10);

/// The state of the server at one moment: the data of `vorpal top`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// when, in milliseconds since 1970
    pub at: u64,
    /// the version of the server
    pub version: String,
    /// since it started
    pub uptime_seconds: u64,
    /// all counts, by their names in the metrics, with the label's value after a colon
    pub counts: HashMap<String, u64>,
    /// with a connection
    pub attached: u64,
    /// without one
    pub detached: u64,
    /// that have sent presence
    pub available: u64,
    /// that read the log
    pub reading: u64,
    /// restored after a restart, and not resumed yet
    pub restored: u64,
    /// connections that have not logged in
    pub logging_in: u64,
    /// connections that wait to be accepted, because too many are logging in
    pub connections_waiting: u64,
    /// logins that wait to be checked
    pub logins_waiting: u64,
    /// logins that wait for a new session
    pub binds_waiting: u64,
    /// stanzas that are not settled
    pub unsettled: u64,
    /// bytes that wait in sessions
    pub queued_bytes: u64,
    /// accounts in memory
    pub accounts_loaded: u64,
    /// batches that wait for the writer
    pub backlog_batches: u64,
    /// their bytes
    pub backlog_bytes: u64,
    /// duration of commits, in microseconds: upper bounds and counts; the last count has no bound
    pub commit_micros: Buckets,
    /// number of batches in a commit
    pub commit_batches: Buckets,
    /// duration of reads, in microseconds
    pub read_micros: Buckets,
    /// the resident memory of the process, in bytes
    pub memory_bytes: Option<u64>,
    /// open files and sockets
    pub open_fds: Option<u64>,
    /// the database file, in bytes
    pub database_bytes: Option<u64>,
    /// its write-ahead log, in bytes
    pub wal_bytes: Option<u64>,
    /// free space on the disk of the data directory, in bytes
    pub disk_free_bytes: Option<u64>,
    /// the size of that disk, in bytes
    pub disk_bytes: Option<u64>,
    /// the reserve, in bytes
    pub reserve_bytes: u64,
    /// number of seconds that the certificate of each host is still valid; negative if it has expired
    pub certificates: Vec<(String, i64)>,
    /// why the store accepts no new writes; `None` if it does
    pub trouble: Option<String>,
    /// the slowest commits of the last minute
    pub slow_commits: Vec<SlowCommit>,
    /// the slowest reads of the last minute
    pub slow_reads: Vec<SlowRead>,
    /// sessions with the most bytes waiting
    pub queues: Vec<Named>,
    /// accounts with the most unsettled stanzas
    pub busiest_unsettled: Vec<Named>,
    /// accounts that sent most since the last sample, in stanzas per second
    pub busiest: Vec<Named>,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Buckets {
    /// upper bounds
    pub bounds: Vec<u64>,
    /// the counts, not cumulative; one more than bounds
    pub counts: Vec<u64>,
    /// the sum of all
    pub sum: u64,
}

/// A slow commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlowCommit {
    /// how long, in milliseconds
    pub ms: f64,
    /// how many seconds ago it ended
    pub seconds_ago: u64,
    /// number of batches
    pub batches: usize,
    /// number of bytes
    pub bytes: usize,
}

/// A slow read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlowRead {
    /// how long, in milliseconds
    pub ms: f64,
    /// how many seconds ago it ended
    pub seconds_ago: u64,
    /// what was read
    pub what: String,
}

/// A number with a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// whose
    pub jid: String,
    /// how much
    pub value: f64,
}

/// Collects the state of a server.
pub struct Gauges {
    shared: Arc<Shared>,
    data: PathBuf,
    /// the listeners, with the keys of the configuration
    listeners: Mutex<Vec<(&'static str, SocketAddr)>>,
    /// how much each session had sent at the last sample
    sent: Mutex<Option<(Instant, HashMap<SessionId, u64>)>>,
}

impl Gauges {
    /// For this server and its data directory.
    pub fn new(shared: Arc<Shared>, data: PathBuf) -> Gauges {
        Gauges { shared, data, listeners: Mutex::default(), sent: Mutex::default() }
    }

    /// Adds a listener: connections are accepted at this address, for this key of `[listen]`.
    pub fn listens(&self, key: &'static str, address: SocketAddr) {
        self.listeners.lock().push((key, address));
    }

    /// The listeners.
    pub fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        self.listeners.lock().clone()
    }

    /// The hosts with the certificates for new connections, by name.
    pub fn certificates(&self) -> Vec<Arc<Host>> {
        self.shared.tls.all()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The driver of the server.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.shared.runtime
    }

    /// Takes a sample. Locks every account briefly, one after the other: some ten milliseconds for 100,000 accounts, so it must
    /// not be called where that blocks others. `names` adds the lists that name sessions and accounts.
    pub fn sample(&self, names: bool) -> Sample {
        let runtime = &self.shared.runtime;
        let core = &runtime.core;
        let (backlog, pulse, at) = (runtime.queue.backlog(), runtime.queue.pulse(), Instant::now());
        let (room, rush) = (core.reserve.room(), self.shared.rush.waiting());
        let size = |name: &str| std::fs::metadata(self.data.join(name)).ok().map(|file| file.len());
        let mut sample = Sample {
            at: now().as_millis(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: now().since(core.started).as_secs(),
            logging_in: self.shared.gate.connections().1 as u64,
            connections_waiting: self.shared.gate.waiting() as u64,
            logins_waiting: rush.logins as u64,
            binds_waiting: rush.sessions as u64,
            backlog_batches: backlog.batches as u64,
            backlog_bytes: backlog.bytes as u64,
            commit_micros: core.counts.commit_micros.read().into(),
            commit_batches: core.counts.commit_batches.read().into(),
            read_micros: core.counts.read_micros.read().into(),
            memory_bytes: resident(),
            open_fds: std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as u64),
            database_bytes: size(DATABASE_FILE),
            wal_bytes: size(&format!("{DATABASE_FILE}-wal")),
            disk_free_bytes: room.map(|room| room.free),
            disk_bytes: room.map(|room| room.total),
            reserve_bytes: core.reserve.least(),
            certificates: self.validity(),
            trouble: self.trouble(),
            ..Sample::default()
        };
        for family in FAMILIES {
            for (count, value) in family.rows {
                let colon = if value.is_empty() { "" } else { ":" };
                sample.counts.insert(format!("{}{colon}{value}", family.name), core.counts.get(*count));
            }
        }
        self.sessions(&mut sample, names, at);
        if names {
            let ago = |when: Instant| at.saturating_duration_since(when).as_secs();
            let commit = |slow: Slow<(usize, usize)>| {
                let (batches, bytes) = slow.what;
                SlowCommit { ms: millis(slow.took), seconds_ago: ago(slow.at), batches, bytes }
            };
            sample.slow_commits = pulse.slowest.list(at).into_iter().take(LIST).map(commit).collect();
            let read =
                |slow: Slow<String>| SlowRead { ms: millis(slow.took), seconds_ago: ago(slow.at), what: slow.what };
            sample.slow_reads = runtime.slow_reads.list(at).into_iter().take(LIST).map(read).collect();
        }
        sample
    }

    /// Number of seconds until the certificate of each host expires.
    fn validity(&self) -> Vec<(String, i64)> {
        let hosts = self.shared.tls.all();
        let left = |certificate: &Certificate| (certificate.host().to_owned(), seconds_left(certificate, now()));
        hosts.iter().map(|host| left(host.certificate())).collect()
    }

    fn sessions(&self, sample: &mut Sample, names: bool, at: Instant) {
        let accounts = self.shared.runtime.core.all_loaded();
        sample.accounts_loaded = accounts.len() as u64;
        let before = if names { self.sent.lock().take() } else { None };
        let mut sent = HashMap::new();
        let (mut queues, mut unsettled, mut traffic) = (Top::default(), Top::default(), Top::default());
        for lock in accounts {
            let sessions = lock.lock().sessions.clone();
            let (mut owed, mut new) = (0, 0);
            for session in &sessions {
                let vitals = self.shared.runtime.core.stream(session).vitals();
                let one = |yes: bool| u64::from(yes);
                sample.attached += one(session.is_attached());
                sample.detached += one(!session.is_attached());
                sample.available += one(session.is_available());
                sample.reading += one(vitals.reads);
                sample.restored += one(vitals.restored);
                sample.queued_bytes += vitals.queued as u64;
                owed += vitals.unsettled;
                if names {
                    queues.offer(vitals.queued as u64, || session.jid.as_str().to_owned());
                    if let Some((_, before)) = &before {
                        new += vitals.received.saturating_sub(before.get(&session.id).copied().unwrap_or(0));
                    }
                    sent.insert(session.id, vitals.received);
                }
            }
            sample.unsettled += owed;
            if names {
                unsettled.offer(owed, || lock.jid.as_str().to_owned());
                traffic.offer(new, || lock.jid.as_str().to_owned());
            }
        }
        if !names {
            return;
        }
        let since = before.map_or(Duration::ZERO, |(then, _)| at.saturating_duration_since(then)).as_secs_f64();
        *self.sent.lock() = Some((at, sent));
        sample.queues = queues.list(1.0);
        sample.busiest_unsettled = unsettled.list(1.0);
        sample.busiest = if since > 0.0 { traffic.list(since) } else { Vec::new() };
    }

    /// Why the server cannot accept writes; `None` if it can.
    pub fn trouble(&self) -> Option<String> {
        let runtime = &self.shared.runtime;
        let pulse = runtime.queue.pulse();
        if runtime.queue.is_closed() {
            return Some("the writer thread has ended: the server is stopping, or must be restarted".into());
        }
        if let Some(since) = pulse.committing_for().filter(|since| *since > STUCK) {
            return Some(format!("the disk does not respond: a commit has been running for {} s", since.as_secs()));
        }
        if let Some(error) = pulse.failing() {
            let cause = match &error {
                StoreError::Io { source, .. } | StoreError::Broken { source, .. } => format!(": {source}"),
                _ => String::new(),
            };
            let advice = match &error {
                StoreError::Full => format!("; free some space on the disk of {}", self.data.display()),
                _ => String::new(),
            };
            return Some(format!("the last commit failed: {error}{cause}{advice}"));
        }
        let reserve = &runtime.core.reserve;
        let room = reserve.room().filter(|_| reserve.is_short())?;
        Some(format!(
            "only {} MiB are free on the disk of the data directory, and {} MiB are reserved; free some space on the disk of {} until \
             {} MiB are free",
            room.free >> 20,
            reserve.least() >> 20,
            self.data.display(),
            reserve.enough().div_ceil(1 << 20)
        ))
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Keeps the largest of the items offered.
#[derive(Default)]
struct Top(Vec<(u64, String)>);

impl Top {
    fn offer(&mut self, value: u64, jid: impl FnOnce() -> String) {
        let full = self.0.len() >= LIST;
        if value == 0 || full && self.0.last().is_some_and(|(least, _)| *least >= value) {
            return;
        }
        let at = self.0.partition_point(|(other, _)| *other >= value);
        self.0.insert(at, (value, jid()));
        self.0.truncate(LIST);
    }

    fn list(self, per: f64) -> Vec<Named> {
        self.0
            .into_iter()
            .map(|(value, jid)| Named { jid, value: (value as f64 / per * 10.0).round() / 10.0 })
            .collect()
    }
}

impl From<Reading> for Buckets {
    fn from(reading: Reading) -> Buckets {
        Buckets { bounds: reading.bounds.to_vec(), counts: reading.buckets, sum: reading.sum }
    }
}

/// The resident memory of this process, if `/proc` has it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_largest_are_listed_the_largest_first() {
        let mut top = Top::default();
        for value in [3, 0, 9, 4, 4, 1, 7, 8] {
            top.offer(value, || format!("of {value}"));
        }
        let listed: Vec<_> = top.list(2.0).into_iter().map(|named| (named.jid, named.value)).collect();
        let expected = [("of 9", 4.5), ("of 8", 4.0), ("of 7", 3.5), ("of 4", 2.0), ("of 4", 2.0)];
        assert_eq!(listed, expected.map(|(jid, value)| (jid.to_owned(), value)));
    }

    #[test]
    fn a_process_knows_its_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
