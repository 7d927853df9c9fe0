//! Admission of a login attempt: whether it may be made now, has to wait, or is refused.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use vorpal_core::counts::Count;
use vorpal_proto::sasl::{PasswordCheck, Verdict};

use super::rush::{Busy, Login, Turn};
use super::task::Shared;
use crate::limits::{Class, Guard, LONGEST, Trial, Try};

/// How often a waiting attempt checks whether other attempts of the network have ended.
const AGAIN: Duration = Duration::from_millis(50);

/// The guards of an attempt.
#[derive(Default)]
pub(super) struct Trying {
    /// it counts as failed until it succeeds
    trial: Option<Trial>,
    /// it is under way
    pub login: Option<Login>,
    /// it may do the expensive steps
    pub turn: Option<Turn>,
    /// its delay, because many attempts have failed at this account
    delay: Duration,
}

/// The decision about an attempt.
pub(super) enum Admitted {
    /// It may be made.
    Yes,
    /// Too many failed before.
    Refused,
    /// Too many try at the same time.
    Busy,
    /// The connection was dropped for another one.
    Dropped,
}

impl Trying {
    /// Waits until a password may be checked. An attempt counts from its turn on: attempts queued by the server, or running in
    /// parallel, do not count as failures, because a whole school may share one address.
    pub async fn admit(
        &mut self,
        shared: &Shared,
        guard: &mut Guard,
        peer: SocketAddr,
        name: &str,
        class: Class,
        costs: bool,
    ) -> Admitted {
        let (until, address) = (Instant::now() + LONGEST, peer.ip());
        (self.trial, self.turn, self.delay) = (None, None, Duration::ZERO);
        self.login = Some(shared.rush.login(class));
        loop {
            if costs && !shared.gate.refuses(shared.began.elapsed(), address, name) {
                if !guard.waits() {
                    return Admitted::Dropped;
                }
                let turn = shared.rush.turn(class).await;
                guard.goes_on(shared.began.elapsed());
                match turn {
                    Ok(turn) => {
                        self.turn = Some(turn);
                        // From here on the remaining time is known.
                        self.login = Some(shared.rush.login(class));
                    }
                    Err(Busy) => {
                        self.login = None;
                        shared.runtime.core.counts.one(Count::PutOff);
                        return Admitted::Busy;
                    }
                }
            }
            match shared.gate.attempt(shared.began.elapsed(), address, name) {
                Try::After(delay, trial) => {
                    (self.trial, self.delay) = (Some(trial), delay);
                    return Admitted::Yes;
                }
                Try::Later if Instant::now() < until => {
                    self.turn = None;
                    if !guard.waits() {
                        return Admitted::Dropped;
                    }
                    sleep(AGAIN).await;
                    guard.goes_on(shared.began.elapsed());
                }
                Try::Later | Try::Refused => {
                    (self.turn, self.login) = (None, None);
                    shared.runtime.core.counts.one(Count::Throttled);
                    return Admitted::Refused;
                }
            }
        }
    }

    /// Waits for the account's delay, within the login timeout. Other attempts do not wait for that.
    pub async fn serve(&mut self, deadline: Instant) {
        if !self.delay.is_zero() {
            self.turn = None;
            sleep_until(deadline.min(Instant::now() + self.delay)).await;
        }
    }

    /// The verdict on a password. A password that was wrong before, against the same keys, is not derived again and is not a new guess.
    pub async fn derive(&mut self, shared: &Shared, check: PasswordCheck) -> Option<Verdict> {
        let mark = shared.runtime.core.mark(&check);
        if self.trial.as_ref().is_some_and(|trial| trial.was_wrong(&mark)) {
            self.was_no_guess();
            return Some(check.refused());
        }
        let verdict = shared.runtime.derive(check).await?;
        if let Some(trial) = self.trial.as_ref().filter(|_| !verdict.is_proven()) {
            trial.is_wrong(mark);
        }
        Some(verdict)
    }

    /// The attempt has failed, and does not count.
    pub fn was_no_guess(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.no_guess();
        }
    }

    /// The password was correct. False if nothing was attempted since.
    pub fn succeeded(&mut self) -> bool {
        self.trial.take().map(Trial::succeeded).is_some()
    }
}
