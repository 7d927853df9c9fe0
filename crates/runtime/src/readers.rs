//! Reads, on threads where waiting for the disk is allowed.
//!
//! A question of a client may take long: it reads as much as its account has stored. Questions therefore never have all
//! readers, so that a login finds one; and one account has one question read at a time, so that the others get their turn.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use vorpal_core::reading::{DueJob, Found, ReadError, busy};
use vorpal_core::store::{Reader, StoreError};
use vorpal_proto::jid::BareJid;
use vorpal_store::readers;

/// Maximum number of questions of one account that are read or wait for it. A session has one here at a time, and an account
/// has fewer sessions; but a session may end while its question waits.
const MAX_QUESTIONS: usize = 64;

/// A few connections to the store that only read. No thread waits for one: whoever asks waits before it takes a thread.
#[derive(Clone)]
pub struct Readers {
    readers: Arc<readers::Readers>,
    free: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    lines: Arc<Lines>,
}

impl Readers {
    /// So many readers, lent one at a time, so many of them at most to questions.
    pub fn new(readers: readers::Readers, count: usize, questions: usize) -> Readers {
        Readers {
            readers: Arc::new(readers),
            free: Arc::new(Semaphore::new(count)),
            questions: Arc::new(Semaphore::new(questions)),
            lines: Arc::default(),
        }
    }

    /// Runs a read. Waits while all readers are busy. Cancel-safe: the read itself goes on to its end.
    ///
    /// # Errors
    /// Those of the read; [`StoreError::Closed`] if it panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run((), read).await?
    }

    /// Runs an account's question: one at a time of each account, in order, and by turns with those of the others.
    /// Cancel-safe: one that has not begun is not read, one that has is read to its end.
    ///
    /// # Errors
    /// Those of the question; `resource-constraint` if too many of the account wait; [`StoreError::Closed`] if it panicked.
    pub async fn question(&self, account: &BareJid, question: DueJob) -> Result<Found, ReadError> {
        let place = Lines::join(&self.lines, account)?;
        let first = place.line.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        // First come, first served is fair here: no account has more than one in this line.
        let turn = self.questions.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        self.run((turn, first, place), question).await?
    }

    /// Runs a read that holds something until its end.
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

/// A line of questions for each account that has any.
#[derive(Default)]
struct Lines(Mutex<HashMap<BareJid, Line>>);

struct Line {
    first: Arc<Semaphore>,
    /// how many stand in it, the one that is read included
    length: usize,
}

/// A place in an account's line, until it is dropped.
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
