//! Reads, on threads that may block on the disk.
//!
//! A client's query may take long: it reads as much as its account has stored. So queries never use all readers, and a login always
//! finds one; and only one query of each account runs at a time, so that other accounts get their turn.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use vorpal_core::route::reading::{DueJob, busy};
use vorpal_core::session::inquiries::{Found, ReadError};
use vorpal_core::store::{Reader, StoreError};
use vorpal_proto::jid::BareJid;
use vorpal_store::readers;

/// Maximum number of queries of one account that run or wait. A session has one here at a time, and an account has fewer sessions;
/// but a session may end while its query waits.
const MAX_QUESTIONS: usize = 64;

/// A few read-only connections to the store. No thread waits for one: callers wait before they take a thread.
#[derive(Clone)]
pub struct Readers {
    readers: Arc<readers::Readers>,
    free: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    lines: Arc<Lines>,
}

impl Readers {
    /// `count` readers, of which queries may use at most `questions`.
    pub fn new(readers: readers::Readers, count: usize, questions: usize) -> Readers {
        Readers {
            readers: Arc::new(readers),
            free: Arc::new(Semaphore::new(count)),
            questions: Arc::new(Semaphore::new(questions)),
            lines: Arc::default(),
        }
    }

    /// Runs a read. Waits while all readers are busy. Cancel-safe: the read itself runs to its end.
    ///
    /// # Errors
    /// Those of the read; [`StoreError::Closed`] if it panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run((), read).await?
    }

    /// Runs an account's query: one at a time for each account, in order, taking turns with other accounts.
    /// Cancel-safe: a query that has not begun is dropped, one that has begun runs to its end.
    ///
    /// # Errors
    /// Those of the query; `resource-constraint` if too many of the account wait; [`StoreError::Closed`] if it panicked.
    pub async fn question(&self, account: &BareJid, question: DueJob) -> Result<Found, ReadError> {
        let place = Lines::join(&self.lines, account)?;
        let first = place.line.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        // First come, first served is fair here: no account has more than one query in this queue.
        let turn = self.questions.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        self.run((turn, first, place), question).await?
    }

    /// Runs a read, and holds something until its end.
    async fn run<T: Send + 'static>(
        &self,
        held: impl Send + 'static,
        read: impl FnOnce(&mut dyn Reader) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.free.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = self.readers.clone();
        let run = move || {
            let _held = (permit, held);
            readers.ask(read)
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| StoreError::Closed)
    }
}

/// A queue of queries for each account that has any.
#[derive(Default)]
struct Lines(Mutex<HashMap<BareJid, Line>>);

struct Line {
    first: Arc<Semaphore>,
    /// its length, including the running query
    length: usize,
}

/// A place in an account's queue, until it is dropped.
struct Place {
    lines: Arc<Lines>,
    account: BareJid,
    line: Arc<Semaphore>,
}

impl Lines {
    fn join(lines: &Arc<Lines>, account: &BareJid) -> Result<Place, ReadError> {
        let mut all = lines.0.lock();
        let new = || Line { first: Arc::new(Semaphore::new(1)), length: 0 };
        let line = all.entry(account.clone()).or_insert_with(new);
        if line.length == MAX_QUESTIONS {
            return Err(busy("too many questions of this account wait").into());
        }
        line.length += 1;
        Ok(Place { lines: lines.clone(), account: account.clone(), line: line.first.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.lines.0.lock();
        if let Some(line) = all.get_mut(&self.account) {
            line.length -= 1;
            if line.length == 0 {
                all.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests;
