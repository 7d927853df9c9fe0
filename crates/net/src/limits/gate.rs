//! The limits shared by all connections: behind a lock, with guards that release what they hold.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Admission, Attempt, ConnectionId, Limits, Logins, Mark, Network, Pending, Refusal, Settings, Ticket, WaitId,
};

/// Admission control of a server: clones share one set of limits. The lock is held for a few comparisons, never across an await.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<Both>>);

#[derive(Debug)]
struct Both {
    limits: Limits,
    logins: Logins,
    /// Attempts under way by network, and by the wider ones around it: at most three for each connection.
    trying: BTreeMap<Network, usize>,
}

/// Whether a password may be tried.
#[derive(Debug)]
#[must_use]
pub enum Try {
    /// After this delay.
    After(Duration, Trial),
    /// Other clients of the network are trying, and it may if they succeed; or too many are trying at this account.
    Later,
    /// The peer should hear that the failure is temporary, whatever its password.
    Refused,
}

/// An attempt, under way until it is dropped. It counts as failed unless it succeeds.
#[derive(Debug)]
pub struct Trial {
    gate: Gate,
    network: Network,
    pending: Option<Pending>,
}

/// Whether a connection is admitted; see [`Admission`].
#[derive(Debug)]
#[must_use]
pub enum Admitted {
    /// It may.
    In(Entered),
    /// It waits until [`Gate::let_in`] returns its number. The other one was removed from the waiting room and must be closed.
    Waits(WaitId, Option<WaitId>),
    /// It has to ask again in a moment.
    Later,
}

/// An admitted connection.
#[derive(Debug)]
pub struct Entered {
    /// Held as long as the connection exists.
    pub guard: Guard,
    /// A connection that must be closed for this one: it never logged in.
    pub dropped: Option<ConnectionId>,
}

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub struct Guard {
    gate: Gate,
    /// Present until the guard is dropped.
    ticket: Option<Ticket>,
    id: ConnectionId,
    network: Network,
}

impl Gate {
    /// Without connections and failures.
    pub fn new(settings: Settings) -> Gate {
        Gate(Arc::new(Mutex::new(Both {
            limits: Limits::new(settings),
            logins: Logins::new(settings),
            trying: BTreeMap::new(),
        })))
    }

    /// Applies new settings; see [`Limits::set`].
    pub fn set(&self, settings: Settings) {
        let mut both = self.lock();
        both.limits.set(settings);
        both.logins.set(settings);
    }

    /// A connection arrives; see [`Limits::admit`].
    ///
    /// # Errors
    /// It must be closed.
    pub fn admit(&self, now: Duration, address: IpAddr) -> Result<Admitted, Refusal> {
        let (ticket, dropped) = match self.lock().limits.admit(now, address) {
            Admission::Accepted(ticket) => (ticket, None),
            Admission::AcceptedDropping(ticket, id) => (ticket, Some(id)),
            Admission::Waits(id, gone) => return Ok(Admitted::Waits(id, gone)),
            Admission::Later => return Ok(Admitted::Later),
            Admission::Refused(refusal) => return Err(refusal),
        };
        Ok(Admitted::In(self.entered(ticket, dropped)))
    }

    /// The next waiting connection, if it is admitted now; see [`Limits::let_in`].
    pub fn let_in(&self, now: Duration) -> Option<(WaitId, Entered)> {
        let (id, ticket, dropped) = self.lock().limits.let_in(now)?;
        Some((id, self.entered(ticket, dropped)))
    }

    /// Connections that have waited too long: they must be closed.
    pub fn tired(&self, now: Duration) -> Vec<WaitId> {
        self.lock().limits.tired(now)
    }

    fn entered(&self, ticket: Ticket, dropped: Option<ConnectionId>) -> Entered {
        let (id, network) = (ticket.id(), ticket.network());
        Entered { guard: Guard { gate: self.clone(), ticket: Some(ticket), id, network }, dropped }
    }

    /// Must be called before a password is checked; see [`Logins::attempt`].
    pub fn attempt(&self, now: Duration, address: IpAddr, account: &str) -> Try {
        let (mut both, network) = (self.lock(), Network::from(address));
        match both.logins.attempt(now, address, account) {
            Attempt::After(delay, pending) => {
                for (level, _) in network.levels() {
                    *both.trying.entry(level).or_default() += 1;
                }
                Try::After(delay, Trial { gate: self.clone(), network, pending: Some(pending) })
            }
            Attempt::Busy => Try::Later,
            Attempt::Refused(_) => {
                let for_others = both.logins.refusing(now, address).all(|network| both.trying.contains_key(&network));
                if for_others && !both.logins.refuses_account(now, address, account) {
                    Try::Later
                } else {
                    Try::Refused
                }
            }
        }
    }

    /// Whether an attempt would be refused now; see [`Logins::attempt`].
    pub fn refuses(&self, now: Duration, address: IpAddr, account: &str) -> bool {
        self.lock().logins.refuses(now, address, account)
    }

    /// Number of connections in the waiting room.
    pub fn waiting(&self) -> usize {
        self.lock().limits.waiting()
    }

    /// Number of connections, and of those that have not logged in.
    pub fn connections(&self) -> (usize, usize) {
        let both = self.lock();
        (both.limits.connections(), both.limits.half_open())
    }

    /// Every change is complete before anything could panic, so the numbers are valid even if the lock is poisoned.
    fn lock(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    /// See [`Logins::was_refused`].
    pub fn was_refused(&self, password: &Mark) -> bool {
        self.pending.as_ref().is_some_and(|pending| self.gate.lock().logins.was_refused(pending, password))
    }

    /// See [`Logins::is_refused`].
    pub fn is_refused(&self, password: Mark) {
        if let Some(pending) = &self.pending {
            self.gate.lock().logins.is_refused(pending, password);
        }
    }

    /// The attempt failed and does not count; see [`Logins::no_guess`].
    pub fn no_guess(mut self) {
        if let Some(pending) = self.pending.take() {
            self.gate.lock().logins.no_guess(pending);
        }
    }

    /// The password was correct; see [`Logins::succeeded`].
    pub fn succeeded(mut self) {
        if let Some(pending) = self.pending.take() {
            self.gate.lock().logins.succeeded(pending);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let mut both = self.gate.lock();
        if let Some(pending) = self.pending.take() {
            both.logins.failed(pending);
        }
        for (level, _) in self.network.levels() {
            if let Some(trying) = both.trying.get_mut(&level) {
                *trying -= 1;
                if *trying == 0 {
                    both.trying.remove(&level);
                }
            }
        }
    }
}

impl Guard {
    /// The connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Where it came from.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The connection has logged in. `false`: it was dropped before and must be closed.
    #[must_use]
    pub fn logged_in(&mut self) -> bool {
        self.ticket.as_mut().is_some_and(|ticket| self.gate.lock().limits.logged_in(ticket))
    }

    /// See [`Limits::waits`].
    #[must_use]
    pub fn waits(&mut self) -> bool {
        self.ticket.as_mut().is_some_and(|ticket| self.gate.lock().limits.waits(ticket))
    }

    /// See [`Limits::goes_on`].
    pub fn goes_on(&mut self, now: Duration) {
        if let Some(ticket) = &mut self.ticket {
            self.gate.lock().limits.goes_on(now, ticket);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.lock().limits.closed(ticket);
        }
    }
}
