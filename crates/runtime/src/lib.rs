//! Drives the kernel: the clock, the writer thread, reads, and periodic work. The only place that spawns tasks of the kernel.

#![expect(clippy::disallowed_methods, reason = "this crate is the clock, the threads and the tasks of the kernel")]

pub mod boot;
pub mod drive;
mod ending;
mod readers;
mod start;

pub use boot::Setup;
pub use readers::Readers;
pub use start::start;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use vorpal_core::core::Core;
use vorpal_core::life::join::Fetch;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::route::reading::Inquiry;
use vorpal_core::session::Wake;
use vorpal_core::store::{Entry, LogQuery, StoreError};
use vorpal_core::watch::counts::Count;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{PasswordCheck, Verdict};
use vorpal_store::pulse::Slowest;
use vorpal_store::writer::{MAX_GROUP_BATCHES, Queue};

/// Minimum number of passwords derived at once; otherwise half the number of cores. Each takes a core for a millisecond or more.
const MIN_DERIVATIONS: usize = 2;

/// A running kernel.
pub struct Runtime {
    /// the kernel
    pub core: Arc<Core>,
    /// the queue in front of the store
    pub queue: Queue,
    readers: Readers,
    derivations: Semaphore,
    /// the slowest recent reads
    pub slow_reads: Slowest<String>,
    ending: ending::Ending,
    /// the writer thread, and the task that reports commits
    writer: parking_lot::Mutex<Option<(std::thread::JoinHandle<()>, tokio::task::JoinHandle<()>)>>,
}

/// The time of day.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Wakes a task.
#[derive(Default)]
pub struct Waker(pub Notify);

impl Wake for Waker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl Runtime {
    /// Loads an account, if it exists. Cancel-safe.
    pub async fn load(self: &Arc<Runtime>, jid: BareJid) -> Result<Option<AccountRef>, StoreError> {
        let (this, began, name) = (self.clone(), Instant::now(), jid.clone());
        let found = self.readers.read(move |reader| this.core.load(reader, &jid)).await;
        self.has_read(Count::ReadAccount, began, || format!("account {name}"));
        found
    }

    /// Reads a part of a log. Cancel-safe.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Vec<Entry>, StoreError> {
        let began = Instant::now();
        let entries = self
            .readers
            .read(move |reader| {
                let query = LogQuery { after: fetch.from.saturating_sub(1), limit: fetch.limit, ..LogQuery::default() };
                reader.log_range(fetch.owner, query)
            })
            .await;
        self.has_read(Count::ReadLog, began, || format!("log of account number {} from {}", fetch.owner, fetch.from));
        entries
    }

    /// Records a finished read, from its request on, so that waiting for a free reader counts.
    fn has_read(&self, count: Count, began: Instant, what: impl FnOnce() -> String) {
        let (now, took) = (Instant::now(), began.elapsed());
        self.core.counts.one(count);
        self.core.counts.read_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.slow_reads.note(now, took, what);
    }

    /// Runs a query and has it answered, in a separate task: the connection that asked continues.
    pub fn inquire(self: &Arc<Runtime>, inquiry: Inquiry) {
        let this = self.clone();
        tokio::spawn(async move {
            let Inquiry { asker, job } = inquiry;
            let found = this.readers.question(asker.account(), job).await;
            this.core.answered(now(), asker, found);
        });
    }

    /// The readers, for other reads. Cancel-safe.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Checks a password, on a blocking thread and a few at a time. Cancel-safe.
    pub async fn derive(&self, check: PasswordCheck) -> Option<Verdict> {
        let _permit = self.derivations.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || check.run()).await.ok()
    }

    /// Closes the queue and waits until the writer has written all of it and all commits are reported, or the timeout has passed.
    /// Nothing is written after that.
    pub async fn stop(&self, patience: Duration) {
        self.queue.close();
        let writer = self.writer.lock().take();
        let Some((writer, teller)) = writer else { return };
        let end = tokio::time::Instant::now() + patience;
        while !writer.is_finished() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = tokio::time::timeout_at(end, teller).await;
    }

    /// Waits until an essential part of the kernel has ended: the writer thread, the task that reports commits, or one of the
    /// periodic tasks. Returns its name. Before [`Runtime::stop`] only a panic causes this, and the rest cannot keep its promises.
    /// Cancel-safe.
    pub async fn broken(&self) -> &'static str {
        self.ending.heard().await
    }

    /// Whether more batches wait to be written than one commit takes: new ones make all others wait longer.
    pub fn is_behind(&self) -> bool {
        self.queue.backlog().batches > MAX_GROUP_BATCHES
    }

    /// Waits until everything that was submitted is written, or the timeout has passed.
    pub async fn drained(&self, patience: Duration) {
        let end = tokio::time::Instant::now() + patience;
        while self.queue.backlog().batches > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
