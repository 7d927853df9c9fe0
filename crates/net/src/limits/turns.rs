//! Priorities when many clients log in at once: after a restart, or when a network comes back.
//!
//! Two queues, both pure: the clock is an argument, the time since any fixed moment, which never goes back.
//!
//! * [`Turns`] is for the parts of a login that take time on this machine: reading an account, deriving a password. It admits as
//!   many at once as the machine can do at once; the others wait, those that may have a resumable session first.
//! * [`Arrivals`] is for new sessions. Each requests its roster, is announced to all contacts, and reads what it missed. New sessions
//!   wait while clients resume existing ones, which costs next to nothing.
//!
//! Limits: as many wait as [`Turns`] and [`Arrivals`] allow, none for longer than [`LONGEST`]; there are at most as many logins under
//! way as connections.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Maximum time that a login waits for others; then it gets its turn. Clients time out after about half a minute.
pub const LONGEST: Duration = Duration::from_secs(10);

/// Maximum time that new sessions wait for one client that may resume a session. A client that takes longer is slow, or begins a new
/// session.
pub const RETURNING: Duration = Duration::from_secs(5);

/// The priority class of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Its account has a session that can be resumed.
    Returning,
    /// All others.
    New,
}

/// The answer to a request. `T` is the waiter: it is returned when it may continue.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Asked<T> {
    /// It may continue at once.
    Go(T),
    /// It waits now.
    Waits,
    /// Too many wait.
    Full,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Duration,
    who: T,
}

/// A bounded queue of two classes in front of a fixed number of slots.
#[derive(Debug)]
pub struct Turns<T> {
    places: usize,
    bound: usize,
    taken: usize,
    returning: VecDeque<Waiting<T>>,
    new: VecDeque<Waiting<T>>,
}

impl<T> Turns<T> {
    /// An empty queue. `bound` is the maximum number that may wait.
    pub fn new(places: usize, bound: usize) -> Turns<T> {
        Turns { places: places.max(1), bound, taken: 0, returning: VecDeque::new(), new: VecDeque::new() }
    }

    /// Takes a slot if one is free, or waits for one.
    pub fn ask(&mut self, now: Duration, class: Class, who: T) -> Asked<T> {
        if self.taken < self.places {
            self.taken += 1;
            return Asked::Go(who);
        }
        if self.waiting() >= self.bound {
            return Asked::Full;
        }
        let queue = match class {
            Class::Returning => &mut self.returning,
            Class::New => &mut self.new,
        };
        queue.push_back(Waiting { since: now, who });
        Asked::Waits
    }

    /// A slot is released. The next waiter gets it.
    pub fn done(&mut self, now: Duration) -> Option<T> {
        let overdue = self.new.front().is_some_and(|first| now.saturating_sub(first.since) >= LONGEST);
        let next = if overdue { self.new.pop_front() } else { None };
        let next = next.or_else(|| self.returning.pop_front()).or_else(|| self.new.pop_front());
        if next.is_none() {
            self.taken = self.taken.saturating_sub(1);
        }
        next.map(|next| next.who)
    }

    /// Whether a login that may resume a session is waiting.
    pub fn expects(&self) -> bool {
        !self.returning.is_empty()
    }

    /// Removes waiters that have gone.
    pub fn keep(&mut self, is_here: impl Fn(&T) -> bool) {
        self.returning.retain(|waiting| is_here(&waiting.who));
        self.new.retain(|waiting| is_here(&waiting.who));
    }

    /// Number of waiters.
    pub fn waiting(&self) -> usize {
        self.returning.len() + self.new.len()
    }
}

/// A login that is under way. It must be returned to [`Arrivals::end`].
#[derive(Debug)]
#[must_use = "the login is counted until it is given back"]
pub struct UnderWay {
    returning: Option<(Duration, u64)>,
}

/// The queue of new sessions, which wait while others are resumed.
#[derive(Debug)]
pub struct Arrivals<T> {
    /// With fewer logins under way than this, none is ordered.
    calm: usize,
    bound: usize,
    under_way: usize,
    last: u64,
    /// Logins under way that may resume a session, by their start time.
    returning: BTreeSet<(Duration, u64)>,
    waiting: VecDeque<Waiting<T>>,
}

impl<T> Arrivals<T> {
    /// An empty queue. `bound` is the maximum number that may wait.
    pub fn new(calm: usize, bound: usize) -> Arrivals<T> {
        Arrivals { calm, bound, under_way: 0, last: 0, returning: BTreeSet::new(), waiting: VecDeque::new() }
    }

    /// The account of a login is known.
    pub fn begin(&mut self, now: Duration, class: Class) -> UnderWay {
        self.under_way += 1;
        self.last += 1;
        let returning = (class == Class::Returning).then_some((now, self.last));
        self.returning.extend(returning);
        UnderWay { returning }
    }

    /// The login has a session, has gone, or tries another way.
    pub fn end(&mut self, login: UnderWay) {
        self.under_way = self.under_way.saturating_sub(1);
        self.settles(login.returning);
    }

    fn settles(&mut self, returning: Option<(Duration, u64)>) {
        if let Some(returning) = returning {
            self.returning.remove(&returning);
        }
    }

    /// A login requests a new session. `behind`: others go first in any case, or the store is behind. A login that requests a new
    /// session will not resume one.
    pub fn ask(&mut self, now: Duration, login: &mut UnderWay, behind: bool, who: T) -> Asked<T> {
        self.settles(login.returning.take());
        if self.under_way <= self.calm || (self.waiting.is_empty() && self.is_open(now, behind)) {
            return Asked::Go(who);
        }
        if self.waiting.len() >= self.bound {
            return Asked::Full;
        }
        self.waiting.push_back(Waiting { since: now, who });
        Asked::Waits
    }

    /// The waiters that may continue now, at most `most` at once; those that have waited too long in any case.
    pub fn release(&mut self, now: Duration, behind: bool, most: usize) -> Vec<T> {
        let open = if self.is_open(now, behind) { most } else { 0 };
        let overdue = self.waiting.iter().take_while(|w| now.saturating_sub(w.since) >= LONGEST).take(most).count();
        let count = open.max(overdue).min(self.waiting.len());
        self.waiting.drain(..count).map(|waiting| waiting.who).collect()
    }

    /// Whether no login with priority is expected.
    fn is_open(&self, now: Duration, behind: bool) -> bool {
        !behind && self.returning.last().is_none_or(|(since, _)| now.saturating_sub(*since) >= RETURNING)
    }

    /// Removes waiters that have gone.
    pub fn keep(&mut self, is_here: impl Fn(&T) -> bool) {
        self.waiting.retain(|waiting| is_here(&waiting.who));
    }

    /// Number of waiters.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Number of logins under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn places_are_taken_first_and_then_given_to_who_returns_before_who_is_new() {
        let mut turns = Turns::new(2, 10);
        assert_eq!(turns.ask(at(0), Class::New, 1), Asked::Go(1));
        assert_eq!(turns.ask(at(0), Class::New, 2), Asked::Go(2));
        for (who, class) in [(3, Class::New), (4, Class::Returning), (5, Class::New), (6, Class::Returning)] {
            assert_eq!(turns.ask(at(1), class, who), Asked::Waits);
        }
        let order: Vec<_> = std::iter::from_fn(|| turns.done(at(2))).collect();
        assert_eq!(order, [4, 6, 3, 5]);
        // The last one found nobody, so one place is free; the other is still taken.
        assert_eq!(turns.ask(at(3), Class::New, 7), Asked::Go(7));
        assert_eq!(turns.ask(at(3), Class::New, 8), Asked::Waits);
    }

    #[test]
    fn nobody_waits_for_ever_behind_those_who_return() {
        let mut turns = Turns::new(1, 10);
        assert_eq!(turns.ask(at(0), Class::New, 0), Asked::Go(0));
        assert_eq!(turns.ask(at(0), Class::New, 1), Asked::Waits);
        let mut order = Vec::new();
        for second in 1..=12 {
            assert_eq!(turns.ask(at(second * 1000), Class::Returning, 100 + second), Asked::Waits);
            order.extend(turns.done(at(second * 1000)));
        }
        assert_eq!(order.iter().position(|who| *who == 1), Some(9), "{order:?}");
    }

    #[test]
    fn beyond_the_bound_the_next_is_refused_until_somebody_goes() {
        let mut turns = Turns::new(1, 2);
        assert_eq!(turns.ask(at(0), Class::New, 1), Asked::Go(1));
        assert_eq!(turns.ask(at(0), Class::New, 2), Asked::Waits);
        assert!(!turns.expects());
        assert_eq!(turns.ask(at(0), Class::Returning, 3), Asked::Waits);
        assert!(turns.expects());
        assert_eq!(turns.ask(at(0), Class::Returning, 4), Asked::Full);
        turns.keep(|who| *who != 2);
        assert_eq!((turns.waiting(), turns.ask(at(0), Class::New, 5)), (1, Asked::Waits));
    }

    #[test]
    fn few_at_once_are_let_in_as_they_come() {
        let mut arrivals = Arrivals::new(2, 10);
        let back = arrivals.begin(at(0), Class::Returning);
        let mut new = arrivals.begin(at(0), Class::New);
        assert_eq!(arrivals.ask(at(1), &mut new, true, 1), Asked::Go(1));
        arrivals.end(back);
        arrivals.end(new);
        assert_eq!(arrivals.under_way(), 0);
    }

    #[test]
    fn new_sessions_wait_until_all_have_come_back_and_then_go_in_order_and_in_pieces() {
        let mut arrivals = Arrivals::new(0, 10);
        let back: Vec<_> = (0..3).map(|_| arrivals.begin(at(0), Class::Returning)).collect();
        let mut new: Vec<_> = (0..5).map(|_| arrivals.begin(at(0), Class::New)).collect();
        for (who, login) in new.iter_mut().enumerate() {
            assert_eq!(arrivals.ask(at(1), login, false, who), Asked::Waits);
        }
        for login in back {
            assert!(arrivals.release(at(2), false, 9).is_empty());
            arrivals.end(login);
        }
        assert!(arrivals.release(at(3), true, 9).is_empty(), "the store is behind");
        assert_eq!(arrivals.release(at(3), false, 3), [0, 1, 2]);
        assert_eq!(arrivals.release(at(3), false, 3), [3, 4]);
    }

    #[test]
    fn who_returns_and_asks_for_a_new_session_is_not_waited_for() {
        let mut arrivals = Arrivals::new(0, 10);
        let mut changed = arrivals.begin(at(0), Class::Returning);
        let _other = arrivals.begin(at(0), Class::New);
        assert_eq!(arrivals.ask(at(1), &mut changed, false, 1), Asked::Go(1));
    }

    #[test]
    fn a_slow_client_is_waited_for_so_long_and_a_store_that_is_behind_so_long() {
        let mut arrivals = Arrivals::new(0, 10);
        let _slow = arrivals.begin(at(0), Class::Returning);
        let mut new = arrivals.begin(at(0), Class::New);
        assert_eq!(arrivals.ask(at(0), &mut new, false, 1), Asked::Waits);
        assert_eq!(arrivals.ask(at(1), &mut new, false, 2), Asked::Waits);
        assert!(arrivals.release(RETURNING - at(1), false, 9).is_empty());
        assert!(arrivals.release(RETURNING, true, 9).is_empty());
        assert_eq!(arrivals.release(LONGEST, true, 9), [1], "the other came later");
        assert_eq!(arrivals.release(LONGEST, false, 9), [2]);
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut arrivals = Arrivals::new(0, 1);
        let mut new = arrivals.begin(at(0), Class::New);
        assert_eq!(arrivals.ask(at(0), &mut new, true, 1), Asked::Waits);
        assert_eq!(arrivals.ask(at(0), &mut new, true, 2), Asked::Full);
        arrivals.keep(|_| false);
        assert_eq!(arrivals.waiting(), 0);
    }
}
