//! Reads, on threads where waiting for the disk is allowed.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use vorpal_core::store::{Reader, StoreError};

/// A few connections to the store that only read.
#[derive(Clone)]
pub struct Readers {
    idle: Arc<Mutex<Vec<Box<dyn Reader>>>>,
    free: Arc<Semaphore>,
}

impl Readers {
    /// A pool of these.
    pub fn new(readers: Vec<Box<dyn Reader>>) -> Readers {
        let free = Arc::new(Semaphore::new(readers.len()));
        Readers { idle: Arc::new(Mutex::new(readers)), free }
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
        let idle = self.idle.clone();
        let run = move || {
            let _permit = permit;
            let mut reader = idle.lock().pop().ok_or(StoreError::Closed)?;
            let result = read(reader.as_mut());
            idle.lock().push(reader);
            result
        };
        tokio::task::spawn_blocking(run).await.unwrap_or(Err(StoreError::Closed))
    }
}
