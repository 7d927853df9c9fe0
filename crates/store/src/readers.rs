//! A pool of readers for several threads.

use crate::shape::{Reader, Result};
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A fixed number of readers. A caller blocks while all are in use, so it must be called on threads that may block; with at most as
/// many callers as readers, none does.
pub struct Readers {
    free: Mutex<Vec<Box<dyn Reader>>>,
    returned: Condvar,
}

impl Readers {
    /// Opens `count` readers by [`Writer::reader`](crate::writer::Writer::reader) or
    /// [`Backend::reader`](crate::shape::Backend::reader).
    ///
    /// # Errors
    /// Those of opening one.
    pub fn open(count: NonZeroUsize, reader: impl Fn() -> Result<Box<dyn Reader>>) -> Result<Readers> {
        let free = (0..count.get()).map(|_| reader()).collect::<Result<Vec<_>>>()?;
        Ok(Readers { free: Mutex::new(free), returned: Condvar::new() })
    }

    /// Runs `question` with one of the readers. The reader is returned even if it panics.
    pub fn ask<T>(&self, question: impl FnOnce(&mut dyn Reader) -> T) -> T {
        let mut free = self.lock();
        let reader = loop {
            match free.pop() {
                Some(reader) => break reader,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let mut loan = Loan { readers: self, reader: Some(reader) };
        let reader = loan.reader.as_deref_mut().expect("it is returned only by the drop below");
        question(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Reader>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Loan<'a> {
    readers: &'a Readers,
    reader: Option<Box<dyn Reader>>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.readers.lock().extend(self.reader.take());
        self.readers.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Disk, Memory};
    use crate::shape::Backend;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_are_lent_than_there_are_and_all_come_back() {
        let store = Memory::open(&Disk::new()).unwrap();
        let readers = Readers::open(NonZeroUsize::new(2).unwrap(), || store.reader()).unwrap();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        readers.ask(|reader| {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            assert_eq!(reader.owner(1).unwrap(), None);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(readers.lock().len(), 2);
    }

    #[test]
    fn a_reader_comes_back_from_a_question_that_panics() {
        let store = Memory::open(&Disk::new()).unwrap();
        let readers = Readers::open(NonZeroUsize::MIN, || store.reader()).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| readers.ask(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert!(readers.ask(|reader| reader.owner(1).unwrap()).is_none());
    }
}
