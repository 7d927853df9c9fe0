//! Error handling for accept: a failed accept does not end the listener, busy-loop, or fill the log.

#![expect(clippy::disallowed_methods, reason = "failures are told once in a while")]

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a listener pauses after a failed accept: a descriptor has to be closed first.
const PAUSE: Duration = Duration::from_millis(50);

/// Minimum time between two log lines of one listener about failed accepts.
const QUIET: Duration = Duration::from_secs(60);

/// Handles failed accepts of a listener.
#[derive(Debug)]
pub struct Setbacks {
    what: &'static str,
    logged: Option<Instant>,
    /// failures since the last log line
    more: u64,
}

impl Setbacks {
    /// Without failures. `what` is the subject of the log line: "a connection".
    pub fn new(what: &'static str) -> Setbacks {
        Setbacks { what, logged: None, more: 0 }
    }

    /// Logs the error unless that was done less than a minute ago, and pauses. A connection that its peer aborted before it was
    /// accepted does not count as a failure. Cancel-safe.
    pub async fn pass(&mut self, error: &Error) {
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) {
            return;
        }
        if let Some(failures) = self.due(Instant::now()) {
            tracing::warn!(%error, failures, "{} cannot be accepted", self.what);
        }
        sleep(PAUSE).await;
    }

    /// Counts a failure. Returns the number of failures to log, if a line is due.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.more += 1;
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < QUIET) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_logged_once_a_minute_with_their_number() {
        let mut setbacks = Setbacks::new("a connection");
        assert_eq!(setbacks.due(Instant::now()), Some(1));
        for _ in 0..100 {
            assert_eq!(setbacks.due(Instant::now()), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!(setbacks.due(Instant::now()), Some(101));
        assert_eq!(setbacks.due(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_pauses_for_want_of_descriptors_and_not_for_a_peer_that_gave_up() {
        let mut setbacks = Setbacks::new("a connection");
        let began = Instant::now();
        setbacks.pass(&ErrorKind::ConnectionAborted.into()).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        setbacks.pass(&Error::other("out of descriptors")).await;
        assert!(began.elapsed() >= PAUSE);
    }
}
