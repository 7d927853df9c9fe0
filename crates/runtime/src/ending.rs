//! Essential parts of the kernel, which run as long as it does: waiters are notified when one has ended, which only a panic causes.

use tokio::sync::watch;

/// Notified of the end of parts.
#[derive(Clone, Default)]
pub(crate) struct Ending(watch::Sender<Option<&'static str>>);

/// Held by a part while it runs. If it is dropped without [`Running::done`], the part has ended unexpectedly.
pub(crate) struct Running {
    what: &'static str,
    of: Ending,
}

impl Ending {
    /// Registers a running part with this name.
    pub fn of(&self, what: &'static str) -> Running {
        Running { what, of: self.clone() }
    }

    /// Waits until a part has ended, and returns the name of the first one. Cancel-safe.
    pub async fn heard(&self) -> &'static str {
        let mut ended = self.0.subscribe();
        match ended.wait_for(Option::is_some).await.map(|what| *what) {
            Ok(Some(what)) => what,
            // The sender is in `self`, so it is not dropped.
            _ => std::future::pending().await,
        }
    }
}

impl Running {
    /// The part has ended regularly.
    pub fn done(mut self) {
        self.what = "";
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let what = self.what;
        self.of.0.send_if_modified(|first| {
            let is_first = first.is_none() && !what.is_empty();
            if is_first {
                *first = Some(what);
            }
            is_first
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_part_that_panics_is_told_and_one_that_is_done_is_not() {
        let ending = Ending::default();
        ending.of("one that is done").done();
        let (fails, goes_on) = (ending.of("one that fails"), ending.of("one that goes on"));
        let failed = tokio::spawn(async move {
            let _running = fails;
            panic!("on purpose");
        });
        assert!(failed.await.is_err());
        assert_eq!(ending.heard().await, "one that fails");
        drop(goes_on);
        assert_eq!(ending.heard().await, "one that fails", "the first is the cause");
    }

    #[test]
    fn a_thread_that_panics_is_told() {
        let ending = Ending::default();
        let fails = ending.of("a thread");
        let thread = std::thread::spawn(move || {
            let _running = fails;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(*ending.0.borrow(), Some("a thread"));
    }
}
