//! Admission of a login attempt: whether it may be made now, has to wait, or is refused.

#![expect(clippy::disallowed_methods, reason = "an attempt waits for its turn")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use vorpal_core::watch::counts::Count;
use vorpal_proto::sasl::{Marks, PasswordCheck, Verdict};

use super::rush::{Busy, CountedLogin, LoginSlot};
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
    pub login: Option<CountedLogin>,
    /// it may do the expensive steps
    pub slot: Option<LoginSlot>,
    /// its delay, because many attempts have failed at this account
    delay: Duration,
}

/// The decision about an attempt.
pub(super) enum Admission {
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
    ) -> Admission {
        let (until, address) = (Instant::now() + LONGEST, peer.ip());
        (self.trial, self.slot, self.delay) = (None, None, Duration::ZERO);
        self.login = Some(shared.rush.login(class));
        loop {
            if costs && !shared.gate.refuses(shared.began.elapsed(), address, name) {
                if !guard.waits() {
                    return Admission::Dropped;
                }
                let turn = shared.rush.turn(class).await;
                guard.goes_on(shared.began.elapsed());
                match turn {
                    Ok(turn) => {
                        self.slot = Some(turn);
                        // From here on the remaining time is known.
                        self.login = Some(shared.rush.login(class));
                    }
                    Err(Busy) => {
                        self.login = None;
                        shared.runtime.core.counts.one(Count::PutOff);
                        return Admission::Busy;
                    }
                }
            }
            match shared.gate.attempt(shared.began.elapsed(), address, name) {
                Try::After(delay, trial) => {
                    (self.trial, self.delay) = (Some(trial), delay);
                    return Admission::Yes;
                }
                Try::Later if Instant::now() < until => {
                    self.slot = None;
                    if !guard.waits() {
                        return Admission::Dropped;
                    }
                    sleep(AGAIN).await;
                    guard.goes_on(shared.began.elapsed());
                }
                Try::Later | Try::Refused => {
                    (self.slot, self.login) = (None, None);
                    shared.runtime.core.counts.one(Count::Throttled);
                    return Admission::Refused;
                }
            }
        }
    }

    /// Waits for the account's delay, within the login timeout. Other attempts do not wait for that.
    pub async fn serve(&mut self, deadline: Instant) {
        if !self.delay.is_zero() {
            self.slot = None;
            sleep_until(deadline.min(Instant::now() + self.delay)).await;
        }
    }

    /// The verdict on a password. A password that let nobody in before, against the same keys, is not derived again.
    pub async fn derive(&mut self, shared: &Shared, check: PasswordCheck) -> Option<Verdict> {
        let marks = shared.runtime.core.marks(&check);
        if let Some(verdict) = self.known(&marks, &check) {
            return Some(verdict(check));
        }
        let verdict = shared.runtime.derive(check).await?;
        self.remember(&marks, &verdict);
        Some(verdict)
    }

    /// The verdict without a derivation, if the same password was checked against the same keys before: it was wrong, which is no new
    /// guess, or it is that of a disabled account. The latter is no guess either, so nothing else bounds what it costs.
    fn known(&mut self, marks: &Marks, check: &PasswordCheck) -> Option<fn(PasswordCheck) -> Verdict> {
        let trial = self.trial.as_ref()?;
        // Both are looked for, whatever the account: a disabled one takes no longer than others.
        match [marks.wrong, marks.barred].map(|mark| trial.was_refused(&mark)) {
            [true, _] => {
                self.was_no_guess();
                Some(PasswordCheck::refused)
            }
            // It may have been enabled since.
            [false, true] => check.is_barred().then_some(PasswordCheck::barred),
            [false, false] => None,
        }
    }

    fn remember(&self, marks: &Marks, verdict: &Verdict) {
        let mark = match (verdict.is_barred(), verdict.is_proven()) {
            (true, _) => marks.barred,
            (false, true) => return,
            (false, false) => marks.wrong,
        };
        if let Some(trial) = &self.trial {
            trial.is_refused(mark);
        }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use vorpal_proto::sasl::{
        Account, ChannelBindings, Credentials, Exchange, Hash, Iterations, Mechanism, Nonce, Settings, Step,
    };

    use super::*;
    use crate::limits::{Gate, Rate, Settings as Limits};

    const SECRET: [u8; 32] = [7; 32];

    /// A login with PLAIN: what is to be checked, and the exchange.
    fn login(password: &str, credentials: &Credentials) -> (Exchange, PasswordCheck) {
        let bindings = ChannelBindings::default();
        let settings = Settings { bindings, plus_offered: false, names_account: |_, _| false, offered: None };
        let nonce = Nonce::from_random([1; Nonce::RANDOM_BYTES]);
        let mut exchange = Exchange::new(Mechanism::Plain, settings, nonce);
        let Step::NeedCredentials(_) = exchange.receive(Some(format!("\0romeo\0{password}").as_bytes())) else {
            panic!("it is well formed")
        };
        let account = Account { address: "romeo@a.example".into(), credentials: credentials.clone() };
        let Step::NeedDerivation(check) = exchange.account(account) else { panic!("it has a password") };
        (exchange, check)
    }

    /// Tries a password. Whether it was derived, and what the client hears; nothing if it may not try.
    fn attempt(gate: &Gate, password: &str, credentials: &Credentials) -> Option<(bool, Option<&'static str>)> {
        let Try::After(_, trial) = gate.attempt(Duration::ZERO, Ipv4Addr::LOCALHOST.into(), "romeo@a.example") else {
            return None;
        };
        let mut trying = Trying { trial: Some(trial), ..Trying::default() };
        let (mut exchange, check) = login(password, credentials);
        let marks = check.marks(&SECRET);
        let (derived, verdict) = match trying.known(&marks, &check) {
            Some(verdict) => (false, verdict(check)),
            None => (true, check.run()),
        };
        if derived {
            trying.remember(&marks, &verdict);
        }
        let proven = verdict.is_proven();
        let heard = match exchange.verdict(verdict) {
            Step::Failure(refusal) => Some(refusal.condition.element()),
            Step::Success(_) => None,
            other => panic!("{other:?}"),
        };
        match (&heard, proven) {
            (None, _) => drop(trying.succeeded()),
            // As the connection says it to its task.
            (Some(_), true) => trying.was_no_guess(),
            (Some(_), false) => {}
        }
        Some((derived, heard))
    }

    #[test]
    fn the_password_of_a_disabled_account_is_derived_once() {
        let three = NonZeroU32::new(3).map(|burst| Rate::per_minute(burst, NonZeroU32::MIN));
        let gate = Gate::new(Limits { failed_logins_to_account: three, ..Limits::default() });
        let stored = Credentials::derive(Hash::Sha256, "wherefore", &[1; 16], Iterations::MIN).expect("it is usable");
        let barred = stored.clone().barred();
        let disabled = |derived| Some((derived, Some("account-disabled")));
        let wrong = |derived| Some((derived, Some("not-authorized")));
        assert_eq!(attempt(&gate, "wherefore", &barred), disabled(true));
        for _ in 0..20 {
            assert_eq!(attempt(&gate, "wherefore", &barred), disabled(false));
        }
        // A guess costs what it costs elsewhere, and counts.
        assert_eq!(attempt(&gate, "guess", &barred), wrong(true));
        assert_eq!(attempt(&gate, "guess", &barred), wrong(false));
        assert_eq!(attempt(&gate, "wherefore", &barred), disabled(false));
        // Enabled, the account is open to its password and to no other; disabled again, it is not.
        assert_eq!(attempt(&gate, "wherefore", &stored), Some((true, None)));
        assert_eq!(attempt(&gate, "guess", &stored), wrong(false));
        assert_eq!(attempt(&gate, "wherefore", &barred), disabled(false));
        // With another password nothing of before counts.
        let other = Credentials::derive(Hash::Sha256, "wherefore", &[2; 16], Iterations::MIN).expect("it is usable");
        assert_eq!(attempt(&gate, "wherefore", &other.barred()), disabled(true));
        for at in 0..3 {
            assert_eq!(attempt(&gate, &format!("guess {at}"), &barred), wrong(true), "{at}");
        }
        assert_eq!(attempt(&gate, "guess 3", &barred), None, "three were different");
        assert_eq!(attempt(&gate, "wherefore", &barred), None);
    }
}
