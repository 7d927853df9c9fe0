//! Reads, on threads where waiting for the disk is allowed.

use std::sync::Arc;

use tokio::sync::Semaphore;
use vorpal_core::store::{Reader, StoreError};
use vorpal_store::readers;

/// A few connections to the store that only read. No thread waits for one: whoever asks waits before it takes a thread.
#[derive(Clone)]
pub struct Readers {
    readers: Arc<readers::Readers>,
    free: Arc<Semaphore>,
}

impl Readers {
    /// So many readers, lent one at a time.
    pub fn new(readers: readers::Readers, count: usize) -> Readers {
        Readers { readers: Arc::new(readers), free: Arc::new(Semaphore::new(count)) }
    }

    /// Runs a read. Waits while all readers are busy. Cancel-safe: the read itself goes on to its end.
    ///
    /// # Errors
    /// Those of the read; [`StoreError::Closed`] if it panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.free.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = self.readers.clone();
        let run = move || {
            let _permit = permit;
            readers.ask(read)
        };
        tokio::task::spawn_blocking(run).await.unwrap_or(Err(StoreError::Closed))
    }
}
