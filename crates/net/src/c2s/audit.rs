//! The trail that logins leave in the log: a line for each that succeeds, and one for each that fails, in a form that programs such as
//! fail2ban read. The words and the fields of these lines are part of the interface (docs/handbook/monitoring.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::SaslError;

use crate::limits::{Line, Lines};

/// How long lines are left out until it is said how many they were.
const SUMMARY: Duration = Duration::from_secs(60);

/// Writes the lines. Clones are the same.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    began: Instant,
    lines: Mutex<Lines>,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit(Arc::new(Inner { began: Instant::now(), lines: Mutex::default() }))
    }
}

impl Audit {
    fn failed(&self, peer: SocketAddr, account: &str, mechanism: &str, reason: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        match self.0.lines.lock().line(self.0.began.elapsed(), address) {
            Line::Write => tracing::warn!(peer = %address, port, account, mechanism, reason, "login failed"),
            Line::Count(false) => {}
            Line::Count(true) => drop(tokio::spawn(summary(self.clone()))),
        }
    }

    fn succeeded(&self, peer: SocketAddr, account: &str, mechanism: &str) {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        tracing::info!(peer = %address, port, account, mechanism, "logged in");
    }
}

/// Says in a while what was left out.
async fn summary(audit: Audit) {
    sleep(SUMMARY).await;
    let left_out = audit.0.lines.lock().left_out();
    for (network, count) in left_out.networks {
        tracing::warn!(%network, count, "more logins failed");
    }
    if left_out.others > 0 {
        tracing::warn!(count = left_out.others, "more logins failed, from other networks");
    }
}

/// What is known of an attempt to log in, until it is over.
#[derive(Default)]
pub(super) struct Trail {
    to: Option<(Audit, SocketAddr)>,
    account: Option<String>,
    mechanism: Option<&'static str>,
    reason: Option<&'static str>,
}

impl Trail {
    /// Of a connection from there.
    pub fn new(audit: Audit, peer: SocketAddr) -> Trail {
        Trail { to: Some((audit, peer)), ..Trail::default() }
    }

    /// An attempt begins.
    pub fn begins(&mut self, mechanism: &'static str) {
        *self = Trail { to: self.to.take(), mechanism: Some(mechanism), ..Trail::default() };
    }

    /// It is for this account. A name that can be none of an account, which may be anything, is told by its hash.
    pub fn names(&mut self, name: &str, jid: Option<&BareJid>) {
        self.account = Some(jid.map_or_else(|| hash(name), ToString::to_string));
    }

    /// It will fail, or has failed, for this reason: the first that is known is the true one. It is never told to the peer.
    pub fn because(&mut self, reason: &'static str) {
        self.reason.get_or_insert(reason);
    }

    /// It has failed.
    pub fn failed(&mut self, error: SaslError) {
        let reason = self.reason.unwrap_or(error.element());
        if let Some((audit, peer)) = &self.to {
            audit.failed(*peer, self.account.as_deref().unwrap_or("-"), self.mechanism.unwrap_or("-"), reason);
        }
        (self.account, self.mechanism, self.reason) = (None, None, None);
    }

    /// It was refused before it was for any account: no line for programs that count guesses.
    pub fn unheard(&mut self, reason: &'static str) {
        if let Some((_, peer)) = &self.to {
            let mechanism = self.mechanism.unwrap_or("-");
            tracing::debug!(%peer, mechanism, reason, "a login was refused before it named an account");
        }
        (self.account, self.mechanism, self.reason) = (None, None, None);
    }

    /// It has succeeded.
    pub fn succeeded(&mut self, account: &str, mechanism: &str) {
        if let Some((audit, peer)) = &self.to {
            audit.succeeded(*peer, account, mechanism);
        }
    }
}

/// The first 64 bits.
fn hash(name: &str) -> String {
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
