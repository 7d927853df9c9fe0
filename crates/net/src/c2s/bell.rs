//! What wakes the task of a connection.

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use vorpal_core::session::Wake;

/// Rung when there is something to do for a connection. However often, its task is woken once.
#[derive(Default)]
pub(super) struct Bell(Mutex<(bool, Option<Waker>)>);

#[derive(Default)]
struct Later {
    waits: bool,
    wakers: Vec<Waker>,
}

thread_local! {
    /// Whom this thread will wake when it is done with what it does.
    static LATER: RefCell<Later> = RefCell::default();
}

/// Whoever is rung while this runs is woken at its end: another thread would find the first of several stanzas, write it, and
/// have to be woken again for the next.
pub(super) fn wake_together<T>(run: impl FnOnce() -> T) -> T {
    /// Also if it panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let mut wakers = LATER.with_borrow_mut(|later| {
                later.waits = false;
                std::mem::take(&mut later.wakers)
            });
            wakers.drain(..).for_each(Waker::wake);
            LATER.with_borrow_mut(|later| later.wakers = wakers);
        }
    }
    LATER.with_borrow_mut(|later| later.waits = true);
    let _end = End;
    run()
}

impl Wake for Bell {
    fn wake(&self) {
        let waker = {
            let mut bell = self.0.lock();
            bell.0 = true;
            bell.1.take()
        };
        let Some(waker) = waker else { return };
        let waker = LATER.with_borrow_mut(|later| {
            if later.waits {
                later.wakers.push(waker);
                return None;
            }
            Some(waker)
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Bell {
    /// Ready once for all that it was rung since.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut bell = self.0.lock();
        if std::mem::take(&mut bell.0) {
            return Poll::Ready(());
        }
        if bell.1.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            bell.1 = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiting(bell: &Bell) -> Arc<Woken> {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(bell.poll(&Context::from_waker(&waker)).is_pending());
        woken
    }

    #[test]
    fn a_task_is_woken_once_however_often_it_is_rung() {
        let bell = Bell::default();
        let woken = waiting(&bell);
        bell.wake();
        bell.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(bell.poll(&Context::from_waker(Waker::noop())).is_ready());
        assert!(bell.poll(&Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn who_is_rung_together_is_woken_at_the_end_also_after_a_panic() {
        let bells = [Bell::default(), Bell::default()];
        let woken = bells.each_ref().map(waiting);
        let counts = || woken.each_ref().map(|woken| woken.0.load(Ordering::Relaxed));
        wake_together(|| {
            bells[0].wake();
            bells[0].wake();
            assert_eq!(counts(), [0, 0]);
        });
        assert_eq!(counts(), [1, 0]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wake_together(|| {
                bells[1].wake();
                panic!("as a handler may");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(counts(), [1, 1]);
        assert!(bells[0].poll(&Context::from_waker(Waker::noop())).is_ready());
        // What comes after is not held back.
        let woken = waiting(&bells[0]);
        bells[0].wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
