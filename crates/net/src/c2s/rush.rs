//! Login storms: the queues of `limits/turns.rs`, for tasks that wait in them.
//!
//! A connection that waits here is not at fault: its login deadline is extended by the waiting time, and it is not dropped in favour
//! of another.

#![expect(clippy::disallowed_methods, reason = "a task looks after those who wait")]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use vorpal_runtime::Runtime;

use crate::limits::{Arrivals, Asked, Class, Turns, UnderWay};

/// How often waiting new sessions are checked.
const LOOK: Duration = Duration::from_millis(10);

/// Limits that depend on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Number of simultaneous logins in the expensive steps: reading an account, for which there are five readers, and deriving a
    /// password, which takes a core for milliseconds. Four for each core keep both busy, and a client with priority does not wait
    /// long.
    pub places: usize,
    /// Maximum number of logins that wait for that. A core derives 250 passwords a second at worst (10,000 rounds of SHA-512), so
    /// the last one waits for eight seconds; clients time out after about half a minute.
    pub waiting: usize,
    /// Maximum number of waiting new sessions. They are logged in and cost no more than any other connection.
    pub binding: usize,
    /// Number of logins under way up to which none has to wait for others: a core finishes them in some ten milliseconds.
    pub calm: usize,
    /// Number of new sessions admitted at each check. A core cannot start more.
    pub piece: usize,
}

impl Scale {
    /// The limits for a number of cores.
    pub fn of(cores: usize) -> Scale {
        let cores = cores.max(1);
        Scale { places: 4 * cores, waiting: 2_000 * cores, binding: 8_000 * cores, calm: 16 * cores, piece: 16 * cores }
    }
}

/// Queue lengths, for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLengths {
    /// logins that wait to be checked
    pub logins: usize,
    /// logins that wait for a new session
    pub sessions: usize,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The queues. Clones share them.
#[derive(Clone)]
pub struct Rush(Arc<Inner>);

struct Inner {
    began: Instant,
    scale: Scale,
    /// Whether the store is behind: more batches wait than one commit takes.
    behind: Box<dyn Fn() -> bool + Send + Sync>,
    state: Mutex<Queues>,
}

struct Queues {
    turns: Turns<oneshot::Sender<LoginSlot>>,
    arrivals: Arrivals<oneshot::Sender<()>>,
    /// A task is serving the waiting new sessions.
    looking: bool,
}

/// A slot for the expensive steps, released when dropped.
pub struct LoginSlot(Option<Arc<Inner>>);

/// A login that is counted until it is dropped.
pub struct CountedLogin {
    of: Arc<Inner>,
    under_way: Option<UnderWay>,
}

impl Rush {
    /// Empty queues.
    pub fn new(scale: Scale, behind: impl Fn() -> bool + Send + Sync + 'static) -> Rush {
        let state = Queues {
            turns: Turns::new(scale.places, scale.waiting),
            arrivals: Arrivals::new(scale.calm, scale.binding),
            looking: false,
        };
        Rush(Arc::new(Inner { began: Instant::now(), scale, behind: Box::new(behind), state: Mutex::new(state) }))
    }

    /// The queues for this kernel, on this machine.
    pub fn before(runtime: &Arc<Runtime>) -> Rush {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let runtime = Arc::downgrade(runtime);
        Rush::new(Scale::of(cores), move || runtime.upgrade().is_some_and(|runtime| runtime.is_behind()))
    }

    /// The current queue lengths.
    pub fn waiting(&self) -> QueueLengths {
        let mut state = self.0.state.lock();
        state.clean();
        QueueLengths { logins: state.turns.waiting(), sessions: state.arrivals.waiting() }
    }

    /// Waits for a turn. Cancel-safe: a caller that gives up holds no turn and uses none.
    ///
    /// # Errors
    /// Too many wait.
    pub async fn turn(&self, class: Class) -> Result<LoginSlot, Busy> {
        let waits = {
            let mut state = self.0.state.lock();
            let (sender, waits) = oneshot::channel();
            let asked = match state.turns.ask(self.0.began.elapsed(), class, sender) {
                // Some waiters may have gone.
                Asked::Full => {
                    state.clean();
                    let (sender, again) = oneshot::channel();
                    (state.turns.ask(self.0.began.elapsed(), class, sender), again)
                }
                asked => (asked, waits),
            };
            match asked {
                (Asked::Go(_), _) => return Ok(LoginSlot(Some(self.0.clone()))),
                (Asked::Full, _) => return Err(Busy),
                (Asked::Waits, waits) => waits,
            }
        };
        waits.await.map_err(|_| Busy)
    }

    /// The account of a login is known.
    pub fn login(&self, class: Class) -> CountedLogin {
        let under_way = self.0.state.lock().arrivals.begin(self.0.began.elapsed(), class);
        CountedLogin { of: self.0.clone(), under_way: Some(under_way) }
    }

    /// Waits until a new session may be made. Cancel-safe.
    ///
    /// # Errors
    /// Too many wait.
    pub async fn session(&self, login: &mut CountedLogin) -> Result<(), Busy> {
        let Some(under_way) = &mut login.under_way else { return Ok(()) };
        let behind = (self.0.behind)();
        let waits = {
            let mut state = self.0.state.lock();
            let now = self.0.began.elapsed();
            let (sender, waits) = oneshot::channel();
            let behind = behind || state.turns.expects();
            match state.arrivals.ask(now, under_way, behind, sender) {
                Asked::Go(_) => return Ok(()),
                Asked::Full => return Err(Busy),
                Asked::Waits => {}
            }
            if !std::mem::replace(&mut state.looking, true) {
                tokio::spawn(look(self.0.clone()));
            }
            waits
        };
        waits.await.map_err(|_| Busy)
    }
}

/// Admits waiting new sessions, until none waits.
async fn look(of: Arc<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let behind = (of.behind)();
        let released = {
            let mut state = of.state.lock();
            let behind = behind || state.turns.expects();
            let released = state.arrivals.release(of.began.elapsed(), behind, of.scale.piece);
            if released.is_empty() {
                state.clean();
            }
            if released.is_empty() && state.arrivals.waiting() == 0 {
                state.looking = false;
                return;
            }
            released
        };
        for waiting in released {
            // A waiter that has gone needs no session.
            let _ = waiting.send(());
        }
    }
}

impl Queues {
    fn clean(&mut self) {
        self.turns.keep(|waiting| !waiting.is_closed());
        self.arrivals.keep(|waiting| !waiting.is_closed());
    }
}

impl Drop for LoginSlot {
    fn drop(&mut self) {
        let Some(mut of) = self.0.take() else { return };
        loop {
            let next = of.state.lock().turns.done(of.began.elapsed());
            let Some(next) = next else { return };
            match next.send(LoginSlot(Some(of))) {
                Ok(()) => return,
                // It has gone: continue with the next one.
                Err(mut turn) => match turn.0.take() {
                    Some(back) => of = back,
                    None => return,
                },
            }
        }
    }
}

impl Drop for CountedLogin {
    fn drop(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            self.of.state.lock().arrivals.end(under_way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn rush(places: usize, waiting: usize, calm: usize) -> (Rush, Arc<AtomicBool>) {
        let behind = Arc::new(AtomicBool::new(false));
        let asked = behind.clone();
        let scale = Scale { places, waiting, binding: waiting, calm, piece: 2 };
        (Rush::new(scale, move || asked.load(Ordering::Relaxed)), behind)
    }

    #[tokio::test]
    async fn who_gives_up_neither_keeps_a_turn_nor_takes_one_away() {
        let (rush, _) = rush(1, 2, 0);
        let held = rush.turn(Class::New).await.unwrap();
        let mut gives_up = Box::pin(rush.turn(Class::New));
        let mut stays = Box::pin(rush.turn(Class::New));
        assert!(futures_poll(&mut gives_up).await.is_none() && futures_poll(&mut stays).await.is_none());
        assert_eq!(rush.turn(Class::Returning).await.err(), Some(Busy));
        drop(gives_up);
        assert_eq!(rush.waiting(), QueueLengths { logins: 1, sessions: 0 });
        drop(held);
        drop(stays.await.unwrap());
        assert!(rush.turn(Class::New).await.is_ok());
    }

    #[tokio::test]
    async fn a_turn_that_came_when_nobody_waited_for_it_any_more_goes_on() {
        let (rush, _) = rush(1, 2, 0);
        let held = rush.turn(Class::New).await.unwrap();
        let mut late = Box::pin(rush.turn(Class::New));
        assert!(futures_poll(&mut late).await.is_none());
        drop(held);
        drop(late);
        assert!(rush.turn(Class::New).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn new_sessions_wait_for_those_who_return_and_for_the_store() {
        let (rush, behind) = rush(1, 9, 0);
        let back = rush.login(Class::Returning);
        let mut logins: Vec<CountedLogin> = (0..5).map(|_| rush.login(Class::New)).collect();
        let mut waiting = tokio::task::JoinSet::new();
        for mut login in logins.drain(..) {
            let rush = rush.clone();
            waiting.spawn(async move { rush.session(&mut login).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((rush.waiting().sessions, waiting.try_join_next().is_none()), (5, true));
        behind.store(true, Ordering::Relaxed);
        drop(back);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rush.waiting().sessions, 5);
        behind.store(false, Ordering::Relaxed);
        assert!(waiting.join_all().await.into_iter().all(|done| done.is_ok()));
        assert_eq!(rush.waiting(), QueueLengths::default());
    }

    /// The result of a future that is ready at once, if it is.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
